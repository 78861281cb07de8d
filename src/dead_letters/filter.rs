//! Letters being read, and which of them are meant.

use super::letters::DETAIL;
use crate::log::{Block, Position, StableId};

/// A stored letter.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Of the block that it is in.
    pub position: Position,
    /// Where it should have gone; `None` if it never got past the door.
    pub destination: Option<StableId>,
    /// Where it came from.
    pub source: &'a str,
    /// A name of [`Reason`](super::Reason).
    pub reason: &'a str,
    /// More for people; may be empty.
    pub detail: &'a str,
    /// When it was read, in milliseconds since 1970.
    pub received_unix_ms: u64,
    /// Whether it is a deletion, and not an event.
    pub is_deletion: bool,
    /// The line without its line end.
    pub line: &'a [u8],
}

/// The letters of a block.
pub fn letters_of<'a>(block: &Block<'a>) -> impl Iterator<Item = Letter<'a>> + use<'a> {
    let (position, source) = (block.position(), block.source());
    let (received_unix_ms, is_deletion) = (block.received_unix_ms(), block.are_deletions());
    let (reason, detail) = reason_of(block);
    let destination = destination_of(block);
    block.records().map(move |record| Letter {
        position,
        destination,
        source,
        reason,
        detail,
        received_unix_ms,
        is_deletion,
        line: record.line,
    })
}

fn reason_of<'a>(block: &Block<'a>) -> (&'a str, &'a str) {
    block.reason().split_once(DETAIL).unwrap_or((block.reason(), ""))
}

fn destination_of(block: &Block<'_>) -> Option<StableId> {
    block.decisions().flat_map(|decision| decision.ids()).next()
}

/// Which letters are meant: those for which everything that is said is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// For one of these.
    pub destinations: Option<Vec<StableId>>,
    /// From this source.
    pub source: Option<String>,
    /// For this reason.
    pub reason: Option<String>,
    /// Received then or later, in milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
    /// Received before that, in milliseconds since 1970.
    pub before_unix_ms: Option<u64>,
}

impl Filter {
    /// Whether the letters of a block are meant.
    #[must_use]
    pub fn takes(&self, block: &Block<'_>) -> bool {
        let received = block.received_unix_ms();
        self.source.as_deref().is_none_or(|source| source == block.source())
            && self.reason.as_deref().is_none_or(|reason| reason == reason_of(block).0)
            && self.since_unix_ms.is_none_or(|since| received >= since)
            && self.before_unix_ms.is_none_or(|before| received < before)
            && self.destinations.as_ref().is_none_or(|ids| {
                destination_of(block).is_some_and(|destination| ids.contains(&destination))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{BlockBuilder, BlockHead};

    #[test]
    fn everything_that_is_said_must_be_so() {
        let mut builder = BlockBuilder::new();
        let head = BlockHead {
            source: "web",
            reason: "gave_up: answered 503",
            deletions: false,
            received_unix_ms: 1000,
            table_version: 1,
            table_hash: [0; 16],
        };
        builder.begin(&head, Vec::new());
        let decision = builder.decision(&[StableId(2)]).unwrap();
        builder.push(decision, b"{}").unwrap();
        let encoded = builder.finish().unwrap();
        let block = encoded.at(Position::START);
        let any = Filter::default();
        let reason = |reason: &str| Filter { reason: Some(reason.to_owned()), ..any.clone() };
        let source = |source: &str| Filter { source: Some(source.to_owned()), ..any.clone() };
        let to = |ids: &[u32]| Filter {
            destinations: Some(ids.iter().map(|id| StableId(*id)).collect()),
            ..any.clone()
        };
        let since = |ms| Filter { since_unix_ms: Some(ms), ..any.clone() };
        let before = |ms| Filter { before_unix_ms: Some(ms), ..any.clone() };
        for (filter, takes) in [
            (any.clone(), true),
            (reason("gave_up"), true),
            (reason("gave_up: answered 503"), false),
            (reason("rejected_by_destination"), false),
            (source("web"), true),
            (source("app"), false),
            (to(&[1, 2]), true),
            (to(&[1]), false),
            (to(&[]), false),
            (since(1000), true),
            (since(1001), false),
            (before(1001), true),
            (before(1000), false),
            (Filter { source: Some("app".to_owned()), ..reason("gave_up") }, false),
        ] {
            assert_eq!(filter.takes(&block), takes, "{filter:?}");
        }
    }
}
