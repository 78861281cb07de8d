//! Letters being written.

use std::time::Instant;

use crate::clock::unix_ms_of;
use crate::consent::Nature;
use crate::log::{BlockBuilder, BlockHead, EncodedBlock, StableId};
use crate::metrics::DeadLetterReason;

pub use crate::metrics::DeadLetterReason as Reason;

/// Between the name of the reason and what more there is to say.
pub(super) const DETAIL: &str = ": ";

/// Letters on their way to a shelf.
#[derive(Debug, Default)]
pub struct Letters {
    pub(super) blocks: Vec<EncodedBlock>,
    /// How many of each reason.
    pub(super) counts: Vec<(DeadLetterReason, u64)>,
}

impl Letters {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes().len()).sum()
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(|(_, events)| events).sum()
    }
}

/// Writes letters of one destination, or of none, that failed under one table.
#[derive(Debug)]
pub struct LettersWriter {
    builder: BlockBuilder,
    to: Option<StableId>,
    table_version: u64,
    table_hash: [u8; 16],
    head: Option<Head>,
    letters: Letters,
    bytes: usize,
}

/// What the letters of a block have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    source: String,
    reason: DeadLetterReason,
    detail: String,
    nature: Nature,
    received_at: Instant,
}

impl LettersWriter {
    /// Nothing is written yet; `table_hash` is the one of the table in force.
    #[must_use]
    pub fn new(to: Option<StableId>, table_version: u64, table_hash: &str) -> Self {
        let mut hash = [0; 16];
        let len = table_hash.len().min(hash.len());
        hash[..len].copy_from_slice(&table_hash.as_bytes()[..len]);
        Self {
            builder: BlockBuilder::new(),
            to,
            table_version,
            table_hash: hash,
            head: None,
            letters: Letters::default(),
            bytes: 0,
        }
    }

    /// The letters that follow are from `source`, were read at `received_at`, and failed for `reason`;
    /// `detail` is for people and may be empty. It holds nothing of the events.
    pub fn begin(
        &mut self,
        source: &str,
        reason: DeadLetterReason,
        detail: &str,
        nature: Nature,
        received_at: Instant,
    ) {
        let is_same = self.head.as_ref().is_some_and(|head| {
            head.source == source
                && (head.reason, head.nature, head.received_at) == (reason, nature, received_at)
                && head.detail == detail
        });
        if !is_same {
            self.finish_block();
            let (source, detail) = (source.to_owned(), detail.to_owned());
            self.begin_block(Head { source, reason, detail, nature, received_at });
        }
    }

    fn begin_block(&mut self, head: Head) {
        let reason = match head.detail.as_str() {
            "" => head.reason.label().to_owned(),
            detail => format!("{}{DETAIL}{detail}", head.reason.label()),
        };
        self.builder.begin(
            &BlockHead {
                source: &head.source,
                reason: &reason,
                deletions: head.nature == Nature::Deletion,
                received_unix_ms: unix_ms_of(head.received_at),
                table_version: self.table_version,
                table_hash: self.table_hash,
            },
            Vec::new(),
        );
        self.head = Some(head);
    }

    /// Adds a letter: a line without its line end. [`Self::begin`] comes first.
    pub fn push(&mut self, line: &[u8]) {
        let Some(reason) = self.head.as_ref().map(|head| head.reason) else { return };
        if self.add(line).is_none() {
            let Some(head) = self.head.clone() else { return };
            self.finish_block();
            self.begin_block(head);
            // An empty block holds any one event.
            let _ = self.add(line);
        }
        self.bytes += line.len();
        match self.letters.counts.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, count)) => *count += 1,
            None => self.letters.counts.push((reason, 1)),
        }
    }

    fn add(&mut self, line: &[u8]) -> Option<()> {
        let decision = self.builder.decision(self.to.as_slice()).ok()?;
        self.builder.push(decision, line).ok()
    }

    fn finish_block(&mut self) {
        if self.head.take().is_some() {
            self.letters.blocks.extend(self.builder.finish());
        }
    }

    /// Bytes of the letters so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was written; nothing is left.
    pub fn take(&mut self) -> Letters {
        self.finish_block();
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::letters_of;
    use crate::log::Position;
    use crate::parse::RejectReason;

    #[test]
    fn letters_of_one_kind_share_a_block() {
        let mut writer = LettersWriter::new(Some(StableId(7)), 3, "0123456789abcdef");
        let now = Instant::now();
        writer.begin("web", Reason::GaveUp, "answered 503", Nature::Event, now);
        writer.push(b"{}");
        writer.begin("web", Reason::GaveUp, "answered 503", Nature::Event, now);
        writer.push(b"[");
        let too_deep = Reason::Rejected(RejectReason::TooDeep);
        writer.begin("app", too_deep, "", Nature::Event, now);
        writer.push(b"\xFF");
        let letters = writer.take();
        assert_eq!(letters.blocks.len(), 2);
        assert_eq!(letters.count(), 3);
        let blocks: Vec<_> = letters.blocks.iter().map(|b| b.at(Position::START)).collect();
        let seen: Vec<_> = blocks.iter().flat_map(letters_of).collect();
        assert_eq!(seen[1].line, b"[");
        assert_eq!((seen[1].reason, seen[1].detail), ("gave_up", "answered 503"));
        assert_eq!((seen[2].source, seen[2].reason, seen[2].detail), ("app", "too_deep", ""));
        assert_eq!(seen[2].destination, Some(StableId(7)));
        assert!(writer.take().is_empty());
    }

    #[test]
    fn a_deletion_stays_one_and_makes_no_event_one() {
        let mut writer = LettersWriter::new(Some(StableId(7)), 3, "0123456789abcdef");
        let now = Instant::now();
        for nature in [Nature::Event, Nature::Deletion, Nature::Event] {
            writer.begin("customers", Reason::GaveUp, "", nature, now);
            writer.push(b"{}");
        }
        let letters = writer.take();
        let blocks: Vec<_> = letters.blocks.iter().map(|b| b.at(Position::START)).collect();
        let seen: Vec<bool> = blocks.iter().flat_map(letters_of).map(|it| it.is_deletion).collect();
        assert_eq!(seen, [false, true, false]);
    }
}
