//! The owner of both shelves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, RwLock, RwLockReadGuard, Semaphore, oneshot};
use tracing::warn;

use super::letters::{Letters, LettersWriter, Reason};
use super::open::{GROUP_BYTES, Open};
use super::shelf::{Limits, Refused, Request};
use super::taken::Taken;
use crate::consent::Nature;
use crate::log::{Block, Folder, LogError, Position, SyncMode, rewrite_segment};
use crate::metrics::DeadLetterCounters;
use crate::parse::RejectReason;
use crate::route::SourceId;

/// The part of the room that rejected lines may take: one of so many.
pub const INGEST_SHARE: u64 = 4;

/// Letters that destinations have in the making and on their way, all together.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The least that one of them counts, which bounds their number.
const KEPT_BYTES_MIN: usize = 16 * 1024;
/// Requests that wait for a shelf: all that [`KEPT_BYTES_MAX`] admits, and what operators ask for.
pub(super) const REQUESTS_MAX: usize = KEPT_BYTES_MAX / KEPT_BYTES_MIN + 64;

/// Rejected lines on their way; what comes on top is lost.
pub(super) const OFFERED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How quickly they are written at most.
const OFFERED_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// How often they are synced, whatever the log does: nobody was told that they are stored.
const OFFERED_SYNC_EVERY: Duration = Duration::from_secs(1);
/// Of a rejected line that is longer, only the beginning is kept.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// So much of it.
const HEAD_BYTES: usize = 64 * 1024;
/// What is said about one of which only the beginning was kept.
const CUT: &str = "only the first ";

/// How long a delivery waits before it tries again to store its letters.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// How long it waits for a place in the queue.
const QUEUE_WAIT: Duration = Duration::from_millis(5);

/// How dead letters are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of both shelves.
    pub folder: PathBuf,
    /// What both may take on the disk.
    pub max_bytes: u64,
    /// What is older goes.
    pub max_age: Duration,
    /// Whether lines that are rejected on the way in are kept.
    pub keeps_rejected: bool,
    /// When what destinations did not take is made durable.
    pub sync: SyncMode,
    /// How often, with [`SyncMode::Interval`].
    pub sync_every: Duration,
    /// What must stay free on the file system.
    pub free_floor_bytes: u64,
    /// The names of the sources, by their numbers.
    pub sources: Arc<[String]>,
}

/// The two kinds of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// What destinations rejected, and what was given up.
    Delivery,
    /// What was rejected on the way in.
    Ingest,
}

impl Shelf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Delivery, Self::Ingest];

    /// Its folder in the one of the dead letters.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Ingest => "ingest",
        }
    }
}

/// The dead letters of a running daemon.
#[derive(Debug)]
pub struct DeadLetters {
    delivery: Open,
    ingest: Open,
    keeps_rejected: bool,
    sources: Arc<[String]>,
    room: Arc<Semaphore>,
    counters: Arc<DeadLetterCounters>,
    /// See [`DeadLetters::exclusive`].
    exclusive: tokio::sync::Mutex<()>,
    /// See [`DeadLetters::turn`].
    turns: RwLock<()>,
    /// One at a time rewrites segments.
    rewriting: Mutex<()>,
    /// Whether the disk was full when letters were to be stored last.
    waiting: AtomicBool,
}

/// See [`DeadLetters::turn`].
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "it is held")] RwLockReadGuard<'a, ()>);

impl DeadLetters {
    /// Opens both shelves and starts their threads. `fresh_key` is random: see [`Tombstones::open`](crate::log::Tombstones::open).
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(settings: &Settings, fresh_key: [u8; 32]) -> Result<Self, LogError> {
        let counters = Arc::new(DeadLetterCounters::default());
        let ingest_bytes = settings.max_bytes / INGEST_SHARE;
        let limits = Limits {
            sync: settings.sync,
            sync_every: settings.sync_every,
            max_age: settings.max_age,
            group_bytes: GROUP_BYTES,
            bytes_per_second_max: None,
        };
        let delivery = Open::start(
            settings,
            Shelf::Delivery,
            settings.max_bytes - ingest_bytes,
            limits,
            &counters,
            fresh_key,
        )?;
        let limits = Limits {
            sync: match settings.sync {
                SyncMode::Commit | SyncMode::Interval => SyncMode::Interval,
                SyncMode::Off => SyncMode::Off,
            },
            sync_every: OFFERED_SYNC_EVERY,
            bytes_per_second_max: Some(OFFERED_BYTES_PER_SECOND),
            ..limits
        };
        let ingest =
            Open::start(settings, Shelf::Ingest, ingest_bytes, limits, &counters, fresh_key)?;
        let dead_letters = Self {
            delivery,
            ingest,
            keeps_rejected: settings.keeps_rejected,
            sources: Arc::clone(&settings.sources),
            room: Arc::new(Semaphore::new(KEPT_BYTES_MAX)),
            counters,
            exclusive: tokio::sync::Mutex::default(),
            turns: RwLock::default(),
            rewriting: Mutex::default(),
            waiting: AtomicBool::new(false),
        };
        dead_letters.show_erasures();
        Ok(dead_letters)
    }

    /// Their numbers.
    #[must_use]
    pub fn counters(&self) -> &Arc<DeadLetterCounters> {
        &self.counters
    }

    /// Whether rejected lines are kept.
    #[must_use]
    pub fn keeps_rejected(&self) -> bool {
        self.keeps_rejected
    }

    /// The name of a source; empty for one that is gone.
    #[must_use]
    pub fn source(&self, source: SourceId) -> &str {
        self.sources.get(usize::from(source.0)).map_or("", String::as_str)
    }

    /// Why a shelf can't be written to any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        [&self.delivery, &self.ingest].into_iter().find_map(Open::failure)
    }

    /// Waits for room for letters of so many bytes; to be had before they are written, and to be held
    /// until they are kept.
    pub async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = bytes.clamp(KEPT_BYTES_MIN, KEPT_BYTES_MAX) as u32;
        match Arc::clone(&self.room).acquire_many_owned(bytes).await {
            Ok(permit) => permit,
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// To be had before it is looked at whose events become letters, and to be given up with them: so
    /// that whoever erases can tell when all letters that are on their way know of it.
    pub async fn turn(&self) -> Turn<'_> {
        Turn(self.turns.read().await)
    }

    /// Waits until every [`Turn`] that was had before is given up. Its letters are then stored before
    /// anything that is asked of the shelf from now on.
    pub async fn wait_for_turns(&self) {
        drop(self.turns.write().await);
    }

    /// Stores letters of a destination, and returns when they are durable. False if the disk is full and
    /// nothing was stored; it has waited a while then, and they are to be written again: what is in
    /// them may have been erased meanwhile. When the shelf has failed it does not return: the daemon is
    /// about to stop.
    pub async fn keep(&self, letters: Letters, turn: Turn<'_>) -> bool {
        if letters.is_empty() {
            return true;
        }
        let (done, stored) = oneshot::channel();
        let mut request = Request::Store(letters, Some(done));
        loop {
            request = match self.delivery.requests.try_send(request) {
                Ok(()) => break,
                Err(TrySendError::Full(request)) => request,
                Err(TrySendError::Disconnected(_)) => {
                    drop(turn);
                    return std::future::pending().await;
                }
            };
            tokio::time::sleep(QUEUE_WAIT).await;
        }
        drop(turn);
        match stored.await {
            Ok(Ok(())) => {
                self.waiting.store(false, Relaxed);
                true
            }
            Ok(Err(Refused { why })) => {
                if !self.waiting.swap(true, Relaxed) {
                    warn!("dead letters can't be stored, their deliveries wait: {why}");
                }
                tokio::time::sleep(FULL_WAIT).await;
                false
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes rejected lines if there is room for them now; else they are counted as lost. Never waits.
    pub fn offer(&self, letters: Letters) {
        if letters.is_empty() {
            return;
        }
        let (bytes, count) = (letters.bytes() as u64, letters.count());
        let offered = &self.ingest.shared.offered_bytes;
        let before = offered.fetch_add(bytes, Relaxed);
        let is_taken = before + bytes <= OFFERED_BYTES_MAX
            && self.ingest.requests.try_send(Request::Store(letters, None)).is_ok();
        if !is_taken {
            offered.fetch_sub(bytes, Relaxed);
            self.counters.lost.fetch_add(count, Relaxed);
        }
    }

    /// Whether an offer is likely to be taken; if not, its letters need not be written.
    #[must_use]
    pub fn has_room_for_offers(&self) -> bool {
        self.ingest.shared.offered_bytes.load(Relaxed) < OFFERED_BYTES_MAX / 2
    }

    /// Counts rejected lines that were not even offered.
    pub fn count_lost(&self, letters: u64) {
        self.counters.lost.fetch_add(letters, Relaxed);
    }

    /// Writes a rejected line; of a long one only the beginning, and says so.
    pub fn write_rejected(
        &self,
        writer: &mut LettersWriter,
        source: SourceId,
        reason: RejectReason,
        detail: &str,
        line: &[u8],
        received_at: Instant,
    ) {
        let (reason, source) = (Reason::Rejected(reason), self.source(source));
        if reason == Reason::Rejected(RejectReason::TooLarge) || line.len() > LINE_BYTES_MAX {
            let head = &line[..line.len().min(HEAD_BYTES)];
            let detail = cut(head.len(), line.len() as u64);
            writer.begin(source, reason, &detail, Nature::Event, received_at);
            writer.push(head);
        } else {
            writer.begin(source, reason, detail, Nature::Event, received_at);
            writer.push(line);
        }
    }

    /// Offers the beginning of a line of `bytes` that was too long to be read whole.
    pub fn offer_oversized(&self, source: SourceId, bytes: u64, head: &[u8], received_at: Instant) {
        if !self.has_room_for_offers() {
            return self.count_lost(1);
        }
        let mut writer = LettersWriter::new(None, 0, "");
        let reason = Reason::Rejected(RejectReason::TooLarge);
        let head = &head[..head.len().min(HEAD_BYTES)];
        let detail = cut(head.len(), bytes);
        writer.begin(self.source(source), reason, &detail, Nature::Event, received_at);
        writer.push(head);
        self.offer(writer.take());
    }

    /// Whether the detail of a letter says that only the beginning of the line was kept.
    #[must_use]
    pub fn is_cut(detail: &str) -> bool {
        detail.starts_with(CUT)
    }

    /// Where a shelf is, and how far it can be read.
    #[must_use]
    pub fn stored(&self, shelf: Shelf) -> (Folder, Position) {
        let open = self.shelf(shelf);
        (open.folder.clone(), Position(open.shared.end.load(Acquire)))
    }

    /// Held by every step of a replay, from reading letters until they are in the log. Whoever erases
    /// holds it from before the tombstone in the log until [`Self::carry_out`] is done: so no letter
    /// gets into the log behind the tombstone.
    pub async fn exclusive(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.exclusive.lock().await
    }

    /// Removes letters that were replayed. Blocks, too.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn remove(&self, shelf: Shelf, mut taken: Taken) -> Result<u64, LogError> {
        if taken.is_empty() {
            return Ok(0);
        }
        self.rewrite(shelf, |block, line| taken.take(block, line))
    }

    /// Writes every segment anew that has something to erase, and removes copies of damaged bytes.
    pub(super) fn rewrite(
        &self,
        shelf: Shelf,
        mut erase: impl FnMut(&Block<'_>, &[u8]) -> bool,
    ) -> Result<u64, LogError> {
        let _one_at_a_time = self.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.shelf(shelf);
        let mut removed = 0;
        for segment in open.ask(Request::Close)? {
            let rewritten = match rewrite_segment(&open.folder, segment.number, &mut erase) {
                Ok(None) => continue,
                Ok(Some(rewritten)) => rewritten,
                // It has expired meanwhile, and everything in it.
                Err(LogError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            removed += rewritten.erased;
            open.ask(|done| Request::Adopt(rewritten, done))??;
        }
        open.folder.remove_damaged()?;
        Ok(removed)
    }

    pub(super) fn shelf(&self, shelf: Shelf) -> &Open {
        match shelf {
            Shelf::Delivery => &self.delivery,
            Shelf::Ingest => &self.ingest,
        }
    }

    /// Makes everything durable and ends the threads. Blocks.
    pub fn finish(&self) {
        [&self.delivery, &self.ingest].into_iter().for_each(Open::finish);
    }
}

fn cut(kept: usize, of: u64) -> String {
    format!("{CUT}{kept} of {of} bytes were kept")
}
