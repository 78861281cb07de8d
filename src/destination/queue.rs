//! The bounded hand-over from workers to one destination's delivery.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::batch::Piece;
use super::chunk::Chunk;
use super::memory::{Claim, Memory};
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
    /// What all destinations may pin together.
    memory: Arc<Memory>,
    state: Mutex<State>,
    /// For the delivery: something was offered, or the outlet was closed.
    offered: Notify,
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
}

/// An amount of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Their bytes.
    pub bytes: usize,
    /// Their number.
    pub events: u32,
}

impl Amount {
    /// Whatever there is.
    pub const ANY: Self = Self { bytes: 0, events: 0 };
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

/// What one destination may have of one chunk.
#[derive(Debug)]
pub struct Parcel {
    /// The lines.
    pub chunk: Arc<Chunk>,
    /// Which of them: ranges of whole lines, ascending.
    pub ranges: Vec<Range<u32>>,
    /// How many lines that is.
    pub events: u32,
    /// Gives the room back when the last owner is done with the lines.
    pub charge: Option<Arc<Charge>>,
}

impl Parcel {
    /// Bytes of the lines, line ends included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| (range.end - range.start) as usize).sum()
    }

    /// What it makes a destination pin, roughly: the chunk, and a piece of a batch per range.
    fn footprint(&self) -> usize {
        self.chunk.footprint() + self.ranges.len() * RANGE_BYTES
    }
}

/// What a range takes here and in a batch.
const RANGE_BYTES: usize = size_of::<Range<u32>>() + size_of::<Piece>();

/// Room in an outlet's budget; dropping it gives the room back.
#[derive(Debug)]
pub struct Charge {
    outlet: Arc<Outlet>,
    bytes: usize,
}

/// Why a parcel was not taken.
#[derive(Debug)]
pub enum Refused {
    /// No room, and the destination's rule is to wait.
    Full(Parcel),
    /// No room, and the destination's rule is to drop.
    Overflow(Parcel),
    /// The destination is gone.
    Closed(Parcel),
}

/// The outlet is closed and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

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
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            pinned_bytes_max: AtomicUsize::new(pinned_bytes_max),
            waiting: AtomicUsize::new(0),
            drops_newest,
            counters,
            memory: Arc::clone(memory),
            state: Mutex::default(),
            offered: Notify::new(),
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
    pub fn offer(self: &Arc<Self>, mut parcel: Parcel) -> Result<(), Refused> {
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
            return Err(if self.drops_newest {
                Refused::Overflow(parcel)
            } else {
                Refused::Full(parcel)
            });
        }
        state.pinned_bytes += bytes;
        state.queued.bytes += parcel.bytes();
        state.queued.events += parcel.events;
        self.counters.pending.fetch_add(parcel.events.into(), Relaxed);
        parcel.charge = Some(Arc::new(Charge { outlet: Arc::clone(self), bytes }));
        state.parcels.push_back(parcel);
        let wake = state.is_enough();
        drop(state);
        if wake {
            self.offered.notify_one();
        }
        Ok(())
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
    }
}
