//! The bounded hand-over from workers to one destination's delivery.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::chunk::Chunk;
use super::ledger::{Entry, Ledger, Offer, Span};
use super::memory::{Claim, Memory};
use super::parcel::{Amount, Closed, Parcel, Refused};
use crate::log::{Position, StableId};
use crate::metrics::{DestinationCounters, DropReason};

/// Names a running destination for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutletId(pub u64);

/// The near end of a running destination: workers offer parcels, its delivery takes them.
///
/// The bound is in bytes: a destination is charged for every chunk it pins, from the moment a parcel
/// is offered until its last line was delivered or dropped.
#[derive(Debug)]
pub struct Outlet {
    id: OutletId,
    name: String,
    pinned_bytes_max: AtomicUsize,
    /// Workers that wait for room now.
    waiting: AtomicUsize,
    drops_newest: bool,
    counters: Arc<DestinationCounters>,
    /// Events in attempts that go on.
    in_flight: AtomicU64,
    /// What all destinations may pin together.
    memory: Arc<Memory>,
    /// What the log calls it, if there is a log.
    stable: Option<StableId>,
    state: Mutex<State>,
    /// For the delivery: something was offered, or the outlet was closed.
    offered: Notify,
    /// For the reader of the log: the destination fell behind, room was made, or the outlet was closed.
    changed: Notify,
    /// For workers: room was made, or the outlet was closed.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Parcel>,
    /// What the parcels hold.
    queued: Amount,
    /// How much of it the delivery wants before it is woken.
    wanted: Amount,
    pinned_bytes: usize,
    /// Whether a worker was refused since the delivery last asked.
    pressed: bool,
    closed: bool,
    /// How far it is done with the log, once that is known.
    ledger: Option<Ledger>,
    /// Where the first stands that was offered before that.
    offered_from: Option<Position>,
    /// Events that are pending and still to be read from the log.
    unread: u64,
    /// Nothing will deliver any more.
    ended: bool,
}

impl State {
    /// Whether there is something for the delivery to do.
    fn is_enough(&self) -> bool {
        self.closed
            || self.pressed
            || !self.parcels.is_empty()
                && (self.queued.bytes >= self.wanted.bytes
                    || self.queued.events >= self.wanted.events)
    }

    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        self.queued.bytes -= parcel.bytes();
        self.queued.events -= parcel.events;
        Some(parcel)
    }
}

/// Room in an outlet's budget; dropping it gives the room back.
#[derive(Debug)]
pub struct Charge {
    outlet: Arc<Outlet>,
    bytes: usize,
    /// What it is in the ledger, if it came out of the log.
    entry: Option<Entry>,
    /// Where it stands in the log.
    stored_at: Option<Position>,
}

impl Charge {
    /// Where the events stand in the log, if they are in it.
    pub(super) fn stored_at(&self) -> Option<Position> {
        self.stored_at
    }

    /// Events of the parcel were delivered, or dropped with a reason.
    pub(super) fn settle(&self, events: u32) {
        if let Some(entry) = self.entry
            && let Some(ledger) = &mut self.outlet.lock().ledger
        {
            ledger.settle(entry, events);
        }
    }
}

/// An attempt that goes on.
#[derive(Debug)]
pub(super) struct InFlight<'o> {
    outlet: &'o Outlet,
    events: u32,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.outlet.in_flight.fetch_sub(self.events.into(), Relaxed);
    }
}

impl Outlet {
    /// An open, empty outlet.
    #[must_use]
    pub fn new(
        id: OutletId,
        name: String,
        pinned_bytes_max: usize,
        drops_newest: bool,
        counters: Arc<DestinationCounters>,
        memory: &Arc<Memory>,
        stable: Option<StableId>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            pinned_bytes_max: AtomicUsize::new(pinned_bytes_max),
            waiting: AtomicUsize::new(0),
            drops_newest,
            counters,
            in_flight: AtomicU64::new(0),
            memory: Arc::clone(memory),
            stable,
            state: Mutex::default(),
            offered: Notify::new(),
            changed: Notify::new(),
            room: Condvar::new(),
        })
    }

    /// Its name for the life of the process.
    #[must_use]
    pub fn id(&self) -> OutletId {
        self.id
    }

    /// The destination's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The destination's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<DestinationCounters> {
        &self.counters
    }

    /// Offers a parcel. One that is larger than the whole budget, which a single line may be, is taken
    /// while nothing else is pinned and no other destination has another such line. Where the rule is
    /// to drop it is never taken: a destination that is down would keep the others waiting.
    ///
    /// # Errors
    /// Gives the parcel back with the reason.
    pub fn offer(self: &Arc<Self>, parcel: Parcel) -> Result<(), Refused> {
        let (bytes, events) = (parcel.footprint(), parcel.events);
        let claim = self.claim(bytes);
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(parcel));
        }
        if !self.has_room(&state, claim, bytes) || !self.admits(&parcel.chunk, claim) {
            state.pressed = true;
            drop(state);
            self.offered.notify_one();
            return Err(if self.drops_newest {
                Refused::Overflow(parcel)
            } else {
                Refused::Full(parcel)
            });
        }
        self.take(&mut state, parcel, bytes, None, None);
        self.counters.pending.fetch_add(events.into(), Relaxed);
        let wake = state.is_enough();
        drop(state);
        if wake {
            self.offered.notify_one();
        }
        Ok(())
    }

    fn take(
        self: &Arc<Self>,
        state: &mut State,
        mut parcel: Parcel,
        bytes: usize,
        entry: Option<Entry>,
        stored_at: Option<Position>,
    ) {
        state.pinned_bytes += bytes;
        state.queued.bytes += parcel.bytes();
        state.queued.events += parcel.events;
        parcel.charge =
            Some(Arc::new(Charge { outlet: Arc::clone(self), bytes, entry, stored_at }));
        state.parcels.push_back(parcel);
    }

    /// Events in attempts that go on.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// An attempt with so many events goes on until what is returned is dropped.
    pub(super) fn begin_attempt(&self, events: u32) -> InFlight<'_> {
        self.in_flight.fetch_add(events.into(), Relaxed);
        InFlight { outlet: self, events }
    }

    /// What the log calls it, if there is a log.
    #[must_use]
    pub fn stable(&self) -> Option<StableId> {
        self.stable
    }

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
        let bytes: usize = parcels.iter().map(Parcel::footprint).sum();
        // Several small chunks are as good as one: what is larger waits for the reader.
        let has_room = state.pinned_bytes + bytes <= self.budget()
            && parcels.iter().all(|parcel| self.admits(&parcel.chunk, Claim::Share));
        if !has_room {
            if let Some(ledger) = &mut state.ledger {
                ledger.fall_behind(span);
            }
            state.unread += u64::from(events);
            state.pressed = true;
            drop(state);
            self.offered.notify_one();
            self.changed.notify_one();
            return;
        }
        for parcel in parcels {
            let bytes = parcel.footprint();
            let entry = state.ledger.as_mut().map(|ledger| ledger.enter(span, parcel.events));
            self.take(&mut state, parcel, bytes, entry, Some(span.begin));
        }
        let wake = state.is_enough();
        drop(state);
        if wake {
            self.offered.notify_one();
        }
    }

    /// Gives what the reader found. What it gives is pending already.
    ///
    /// # Errors
    /// As [`Outlet::offer`], but never [`Refused::Overflow`].
    pub fn offer_read(self: &Arc<Self>, parcel: Parcel, span: Span) -> Result<(), Refused> {
        let bytes = parcel.footprint();
        let claim = self.claim(bytes);
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(parcel));
        }
        if !self.has_room(&state, claim, bytes) || !self.admits(&parcel.chunk, claim) {
            state.pressed = true;
            drop(state);
            self.offered.notify_one();
            return Err(Refused::Full(parcel));
        }
        state.unread = state.unread.saturating_sub(parcel.events.into());
        let entry = state.ledger.as_mut().map(|ledger| ledger.enter(span, parcel.events));
        self.take(&mut state, parcel, bytes, entry, Some(span.begin));
        let wake = state.is_enough();
        drop(state);
        if wake {
            self.offered.notify_one();
        }
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
    pub(super) fn leave_to_log(&self, left: u64) {
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

    /// Waits until there may be room for `parcel`, at most for `limit`. For worker threads.
    pub fn wait_for_room(&self, parcel: &Parcel, limit: Duration) {
        self.waiting.fetch_add(1, Relaxed);
        let bytes = parcel.footprint();
        let claim = self.claim(bytes);
        let state = self.lock();
        // A wake-up without room is possible; the caller offers again and sees.
        if state.closed {
            drop(state);
        } else if self.has_room(&state, claim, bytes) {
            drop(state);
            // The chunk may have got what it needs for another destination.
            if !self.admits(&parcel.chunk, claim) {
                self.memory.wait(claim, parcel.chunk.footprint(), limit);
            }
        } else {
            drop(self.room.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner));
        }
        self.waiting.fetch_sub(1, Relaxed);
    }

    fn claim(&self, bytes: usize) -> Claim {
        if bytes <= self.budget() { Claim::Share } else { Claim::Exception }
    }

    /// Whether there is room as far as this destination is concerned.
    fn has_room(&self, state: &State, claim: Claim, bytes: usize) -> bool {
        match claim {
            Claim::Share => state.pinned_bytes + bytes <= self.budget(),
            Claim::Exception => state.pinned_bytes == 0 && !self.drops_newest,
        }
    }

    /// Whether there is room as far as all destinations together are concerned.
    fn admits(&self, chunk: &Chunk, claim: Claim) -> bool {
        self.memory.admit(&mut chunk.hold(), claim, chunk.footprint())
    }

    /// How many bytes it may pin.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.pinned_bytes_max.load(Relaxed)
    }

    /// Whether a worker waits for room.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Changes the bound; what is pinned stays.
    pub fn set_room(&self, pinned_bytes_max: usize) {
        self.pinned_bytes_max.store(pinned_bytes_max, Relaxed);
        self.room.notify_all();
    }

    /// Waits until there is `wanted` to take, or a worker was refused for want of room, or the outlet
    /// was closed. For the destination's delivery alone: it wakes up once per batch, not once per
    /// parcel.
    ///
    /// # Errors
    /// [`Closed`] once the outlet was closed and everything was taken.
    pub async fn ready(&self, wanted: Amount) -> Result<(), Closed> {
        loop {
            let offered = self.offered.notified();
            {
                let mut state = self.lock();
                state.wanted = wanted;
                if state.closed && state.parcels.is_empty() {
                    return Err(Closed);
                }
                if state.is_enough() {
                    return Ok(());
                }
            }
            offered.await;
        }
    }

    /// Whether a worker was refused for want of room since this was asked last: what was taken
    /// should be delivered without waiting for more.
    #[must_use]
    pub fn was_pressed(&self) -> bool {
        std::mem::take(&mut self.lock().pressed)
    }

    /// The next parcel if one is there.
    #[must_use]
    pub fn try_take(&self) -> Option<Parcel> {
        self.lock().pop()
    }

    /// Takes no more parcels. What was taken before stays until it is delivered.
    pub fn close(&self) {
        self.lock().closed = true;
        self.offered.notify_one();
        self.changed.notify_one();
        self.room.notify_all();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.outlet.lock().pinned_bytes -= self.bytes;
        self.outlet.room.notify_all();
        self.outlet.changed.notify_one();
    }
}
