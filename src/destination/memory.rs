//! What the chunks of all destinations take together.
//!
//! Every destination pays from its own `buffer` for what it pins, and the buffers together are no
//! more than `memory_max`. Two things would exceed that sum, and are bounded here for the whole
//! process:
//!
//! - A reload may remove destinations that still drain, or give those that stay less room, while new
//!   ones fill up. So a chunk takes its *share* of `memory_max` when the first destination pins it,
//!   and gives it back when the last one is done with it.
//! - A line may be larger than the whole `buffer` of a destination that has to have it. Such a chunk
//!   is the *exception*, of which there is one at a time, with that one line in it, whatever the
//!   number of destinations that wait for it. With a log nobody has it for longer than an attempt takes:
//!   one that failed gives the line back to the log until the next, so that a destination that is down
//!   keeps no other one waiting.
//!
//! What always holds: the chunks that are pinned take at most `memory_max` and one line. What cannot
//! be had waits, or is dropped, by the rule of the destination.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The account of the process; see the module.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    /// Something was given back.
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    bytes_max: usize,
    bytes: usize,
    exception: bool,
    /// Workers that wait.
    waiting: usize,
}

/// What a chunk takes its memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// `memory_max`.
    Share,
    /// Beyond it: the one line that is larger than the buffer of a destination.
    Exception,
}

/// What a chunk has; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Hold {
    memory: Arc<Memory>,
    claim: Claim,
    bytes: usize,
}

impl Memory {
    /// An account of `bytes_max`, the `memory_max` of the config.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        let state = State { bytes_max, bytes: 0, exception: false, waiting: 0 };
        Arc::new(Self { state: Mutex::new(state), freed: Condvar::new() })
    }

    /// Changes the bound; what is taken stays.
    pub fn set_max(&self, bytes_max: usize) {
        self.lock().bytes_max = bytes_max;
        self.freed.notify_all();
    }

    /// Sees to it that a chunk of `bytes`, which has `held`, has what `claim` says.
    pub(super) fn admit(
        self: &Arc<Self>,
        held: &mut Option<Hold>,
        claim: Claim,
        bytes: usize,
    ) -> bool {
        if held.as_ref().is_some_and(|held| held.claim == Claim::Exception || held.claim == claim) {
            return true;
        }
        let mut state = self.lock();
        if !state.has(claim, bytes) {
            return false;
        }
        state.take(claim, bytes);
        drop(state);
        // A share that becomes the exception is given back.
        *held = Some(Hold { memory: Arc::clone(self), claim, bytes });
        true
    }

    /// Waits until there may be what was claimed in vain, at most for `limit`. For worker threads.
    pub(super) fn wait(&self, claim: Claim, bytes: usize, limit: Duration) {
        let mut state = self.lock();
        if state.has(claim, bytes) {
            return;
        }
        state.waiting += 1;
        let waited = self.freed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = waited;
        state.waiting -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has(&self, claim: Claim, bytes: usize) -> bool {
        match claim {
            Claim::Share => self.bytes.saturating_add(bytes) <= self.bytes_max,
            Claim::Exception => !self.exception,
        }
    }

    fn take(&mut self, claim: Claim, bytes: usize) {
        match claim {
            Claim::Share => self.bytes += bytes,
            Claim::Exception => self.exception = true,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        match self.claim {
            Claim::Share => state.bytes -= self.bytes,
            Claim::Exception => state.exception = false,
        }
        if state.waiting > 0 {
            self.memory.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_and_there_is_one_exception() {
        let memory = Memory::new(100);
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(memory.admit(&mut a, Claim::Share, 60));
        assert!(!memory.admit(&mut b, Claim::Share, 41));
        assert!(memory.admit(&mut b, Claim::Share, 40));
        assert!(memory.admit(&mut b, Claim::Share, 40), "it has its share");
        assert!(memory.admit(&mut c, Claim::Exception, 1000));
        assert!(memory.admit(&mut c, Claim::Share, 1000), "it is in memory anyway");
        assert!(!memory.admit(&mut a, Claim::Exception, 60), "there is one already");
        c = None;
        assert!(memory.admit(&mut a, Claim::Exception, 60));
        assert!(c.is_none() && memory.admit(&mut c, Claim::Share, 60), "a's share is free again");
        assert!(!memory.admit(&mut None, Claim::Share, 1));
        memory.set_max(101);
        assert!(memory.admit(&mut None, Claim::Share, 1));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let memory = Memory::new(100);
        let mut held = None;
        assert!(memory.admit(&mut held, Claim::Exception, 1000));
        let woken = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let since = std::time::Instant::now();
                memory.wait(Claim::Exception, 1000, Duration::from_secs(60));
                since.elapsed()
            });
            while memory.lock().waiting == 0 {
                std::thread::yield_now();
            }
            drop(held.take());
            waiting.join().unwrap()
        });
        assert!(woken < Duration::from_secs(30), "{woken:?}");
    }
}
