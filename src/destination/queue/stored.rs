//! The hand-over of what is in the log: from memory while the destination keeps up, by its reader while
//! it lags, and to whoever goes on in its place.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Outlet;
use crate::destination::ledger::{Ledger, Offer, Span};
use crate::destination::memory::Claim;
use crate::destination::parcel::{Closed, Parcel, Refused};
use crate::log::Position;
use crate::metrics::DropReason;

impl Outlet {
    /// Begins with the log at `from`, or where the first stands that was offered already: the reader
    /// gives what is behind it, as long as it lags.
    pub fn begin_at(&self, from: Position) {
        let mut state = self.lock();
        let from = state.offered_from.take().map_or(from, |offered| offered.min(from));
        state.ledger = Some(Ledger::new(from));
        drop(state);
        self.changed.notify_one();
    }

    /// Gives what was committed: all parcels of one part of the log, or none of them. Never waits. One
    /// without room falls behind, and gets them from the reader. Where the destination is gone, they
    /// are dropped as `removed`, unless another one goes on in its place.
    pub fn offer_committed(self: &Arc<Self>, parcels: Vec<Parcel>, span: Span) {
        let events: u32 = parcels.iter().map(|parcel| parcel.events).sum();
        let mut state = self.lock();
        if state.ended {
            drop(state);
            return self.counters.add_dropped(DropReason::Removed, events.into());
        }
        self.counters.pending.fetch_add(events.into(), Relaxed);
        let closed = state.closed;
        let offer = state.ledger.as_mut().map_or(Offer::Skip, |ledger| ledger.offer(span));
        match offer {
            // They were read before they were offered.
            Offer::Given => return,
            Offer::Take if !closed => {}
            Offer::Take | Offer::Skip => {
                match &mut state.ledger {
                    // Whoever goes on in its place reads them.
                    Some(ledger) if offer == Offer::Take => ledger.fall_behind(span),
                    Some(_) => {}
                    // Its reader has not begun, and will give them.
                    None => {
                        state.offered_from.get_or_insert(span.begin);
                    }
                }
                state.unread += u64::from(events);
                return;
            }
        }
        // Several small chunks are as good as one: what is larger waits for the reader.
        if self.admit(&mut state, &parcels, Claim::Share) {
            parcels.into_iter().for_each(|parcel| self.take(&mut state, parcel, Some(span)));
            return self.wake(state);
        }
        if let Some(ledger) = &mut state.ledger {
            ledger.fall_behind(span);
        }
        state.unread += u64::from(events);
        self.wake(state);
        self.changed.notify_one();
    }

    /// Gives what the reader found. What it gives is pending already.
    ///
    /// # Errors
    /// As [`Outlet::offer`], but never [`Refused::Overflow`].
    pub fn offer_read(self: &Arc<Self>, parcel: Parcel, span: Span) -> Result<(), Refused> {
        let claim = self.claim(parcel.footprint());
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(parcel));
        }
        if !self.admit(&mut state, std::slice::from_ref(&parcel), claim) {
            self.wake(state);
            return Err(Refused::Full(parcel));
        }
        state.unread = state.unread.saturating_sub(parcel.events.into());
        self.take(&mut state, parcel, Some(span));
        self.wake(state);
        Ok(())
    }

    /// Its reader has given everything before `position`.
    pub fn has_read(&self, position: Position) {
        if let Some(ledger) = &mut self.lock().ledger {
            ledger.has_read(position);
        }
    }

    /// Its reader has given everything before `position`, the end of a commit; whether the destination
    /// is live now, and the reader has to stop there.
    pub fn has_read_all_to(&self, position: Position) -> bool {
        let mut state = self.lock();
        let is_live = state.ledger.as_mut().is_none_or(|ledger| ledger.has_read_all_to(position));
        if is_live {
            // Some may have been read before they were offered, and counted then.
            state.unread = 0;
        }
        is_live
    }

    /// Where its reader is, while the destination lags.
    #[must_use]
    pub fn lags_from(&self) -> Option<Position> {
        self.lock().ledger.as_ref().and_then(Ledger::lags_from)
    }

    /// What its reader has not given from before `position`, so many events, is gone.
    pub fn expire_before(&self, position: Position, events: u64) {
        let mut state = self.lock();
        if !state.ledger.as_mut().is_some_and(|ledger| ledger.expire_before(position)) {
            return;
        }
        let events = events.min(state.unread);
        state.unread -= events;
        self.counters.drop_pending_many(DropReason::Expired, events);
    }

    /// Its reader found that so many events for it were removed from the log since they were stored.
    pub fn skip_erased(&self, events: u64) {
        let mut state = self.lock();
        let events = events.min(state.unread);
        state.unread -= events;
        self.counters.drop_pending_many(DropReason::Erased, events);
    }

    /// So many events are in the log for it that were stored before this process.
    pub fn add_unread(&self, events: u64) {
        self.lock().unread += events;
        self.counters.pending.fetch_add(i64::try_from(events).unwrap_or(i64::MAX), Relaxed);
    }

    /// Events that wait for it in the log and are not in memory.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.lock().unread
    }

    /// So many events were in memory when the delivery ended, and will be read from the log again:
    /// together with those of the same blocks that were settled, which become pending once more.
    pub(in crate::destination) fn leave_to_log(&self, left: u64) {
        let mut state = self.lock();
        let settled = |ledger: &Ledger| ledger.settled_from(ledger.cursor(Position(u64::MAX)));
        let again = state.ledger.as_ref().map_or(0, settled);
        state.unread += left + again;
        drop(state);
        self.counters.add_repeated(again);
    }

    /// Another outlet goes on in the place of `before`, which has ended, and reads what it has not.
    /// Several take over in the order in which they came.
    pub fn take_over(&self, before: &Self) {
        let (unread, offered_from) = {
            let mut before = before.lock();
            (std::mem::take(&mut before.unread), before.offered_from.take())
        };
        let mut state = self.lock();
        state.unread += unread;
        state.offered_from = [state.offered_from, offered_from].into_iter().flatten().min();
    }

    /// The destination was removed and has ended: what is in the log for it is dropped.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let events = std::mem::take(&mut state.unread);
        self.counters.drop_pending_many(DropReason::Removed, events);
    }

    /// Waits until the destination lags; where its reader has to begin.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn lags(&self) -> Result<Position, Closed> {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                if state.closed {
                    return Err(Closed);
                }
                if let Some(from) = state.ledger.as_ref().and_then(Ledger::lags_from) {
                    return Ok(from);
                }
            }
            changed.await;
        }
    }

    /// Waits until at least half of its room is free, so that reading on is worth it, and there is room
    /// for a parcel of `wanted` bytes; how many bytes.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn room_to_read(&self, wanted: usize) -> Result<usize, Closed> {
        let claim = self.claim(wanted);
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                if state.closed {
                    return Err(Closed);
                }
                let budget = self.budget();
                if state.pinned_bytes <= budget / 2 && self.has_room(&state, claim, wanted) {
                    return Ok(budget - state.pinned_bytes);
                }
                state.pressed = true;
            }
            self.offered.notify_one();
            changed.await;
        }
    }

    /// Waits until something about its room changed, or for `limit`. For the reader.
    pub async fn changed(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.changed.notified()).await;
    }

    /// What it is done with, if everything before `handed` was offered to it; `None` before it has
    /// begun with the log.
    #[must_use]
    pub fn cursor(&self, handed: Position) -> Option<Position> {
        self.lock().ledger.as_ref().map(|ledger| ledger.cursor(handed))
    }
}
