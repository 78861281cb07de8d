//! How far one destination is done with the log.
//!
//! A destination that keeps up is *live*: it gets what was committed from memory. One whose buffer is
//! full is *lagging*: it gets nothing from memory until a reader has brought it up to date from the
//! log. The two never overlap and leave no gap, because both change hands here, under the outlet's
//! lock.
//!
//! What always holds: the cursor is not behind anything that was neither delivered nor dropped with a
//! reason. Forgetting to settle lines costs duplicates after a restart, never a loss.

use std::collections::VecDeque;

use crate::log::Position;

/// A part of the log, from the beginning of a block to behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub begin: Position,
    /// Behind it.
    pub end: Position,
}

/// A parcel that was handed over.
#[derive(Clone, Copy, Debug)]
struct Open {
    begin: Position,
    events: u32,
    /// Those that are neither delivered nor dropped.
    unsettled: u32,
}

/// Names a parcel that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

#[derive(Clone, Copy, Debug)]
enum Feed {
    /// From memory, beginning with what ends behind `from`.
    Live { from: Position },
    /// By the reader, which has given everything before `from`. From memory nothing was taken up to
    /// `skipped_to`.
    Lagging { from: Position, skipped_to: Position },
}

/// What was handed over and is not settled, in the order of the log.
#[derive(Debug)]
pub(super) struct Ledger {
    feed: Feed,
    open: VecDeque<Open>,
    /// The number of the first in `open`.
    first: u64,
    /// Where the last one began that was settled, and how many events were settled that begin there.
    last: (Position, u64),
}

impl Ledger {
    /// A destination that is done with everything before `from`, and whose reader has to look at what
    /// is in the log behind it.
    pub(super) fn new(from: Position) -> Self {
        let feed = Feed::Lagging { from, skipped_to: from };
        Self { feed, open: VecDeque::new(), first: 0, last: (Position::START, 0) }
    }

    /// Whether parcels from memory are the destination's if it has room.
    pub(super) fn takes(&self, span: Span) -> bool {
        matches!(self.feed, Feed::Live { from } if span.end > from)
    }

    /// Parcels from memory were not taken: the reader will give them, or has given them. Whether the
    /// destination falls behind with them.
    pub(super) fn leave(&mut self, span: Span) -> bool {
        match &mut self.feed {
            Feed::Live { from } | Feed::Lagging { from, .. } if span.end <= *from => false,
            Feed::Live { .. } => {
                self.feed = Feed::Lagging { from: span.begin, skipped_to: span.end };
                true
            }
            Feed::Lagging { skipped_to, .. } => {
                *skipped_to = (*skipped_to).max(span.end);
                false
            }
        }
    }

    /// Whether the destination is live, and its reader has given nothing from behind `position`.
    pub(super) fn is_live_before(&self, position: Position) -> bool {
        matches!(self.feed, Feed::Live { from } if from <= position)
    }

    /// Where the reader has to begin, if the destination lags.
    pub(super) fn lags_from(&self) -> Option<Position> {
        match self.feed {
            Feed::Live { .. } => None,
            Feed::Lagging { from, .. } => Some(from),
        }
    }

    /// The reader has given everything before `position`.
    pub(super) fn has_read(&mut self, position: Position) {
        if let Feed::Lagging { from, .. } = &mut self.feed {
            *from = (*from).max(position);
        }
    }

    /// The reader has given everything before `position`, the end of a commit. Whether the destination
    /// is live from here on: it is if nothing behind was skipped.
    pub(super) fn has_read_all_to(&mut self, position: Position) -> bool {
        self.has_read(position);
        if let Feed::Lagging { skipped_to, .. } = self.feed {
            if skipped_to > position {
                return false;
            }
            self.feed = Feed::Live { from: position };
        }
        true
    }

    /// What the reader has not given from before `position` is gone; whether there is a reader.
    pub(super) fn expire_before(&mut self, position: Position) -> bool {
        match &mut self.feed {
            Feed::Live { .. } => false,
            Feed::Lagging { from, .. } => {
                *from = (*from).max(position);
                true
            }
        }
    }

    /// A parcel was handed over.
    pub(super) fn enter(&mut self, span: Span, events: u32) -> Entry {
        self.open.push_back(Open { begin: span.begin, events, unsettled: events });
        Entry(self.first + self.open.len() as u64 - 1)
    }

    /// The parcel that was handed over last, and of which nothing is settled, will be read once more;
    /// false if it is another one.
    pub(super) fn take_back(&mut self, entry: Entry) -> bool {
        let is_last = entry.0 + 1 == self.first + self.open.len() as u64;
        let whole = self.open.back().copied().filter(|it| is_last && it.unsettled == it.events);
        let Some(open) = whole else { return false };
        self.open.pop_back();
        let skipped_to = match self.feed {
            Feed::Live { from } => from,
            Feed::Lagging { from, skipped_to } => skipped_to.max(from),
        };
        self.feed = Feed::Lagging { from: open.begin, skipped_to };
        true
    }

    /// Events of a parcel were delivered, or dropped with a reason.
    pub(super) fn settle(&mut self, entry: Entry, events: u32) {
        let place = entry.0.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(open) = place.and_then(|place| self.open.get_mut(place)) {
            open.unsettled = open.unsettled.saturating_sub(events);
        }
        while let Some(open) = self.open.front().copied().filter(|open| open.unsettled == 0) {
            self.open.pop_front();
            self.first += 1;
            let before = if self.last.0 == open.begin { self.last.1 } else { 0 };
            self.last = (open.begin, before + u64::from(open.events));
        }
    }

    /// Settled events that whoever begins at `cursor` reads again.
    pub(super) fn settled_from(&self, cursor: Position) -> u64 {
        let open = self.open.iter().map(|open| u64::from(open.events - open.unsettled));
        let before = if self.last.0 >= cursor { self.last.1 } else { 0 };
        before + open.sum::<u64>()
    }

    /// What the destination is done with, if everything before `handed` was offered to it.
    pub(super) fn cursor(&self, handed: Position) -> Position {
        let fed = match self.feed {
            Feed::Live { from } => handed.max(from),
            Feed::Lagging { from, .. } => from,
        };
        self.open.front().map_or(fed, |open| open.begin.min(fed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(begin: u64, end: u64) -> Span {
        Span { begin: Position(begin), end: Position(end) }
    }

    fn live(at: u64) -> Ledger {
        let mut ledger = Ledger::new(Position(at));
        assert!(ledger.has_read_all_to(Position(at)));
        ledger
    }

    #[test]
    fn the_cursor_waits_for_the_first_that_is_not_settled() {
        let mut ledger = live(10);
        let one = ledger.enter(span(10, 20), 2);
        let two = ledger.enter(span(20, 30), 1);
        assert_eq!(ledger.cursor(Position(30)), Position(10));
        ledger.settle(two, 1);
        assert_eq!(ledger.cursor(Position(30)), Position(10));
        ledger.settle(one, 1);
        assert_eq!(ledger.cursor(Position(30)), Position(10));
        ledger.settle(one, 1);
        assert_eq!(ledger.cursor(Position(30)), Position(30));
    }

    #[test]
    fn what_the_reader_has_given_is_not_taken_from_memory_again() {
        let mut ledger = Ledger::new(Position(10));
        assert!(ledger.has_read_all_to(Position(40)));
        assert!(!ledger.takes(span(30, 40)));
        assert!(!ledger.leave(span(30, 40)));
        assert_eq!(ledger.lags_from(), None);
        assert!(ledger.takes(span(40, 50)));
    }

    #[test]
    fn who_falls_behind_is_live_again_only_when_nothing_was_skipped() {
        let mut ledger = live(10);
        assert!(ledger.takes(span(10, 20)));
        assert!(ledger.leave(span(10, 20)));
        assert_eq!(ledger.lags_from(), Some(Position(10)));
        assert!(!ledger.takes(span(20, 30)));
        assert!(!ledger.leave(span(20, 30)));
        assert!(!ledger.has_read_all_to(Position(20)));
        assert_eq!(ledger.cursor(Position(30)), Position(20));
        assert!(!ledger.leave(span(30, 40)));
        assert!(!ledger.has_read_all_to(Position(30)));
        assert!(ledger.has_read_all_to(Position(40)));
        assert_eq!(ledger.cursor(Position(40)), Position(40));
    }

    #[test]
    fn what_was_settled_in_front_of_the_cursor_is_read_again() {
        let mut ledger = live(10);
        let one = ledger.enter(span(10, 30), 2);
        let two = ledger.enter(span(10, 30), 3);
        let three = ledger.enter(span(30, 40), 4);
        ledger.settle(one, 2);
        ledger.settle(two, 1);
        ledger.settle(three, 1);
        assert_eq!(ledger.settled_from(ledger.cursor(Position(40))), 4);
        ledger.settle(two, 2);
        assert_eq!(ledger.settled_from(ledger.cursor(Position(40))), 1);
        ledger.settle(three, 3);
        assert_eq!(ledger.settled_from(ledger.cursor(Position(40))), 0);
    }

    #[test]
    fn what_was_taken_back_is_read_again_and_nothing_before_it() {
        let mut ledger = Ledger::new(Position(10));
        let one = ledger.enter(span(10, 20), 1);
        let two = ledger.enter(span(20, 30), 1);
        ledger.has_read(Position(40));
        assert!(!ledger.take_back(one), "another one came behind it");
        ledger.settle(one, 1);
        assert!(ledger.take_back(two));
        assert_eq!(ledger.lags_from(), Some(Position(20)));
        assert_eq!(ledger.cursor(Position(40)), Position(20));
        assert!(!ledger.has_read_all_to(Position(30)), "there is more up to 40");
        let two = ledger.enter(span(20, 30), 1);
        ledger.settle(two, 1);
        assert!(!ledger.take_back(two), "it is settled");
    }

    #[test]
    fn settling_twice_or_late_harms_nothing() {
        let mut ledger = live(0);
        let one = ledger.enter(span(0, 1), 1);
        ledger.settle(one, 5);
        ledger.settle(one, 5);
        let two = ledger.enter(span(1, 2), 1);
        ledger.settle(one, 1);
        assert_eq!(ledger.cursor(Position(2)), Position(1));
        ledger.settle(two, 1);
        assert_eq!(ledger.cursor(Position(2)), Position(2));
    }
}
