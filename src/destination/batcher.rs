//! Parcels to batches under limits. Pure: time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant as ReceivedAt;

use tokio::time::Instant;

use super::batch::{Batch, Keys, Piece};
use super::parcel::{Amount, Parcel};
use crate::config::BatchLimits;
use crate::consent::Nature;

/// Fills one batch at a time.
///
/// It holds the open batch and at most the rest of one parcel: whoever feeds it asks
/// [`Batcher::is_full`] first, and everything else stays in the outlet.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: BatchLimits,
    keys: Arc<Keys>,
    open: Vec<Piece>,
    bytes: usize,
    events: u32,
    oldest: Option<ReceivedAt>,
    /// When the first line of the open batch came.
    since: Option<Instant>,
    full: bool,
    /// Whether there are deletions in the open batch.
    deletes: bool,
    /// What did not fit in the open batch.
    rest: VecDeque<Piece>,
    /// When it came.
    rest_since: Option<Instant>,
}

impl Batcher {
    pub(super) fn new(limits: BatchLimits, keys: Arc<Keys>) -> Self {
        Self {
            limits,
            keys,
            open: Vec::new(),
            bytes: 0,
            events: 0,
            oldest: None,
            since: None,
            full: false,
            deletes: false,
            rest: VecDeque::new(),
            rest_since: None,
        }
    }

    /// Adds what came at `now`.
    pub(super) fn push(&mut self, parcel: Parcel, now: Instant) {
        self.rest.extend(Piece::of(parcel));
        self.rest_since = Some(now);
        self.fill();
    }

    /// Whether the open batch takes no more lines.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// How much would fill the open batch; anything, while there is none.
    pub(super) fn wants(&self) -> Amount {
        if self.open.is_empty() {
            return Amount::ANY;
        }
        Amount {
            bytes: self.limits.max_bytes.saturating_sub(self.bytes),
            events: self.limits.max_events.get() - self.events,
        }
    }

    /// Whether there are deletions in it.
    pub(super) fn deletes(&self) -> bool {
        self.deletes
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// When the oldest line in it was read.
    pub(super) fn oldest(&self) -> Option<ReceivedAt> {
        self.oldest
    }

    /// When the open batch has to go although it is not full.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since?.checked_add(self.limits.max_wait)
    }

    /// Takes the open batch, full or not.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.open.is_empty() {
            return None;
        }
        let batch = Batch::new(std::mem::take(&mut self.open), self.keys.next());
        (self.bytes, self.events, self.full) = (0, 0, false);
        (self.since, self.oldest, self.deletes) = (None, None, false);
        self.fill();
        Some(batch)
    }

    fn fill(&mut self) {
        while !self.full {
            let Some(next) = self.rest.front_mut() else {
                break;
            };
            let bytes_max = self.limits.max_bytes.saturating_sub(self.bytes);
            let events_max = self.limits.max_events.get() - self.events;
            let added = if next.lines().len() <= bytes_max && next.events() <= events_max {
                self.rest.pop_front()
            } else {
                self.full = true;
                match next.split_off_front(bytes_max, events_max) {
                    None if self.open.is_empty() => Some(next.split_off_line()),
                    front => front,
                }
            };
            if let Some(piece) = added {
                self.add(piece);
            }
            if self.rest.front().is_some_and(Piece::is_empty) {
                self.rest.pop_front();
            }
        }
    }

    fn add(&mut self, piece: Piece) {
        self.since = self.since.or(self.rest_since);
        self.oldest = [self.oldest, piece.received_at()].into_iter().flatten().min();
        self.bytes += piece.lines().len();
        self.events += piece.events();
        self.deletes |= piece.runs().any(|run| run.nature == Nature::Deletion);
        self.open.push(piece);
        self.full = self.full
            || self.bytes >= self.limits.max_bytes
            || self.events >= self.limits.max_events.get();
    }
}
