//! The bounded hand-over from workers to one destination's delivery.

mod stored;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::chunk::Chunk;
use super::ledger::{Entry, Ledger, Span};
use super::memory::{Claim, Memory};
use super::parcel::{Amount, Closed, Parcel, Refused};
use crate::log::{Position, StableId};
use crate::metrics::DestinationCounters;

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
    /// Events that are pending and still to be read from the log: those that were committed without
    /// being taken, less those that were read. Below zero while something was read before it was
    /// offered, or was read although it had been delivered: see [`Outlet::balance`].
    unread: i64,
    /// Who goes on in its place.
    successor: Option<Arc<Outlet>>,
    /// Whether the parcel that was read last has to be read again.
    given_back: bool,
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
    /// Whether it is more than the whole budget.
    is_oversize: bool,
}

impl Charge {
    /// Where the events stand in the log, if they are in it.
    pub(super) fn stored_at(&self) -> Option<Position> {
        self.stored_at
    }

    /// Where the events stand in the log, if they can be given back to it: they are more than the whole
    /// budget, and while they are in memory other destinations wait with theirs.
    pub(super) fn oversize_at(&self) -> Option<Position> {
        self.stored_at.filter(|_| self.is_oversize)
    }

    /// So many events, all of the parcel, will be read from the log again; false if they will not. Its
    /// room stays taken: the reader begins when this is dropped.
    pub(super) fn give_back(&self, events: u32) -> bool {
        let mut state = self.outlet.lock();
        let is_given = !state.closed
            && self
                .entry
                .zip(state.ledger.as_mut())
                .is_some_and(|(it, ledger)| ledger.take_back(it));
        if is_given {
            state.unread += i64::from(events);
            state.given_back = true;
        }
        is_given
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
        let claim = self.claim(parcel.footprint());
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(parcel));
        }
        if !self.admit(&mut state, std::slice::from_ref(&parcel), claim) {
            self.wake(state);
            return Err(if self.drops_newest {
                Refused::Overflow(parcel)
            } else {
                Refused::Full(parcel)
            });
        }
        self.counters.pending.fetch_add(parcel.events.into(), Relaxed);
        self.take(&mut state, parcel, None);
        self.wake(state);
        Ok(())
    }

    /// Whether there is room for these parcels, all together; if not, the delivery is to make some.
    fn admit(&self, state: &mut State, parcels: &[Parcel], claim: Claim) -> bool {
        let bytes = parcels.iter().map(Parcel::footprint).sum();
        let is_admitted = self.has_room(state, claim, bytes)
            && parcels.iter().all(|parcel| self.admits(&parcel.chunk, claim));
        state.pressed |= !is_admitted;
        is_admitted
    }

    /// Takes what was admitted; `span` is where it stands in the log, if it is there.
    fn take(self: &Arc<Self>, state: &mut State, mut parcel: Parcel, span: Option<Span>) {
        let bytes = parcel.footprint();
        let ledger = state.ledger.as_mut();
        let entry = span.zip(ledger).map(|(span, ledger)| ledger.enter(span, parcel.events));
        state.pinned_bytes += bytes;
        state.queued.bytes += parcel.bytes();
        state.queued.events += parcel.events;
        let (outlet, stored_at) = (Arc::clone(self), span.map(|span| span.begin));
        let is_oversize = bytes > self.budget();
        parcel.charge = Some(Arc::new(Charge { outlet, bytes, entry, stored_at, is_oversize }));
        state.parcels.push_back(parcel);
    }

    /// Wakes the delivery if there is something for it to do.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let wake = state.is_enough();
        drop(state);
        if wake {
            self.offered.notify_one();
        }
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
