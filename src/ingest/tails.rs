//! The bound on lines that were begun and not finished, of all connections together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Memory that unfinished lines may take by default.
pub const TAIL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Warnings about closed connections are not given more often.
const WARN_EVERY_US: u64 = 1_000_000;

/// The pool that unfinished lines draw on. Room for reading is not held while waiting for the rest
/// of a line; this is what is.
#[derive(Clone, Debug)]
pub struct Tails {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    bytes_max: usize,
    taken: AtomicUsize,
    started: Instant,
    next: AtomicU64,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    warned_us: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    bytes: AtomicUsize,
    /// When the unfinished line began.
    since_us: AtomicU64,
    close: CancellationToken,
}

/// The share of one connection; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Tail {
    id: u64,
    slot: Arc<Slot>,
    pool: Arc<Pool>,
}

impl Tails {
    /// A pool of `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            pool: Arc::new(Pool {
                bytes_max,
                taken: AtomicUsize::new(0),
                started: Instant::now(),
                next: AtomicU64::new(0),
                slots: Mutex::default(),
                warned_us: AtomicU64::new(0),
            }),
        }
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn taken_bytes(&self) -> usize {
        self.pool.taken.load(Relaxed)
    }

    /// Adds a connection. When the pool is exhausted, `close` is cancelled for the connection whose
    /// unfinished line is the oldest.
    pub(super) fn open(&self, close: CancellationToken) -> Tail {
        let pool = Arc::clone(&self.pool);
        let id = pool.next.fetch_add(1, Relaxed);
        let slot =
            Arc::new(Slot { bytes: AtomicUsize::new(0), since_us: AtomicU64::new(0), close });
        pool.slots().insert(id, Arc::clone(&slot));
        Tail { id, slot, pool }
    }
}

impl Tail {
    /// Sets what the connection's unfinished line takes, and whether it is another line than before.
    pub(super) fn set(&self, bytes: usize, another: bool) {
        let before = self.slot.bytes.swap(bytes, Relaxed);
        if another || before == 0 {
            self.slot.since_us.store(self.pool.now_us(), Relaxed);
        }
        if bytes <= before {
            self.pool.taken.fetch_sub(before - bytes, Relaxed);
            return;
        }
        let growth = bytes - before;
        if self.pool.taken.fetch_add(growth, Relaxed) + growth > self.pool.bytes_max {
            self.pool.close_oldest();
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.set(0, false);
        self.pool.slots().remove(&self.id);
    }
}

impl Pool {
    /// Closes connections until the others fit in. Those that are closed give their bytes back only
    /// when their lines are handed over, so their bytes are not counted on.
    fn close_oldest(&self) {
        let slots = self.slots();
        let mut open: Vec<&Slot> = slots
            .values()
            .map(AsRef::as_ref)
            .filter(|slot| slot.bytes.load(Relaxed) > 0 && !slot.close.is_cancelled())
            .collect();
        let mut bytes: usize = open.iter().map(|slot| slot.bytes.load(Relaxed)).sum();
        open.sort_by_key(|slot| slot.since_us.load(Relaxed));
        let mut closed = 0;
        for slot in open {
            if bytes <= self.bytes_max {
                break;
            }
            slot.close.cancel();
            bytes = bytes.saturating_sub(slot.bytes.load(Relaxed));
            closed += 1;
        }
        drop(slots);
        self.warn(closed);
    }

    fn warn(&self, closed: usize) {
        let now = self.now_us();
        let due = self.warned_us.load(Relaxed);
        if closed > 0 && now >= due {
            self.warned_us.store(now + WARN_EVERY_US, Relaxed);
            warn!(
                closed,
                bytes_max = self.bytes_max,
                "unfinished lines take too much memory, closed the connections that stalled longest"
            );
        }
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// A panic elsewhere does not make the map wrong.
    fn slots(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unfinished_line_goes_first() {
        let tails = Tails::new(100);
        let tokens: [CancellationToken; 3] = Default::default();
        let shares = tokens.each_ref().map(|token| tails.open(token.clone()));
        let wait = || std::thread::sleep(std::time::Duration::from_millis(2));
        shares[0].set(40, true);
        wait();
        shares[1].set(40, true);
        wait();
        // The first begins another line, so the second is the oldest now.
        shares[0].set(30, true);
        shares[2].set(20, true);
        assert!(tokens.iter().all(|token| !token.is_cancelled()));
        shares[2].set(60, false);
        assert_eq!(tokens.each_ref().map(CancellationToken::is_cancelled), [false, true, false]);
        assert_eq!(tails.taken_bytes(), 130);
        drop(shares);
        assert_eq!(tails.taken_bytes(), 0);
    }

    #[test]
    fn more_than_one_is_closed_if_one_is_not_enough() {
        let tails = Tails::new(100);
        let tokens: [CancellationToken; 3] = Default::default();
        let shares = tokens.each_ref().map(|token| tails.open(token.clone()));
        shares[0].set(30, true);
        shares[1].set(30, true);
        std::thread::sleep(std::time::Duration::from_millis(2));
        shares[2].set(100, true);
        assert_eq!(tokens.each_ref().map(CancellationToken::is_cancelled), [true, true, false]);
    }
}
