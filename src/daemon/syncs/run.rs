//! One sync, from its errand to its end.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Around, child, socket};
use crate::admin::{Counts, SyncState};
use crate::daemon::book::fresh_key;
use crate::dead_letters::{ModelRejections, Oldest};
use crate::ingest::{Issued, Pass, Said};
use crate::route::SourceId;

/// How long a child may take to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may go on after it was asked to stop, or has said that it has ended.
const END_TIME_MAX: Duration = Duration::from_secs(30);
/// The same when the daemon stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long what it sent last may take to be read once it is gone.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a process may take that is killed.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// Rejections that one sync is told.
const REJECTIONS_MAX: usize = 100_000;

/// What the syncs of one model need.
pub(super) struct Means {
    pub(super) model: String,
    source: SourceId,
    pub(super) around: Arc<Around>,
}

/// What is asked of a sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) full: bool,
    pub(super) dry_run: bool,
}

/// The rejections that the child was told, once it was.
type Told = Arc<Mutex<Option<Oldest>>>;

impl Means {
    pub(super) fn new(model: &str, source: SourceId, around: Arc<Around>) -> Self {
        Self { model: model.to_owned(), source, around }
    }

    /// Runs a sync to its end; `progress` is told how far it is. Ends early if `cancel` is, or the
    /// daemon stops.
    pub(super) async fn run(
        &self,
        sync: &str,
        asked: Asked,
        cancel: &CancellationToken,
        progress: impl Fn(Counts) + Sync,
    ) -> Counts {
        let told = Told::default();
        let started = match self.start(sync, asked, &told).await {
            Ok(started) => started,
            Err(why) => return failed(Counts::default(), why),
        };
        let (issued, child) = started;
        let rejections = self.around.rejections.of(self.source).cloned();
        let going = Going {
            issued,
            child,
            rejections,
            told,
            is_connected: false,
            is_silent: false,
            last: Counts::default(),
            result: None,
            exited: None,
            killed: None,
            deadline: Some(Instant::now() + CONNECT_TIME_MAX),
        };
        going.attend(cancel, &self.around.stop, progress).await
    }

    async fn start(
        &self,
        sync: &str,
        asked: Asked,
        told: &Told,
    ) -> Result<(Issued, Child), String> {
        let token = hex(&fresh_key().map_err(|error| error.to_string())?);
        let issued = self.around.passes.issue(Pass {
            model: self.model.clone(),
            sync: sync.to_owned(),
            token: token.clone(),
            welcome: self.welcome(told),
        });
        let folder = &self.around.folder;
        let errand = json!({
            "socket": socket(folder),
            "token": token,
            "model": self.model,
            "sync": sync,
            "full": asked.full,
            "dry_run": asked.dry_run,
            "state_dir": folder.join(&self.model),
        });
        let child = child::start(&self.around.config, &self.model, &errand.to_string()).await;
        let child = child.map_err(|error| format!("its process can't be started: {error}"))?;
        Ok((issued, child))
    }

    /// The answer to the handshake: what is in force when it comes.
    fn welcome(&self, told: &Told) -> Box<dyn FnOnce() -> String + Send> {
        let (around, source, told) = (Arc::clone(&self.around), self.source, Arc::clone(told));
        Box::new(move || {
            let plan = around.plans.load();
            let table = plan.table();
            let named = || table.destinations().iter().zip(plan.outlets());
            let those = |open: bool| {
                let those = named()
                    .filter(|(destination, _)| table.is_open(source, destination.class) == open);
                let told = those.filter_map(|(destination, outlet)| {
                    let consent = table.classes()[usize::from(destination.class.0)].consent;
                    let id = outlet.stable()?.0;
                    Some(json!({ "name": destination.name, "id": id, "consent": consent }))
                });
                Value::Array(told.collect())
            };
            let (destinations, others) = (those(true), those(false));
            let oldest = around.rejections.of(source).map(|it| it.oldest(REJECTIONS_MAX));
            let rejections = match oldest {
                Some(Ok(oldest)) => {
                    let lines = oldest.lines.join(",");
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(oldest);
                    lines
                }
                Some(Err(error)) => {
                    warn!("the rejected rows can't be read: {error}");
                    String::new()
                }
                None => String::new(),
            };
            // By hand: the rejections are lines of JSON already, and there may be many.
            format!(
                "{{\"ok\":true,\"table\":{},\"words\":{},\"max_event_bytes\":{},\"destinations\":{destinations},\"others\":{others},\
                 \"rejections\":[{rejections}]}}",
                json!(table.hash()),
                json!(table.words()),
                around.max_event_bytes
            )
        })
    }
}

/// A sync whose process runs.
struct Going {
    issued: Issued,
    child: Child,
    rejections: Option<Arc<ModelRejections>>,
    told: Told,
    is_connected: bool,
    /// The connection is over, or nobody can make it any more.
    is_silent: bool,
    last: Counts,
    result: Option<Counts>,
    exited: Option<ExitStatus>,
    /// Why it was killed, if it was.
    killed: Option<&'static str>,
    /// When something must have happened.
    deadline: Option<Instant>,
}

/// What happens to a sync.
enum Event {
    Said(Option<Said>),
    Exited(std::io::Result<ExitStatus>),
    Cancel(Duration),
    TooLate,
}

impl Going {
    async fn attend(
        mut self,
        cancel: &CancellationToken,
        stop: &CancellationToken,
        progress: impl Fn(Counts),
    ) -> Counts {
        let mut is_asked = false;
        while !self.is_silent || self.exited.is_none() {
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            let event = tokio::select! {
                biased;
                () = stop.cancelled(), if !is_asked => Event::Cancel(STOP_TIME_MAX),
                () = cancel.cancelled(), if !is_asked => Event::Cancel(END_TIME_MAX),
                said = self.issued.said.recv(), if !self.is_silent => Event::Said(said),
                status = self.child.wait(), if self.exited.is_none() => Event::Exited(status),
                () = sleep_until(deadline), if self.deadline.is_some() => Event::TooLate,
            };
            match event {
                Event::Cancel(grace) => {
                    is_asked = true;
                    self.issued.cancel.cancel();
                    self.at_the_latest(grace);
                }
                Event::Said(Some(said)) => self.hear(said, is_asked, &progress).await,
                Event::Said(None) => {
                    self.is_silent = true;
                    self.at_the_latest(END_TIME_MAX);
                }
                Event::Exited(status) => {
                    // A process that can't be waited for is not there.
                    self.exited = Some(status.unwrap_or_default());
                    self.issued.withdraw();
                    self.deadline = Some(Instant::now() + CLOSE_TIME_MAX);
                }
                Event::TooLate => self.insist(is_asked),
            }
        }
        self.outcome(is_asked)
    }

    fn at_the_latest(&mut self, from_now: Duration) {
        let at = Instant::now() + from_now;
        self.deadline = Some(self.deadline.map_or(at, |earlier| earlier.min(at)));
    }

    async fn hear(&mut self, said: Said, is_asked: bool, progress: &impl Fn(Counts)) {
        match said {
            Said::Connected => {
                self.is_connected = true;
                if !is_asked {
                    self.deadline = None;
                }
            }
            Said::Progress(counts) => {
                if let Some(counts) = read(counts) {
                    self.last = Counts { state: SyncState::Running, ..counts };
                    progress(self.last.clone());
                }
            }
            Said::RejectionsTaken(count, done) => {
                self.forget(count).await;
                let _ = done.send(());
            }
            Said::End(result) => {
                self.result = read(result).filter(|it| it.state != SyncState::Running);
                self.at_the_latest(END_TIME_MAX);
            }
        }
    }

    /// The child has these rejections in its own state now.
    async fn forget(&self, count: u64) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((rejections, told)) = self.rejections.clone().zip(told) else { return };
        let forgetting = tokio::task::spawn_blocking(move || rejections.forget(&told, count));
        if let Ok(Err(error)) = forgetting.await {
            warn!(
                "rejected rows can't be taken off the list, the next sync is told again: {error}"
            );
        }
    }

    /// What must have happened has not: the process is killed, or the connection cut.
    fn insist(&mut self, is_asked: bool) {
        if self.exited.is_some() {
            self.issued.close.cancel();
            self.deadline = None;
            return;
        }
        self.killed.get_or_insert(if self.result.is_some() {
            "its process did not end by itself and was killed"
        } else if is_asked {
            "it did not stop when it was asked to, and was killed"
        } else {
            "its process did not connect in time and was killed"
        });
        if let Err(error) = self.child.start_kill() {
            warn!("the process of a sync can't be killed: {error}");
        }
        self.deadline = Some(Instant::now() + KILL_TIME_MAX);
    }

    fn outcome(self, is_asked: bool) -> Counts {
        if let Some(result) = self.result {
            return result;
        }
        let why = match (self.killed, self.exited) {
            (Some(why), _) => why.to_owned(),
            (None, Some(status)) => child::ended(status),
            (None, None) => "its process is gone".to_owned(),
        };
        if is_asked {
            // One that ended as it was asked to need not have been heard: while the log is full, nothing
            // is read behind the lines that wait for it.
            let is_orderly = self.killed.is_none()
                && self.exited.is_some_and(|status| matches!(status.code(), Some(0 | 1)));
            let error = (!is_orderly).then_some(why);
            return Counts { state: SyncState::Cancelled, error, ..self.last };
        }
        let connected = if self.is_connected { "" } else { " before it had connected" };
        failed(self.last, format!("{why}{connected}"))
    }
}

fn failed(counts: Counts, why: String) -> Counts {
    Counts { state: SyncState::Failed, error: Some(why), ..counts }
}

/// What a child tells is no more than that.
fn read(counts: Value) -> Option<Counts> {
    match serde_json::from_value::<Counts>(counts) {
        Ok(counts) => Some(counts.bounded()),
        Err(error) => {
            warn!("a sync tells nonsense about itself: {error}");
            None
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
