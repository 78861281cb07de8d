//! Blocks, written: what a worker does with the events it judged.

use super::format::{
    ALIGNMENT, BLOCK_HEADER_BYTES, DELETIONS, FRAME_PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES,
};
use super::position::{Position, StableId};
use super::view::{Block, Layout};

/// What all records of a block have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead<'a> {
    /// The source's name; at most 65,535 bytes count.
    pub source: &'a str,
    /// Why the events are dead letters; empty for others. At most 65,535 bytes count.
    pub reason: &'a str,
    /// Whether the records are deletions.
    pub deletions: bool,
    /// When the events were read, in milliseconds since 1970.
    pub received_unix_ms: u64,
    /// The version of the table they were decided under.
    pub table_version: u64,
    /// The hash of that table.
    pub table_hash: [u8; 16],
}

/// A decision of the block that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionNumber(u32);

/// The block has no room for the record: finish it and begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFull;

/// The most bytes that records of one block may take; what is around them has the rest of a frame.
const RECORD_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX / 4 * 3;

/// The most bytes that decisions of one block may take.
const DECISION_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX / 8;

/// How many of the last decisions are looked at before another is added.
const RECENT_DECISIONS: usize = 8;

/// Writes one block after the other; records go straight to where they will be stored.
///
/// Nothing is allocated per record: the block's buffer comes from the caller (and goes on with the
/// block), the decisions stand in buffers that are used again.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    records: u32,
    /// The sets one after the other.
    ids: Vec<StableId>,
    decisions: Vec<Counted>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Where its set ends in `ids`.
    end: usize,
    records: u32,
}

/// A finished block.
#[derive(Debug)]
pub struct EncodedBlock {
    bytes: Vec<u8>,
    layout: Layout,
}

impl BlockBuilder {
    /// A builder without a block: [`Self::begin`] comes first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a block in `buffer`, whose content is thrown away.
    pub fn begin(&mut self, head: &BlockHead<'_>, mut buffer: Vec<u8>) {
        let (source, reason) = (cut(head.source), cut(head.reason));
        buffer.clear();
        buffer.resize(24, 0);
        buffer[16..18].copy_from_slice(&(source.len() as u16).to_le_bytes());
        buffer[18..20].copy_from_slice(&(reason.len() as u16).to_le_bytes());
        let flags = if head.deletions { DELETIONS } else { 0 };
        buffer[20..24].copy_from_slice(&flags.to_le_bytes());
        buffer.extend_from_slice(&head.received_unix_ms.to_le_bytes());
        buffer.extend_from_slice(&head.table_version.to_le_bytes());
        buffer.extend_from_slice(&head.table_hash);
        debug_assert_eq!(buffer.len(), BLOCK_HEADER_BYTES);
        buffer.extend_from_slice(source.as_bytes());
        buffer.extend_from_slice(reason.as_bytes());
        self.bytes = buffer;
        self.records = 0;
        self.ids.clear();
        self.decisions.clear();
    }

    /// The number of a decision for the destinations `to`, which are ascending and distinct. Callers
    /// keep the numbers of decisions they meet often; equal ones are merged only where that is cheap.
    ///
    /// # Errors
    /// [`BlockFull`].
    pub fn decision(&mut self, to: &[StableId]) -> Result<DecisionNumber, BlockFull> {
        debug_assert!(to.is_sorted_by(|one, next| one < next), "sets are ascending");
        for number in (0..self.decisions.len()).rev().take(RECENT_DECISIONS) {
            if self.set(number) == to {
                return Ok(DecisionNumber(number as u32));
            }
        }
        if 8 * self.decisions.len() + 4 * (self.ids.len() + to.len()) > DECISION_BYTES_MAX {
            return Err(BlockFull);
        }
        self.ids.extend_from_slice(to);
        self.decisions.push(Counted { end: self.ids.len(), records: 0 });
        Ok(DecisionNumber(self.decisions.len() as u32 - 1))
    }

    fn set(&self, number: usize) -> &[StableId] {
        let start = number.checked_sub(1).map_or(0, |before| self.decisions[before].end);
        &self.ids[start..self.decisions[number].end]
    }

    /// Appends a line (without its line end) that has this decision.
    ///
    /// # Errors
    /// [`BlockFull`], and also if the decision is not one of this block.
    #[inline]
    pub fn push(&mut self, decision: DecisionNumber, line: &[u8]) -> Result<(), BlockFull> {
        if self.bytes.len() + RECORD_HEADER_BYTES + line.len() > RECORD_BYTES_MAX {
            return Err(BlockFull);
        }
        let counted = self.decisions.get_mut(decision.0 as usize).ok_or(BlockFull)?;
        counted.records += 1;
        self.records += 1;
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&decision.0.to_le_bytes());
        header[4..].copy_from_slice(&(line.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(line);
        Ok(())
    }

    /// Bytes written so far, decisions not included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no record was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Records written so far.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Ends the block; `None` if it holds no record.
    #[must_use]
    pub fn finish(&mut self) -> Option<EncodedBlock> {
        if self.is_empty() {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let decisions_at = bytes.len() as u32;
        let mut start = 0;
        for counted in &self.decisions {
            let set = &self.ids[start..counted.end];
            start = counted.end;
            bytes.extend_from_slice(&counted.records.to_le_bytes());
            bytes.extend_from_slice(&(set.len() as u32).to_le_bytes());
            for id in set {
                bytes.extend_from_slice(&id.0.to_le_bytes());
            }
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let block_bytes = bytes.len() as u32;
        bytes[..4].copy_from_slice(&block_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&decisions_at.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.records.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.decisions.len() as u32).to_le_bytes());
        self.records = 0;
        let layout = Layout::read(&bytes)?;
        Some(EncodedBlock { bytes, layout })
    }
}

impl EncodedBlock {
    /// The bytes as they are stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records it holds.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.layout.records()
    }

    /// The block as a reader sees it, stored at `position`.
    #[must_use]
    pub fn at(&self, position: Position) -> Block<'_> {
        Block::new(&self.bytes, self.layout, position)
    }

    /// The buffer, for another block.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// The longest part of a text that fits its length field.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(u16::MAX.into());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: BlockHead<'_> = BlockHead {
        source: "web",
        reason: "",
        deletions: false,
        received_unix_ms: 1,
        table_version: 2,
        table_hash: *b"0123456789abcdef",
    };

    #[test]
    fn equal_decisions_are_one() {
        let mut builder = BlockBuilder::new();
        builder.begin(&HEAD, Vec::new());
        let both = builder.decision(&[StableId(1), StableId(9)]).unwrap();
        let one = builder.decision(&[StableId(9)]).unwrap();
        assert_ne!(both, one);
        assert_eq!(builder.decision(&[StableId(1), StableId(9)]), Ok(both));
    }

    #[test]
    fn a_block_says_that_its_records_are_deletions_and_none_says_so_by_itself() {
        for deletions in [false, true] {
            let mut builder = BlockBuilder::new();
            // A used buffer: nothing of what was in it may be taken for a flag.
            builder.begin(&BlockHead { deletions, ..HEAD }, vec![0xFF; 200]);
            let one = builder.decision(&[StableId(9)]).unwrap();
            builder.push(one, b"{}").unwrap();
            let block = builder.finish().unwrap();
            assert_eq!(block.bytes()[20..24], [u8::from(deletions), 0, 0, 0]);
            assert_eq!(block.at(Position::START).are_deletions(), deletions);
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut builder = BlockBuilder::new();
        let name = "\u{e9}".repeat(40_000);
        builder.begin(&BlockHead { source: &name, ..HEAD }, Vec::new());
        let nobody = builder.decision(&[]).unwrap();
        builder.push(nobody, b"{}").unwrap();
        let block = builder.finish().unwrap();
        assert_eq!(block.at(Position::START).source().len(), 65_534);
    }

    #[test]
    fn a_buffer_serves_many_blocks() {
        let mut builder = BlockBuilder::new();
        let mut buffer = Vec::with_capacity(4096);
        let place = buffer.as_ptr();
        for _ in 0..3 {
            builder.begin(&HEAD, buffer);
            let decision = builder.decision(&[StableId(3)]).unwrap();
            builder.push(decision, b"{}").unwrap();
            let block = builder.finish().unwrap();
            assert_eq!(block.at(Position::START).records().count(), 1);
            buffer = block.into_buffer();
            assert_eq!(buffer.as_ptr(), place);
        }
    }
}
