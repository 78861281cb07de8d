//! What the committer, the readers and the metrics share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::{Acquire, Relaxed, Release}};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::destination::Outlet;
use crate::log::{Folder, Position};
use crate::metrics::Buckets;

/// The log as everybody but its writer sees it.
#[derive(Debug)]
pub struct Log {
    folder: Folder,
    end: watch::Sender<Position>,
    /// Behind what was offered to the destinations.
    handed: AtomicU64,
    /// The running destinations, whose cursors are kept.
    followed: Mutex<Vec<Arc<Outlet>>>,
    stopping: AtomicBool,
    is_full: AtomicBool,
    bytes: AtomicU64,
    commits: Buckets,
    failure: Mutex<Option<String>>,
}

/// What the metrics show of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogNumbers {
    /// Bytes of its segments.
    pub bytes: u64,
    /// Whether it takes nothing more for now.
    pub is_full: bool,
}

impl Log {
    pub(super) fn new(folder: Folder, end: Position, bytes: u64) -> Self {
        Self {
            folder,
            end: watch::Sender::new(end),
            handed: AtomicU64::new(end.0),
            followed: Mutex::default(),
            stopping: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            bytes: AtomicU64::new(bytes),
            commits: Buckets::default(),
            failure: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Behind everything that was committed.
    #[must_use]
    pub fn end(&self) -> Position {
        *self.end.borrow()
    }

    /// Waits until more was committed than up to `end`.
    pub(super) async fn grows_beyond(&self, end: Position) {
        let mut ends = self.end.subscribe();
        // The sender lives as long as this.
        let _ = ends.wait_for(|now| *now > end).await;
    }

    /// Everything before it was offered to the destinations.
    #[must_use]
    pub fn handed(&self) -> Position {
        Position(self.handed.load(Acquire))
    }

    pub(super) fn set_handed(&self, to: Position) {
        self.handed.store(to.0, Release);
    }

    /// Names the destinations that run: the log keeps what they need, and nothing for others.
    pub fn follow(&self, outlets: Vec<Arc<Outlet>>) {
        *self.followed() = outlets;
    }

    pub(super) fn followed(&self) -> MutexGuard<'_, Vec<Arc<Outlet>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A full log is not waited for any longer.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    pub(super) fn publish(&self, end: Position, bytes: u64, took: Duration) {
        self.end.send_replace(end);
        self.bytes.store(bytes, Relaxed);
        self.commits.record(took, 1);
    }

    pub(super) fn set_full(&self, full: bool) {
        self.is_full.store(full, Relaxed);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    /// Its numbers.
    #[must_use]
    pub fn numbers(&self) -> LogNumbers {
        LogNumbers { bytes: self.bytes.load(Relaxed), is_full: self.is_full.load(Relaxed) }
    }

    /// How long commits took.
    #[must_use]
    pub fn commits(&self) -> &Buckets {
        &self.commits
    }

    /// Why it can't be written to any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn fail(&self, why: String) {
        self.lock().get_or_insert(why);
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
