//! The log as the daemon runs it: opened at the start, and who begins where.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::notify;
use crate::commit::{CatchUp, Committer, Intake, Limits, Log};
use crate::config::{self, Config, LOG_SEGMENT_BYTES, LogSync};
use crate::dead_letters::{self, DeadLetters, Rejections};
use crate::destination::{FileCare, Outlet, Running};
use crate::log::{
    Cursors, Disk, Folder, Identities, Identity, Kind, LogError, Options, Position, RecoveryReport,
    StableId, SyncMode, Tombstones, Writer, count_pending,
};
use crate::route::Handle;
use crate::shard::Plan;

/// A start that takes longer says every so often how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What systemd is asked for each time: it would end a start that takes too long.
const MORE_TIME: Duration = Duration::from_secs(30);

/// When it was last told how far a long start is.
struct Told {
    at: Instant,
}

impl Default for Told {
    fn default() -> Self {
        Self { at: Instant::now() }
    }
}

impl Told {
    fn tell(&mut self, what: &str, done_bytes: u64, total_bytes: u64) {
        if self.at.elapsed() < TELL_EVERY {
            return;
        }
        self.at = Instant::now();
        let percent = done_bytes * 100 / total_bytes.max(1);
        let status = format!("opening the log: {percent} % of {what} read");
        info!(total_bytes, "{status}");
        notify::starting(&status, MORE_TIME);
    }
}

/// What was found in the log.
fn tell_of(recovery: &RecoveryReport, bytes: u64) {
    info!(segments = recovery.segments, bytes, "log opened");
    let RecoveryReport { cut, damage, .. } = recovery;
    if !cut.is_none() {
        info!(bytes = cut.bytes, "cut off what was written last and never acknowledged");
    }
    if !damage.is_none() {
        warn!(
            bytes = damage.bytes,
            events = damage.events,
            uncounted_stretches = damage.uncounted,
            "the log is damaged: these events are lost, their bytes are copied to damaged/"
        );
    }
}

/// The log, and what its destinations are called in it.
pub(super) struct Book {
    log: Arc<Log>,
    identities: Arc<Mutex<Identities>>,
    /// Where those begin that had a cursor when the daemon started, and what waits for them.
    beginnings: HashMap<StableId, (Position, u64)>,
    care: FileCare,
    dead_letters: Arc<DeadLetters>,
    rejections: Arc<Rejections>,
}

/// A log that was opened.
pub(super) struct Opened {
    pub(super) book: Arc<Book>,
    pub(super) committer: Committer,
    pub(super) intake: Intake,
}

/// Random bytes, under which the IDs of erased users are hashed.
pub(super) fn fresh_key() -> Result<[u8; 32], LogError> {
    let path = Path::new("/dev/urandom");
    let mut key = [0; 32];
    let read = File::open(path).and_then(|mut source| source.read_exact(&mut key));
    match read {
        Ok(()) => Ok(key),
        Err(source) => Err(LogError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

impl Book {
    /// Opens the log of a config and starts to write it. May take a while: it looks at what is stored.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open(
        config: &config::Log,
        dead_letters: &dead_letters::Settings,
        rejections: Rejections,
        workers: usize,
    ) -> Result<Opened, String> {
        Self::try_open(config, dead_letters, rejections, workers)
            .map_err(|error| format!("log: {error}"))
    }

    fn try_open(
        config: &config::Log,
        dead_letters: &dead_letters::Settings,
        rejections: Rejections,
        workers: usize,
    ) -> Result<Opened, LogError> {
        let folder = Folder::open(Arc::new(Disk), &config.folder, Kind::Events)?;
        let is_empty = folder.segments()?.is_empty();
        let identities = Identities::open(&folder, is_empty)?;
        let known = identities.live();
        let (cursors, report) = Cursors::open(&folder, &known)?;
        if report.damaged_slots > 0 {
            warn!(
                damaged = report.damaged_slots,
                "cursors were damaged: some events may be delivered again"
            );
        }
        let sync = sync_mode(config.sync);
        let options = Options {
            segment_bytes: LOG_SEGMENT_BYTES,
            max_bytes: config.max_bytes,
            free_floor_bytes: config.free_space_min,
            sync,
        };
        let mut progress = Told::default();
        let (writer, recovery) = Writer::open(folder, options, report.highest, &mut |at| {
            progress.tell("its newest segment", at.done_bytes, at.total_bytes);
        })?;
        tell_of(&recovery, writer.size_bytes());
        let tombstones = Tombstones::open(writer.folder(), fresh_key()?)?;
        let starts: Vec<_> = cursors.iter().collect();
        let first = starts.iter().map(|(_, at)| *at).min().unwrap_or(writer.end());
        let total = writer.bytes_after(first);
        let pending = count_pending(writer.folder(), &starts, writer.end(), |at| {
            let left = writer.bytes_after(at);
            progress.tell("what waits in it", total.saturating_sub(left), total);
        })?;
        let beginnings = starts
            .into_iter()
            .map(|(id, at)| (id, (at, pending.get(&id).copied().unwrap_or(0))))
            .collect();
        let limits = Limits {
            window: config.window,
            sync,
            sync_every: sync_every(config),
            max_age: config.max_age,
            drop_oldest: config.drop_oldest,
        };
        let dead_letters = Arc::new(DeadLetters::open(dead_letters, fresh_key()?)?);
        dead_letters.resume_erasures();
        let (committer, intake) = Committer::start(writer, cursors, tombstones, limits, workers)
            .map_err(|error| LogError::Poisoned(format!("cannot start its thread: {error}")))?;
        let log = Arc::clone(committer.log());
        let identities = Arc::new(Mutex::new(identities));
        let care = FileCare { cuts: true, syncs: sync == SyncMode::Commit };
        let rejections = Arc::new(rejections);
        let book = Self { log, identities, beginnings, care, dead_letters, rejections };
        Ok(Opened { book: Arc::new(book), committer, intake })
    }

    /// What it asks of file destinations.
    pub(super) fn care(&self) -> FileCare {
        self.care
    }

    /// Where events go that failed for good.
    pub(super) fn dead_letters(&self) -> &Arc<DeadLetters> {
        &self.dead_letters
    }

    /// Where it is noted that rows of warehouses failed for good.
    pub(super) fn rejections(&self) -> &Arc<Rejections> {
        &self.rejections
    }

    /// The destinations that have, or had, this name in the log.
    pub(super) fn named(&self, name: &str) -> Vec<StableId> {
        let identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let named = identities.all().filter(|(_, identity, _)| identity.name == name);
        named.map(|(id, ..)| id).collect()
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// What the log calls these destinations: what is new gets a name that is durable afterwards.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn resolve(
        &self,
        wanted: Vec<Identity>,
    ) -> Result<Vec<Option<StableId>>, String> {
        let identities = Arc::clone(&self.identities);
        let resolving = tokio::task::spawn_blocking(move || {
            let mut identities = identities.lock().unwrap_or_else(PoisonError::into_inner);
            identities.resolve(&wanted).map_err(|error| format!("log: {error}"))
        });
        let ids = resolving.await.map_err(|error| error.to_string())??;
        Ok(ids.into_iter().map(Some).collect())
    }

    /// Forgets destinations that run no more: should one come back, it is a new one.
    pub(super) fn retire_others(&self, live: &[StableId]) {
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = identities.retire_others(live) {
            warn!("log: {error}; removed destinations are not forgotten yet");
        }
    }

    /// Starts the reader of a destination that is new among those that run: where it stood when the
    /// daemon started, or where the one stands in whose place it goes on, or at `end`, where the log
    /// was before anything could be stored for it. `before` has those that ran, oldest first.
    pub(super) fn begin<'r>(
        &self,
        outlet: &Arc<Outlet>,
        before: impl Iterator<Item = &'r Running>,
        plans: &Handle<Plan>,
        end: Position,
    ) {
        let Some(id) = outlet.stable() else { return };
        let log = Arc::clone(&self.log);
        let beginning = self.beginnings.get(&id).copied();
        let before: Vec<_> =
            before.filter(|running| running.outlet().stable() == Some(id)).collect();
        if !before.is_empty() {
            let gone = before.iter().map(|running| running.gone()).collect();
            let before: Vec<_> =
                before.into_iter().map(|running| Arc::clone(running.outlet())).collect();
            let next = Arc::clone(outlet);
            let from = {
                let log = Arc::clone(&log);
                move || {
                    // Before anything else: what is committed from here on lies behind it.
                    let handed = log.handed();
                    before.iter().for_each(|last| next.take_over(last));
                    // The last ones may have been replaced before they began.
                    let mut cursors = before.iter().rev();
                    let cursor = cursors.find_map(|last| last.cursor(handed));
                    cursor.or(beginning.map(|(from, _)| from)).unwrap_or(Position::START)
                }
            };
            CatchUp::start(Arc::clone(outlet), log, plans.clone(), gone, from);
            return;
        }
        let (from, unread) = beginning.unwrap_or((end, 0));
        outlet.add_unread(unread);
        CatchUp::start(Arc::clone(outlet), log, plans.clone(), Vec::new(), move || from);
    }
}

/// How dead letters are kept; `None` without a log.
pub(super) fn dead_letter_settings(
    config: &Config,
    sources: &Arc<[String]>,
) -> Option<dead_letters::Settings> {
    let (log, dead_letters) = (config.log.as_ref()?, config.dead_letters.as_ref()?);
    Some(dead_letters::Settings {
        folder: dead_letters.folder.clone(),
        max_bytes: dead_letters.max_bytes,
        max_age: dead_letters.max_age,
        keeps_rejected: dead_letters.rejected_on_ingest,
        sync: sync_mode(log.sync),
        sync_every: sync_every(log),
        free_floor_bytes: log.free_space_min,
        sources: Arc::clone(sources),
    })
}

fn sync_mode(sync: LogSync) -> SyncMode {
    match sync {
        LogSync::Commit => SyncMode::Commit,
        LogSync::Interval(_) => SyncMode::Interval,
        LogSync::Off => SyncMode::Off,
    }
}

fn sync_every(log: &config::Log) -> Duration {
    match log.sync {
        LogSync::Interval(every) => every,
        LogSync::Commit | LogSync::Off => log.window,
    }
}
