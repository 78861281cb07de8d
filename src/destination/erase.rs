//! Erased: the events of somebody who asked for it do not leave any more, wherever they wait.

use std::borrow::Cow;

use super::batch::{Batch, Keys};
use crate::log::{Marks, Position};
use crate::metrics::{DestinationCounters, DropReason};
use crate::parse::Ids;

/// Whose events must not leave, as one attempt sees it.
#[derive(Debug, Default)]
pub struct Erasures {
    /// Grows with every change. What was looked at under it need not be looked at again.
    generation: u64,
    marks: Marks,
    /// No event at or behind this position is erased.
    highest: Position,
}

impl Erasures {
    /// What `marks` say; `generation` is higher than that of all before.
    #[must_use]
    pub fn new(generation: u64, marks: Marks) -> Self {
        Self { generation, highest: marks.highest(), marks }
    }

    /// Its number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// No event at or behind this position is erased.
    #[must_use]
    pub fn highest(&self) -> Position {
        self.highest
    }

    /// Whether nobody's events are erased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether the event `line`, stored at `position`, was erased. What can't be read may be anybody's.
    #[must_use]
    pub fn erases(&self, line: &[u8], position: Position) -> bool {
        if position >= self.highest {
            return false;
        }
        let Some(ids) = Ids::of(line) else { return true };
        let user = |id: &Cow<'_, [u8]>| self.marks.is_erased(Some(id), None, position);
        let anonymous = |id: &Cow<'_, [u8]>| self.marks.is_erased(None, Some(id), position);
        ids.user.iter().any(user) || ids.anonymous.iter().any(anonymous)
    }
}

/// Takes the erased events out of `batch`, and counts them. Whole at every await: it may be cancelled
/// there.
pub(super) async fn erase(
    batch: &mut Batch,
    erasures: &Erasures,
    keys: &Keys,
    counters: &DestinationCounters,
) {
    if erasures.is_empty() {
        return;
    }
    let mut position = 0;
    while let Some(piece) = batch.pieces().get(position) {
        let stored_at = piece.stored_at().filter(|at| *at < erasures.highest());
        let Some(stored_at) = stored_at.filter(|_| piece.looked_at() != erasures.generation())
        else {
            position += 1;
            continue;
        };
        let generation = erasures.generation();
        let (left, erased) = piece.without(generation, |line| erasures.erases(line, stored_at));
        piece.settle(erased);
        position += left.len();
        batch.replace(position - left.len(), left, || keys.next());
        if erased > 0 {
            counters.drop_pending(DropReason::Erased, erased);
        }
        tokio::task::yield_now().await;
    }
}
