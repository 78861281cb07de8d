//! Runs of permitted lines, shared by all destinations of a class.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::memory::Hold;
use crate::buffer::Buffers;
use crate::consent::{Nature, Permit, Recipients};
use crate::route::{DestinationId, RoutingTable, SourceId};

/// A chunk is handed over once it has this many bytes: small enough to stay in a core's cache while
/// it is written, large enough that what is done per chunk does not matter.
const CHUNK_BYTES: usize = 64 * 1024;

/// The same for the smallest `buffer`: several chunks must fit in a destination's budget, or it would
/// take one at a time.
const CHUNK_BYTES_MIN: usize = 16 * 1024;

/// How many chunks fit in a destination's budget at the least.
const CHUNKS_PER_BUDGET: usize = 4;

/// A longer line is a chunk by itself, which all classes share.
pub const LANE_LINE_MAX: usize = 8 * 1024;

/// Room of a chunk's buffer: the last line, with its end, may stick out of `CHUNK_BYTES`.
pub const CHUNK_CAPACITY: usize = CHUNK_BYTES + LANE_LINE_MAX + 1;

/// A chunk is also handed over once so many of its lines are kept from some member.
const EXCLUSIONS_MAX: usize = 16 * 1024;

/// The version of no table: those begin with 1.
const NO_TABLE: u64 = 0;

/// Lines that were permitted for a class of destinations under one table; each ends in an LF.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    table_version: u64,
    /// Where the buffer goes when the last destination is done with it.
    buffers: Option<Buffers>,
    /// What it has of the memory of all destinations, once one of them has it.
    hold: Mutex<Option<Hold>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(buffers) = &self.buffers {
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// Consecutive lines of a chunk from one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where the lines came from.
    pub source: SourceId,
    /// What they are to the rules.
    pub nature: Nature,
    /// When they were read.
    pub received_at: Instant,
    /// Offset behind the last line.
    pub end: u32,
    /// How many lines.
    pub events: u32,
}

impl Chunk {
    /// A chunk of lines that were judged one by one outside a worker.
    #[must_use]
    pub fn rejudged(mut lane: Lane, table_version: u64) -> Self {
        lane.bytes.shrink_to_fit();
        Self::new(lane.bytes, lane.runs, table_version, None)
    }

    /// Lines of one part of the log, each with its line end, that a table of this process has
    /// permitted; `None` if it was another process, and then every one is judged before it goes out.
    #[must_use]
    pub fn stored(
        bytes: Vec<u8>,
        events: u32,
        table_version: Option<u64>,
        source: SourceId,
        nature: Nature,
        received_at: Instant,
    ) -> Self {
        let run = Run { source, nature, received_at, end: bytes.len() as u32, events };
        Self::new(bytes, vec![run], table_version.unwrap_or(NO_TABLE), None)
    }

    /// The permitted line alone, for every class that may have it.
    #[must_use]
    pub fn of_line(
        permit: Permit<'_>,
        table_version: u64,
        source: SourceId,
        received_at: Instant,
    ) -> Self {
        let line = permit.line();
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        let (nature, end) = (permit.nature(), bytes.len() as u32);
        let run = Run { source, nature, received_at, end, events: 1 };
        Self::new(bytes, vec![run], table_version, None)
    }

    fn new(bytes: Vec<u8>, runs: Vec<Run>, table_version: u64, buffers: Option<Buffers>) -> Self {
        Self { bytes, runs, table_version, buffers, hold: Mutex::default() }
    }

    /// What it has of the memory of all destinations.
    pub(super) fn hold(&self) -> MutexGuard<'_, Option<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The runs, in the order of their lines.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The version of the table that permitted the lines.
    #[must_use]
    pub fn table_version(&self) -> u64 {
        self.table_version
    }

    /// What the chunk takes of memory, roughly.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.bytes.capacity() + self.runs.capacity() * size_of::<Run>() + 256
    }
}

/// The chunk of one class that is being written.
#[derive(Debug)]
pub struct Lane {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    events: u32,
    /// Lines that some members must not have: the member and the place of the line.
    exclusions: Vec<(DestinationId, Range<u32>)>,
    /// When it is full.
    bytes_max: usize,
    /// Whether the last chunk was a large one: the next one is likely to be, too.
    large: bool,
    /// Where large buffers come from and go to.
    buffers: Option<Buffers>,
}

/// A finished chunk and what each member may have of it.
#[derive(Debug)]
pub struct Sealed {
    /// The lines.
    pub chunk: Arc<Chunk>,
    events: u32,
    exclusions: Vec<(DestinationId, Range<u32>)>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            runs: Vec::new(),
            events: 0,
            exclusions: Vec::new(),
            bytes_max: CHUNK_BYTES,
            large: false,
            buffers: None,
        }
    }
}

impl Lane {
    /// A lane whose large buffers come from `buffers` and go back there. Its chunks are small enough
    /// for a destination that may pin `budget` bytes.
    #[must_use]
    pub fn recycling(buffers: &Buffers, budget: usize) -> Self {
        let bytes_max = (budget / CHUNKS_PER_BUDGET).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
        Self { buffers: Some(buffers.clone()), bytes_max, ..Self::default() }
    }

    /// Appends the permitted line; `source` and `received_at` are those of its frame.
    #[inline]
    pub fn append(
        &mut self,
        permit: Permit<'_>,
        table: &RoutingTable,
        source: SourceId,
        received_at: Instant,
    ) {
        let (line, nature) = (permit.line(), permit.nature());
        if self.bytes.capacity() == 0
            && self.large
            && let Some(buffers) = &self.buffers
        {
            self.bytes = buffers.take();
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.events += 1;
        let end = self.bytes.len() as u32;
        match self.runs.last_mut() {
            Some(run)
                if run.source == source
                    && run.nature == nature
                    && run.received_at == received_at =>
            {
                run.end = end;
                run.events += 1;
            }
            _ => self.runs.push(Run { source, nature, received_at, end, events: 1 }),
        }
        match permit.recipients() {
            Recipients::One(_) | Recipients::Class { except: None, .. } => {}
            Recipients::Class { class, except: Some(except) } => {
                let members = &table.classes()[usize::from(class.0)].members;
                let out = members.iter().filter(|member| except.contains(member.0.into()));
                self.exclusions.extend(out.map(|&member| (member, start..end)));
            }
        }
    }

    /// Whether it should be handed over.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.bytes_max || self.exclusions.len() >= EXCLUSIONS_MAX
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many lines were written.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Takes what was written, as a chunk of lines that the table of `table_version` permitted.
    #[must_use]
    pub fn seal(&mut self, table_version: u64) -> Sealed {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.large = bytes.len() >= CHUNK_BYTES / 2;
        if !self.large && bytes.capacity() > bytes.len() * 2 {
            // A small chunk must not pin a large buffer.
            let small = bytes.as_slice().to_vec();
            let spare = std::mem::replace(&mut bytes, small);
            if let Some(buffers) = &self.buffers {
                buffers.give_back(spare);
            }
        }
        let runs = std::mem::take(&mut self.runs);
        let mut exclusions = std::mem::take(&mut self.exclusions);
        // Stable: the lines of one member stay in order.
        exclusions.sort_by_key(|(member, _)| *member);
        let chunk = Arc::new(Chunk::new(bytes, runs, table_version, self.buffers.clone()));
        Sealed { chunk, events: std::mem::take(&mut self.events), exclusions }
    }
}

impl Sealed {
    /// What `member` may have: ranges of the chunk and the number of lines in them.
    #[must_use]
    pub fn share_of(&self, member: DestinationId) -> (Vec<Range<u32>>, u32) {
        let first = self.exclusions.partition_point(|(other, _)| *other < member);
        let own = self.exclusions[first..].iter().take_while(|(other, _)| *other == member);
        let mut ranges = Vec::new();
        let mut at = 0;
        let mut kept = self.events;
        for (_, out) in own {
            if at < out.start {
                ranges.push(at..out.start);
            }
            at = out.end;
            kept -= 1;
        }
        let end = self.chunk.bytes.len() as u32;
        if at < end {
            ranges.push(at..end);
        }
        (ranges, kept)
    }
}
