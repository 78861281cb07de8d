//! The bound on bytes that were read and not yet judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::framing::RUNS_PER_CALL_MAX;

/// The unit of the budget. Every frame is charged for at least one, which also bounds how many
/// frames there can be.
pub(super) const PAGE_BYTES: usize = 4096;

/// The budget of all sources together.
#[derive(Clone, Debug)]
pub struct Budget {
    pages: Arc<Semaphore>,
    pages_max: u32,
    blocked_us: Arc<AtomicU64>,
}

/// Room for some bytes; dropping it gives it back.
#[derive(Debug)]
pub struct Room {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes`, rounded up to whole pages.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let pages_max = u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX).max(1);
        Self {
            pages: Arc::new(Semaphore::new(pages_max as usize)),
            pages_max,
            blocked_us: Arc::default(),
        }
    }

    /// How many frames can exist at a time: one a page, except that all frames of one read exist
    /// whatever the budget.
    #[must_use]
    pub fn frames_max(&self) -> usize {
        (self.pages_max as usize).max(RUNS_PER_CALL_MAX)
    }

    /// Waits for room for `bytes`; more than the whole budget is cut down to it.
    pub async fn room(&self, bytes: usize) -> Room {
        let pages = self.pages_for(bytes);
        if let Ok(permit) = Arc::clone(&self.pages).try_acquire_many_owned(pages) {
            return Room { permit };
        }
        let _blocked = Blocked { since: Instant::now(), blocked_us: &self.blocked_us };
        match Arc::clone(&self.pages).acquire_many_owned(pages).await {
            Ok(permit) => Room { permit },
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// How long reading has waited for room, all connections added up.
    #[must_use]
    pub fn blocked_seconds(&self) -> f64 {
        self.blocked_us.load(Relaxed) as f64 / 1e6
    }

    /// Whether there is no room for a read.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.pages.available_permits() == 0
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn taken_bytes(&self) -> usize {
        (self.pages_max as usize - self.pages.available_permits()) * PAGE_BYTES
    }

    fn pages_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX).clamp(1, self.pages_max)
    }
}

/// Counts the time that it lives, also of a wait that is given up.
struct Blocked<'b> {
    since: Instant,
    blocked_us: &'b AtomicU64,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        let us = self.since.elapsed().as_micros() as u64;
        self.blocked_us.fetch_add(us, Relaxed);
    }
}

impl Room {
    /// For how many bytes there is room.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * PAGE_BYTES
    }

    /// Gives back all but the room for `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let pages = bytes.div_ceil(PAGE_BYTES).max(1);
        let surplus = self.permit.num_permits().saturating_sub(pages);
        drop(self.permit.split(surplus));
    }
}
