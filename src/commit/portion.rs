//! What a worker hands over at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, SendTimeoutError, Sender, bounded};
use tokio::sync::oneshot;

use crate::buffer::Buffers;
use crate::destination::{Outlet, Parcel};
use crate::ingest::Report;
use crate::log::EncodedBlock;

/// Portions that wait for the log, for each worker.
const PORTIONS_PER_WORKER: usize = 2;

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
    portions: Sender<Portion>,
    buffers: Buffers,
}

impl Intake {
    /// The way, and its other end.
    #[must_use]
    pub(super) fn new(workers: usize) -> (Self, Receiver<Portion>) {
        let (portions, receiver) = bounded(workers.max(1) * PORTIONS_PER_WORKER);
        let buffers = Buffers::new(workers.max(1) * SPARE_BLOCKS, BLOCK_BYTES);
        (Self { portions, buffers }, receiver)
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
    pub fn send(&self, mut portion: Portion, progress: &AtomicU64) {
        if portion.is_empty() {
            return;
        }
        while let Err(SendTimeoutError::Timeout(refused)) =
            self.portions.send_timeout(portion, HEARTBEAT)
        {
            progress.fetch_add(1, Relaxed);
            portion = refused;
        }
    }
}
