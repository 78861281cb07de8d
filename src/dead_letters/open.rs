//! One shelf as it is opened, and the way to its thread.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};
use tokio::sync::oneshot;
use tracing::warn;

use super::keep::{REQUESTS_MAX, Settings, Shelf};
use super::shelf::{Keeper, Limits, Request, Shared};
use crate::log::{Disk, Folder, Kind, LogError, Options, Position, Tombstones, Writer};
use crate::metrics::DeadLetterCounters;

/// A shelf has room for so many segments.
const SEGMENTS: u64 = 8;
/// Segments are not larger than those of the log.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Letters that are written together, if a segment has room for them.
pub(super) const GROUP_BYTES: usize = 1024 * 1024;

/// A shelf that is being written to.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) folder: Folder,
    pub(super) requests: Sender<Request>,
    pub(super) shared: Arc<Shared>,
    /// The erasures that are not yet carried out here.
    pub(super) tombstones: Mutex<Tombstones>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Open {
    pub(super) fn start(
        settings: &Settings,
        shelf: Shelf,
        max_bytes: u64,
        limits: Limits,
        counters: &Arc<DeadLetterCounters>,
        fresh_key: [u8; 32],
    ) -> Result<Self, LogError> {
        let path = settings.folder.join(shelf.folder());
        let folder = Folder::open(Arc::new(Disk), &path, Kind::DeadLetters)?;
        let segment_bytes = (max_bytes / SEGMENTS).min(SEGMENT_BYTES_MAX) as u32;
        let limits = Limits { group_bytes: GROUP_BYTES.min(segment_bytes as usize), ..limits };
        let options = Options {
            segment_bytes,
            max_bytes,
            // Below its floor the log takes no more events: what is in it must still be able to go.
            free_floor_bytes: settings.free_floor_bytes / 2,
            sync: limits.sync,
        };
        let (writer, report) = Writer::open(folder.clone(), options, Position::START, &mut |_| {})?;
        if !(report.cut.is_none() && report.damage.is_none()) {
            warn!(?report, shelf = shelf.folder(), "dead letters were damaged");
        }
        let tombstones = Mutex::new(Tombstones::open(&folder, fresh_key)?);
        let bytes: fn(&DeadLetterCounters) -> &_ = match shelf {
            Shelf::Delivery => |counters| &counters.delivery_bytes,
            Shelf::Ingest => |counters| &counters.ingest_bytes,
        };
        bytes(counters).store(writer.size_bytes(), Relaxed);
        let shared = Arc::new(Shared::new(writer.end()));
        let (requests, receiver) = bounded(REQUESTS_MAX);
        let keeper = Keeper {
            writer,
            limits,
            shared: Arc::clone(&shared),
            counters: Arc::clone(counters),
            bytes,
            next_upkeep: Instant::now(),
            next_sync: Instant::now(),
            emptied: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("dead-{}", shelf.folder()))
            .spawn(move || keeper.run(&receiver))
            .map_err(|error| LogError::Poisoned(format!("cannot start its thread: {error}")))?;
        Ok(Self { folder, requests, shared, tombstones, thread: Mutex::new(Some(thread)) })
    }

    /// Asks the thread and waits for its answer.
    pub(super) fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, LogError> {
        let gone = || LogError::Poisoned("the dead letters are closed".to_owned());
        let (sender, answer) = oneshot::channel();
        self.requests.send(request(sender)).map_err(|_| gone())?;
        answer.blocking_recv().map_err(|_| gone())
    }

    /// Why it can't be written to any more, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes everything durable and ends the thread. Blocks.
    pub(super) fn finish(&self) {
        // A thread that has failed has said so.
        let _ = self.requests.send(Request::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = thread.map(JoinHandle::join);
    }
}
