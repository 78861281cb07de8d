//! Blocks, read: views that borrow the bytes.

use std::ops::Range;

use super::format::{
    ALIGNMENT, BLOCK_HEADER_BYTES, DELETIONS, ERASED, Fields, RECORD_HEADER_BYTES,
};
use super::position::{Position, StableId};

/// Where the parts of a sound block are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    block_bytes: u32,
    source_end: u32,
    records_at: u32,
    decisions_at: u32,
    records: u32,
    decisions: u32,
    flags: u32,
    received_unix_ms: u64,
    table_version: u64,
    table_hash: [u8; 16],
}

impl Layout {
    /// Reads the block at the front of `bytes`. Everything in it is checked: what is `Some` can be
    /// walked through without another look.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let block_bytes = fields.u32()?;
        let decisions_at = fields.u32()?;
        let records = fields.u32()?;
        let decisions = fields.u32()?;
        let source_bytes = u32::from(fields.u16()?);
        let reason_bytes = u32::from(fields.u16()?);
        let flags = fields.u32()?;
        let source_end = BLOCK_HEADER_BYTES as u32 + source_bytes;
        let layout = Self {
            block_bytes,
            source_end,
            records_at: source_end + reason_bytes,
            decisions_at,
            records,
            decisions,
            flags,
            received_unix_ms: fields.u64()?,
            table_version: fields.u64()?,
            table_hash: fields.array()?,
        };
        let block = bytes.get(..block_bytes as usize)?;
        if block.len() % ALIGNMENT != 0 {
            return None;
        }
        std::str::from_utf8(block.get(BLOCK_HEADER_BYTES..source_end as usize)?).ok()?;
        std::str::from_utf8(block.get(source_end as usize..layout.records_at as usize)?).ok()?;
        let records = block.get(layout.records_at as usize..decisions_at as usize)?;
        layout.check_decisions(block.get(decisions_at as usize..)?)?;
        layout.check_records(records)?;
        Some(layout)
    }

    fn check_decisions(&self, bytes: &[u8]) -> Option<()> {
        let mut fields = Fields(bytes);
        for _ in 0..self.decisions {
            fields.u32()?;
            let ids = fields.u32()? as usize;
            let ids = fields.take(ids.checked_mul(4)?)?;
            let (ids, _) = ids.as_chunks::<4>();
            let is_ascending =
                ids.is_sorted_by(|a, b| u32::from_le_bytes(*a) < u32::from_le_bytes(*b));
            if !is_ascending {
                return None;
            }
        }
        (fields.0.len() < ALIGNMENT).then_some(())
    }

    fn check_records(&self, bytes: &[u8]) -> Option<()> {
        let mut fields = Fields(bytes);
        for _ in 0..self.records {
            let decision = fields.u32()?;
            let len = fields.u32()?;
            fields.take(len as usize)?;
            if decision & !ERASED >= self.decisions {
                return None;
            }
        }
        fields.0.is_empty().then_some(())
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes as usize
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    pub(super) fn records_range(&self) -> Range<usize> {
        self.records_at as usize..self.decisions_at as usize
    }

    pub(super) fn decisions_at(&self) -> usize {
        self.decisions_at as usize
    }
}

/// A stored block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
    layout: Layout,
    position: Position,
}

impl<'a> Block<'a> {
    /// `layout` was read from these very bytes.
    pub(super) fn new(bytes: &'a [u8], layout: Layout, position: Position) -> Self {
        let bytes = bytes.get(..layout.block_bytes()).unwrap_or_default();
        Self { bytes, layout, position }
    }

    /// Its name in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where a cursor stands when the block is settled: behind it, and not behind any other.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0 + u64::from(self.layout.block_bytes))
    }

    /// The name of the source.
    #[must_use]
    pub fn source(&self) -> &'a str {
        self.text(BLOCK_HEADER_BYTES..self.layout.source_end as usize)
    }

    /// Why these are dead letters; empty for others.
    #[must_use]
    pub fn reason(&self) -> &'a str {
        self.text(self.layout.source_end as usize..self.layout.records_at as usize)
    }

    fn text(&self, range: Range<usize>) -> &'a str {
        std::str::from_utf8(self.bytes.get(range).unwrap_or_default()).unwrap_or_default()
    }

    /// Whether the records are deletions.
    #[must_use]
    pub fn are_deletions(&self) -> bool {
        self.layout.flags & DELETIONS != 0
    }

    /// When the events were read, in milliseconds since 1970.
    #[must_use]
    pub fn received_unix_ms(&self) -> u64 {
        self.layout.received_unix_ms
    }

    /// The version of the table that decided.
    #[must_use]
    pub fn table_version(&self) -> u64 {
        self.layout.table_version
    }

    /// The hash of the table that decided.
    #[must_use]
    pub fn table_hash(&self) -> [u8; 16] {
        self.layout.table_hash
    }

    /// Bytes of the block in the log.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records that were stored, erased ones included.
    #[must_use]
    pub fn stored_records(&self) -> u32 {
        self.layout.records
    }

    /// The distinct decisions; a record's number is the place in this order.
    pub fn decisions(&self) -> impl Iterator<Item = Decision<'a>> + use<'a> {
        let mut fields = Fields(self.bytes.get(self.layout.decisions_at()..).unwrap_or_default());
        (0..self.layout.decisions).map_while(move |_| {
            let records = fields.u32()?;
            let ids = fields.u32()? as usize;
            let (ids, _) = fields.take(ids * 4)?.as_chunks();
            Some(Decision { ids, records })
        })
    }

    /// The records that are not erased, in the order of their source.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.all_records().filter(|record| record.decision & ERASED == 0)
    }

    fn all_records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut fields = Fields(self.bytes.get(self.layout.records_range()).unwrap_or_default());
        (0..self.layout.records).map_while(move |_| {
            let decision = fields.u32()?;
            let len = fields.u32()?;
            Some(Record { decision, line: fields.take(len as usize)? })
        })
    }

    /// How many of the records that were erased had been going to each of the destinations.
    #[must_use]
    pub fn erased(&self) -> Vec<(StableId, u64)> {
        let left: u64 = self.decisions().map(|decision| u64::from(decision.records())).sum();
        if left == u64::from(self.layout.records) {
            return Vec::new();
        }
        let mut by_decision = vec![0_u64; self.layout.decisions as usize];
        for record in self.all_records().filter(|record| record.decision & ERASED != 0) {
            if let Some(count) = by_decision.get_mut((record.decision & !ERASED) as usize) {
                *count += 1;
            }
        }
        let each = self.decisions().zip(by_decision).filter(|(_, count)| *count > 0);
        each.flat_map(|(decision, count)| decision.ids().map(move |id| (id, count))).collect()
    }

    /// The records that go, or went before they were erased, to `destination`, from number `first` on:
    /// each with its number, and its line if it is there. `scratch` is used again from block to block.
    pub fn records_for<'s>(
        &self,
        destination: StableId,
        first: u32,
        scratch: &'s mut Vec<bool>,
    ) -> impl Iterator<Item = (u32, Option<&'a [u8]>)> + use<'a, 's> {
        scratch.clear();
        scratch.extend(self.decisions().map(|decision| decision.contains(destination)));
        let wanted = &*scratch;
        let is_wanted = move |record: &Record<'_>| {
            wanted.get((record.decision & !ERASED) as usize).copied() == Some(true)
        };
        let numbered = (0..).zip(self.all_records()).skip(first as usize);
        numbered.filter(move |(_, record)| is_wanted(record)).map(|(number, record)| {
            (number, (record.decision & ERASED == 0).then_some(record.line))
        })
    }

    /// How many records go to `destination`.
    #[must_use]
    pub fn count_for(&self, destination: StableId) -> u64 {
        let its = self.decisions().filter(|decision| decision.contains(destination));
        its.map(|decision| u64::from(decision.records())).sum()
    }

    /// The lines that go to `destination`. `scratch` is used again from block to block; the
    /// destination is looked up once per distinct decision.
    pub fn lines_for<'s>(
        &self,
        destination: StableId,
        scratch: &'s mut Vec<bool>,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 's> {
        scratch.clear();
        scratch.extend(self.decisions().map(|decision| decision.contains(destination)));
        let wanted = &*scratch;
        let is_wanted =
            move |record: &Record<'_>| wanted.get(record.decision as usize).copied() == Some(true);
        self.records().filter(is_wanted).map(|record| record.line)
    }
}

/// A stored decision: the destinations that records may go to, and no others.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    ids: &'a [[u8; 4]],
    records: u32,
}

impl<'a> Decision<'a> {
    /// Ascending.
    pub fn ids(&self) -> impl Iterator<Item = StableId> + use<'a> {
        self.ids.iter().map(|id| StableId(u32::from_le_bytes(*id)))
    }

    /// Whether `destination` is among them.
    #[must_use]
    pub fn contains(&self, destination: StableId) -> bool {
        self.ids.binary_search_by_key(&destination.0, |id| u32::from_le_bytes(*id)).is_ok()
    }

    /// How many records have this decision and are not erased.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }
}

/// A stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The number of its decision in the block.
    pub decision: u32,
    /// The line as it was received, without its line end.
    pub line: &'a [u8],
}

/// Overwrites the records for which `erase` says so with zeros, in place; returns how many.
pub(super) fn erase_records(
    block: &mut [u8],
    layout: &Layout,
    position: Position,
    mut erase: impl FnMut(&Block<'_>, &[u8]) -> bool,
) -> u32 {
    let view = Block::new(block, *layout, position);
    let mut at = layout.records_range().start;
    let mut chosen: Vec<(u32, Range<usize>)> = Vec::new();
    let mut fields = Fields(view.bytes.get(layout.records_range()).unwrap_or_default());
    while let (Some(decision), Some(len)) = (fields.u32(), fields.u32()) {
        let Some(line) = fields.take(len as usize) else { break };
        let record = at..at + RECORD_HEADER_BYTES + line.len();
        at = record.end;
        if decision & ERASED == 0 && erase(&view, line) {
            chosen.push((decision, record));
        }
    }
    let mut gone = vec![0_u32; layout.decisions as usize];
    for (decision, record) in &chosen {
        if let Some(gone) = gone.get_mut(*decision as usize) {
            *gone += 1;
        }
        block[record.start..record.start + 4].copy_from_slice(&(decision | ERASED).to_le_bytes());
        block[record.start + RECORD_HEADER_BYTES..record.end].fill(0);
    }
    let mut at = layout.decisions_at();
    for gone in gone {
        let mut fields = Fields(block.get(at..).unwrap_or_default());
        let (Some(records), Some(ids)) = (fields.u32(), fields.u32()) else { break };
        block[at..at + 4].copy_from_slice(&records.saturating_sub(gone).to_le_bytes());
        at += 8 + 4 * ids as usize;
    }
    chosen.len() as u32
}
