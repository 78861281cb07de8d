//! What a worker hands over at a time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, SendTimeoutError, Sender, bounded};
use tokio::sync::oneshot;

use crate::buffer::Buffers;
use crate::destination::{Outlet, Parcel};
use crate::ingest::Report;
use crate::log::EncodedBlock;

/// Bytes that may wait for the log while it is being synced, for each worker: what senders can get rid
/// of in the meantime.
const WAITING_BYTES_PER_WORKER: usize = 8 * 1024 * 1024;

/// Portions that may wait for the log, for each worker.
const WAITING_PER_WORKER: usize = 256;

/// The usual size of a block: the lines of one large read, and their headers.
const BLOCK_BYTES: usize = 320 * 1024;

/// Buffers of blocks that are kept for each worker.
const SPARE_BLOCKS: usize = 8;

/// How long a worker waits before it shows that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What a worker judged, up to a few megabytes.
#[derive(Debug, Default)]
pub struct Portion {
    /// What is stored, in order.
    pub blocks: Vec<EncodedBlock>,
    /// The same events for the destinations that keep up.
    pub parcels: Vec<(Arc<Outlet>, Parcel)>,
    /// To whom it is acknowledged.
    pub answers: Vec<Answer>,
}

impl Portion {
    /// Bytes for the log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes().len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.answers.is_empty()
    }
}

/// A report, and who waits for it.
#[derive(Debug)]
pub struct Answer {
    /// What became of the lines.
    pub report: Report,
    /// The sender may be gone.
    pub to: oneshot::Sender<Report>,
}

/// The way of the workers to the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    portions: Sender<Waiting>,
    room: Arc<Room>,
    buffers: Buffers,
}

/// A portion that waits for the log.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) portion: Portion,
    /// Since when.
    pub(super) since: Instant,
    /// Gives the room back when the log has taken it up.
    _share: Share,
}

/// What may wait for the log, in bytes.
#[derive(Debug)]
struct Room {
    bytes_max: usize,
    bytes: Mutex<usize>,
    made: Condvar,
}

/// So many bytes of a [`Room`].
#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.room.lock() -= self.bytes;
        self.room.made.notify_all();
    }
}

impl Room {
    /// Takes `bytes`, as soon as there is room for anything at all; `None` if there is none for `limit`.
    fn take(self: &Arc<Self>, bytes: usize, limit: Duration) -> Option<Share> {
        let taken = self.lock();
        let has_room = |taken: &mut usize| *taken >= self.bytes_max;
        let waited = self.made.wait_timeout_while(taken, limit, has_room);
        let (mut taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        *taken += bytes;
        Some(Share { room: Arc::clone(self), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake {
    /// The way, and its other end.
    #[must_use]
    pub(super) fn new(workers: usize) -> (Self, Receiver<Waiting>) {
        let workers = workers.max(1);
        let (portions, receiver) = bounded(workers * WAITING_PER_WORKER);
        let buffers = Buffers::new(workers * SPARE_BLOCKS, BLOCK_BYTES);
        let bytes_max = workers * WAITING_BYTES_PER_WORKER;
        let room = Arc::new(Room { bytes_max, bytes: Mutex::new(0), made: Condvar::new() });
        (Self { portions, room, buffers }, receiver)
    }

    /// A buffer for a block.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        self.buffers.take()
    }

    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Hands a portion over, and waits while the log is behind; `progress` moves meanwhile. When the
    /// log has failed the portion is dropped, and with it every answer: nothing is acknowledged.
    pub fn send(&self, portion: Portion, progress: &AtomicU64) {
        if portion.is_empty() {
            return;
        }
        let share = loop {
            match self.room.take(portion.bytes(), HEARTBEAT) {
                Some(share) => break share,
                None => progress.fetch_add(1, Relaxed),
            };
        };
        let mut waiting = Waiting { portion, since: Instant::now(), _share: share };
        while let Err(SendTimeoutError::Timeout(refused)) =
            self.portions.send_timeout(waiting, HEARTBEAT)
        {
            progress.fetch_add(1, Relaxed);
            waiting = refused;
        }
    }
}
