//! The hand-over of what is in the log: from memory while the destination keeps up, by its reader while
//! it lags, and to whoever goes on in its place.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::{Outlet, State};
use crate::destination::ledger::{Ledger, Span};
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
        self.counters.pending.fetch_add(events.into(), Relaxed);
        let may_take = !state.closed && state.ledger.as_ref().is_some_and(|it| it.takes(span));
        // Several small chunks are as good as one: what is larger waits for the reader.
        if may_take && self.admit(&mut state, &parcels, Claim::Share) {
            parcels.into_iter().for_each(|parcel| self.take(&mut state, parcel, Some(span)));
            return self.wake(state);
        }
        self.leave_committed(state, span, events);
    }

    /// What was committed, and is pending, is for the reader: its own, or that of whoever goes on in
    /// its place.
    fn leave_committed(&self, mut state: MutexGuard<'_, State>, span: Span, events: u32) {
        if let Some(next) = state.successor.clone() {
            drop(state);
            // Never from memory: there may be more for it in the same part of the log, which it must
            // get together with this.
            return next.leave_committed(next.lock(), span, events);
        }
        if state.ended {
            return self.counters.drop_pending(DropReason::Removed, events);
        }
        state.unread += i64::from(events);
        let Some(ledger) = &mut state.ledger else {
            // Its reader has not begun, and will give them.
            state.offered_from.get_or_insert(span.begin);
            return;
        };
        if ledger.leave(span) {
            self.wake(state);
            self.changed.notify_one();
        }
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
        state.unread -= i64::from(parcel.events);
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
        self.lock().ledger.as_mut().is_none_or(|ledger| ledger.has_read_all_to(position))
    }

    /// Everything before `handed` was offered. If everything before it was read, too, what was read and
    /// never offered had been delivered before, by the one in whose place this one goes on.
    pub fn balance(&self, handed: Position) {
        let mut state = self.lock();
        if state.ledger.as_ref().is_some_and(|ledger| ledger.is_live_before(handed)) {
            let unread = std::mem::take(&mut state.unread);
            self.counters.add_repeated(unread.min(0).unsigned_abs());
        }
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
        self.drop_unread(&mut state, DropReason::Expired, events);
    }

    /// Its reader found that so many events for it were removed from the log since they were stored.
    pub fn skip_erased(&self, events: u64) {
        self.drop_unread(&mut self.lock(), DropReason::Erased, events);
    }

    /// So many of the unread events, or all if there are not so many, will not come.
    fn drop_unread(&self, state: &mut State, reason: DropReason, events: u64) {
        let events = events.min(u64::try_from(state.unread).unwrap_or(0));
        state.unread -= i64::try_from(events).unwrap_or(i64::MAX);
        self.counters.drop_pending_many(reason, events);
    }

    /// So many events are in the log for it that were stored before this process.
    pub fn add_unread(&self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.lock().unread += events;
        self.counters.pending.fetch_add(events, Relaxed);
    }

    /// Events that wait for it in the log and are not in memory.
    #[must_use]
    pub fn unread(&self) -> u64 {
        u64::try_from(self.lock().unread).unwrap_or(0)
    }

    /// So many events were in memory when the delivery ended, and will be read from the log again:
    /// together with those of the same blocks that were settled, which become pending once more.
    pub(in crate::destination) fn leave_to_log(&self, left: u64) {
        let mut state = self.lock();
        let settled = |ledger: &Ledger| ledger.settled_from(ledger.cursor(Position(u64::MAX)));
        let again = state.ledger.as_ref().map_or(0, settled);
        state.unread += i64::try_from(left + again).unwrap_or(i64::MAX);
        drop(state);
        self.counters.add_repeated(again);
    }

    /// Another outlet goes on in the place of `before`, which has ended, and reads what it has not, also
    /// what is still to come for it: a worker may have had the table of before. Several take over in the
    /// order in which they came.
    pub fn take_over(self: &Arc<Self>, before: &Self) {
        let (unread, offered_from) = {
            let mut before = before.lock();
            before.successor = Some(Arc::clone(self));
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
        let unread = std::mem::take(&mut state.unread);
        self.counters.add_repeated(unread.min(0).unsigned_abs());
        self.counters.drop_pending_many(DropReason::Removed, u64::try_from(unread).unwrap_or(0));
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

    /// Whether the reader has to wait before it goes on: a parcel is larger than the whole room, and may
    /// be given back.
    #[must_use]
    pub fn may_give_back(&self) -> bool {
        let state = self.lock();
        state.given_back || state.pinned_bytes > self.budget()
    }

    /// Whether the parcel that was read last was given back: it is to be read again. Asked once there is
    /// room.
    #[must_use]
    pub fn was_given_back(&self) -> bool {
        std::mem::take(&mut self.lock().given_back)
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
