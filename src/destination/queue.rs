//! The bounded hand-over from workers to one destination's delivery.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::chunk::Chunk;
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
    pinned_bytes_max: usize,
    drops_newest: bool,
    counters: Arc<DestinationCounters>,
    state: Mutex<State>,
    /// For the delivery: something was offered, or the outlet was closed.
    offered: Notify,
    /// For workers: room was made, or the outlet was closed.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Parcel>,
    pinned_bytes: usize,
    closed: bool,
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
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name,
            pinned_bytes_max,
            drops_newest,
            counters,
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

    /// Offers a parcel. A parcel is always taken while nothing is pinned, so that a line larger than
    /// the budget gets through.
    ///
    /// # Errors
    /// Gives the parcel back with the reason.
    pub fn offer(self: &Arc<Self>, mut parcel: Parcel) -> Result<(), Refused> {
        let bytes = parcel.chunk.footprint();
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(parcel));
        }
        if state.pinned_bytes > 0 && state.pinned_bytes + bytes > self.pinned_bytes_max {
            return Err(if self.drops_newest {
                Refused::Overflow(parcel)
            } else {
                Refused::Full(parcel)
            });
        }
        state.pinned_bytes += bytes;
        self.counters.pending.fetch_add(parcel.events.into(), Relaxed);
        parcel.charge = Some(Arc::new(Charge { outlet: Arc::clone(self), bytes }));
        state.parcels.push_back(parcel);
        drop(state);
        self.offered.notify_one();
        Ok(())
    }

    /// Waits until there may be room, at most for `limit`. For worker threads.
    pub fn wait_for_room(&self, limit: Duration) {
        let state = self.lock();
        if !state.closed && state.pinned_bytes > 0 {
            // A wake-up without room is possible; the caller offers again and sees.
            drop(self.room.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The next parcel, in the order they were offered. For the destination's delivery alone.
    ///
    /// # Errors
    /// [`Closed`] once the outlet was closed and everything was taken.
    pub async fn take(&self) -> Result<Parcel, Closed> {
        loop {
            let offered = self.offered.notified();
            {
                let mut state = self.lock();
                if let Some(parcel) = state.parcels.pop_front() {
                    return Ok(parcel);
                }
                if state.closed {
                    return Err(Closed);
                }
            }
            offered.await;
        }
    }

    /// The next parcel if one is there.
    #[must_use]
    pub fn try_take(&self) -> Option<Parcel> {
        self.lock().parcels.pop_front()
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
