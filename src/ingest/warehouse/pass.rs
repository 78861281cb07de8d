//! Who may connect: a pass for one sync, good for one connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What a connection tells that is not taken up yet.
const SAID_MAX: usize = 16;

/// What is answered to the handshake, a line of JSON without its line end; worked out when it comes.
type Welcome = Box<dyn FnOnce() -> String + Send>;

/// What a sync is to connect with.
pub struct Pass {
    /// The model.
    pub model: String,
    /// The ID of the sync.
    pub sync: String,
    /// The secret.
    pub token: String,
    /// The answer to the handshake.
    pub welcome: Welcome,
}

/// What the child tells the daemon, beside its lines.
#[derive(Debug)]
pub enum Said {
    /// It has connected.
    Connected,
    /// How far it is.
    Progress(Value),
    /// So many of the rejections that it was told are kept elsewhere now. Answered when they are
    /// forgotten: what the child sends next is not read before.
    RejectionsTaken(u64, oneshot::Sender<()>),
    /// How the sync ended.
    End(Value),
}

/// A pass that was given out. Without it, nobody can use the pass any more.
pub struct Issued {
    /// What the child tells; ends with the connection, or with the pass if nobody used it.
    pub said: mpsc::Receiver<Said>,
    /// Cancelled to ask the child to stop.
    pub cancel: CancellationToken,
    /// Cancelled to close the connection.
    pub close: CancellationToken,
    passes: Arc<Passes>,
    model: String,
    sync: String,
}

/// What a pass stands for while somebody uses it.
pub(super) struct Admitted {
    pub(super) welcome: Welcome,
    pub(super) said: mpsc::Sender<Said>,
    pub(super) cancel: CancellationToken,
    pub(super) close: CancellationToken,
}

struct Waiting {
    sync: String,
    /// Compared without telling how much of it is right.
    token: blake3::Hash,
    admitted: Admitted,
}

/// The passes that nobody has used yet: one a model at most.
#[derive(Default)]
pub struct Passes {
    waiting: Mutex<HashMap<String, Waiting>>,
}

impl Passes {
    /// Gives out a pass; the last one of the model is worth nothing any more.
    #[must_use]
    pub fn issue(self: &Arc<Self>, pass: Pass) -> Issued {
        let Pass { model, sync, token, welcome } = pass;
        let (sender, said) = mpsc::channel(SAID_MAX);
        let (cancel, close) = (CancellationToken::new(), CancellationToken::new());
        let admitted =
            Admitted { welcome, said: sender, cancel: cancel.clone(), close: close.clone() };
        let token = blake3::hash(token.as_bytes());
        let waiting = Waiting { sync: sync.clone(), token, admitted };
        self.lock().insert(model.clone(), waiting);
        Issued { said, cancel, close, passes: Arc::clone(self), model, sync }
    }

    /// Takes the pass of this model and sync, if the token is right.
    pub(super) fn admit(&self, model: &str, sync: &str, token: &str) -> Option<Admitted> {
        let mut waiting = self.lock();
        let known = waiting.get(model)?;
        if known.sync != sync || known.token != blake3::hash(token.as_bytes()) {
            return None;
        }
        waiting.remove(model).map(|it| it.admitted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issued {
    /// Nobody can use the pass from now on, unless somebody has; then what they tell goes on.
    pub fn withdraw(&self) {
        let mut waiting = self.passes.lock();
        if waiting.get(&self.model).is_some_and(|it| it.sync == self.sync) {
            waiting.remove(&self.model);
        }
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.close.cancel();
        self.withdraw();
    }
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passes").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(passes: &Arc<Passes>, model: &str, sync: &str, token: &str) -> Issued {
        let [model, sync, token] = [model, sync, token].map(str::to_owned);
        passes.issue(Pass { model, sync, token, welcome: Box::new(String::new) })
    }

    #[test]
    fn a_pass_is_good_for_its_sync_and_once() {
        let passes = Arc::new(Passes::default());
        let _one = issue(&passes, "m", "1", "secret");
        for (model, sync, token) in
            [("m", "1", "Secret"), ("m", "1", ""), ("m", "2", "secret"), ("n", "1", "secret")]
        {
            assert!(passes.admit(model, sync, token).is_none(), "{model} {sync} {token}");
        }
        assert!(passes.admit("m", "1", "secret").is_some());
        assert!(passes.admit("m", "1", "secret").is_none(), "twice");
    }

    #[test]
    fn a_pass_ends_with_its_sync() {
        let passes = Arc::new(Passes::default());
        let first = issue(&passes, "m", "1", "one");
        let second = issue(&passes, "m", "2", "two");
        drop(first);
        assert!(passes.admit("m", "1", "one").is_none());
        drop(second);
        assert!(passes.admit("m", "2", "two").is_none());
    }
}
