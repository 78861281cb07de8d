//! What the committer, the readers and the metrics share.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::destination::Outlet;
use crate::log::{Folder, Position};
use crate::metrics::LogCounters;

/// Lagging destinations that are read for at a time: each holds a buffer of a few megabytes.
const READINGS_MAX: usize = 8;

/// The log as everybody but its writer sees it.
#[derive(Debug)]
pub struct Log {
    folder: Folder,
    /// Everything before it was stored by earlier processes.
    began: Position,
    end: AtomicU64,
    /// Behind what was offered to the destinations.
    handed: AtomicU64,
    /// The running destinations, whose cursors are kept.
    followed: Mutex<Vec<Arc<Outlet>>>,
    stopping: AtomicBool,
    readings: Arc<Semaphore>,
    full: watch::Sender<bool>,
    counters: Arc<LogCounters>,
    failure: Mutex<Option<String>>,
}

impl Log {
    pub(super) fn new(folder: Folder, end: Position, bytes: u64) -> Self {
        Self {
            folder,
            began: end,
            end: AtomicU64::new(end.0),
            handed: AtomicU64::new(end.0),
            followed: Mutex::default(),
            stopping: AtomicBool::new(false),
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            full: watch::Sender::new(false),
            counters: Arc::new(LogCounters { bytes: bytes.into(), ..LogCounters::default() }),
            failure: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The turns to read.
    pub(super) fn readings(&self) -> &Arc<Semaphore> {
        &self.readings
    }

    pub(super) fn began(&self) -> Position {
        self.began
    }

    /// Behind everything that was committed.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.end.load(Acquire))
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
        self.end.store(end.0, Release);
        self.counters.bytes.store(bytes, Relaxed);
        self.counters.commits.record(took, 1);
    }

    /// Follows whether it is full: then nothing more is stored until there is room.
    #[must_use]
    pub fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.send_if_modified(|before| std::mem::replace(before, full) != full);
        self.counters.full.store(full.into(), Relaxed);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.counters.bytes.store(bytes, Relaxed);
    }

    /// Its numbers.
    #[must_use]
    pub fn counters(&self) -> &Arc<LogCounters> {
        &self.counters
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
