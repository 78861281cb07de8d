//! Brings one destination up to date from the log.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::state::Log;
use crate::consent::Nature;
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

/// Where reading goes on: at a record of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    block: Position,
    record: u32,
}

/// A reader with its buffer, of which there are few at a time.
struct Reading {
    reader: Reader,
    place: Place,
    began: Position,
    _turn: OwnedSemaphorePermit,
}

/// Some lines of a block.
struct Portion {
    parcel: Parcel,
    /// The block.
    span: Span,
    /// Events before it, for the same destination, that were erased since they were stored.
    erased: u64,
    /// Behind it.
    next: Place,
}

/// What was read in one go.
struct Read {
    portions: Vec<Portion>,
    /// Events behind them that were erased since they were stored.
    erased: u64,
    next: Place,
    /// Whether there is nothing more before the end that was asked for.
    at_end: bool,
}

/// Why a parcel was not taken.
enum NotTaken {
    Closed,
    /// There is no room for so many bytes.
    NoRoom(usize),
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
            if reader.outlet.is_closed() {
                // Whoever goes on in its place begins where it would have.
                return;
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
        // What was read and not given is read again: behind the last that was given.
        let mut place = Place { block: from, record: 0 };
        let mut kept: Option<Reading> = None;
        let mut wanted = 0;
        loop {
            let room = match timeout(PAUSE, self.outlet.room_to_read(wanted)).await {
                Ok(room) => room.ok()?,
                Err(_) => {
                    // A destination that is slow or down holds no buffer and keeps nobody waiting.
                    kept = None;
                    self.outlet.room_to_read(wanted).await.ok()?
                }
            };
            wanted = 0;
            let reading = match kept.take() {
                Some(reading) => reading,
                None => Reading::begin(&self.log, place).await?,
            };
            let end = self.log.end();
            let task = reading.go_on(end, room.min(READ_BYTES), self.id, self.plans.clone());
            let (reading, read) = spawn_blocking(task).await.ok()?;
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    warn!(destination = self.outlet.name(), "{error}; trying again");
                    drop(reading);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            match self.give_all(read.portions, &mut place).await {
                Ok(()) => {}
                Err(NotTaken::Closed) => return None,
                Err(NotTaken::NoRoom(bytes)) => {
                    // Its turn goes to others until there is.
                    drop(reading);
                    wanted = bytes;
                    self.outlet.changed(ROOM_WAIT).await;
                    continue;
                }
            }
            if read.erased > 0 {
                self.outlet.skip_erased(read.erased);
            }
            place = read.next;
            if !read.at_end {
                self.outlet.has_read(place.block);
            } else if self.outlet.has_read_all_to(end) {
                return Some(());
            }
            kept = Some(reading);
        }
    }

    /// Gives what was read, as far as there is room; `place` is behind what was given.
    async fn give_all(&self, portions: Vec<Portion>, place: &mut Place) -> Result<(), NotTaken> {
        for Portion { parcel, span, erased, next } in portions {
            self.give(parcel, span).await?;
            if erased > 0 {
                self.outlet.skip_erased(erased);
            }
            self.outlet.has_read(next.block);
            *place = next;
        }
        Ok(())
    }

    async fn give(&self, mut parcel: Parcel, span: Span) -> Result<(), NotTaken> {
        let bytes = parcel.footprint();
        let until = Instant::now() + PAUSE;
        loop {
            parcel = match self.outlet.offer_read(parcel, span) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(parcel) | Refused::Overflow(parcel)) => parcel,
                Err(Refused::Closed(_)) => return Err(NotTaken::Closed),
            };
            if Instant::now() >= until {
                return Err(NotTaken::NoRoom(bytes));
            }
            self.outlet.changed(PAUSE).await;
        }
    }
}

impl Reading {
    /// Waits for a turn; `None` if the daemon ends.
    async fn begin(log: &Log, place: Place) -> Option<Self> {
        let turn = Arc::clone(log.readings()).acquire_owned().await.ok()?;
        let reader = Reader::new(log.folder().clone(), place.block);
        Some(Self { reader, place, began: log.began(), _turn: turn })
    }

    /// Reads on before `end`, about `wanted` bytes for the destination `id`.
    fn go_on(
        mut self,
        end: Position,
        wanted: usize,
        id: StableId,
        plans: Handle<Plan>,
    ) -> impl FnOnce() -> (Self, Result<Read, LogError>) + Send + 'static {
        move || {
            let read = self.read(end, wanted, id, &plans);
            (self, read)
        }
    }

    fn read(
        &mut self,
        end: Position,
        wanted: usize,
        id: StableId,
        plans: &Handle<Plan>,
    ) -> Result<Read, LogError> {
        let (mut portions, mut erased, mut bytes_read) = (Vec::new(), 0, 0);
        let mut scratch = Vec::new();
        let at_end = loop {
            if bytes_read >= wanted {
                break false;
            }
            let Some(block) = self.reader.next(end)? else { break true };
            let span = Span { begin: block.position(), end: block.end() };
            let (source, nature) = (source_of(&block, &plans.load()), nature_of(&block));
            let received_at = instant_of(block.received_unix_ms());
            // Versions count from the start of the process: the number of an earlier one means nothing.
            let permitted_by = (span.begin >= self.began).then(|| block.table_version());
            let first = if self.place.block == span.begin { self.place.record } else { 0 };
            self.place = Place { block: span.end, record: 0 };
            let (mut bytes, mut events) = (Vec::new(), 0);
            let mut records = block.records_for(id, first, &mut scratch).peekable();
            while let Some((number, line)) = records.next() {
                match line {
                    Some(line) => {
                        bytes.extend_from_slice(line);
                        bytes.push(b'\n');
                        events += 1;
                    }
                    None => erased += 1,
                }
                let is_last = records.peek().is_none();
                if bytes.len() < CHUNK_BYTES && !is_last || events == 0 {
                    continue;
                }
                let next = Place { block: span.begin, record: number + 1 };
                let next = if is_last { self.place } else { next };
                let whole = std::iter::once(0..bytes.len() as u32).collect();
                let bytes = std::mem::take(&mut bytes);
                let chunk = Chunk::stored(bytes, events, permitted_by, source, nature, received_at);
                let parcel = Parcel { chunk: Arc::new(chunk), ranges: whole, events, charge: None };
                bytes_read += parcel.footprint();
                portions.push(Portion { parcel, span, erased, next });
                (events, erased) = (0, 0);
                if bytes_read >= wanted {
                    self.place = next;
                    break;
                }
            }
            drop(records);
            if self.place.block == span.begin {
                self.reader.again(span.begin);
            }
        };
        Ok(Read { portions, erased, next: self.place, at_end })
    }
}

/// The source by the number it has now. What came from one that is gone passed the tests of its source
/// when it was stored.
pub(super) fn source_of(block: &Block<'_>, plan: &Plan) -> SourceId {
    let table = plan.table();
    table.source(block.source()).unwrap_or(table.any_source())
}

/// What the records of a block are to the rules.
pub(super) fn nature_of(block: &Block<'_>) -> Nature {
    if block.are_deletions() { Nature::Deletion } else { Nature::Event }
}

pub(super) fn instant_of(unix_ms: u64) -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = since.saturating_sub(Duration::from_millis(unix_ms));
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}
