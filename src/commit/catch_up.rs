//! Brings one destination up to date from the log.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::state::Log;
use crate::destination::{Chunk, Outlet, Parcel, Refused, Span};
use crate::log::{Block, LogError, Position, Reader, StableId};
use crate::route::{Handle, SourceId};
use crate::shard::Plan;

/// What is read for a destination at a time at most, roughly.
const READ_BYTES: usize = 256 * 1024;

/// Chunks are of this size, so that several fit in a destination's buffer.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// Catching up is worth a word in the daemon's log if it takes longer.
const LOOK: Duration = Duration::from_millis(200);

/// How long it waits after the log could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// A destination that makes no room for so long gives up its turn to read.
const PAUSE: Duration = Duration::from_millis(50);

/// How long it waits for room before it looks again.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// The reader of one destination. It sleeps while the destination keeps up.
pub struct CatchUp {
    outlet: Arc<Outlet>,
    id: StableId,
    log: Arc<Log>,
    plans: Handle<Plan>,
}

/// A reader with its buffer, of which there are few at a time.
struct Reading {
    reader: Reader,
    began: Position,
    _turn: OwnedSemaphorePermit,
}

impl Reading {
    /// Waits for a turn; `None` if the daemon ends.
    async fn begin(log: &Log, from: Position) -> Option<Self> {
        let turn = Arc::clone(log.readings()).acquire_owned().await.ok()?;
        let reader = Reader::new(log.folder().clone(), from);
        Some(Self { reader, began: log.began(), _turn: turn })
    }

    /// Reads some blocks before `end`, with about `wanted` bytes for the destination `id`.
    fn go_on(
        mut self,
        end: Position,
        wanted: usize,
        id: StableId,
        plans: Handle<Plan>,
    ) -> impl FnOnce() -> (Self, Result<Read, LogError>) + Send + 'static {
        move || {
            let read = read(&mut self.reader, end, wanted, id, &plans, self.began);
            (self, read)
        }
    }
}

/// What was read in one go.
struct Read {
    parcels: Vec<(Parcel, Span)>,
    /// Events for the destination that were erased since they were stored.
    erased: u64,
    /// Whether there is nothing more before the end that was asked for.
    at_end: bool,
}

impl CatchUp {
    /// Starts the reader of `outlet` once everyone in `after` is gone; `from` then says where. It ends
    /// when the outlet is closed.
    pub fn start(
        outlet: Arc<Outlet>,
        log: Arc<Log>,
        plans: Handle<Plan>,
        after: Vec<CancellationToken>,
        from: impl FnOnce() -> Position + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let id = outlet.stable()?;
        let reader = Self { outlet, id, log, plans };
        Some(tokio::spawn(async move {
            for predecessor in &after {
                predecessor.cancelled().await;
            }
            reader.outlet.begin_at(from());
            reader.run().await;
        }))
    }

    async fn run(self) {
        while let Ok(from) = self.outlet.lags().await {
            let started = Instant::now();
            if self.read_from(from).await.is_none() {
                return;
            }
            if started.elapsed() > LOOK {
                info!(destination = self.outlet.name(), "caught up with the log");
            }
        }
    }

    /// Reads until the destination has caught up; `None` if it was closed.
    async fn read_from(&self, from: Position) -> Option<()> {
        let mut place = from;
        let mut kept = None;
        loop {
            let room = match timeout(PAUSE, self.outlet.room_to_read()).await {
                Ok(room) => room.ok()?,
                Err(_) => {
                    // A destination that is slow or down holds no buffer and keeps nobody waiting.
                    kept = None;
                    self.outlet.room_to_read().await.ok()?
                }
            };
            let reading = match kept.take() {
                Some(reading) => reading,
                None => Reading::begin(&self.log, place).await?,
            };
            let end = self.log.end();
            let task = reading.go_on(end, room.min(READ_BYTES), self.id, self.plans.clone());
            let (reading, read) = spawn_blocking(task).await.ok()?;
            place = reading.reader.position();
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    warn!(destination = self.outlet.name(), "{error}; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let mut parcels = read.parcels.into_iter().peekable();
            while let Some((parcel, span)) = parcels.next() {
                self.give(parcel, span).await?;
                if parcels.peek().is_none_or(|(_, next)| *next != span) {
                    self.outlet.has_read(span.end);
                }
            }
            if read.erased > 0 {
                self.outlet.skip_erased(read.erased);
            }
            if !read.at_end {
                self.outlet.has_read(place);
            } else if self.outlet.has_read_all_to(end) {
                return Some(());
            }
            kept = Some(reading);
        }
    }

    async fn give(&self, mut parcel: Parcel, span: Span) -> Option<()> {
        loop {
            parcel = match self.outlet.offer_read(parcel, span) {
                Ok(()) => return Some(()),
                Err(Refused::Full(parcel) | Refused::Overflow(parcel)) => parcel,
                Err(Refused::Closed(_)) => return None,
            };
            self.outlet.changed(ROOM_WAIT).await;
        }
    }
}

/// Reads some blocks before `end`, and keeps what is for the destination `id`: about `wanted_bytes`.
fn read(
    reader: &mut Reader,
    end: Position,
    wanted_bytes: usize,
    id: StableId,
    plans: &Handle<Plan>,
    began: Position,
) -> Result<Read, LogError> {
    let mut parcels = Vec::new();
    let mut wanted = Vec::new();
    let (mut bytes_read, mut erased) = (0, 0);
    while bytes_read < wanted_bytes {
        let Some(block) = reader.next(end)? else {
            return Ok(Read { parcels, erased, at_end: true });
        };
        let its = |(destination, _): &(StableId, u64)| *destination == id;
        erased += block.erased().into_iter().filter(its).map(|(_, events)| events).sum::<u64>();
        let source = source_of(&block, &plans.load());
        let received_at = instant_of(block.received_unix_ms());
        let span = Span { begin: block.position(), end: block.end() };
        // Versions count from the start of the process: the number of an earlier one means nothing.
        let permitted_by = (span.begin >= began).then(|| block.table_version());
        let (mut bytes, mut events) = (Vec::new(), 0);
        let mut lines = block.lines_for(id, &mut wanted).peekable();
        while let Some(line) = lines.next() {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
            events += 1;
            if bytes.len() >= CHUNK_BYTES || lines.peek().is_none() {
                bytes_read += bytes.len();
                let whole = std::iter::once(0..bytes.len() as u32).collect();
                let bytes = std::mem::take(&mut bytes);
                let chunk =
                    Arc::new(Chunk::stored(bytes, events, permitted_by, source, received_at));
                let parcel = Parcel { chunk, ranges: whole, events, charge: None };
                parcels.push((parcel, span));
                events = 0;
            }
        }
    }
    Ok(Read { parcels, erased, at_end: false })
}

/// The source by the number it has now. What came from one that is gone passed the tests of its source
/// when it was stored.
pub(super) fn source_of(block: &Block<'_>, plan: &Plan) -> SourceId {
    let table = plan.table();
    table.source(block.source()).unwrap_or(table.any_source())
}

pub(super) fn instant_of(unix_ms: u64) -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = since.saturating_sub(Duration::from_millis(unix_ms));
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}
