//! What the committer, the readers and the metrics share.

use std::sync::Weak;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use tokio::sync::{Semaphore, oneshot, watch};

use super::erase::Order;
use crate::destination::{Erasures, Outlet};
use crate::log::{Folder, Position};
use crate::metrics::LogCounters;
use crate::route::Handle;

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
    /// Every destination that ran and of which something is still in memory.
    everyone: Mutex<Vec<Weak<Outlet>>>,
    erasures: Handle<Erasures>,
    /// Erasures as they were before, as far as an attempt goes on that knows no later ones.
    older: Mutex<Vec<Weak<Erasures>>>,
    orders: Sender<Order>,
    is_followed: AtomicBool,
    stopping: AtomicBool,
    readings: Arc<Semaphore>,
    full: watch::Sender<bool>,
    counters: Arc<LogCounters>,
    failure: Mutex<Option<String>>,
    /// Whether the reader of a destination ended although nobody told it to.
    reader_died: AtomicBool,
}

impl Log {
    pub(super) fn new(folder: Folder, end: Position, bytes: u64, orders: Sender<Order>) -> Self {
        Self {
            folder,
            began: end,
            end: AtomicU64::new(end.0),
            handed: AtomicU64::new(end.0),
            followed: Mutex::default(),
            everyone: Mutex::default(),
            erasures: Handle::new(Arc::default()),
            older: Mutex::default(),
            orders,
            is_followed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            full: watch::Sender::new(false),
            counters: Arc::new(LogCounters { bytes: bytes.into(), ..LogCounters::default() }),
            failure: Mutex::default(),
            reader_died: AtomicBool::new(false),
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
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        everyone.retain(|outlet| outlet.strong_count() > 0);
        everyone.extend(outlets.iter().map(Arc::downgrade));
        drop(everyone);
        *self.followed() = outlets;
        self.is_followed.store(true, Release);
    }

    /// The destinations are about to change: no cursor is saved before it is known to which.
    pub fn unfollow(&self) {
        let _followed = self.followed();
        self.is_followed.store(false, Release);
    }

    /// Whether the destinations that run are known. Before that, none of them may lose its cursor.
    pub(super) fn is_followed(&self) -> bool {
        self.is_followed.load(Acquire)
    }

    /// How far all are done that run, or ran and have something in memory.
    pub(super) fn settled(&self) -> Position {
        let handed = self.handed();
        let everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = everyone.iter().filter_map(Weak::upgrade);
        // One that has not begun will begin anywhere.
        let cursors = alive.map(|outlet| outlet.cursor(handed).unwrap_or(Position::START));
        cursors.min().unwrap_or(handed)
    }

    /// Erases the events stored so far that carry this user ID or this anonymous ID. When it returns
    /// that is durable and in force; attempts that go on may still have them.
    ///
    /// # Errors
    /// A sentence; nothing was changed.
    pub async fn erase(
        &self,
        user: Option<String>,
        anonymous: Option<String>,
    ) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let stopped = "the daemon is stopping, or the log has failed".to_owned();
        let order = Order::Erase { user, anonymous, done };
        if let Err(TrySendError::Full(_)) = self.orders.try_send(order) {
            return Err("the log is busy with other erasures; try again".to_owned());
        }
        answer.await.unwrap_or(Err(stopped))
    }

    /// Whether an attempt goes on that does not know every erasure that is in force.
    #[must_use]
    pub fn is_older_erasure_used(&self) -> bool {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.retain(|erasures| erasures.strong_count() > 0);
        !older.is_empty()
    }

    /// The erasures in force.
    #[must_use]
    pub fn erasures(&self) -> &Handle<Erasures> {
        &self.erasures
    }

    pub(super) fn publish_erasures(&self, next: Erasures) {
        // Nothing depends on who lets go of the last one: it is small.
        let before = self.erasures.publish(Arc::new(next));
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.retain(|erasures| erasures.strong_count() > 0);
        older.push(Arc::downgrade(&before));
    }

    pub(super) fn set_erasures_pending(&self, ids: u64) {
        self.counters.erasures_pending.store(ids, Relaxed);
    }

    /// Asks the thread of the log; an error if it has ended.
    pub(super) fn order(&self, order: Order) -> Result<(), ()> {
        self.orders.send(order).map_err(|_| ())
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

    pub(super) fn is_full(&self) -> bool {
        *self.full.borrow()
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

    /// Whether the reader of a destination ended by a fault of ours: what it has not given would not
    /// come before the next start.
    #[must_use]
    pub fn has_dead_reader(&self) -> bool {
        self.reader_died.load(Relaxed)
    }

    pub(super) fn lose_reader(&self) {
        self.reader_died.store(true, Relaxed);
    }

    pub(super) fn fail(&self, why: String) {
        self.lock().get_or_insert(why);
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
