//! The delivery of one destination: its outlet to batches, its batches to its sink.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Instant as ReceivedAt;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Settled, Shared, settle, stopped};
use super::batch::{Batch, Keys};
use super::batcher::Batcher;
use super::erase::Erasures;
use super::health::Health;
use super::parcel::Closed;
use super::queue::Outlet;
use super::sink::Sink;
use crate::config::{BatchLimits, Retry};
use crate::dead_letters::{DeadLetters, Rejections};
use crate::metrics::{DeliveryMetrics, DropReason};
use crate::route::Handle;
use crate::shard::Plan;

/// What a running delivery was told about its end.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// When to stop although something is left.
    pub(super) until: Option<Instant>,
    /// The last plan that had the destination, once it was removed.
    pub(super) last_plan: Option<Arc<Plan>>,
}

/// A destination whose events are being delivered.
///
/// It ends when its outlet is closed and everything was delivered or dropped, or at the time that
/// [`Running::retire`] or [`Running::finish`] set. Dropping it does not stop the delivery.
#[derive(Debug)]
pub struct Running {
    outlet: Arc<Outlet>,
    orders: watch::Sender<Orders>,
    task: JoinHandle<u64>,
    /// Cancelled when the task has ended.
    gone: CancellationToken,
}

/// What every delivery has around it.
#[derive(Debug)]
pub struct Around {
    /// The rules in force.
    pub plans: Handle<Plan>,
    /// Whose events must not leave.
    pub erasures: Handle<Erasures>,
    /// Where that goes which fails for good.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Where it is noted if it was a row of a warehouse.
    pub rejections: Option<Arc<Rejections>>,
}

impl Running {
    /// Starts delivering what is offered to `outlet`, once everyone in `after` is gone. To be called
    /// within a tokio runtime.
    ///
    /// The metrics recorder must be installed before.
    #[must_use]
    pub fn start(
        outlet: Arc<Outlet>,
        sink: Sink,
        limits: BatchLimits,
        retry: Retry,
        around: Around,
        after: Vec<CancellationToken>,
    ) -> Self {
        let Around { plans, erasures, dead_letters, rejections } = around;
        let (sender, orders) = watch::channel(Orders::default());
        let keys = Arc::new(Keys::new(RandomState::new().hash_one(outlet.id())));
        let shared = Shared {
            plans,
            erasures,
            retry,
            keys: Arc::clone(&keys),
            health: Health::new(outlet.name().to_owned(), Arc::clone(outlet.counters())),
            metrics: DeliveryMetrics::new(outlet.name()),
            dead_letters,
            rejections,
            outlet: Arc::clone(&outlet),
            orders,
            left: Mutex::default(),
        };
        let delivery = Delivery {
            shared: Arc::new(shared),
            batcher: Batcher::new(sink.limits(limits), keys),
            idle: sink.into_lanes(),
            in_flight: JoinSet::new(),
            oldest_in_flight: HashMap::new(),
            left: Vec::new(),
            deletes: false,
            pressed: false,
            drained: false,
        };
        let gone = CancellationToken::new();
        let end = gone.clone().drop_guard();
        let task = tokio::spawn(async move {
            let left = delivery.run(after).await;
            drop(end);
            left
        });
        Self { outlet, orders: sender, task, gone }
    }

    /// Cancelled when it has ended.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// The outlet it delivers from.
    #[must_use]
    pub fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// The destination was removed: closes the outlet; what is not delivered at `until` is dropped as
    /// `removed`. What waits is judged by `last_plan`, the last one that had it, or by the plan in
    /// force if a destination there has its name.
    pub fn retire(&self, last_plan: Arc<Plan>, until: Instant) {
        self.end(until, Some(last_plan));
    }

    /// The daemon stops: closes the outlet; what is not delivered at `until` is left pending.
    pub fn finish(&self, until: Instant) {
        self.end(until, None);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for the end; how many events were left pending.
    ///
    /// # Errors
    /// If the delivery panicked.
    pub async fn ended(self) -> Result<u64, JoinError> {
        self.task.await
    }

    fn end(&self, until: Instant, last_plan: Option<Arc<Plan>>) {
        self.orders.send_modify(|orders| {
            orders.until = Some(orders.until.map_or(until, |earlier| earlier.min(until)));
            if last_plan.is_some() {
                orders.last_plan = last_plan;
            }
        });
        self.outlet.close();
    }
}

struct Delivery {
    shared: Arc<Shared>,
    batcher: Batcher,
    /// Sinks that are not in use; there are as many as there may be batches in flight.
    idle: Vec<Sink>,
    in_flight: JoinSet<Settled>,
    oldest_in_flight: HashMap<Id, ReceivedAt>,
    /// Batches that were in flight when the time to stop came, or that are left to the log.
    left: Vec<Batch>,
    /// Deletions are in flight.
    deletes: bool,
    /// A worker waits for room: what is open goes out although it is not full.
    pressed: bool,
    /// The outlet is closed and empty.
    drained: bool,
}

enum Wake {
    Offered(Result<(), Closed>),
    Settled(Result<(Id, Settled), JoinError>),
    Due,
    Stop,
}

impl Delivery {
    async fn run(mut self, after: Vec<CancellationToken>) -> u64 {
        let mut orders = self.shared.orders.clone();
        let turn = async {
            for predecessor in &after {
                predecessor.cancelled().await;
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut orders) => return self.stop().await,
            () = turn => {}
        }
        loop {
            self.dispatch();
            self.note_oldest();
            let is_done = self.drained && self.batcher.is_empty() && self.in_flight.is_empty();
            if is_done || !self.left.is_empty() {
                break;
            }
            match self.wake(&mut orders).await {
                Wake::Offered(Ok(())) | Wake::Due => self.collect(),
                Wake::Offered(Err(Closed)) => self.drained = true,
                Wake::Settled(settled) => self.retrieve(settled),
                Wake::Stop => break,
            }
        }
        self.stop().await
    }

    /// Waits for something to do.
    async fn wake(&mut self, orders: &mut watch::Receiver<Orders>) -> Wake {
        let has_lane = !self.idle.is_empty() && !self.must_wait();
        let due = self.batcher.due().filter(|_| has_lane);
        tokio::select! {
            biased;
            () = stopped(orders) => Wake::Stop,
            Some(settled) = self.in_flight.join_next_with_id() => Wake::Settled(settled),
            offered = self.shared.outlet.ready(self.batcher.wants()),
                if !self.drained && !self.batcher.is_full() && !self.pressed => Wake::Offered(offered),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Due,
        }
    }

    /// Adds what waits in the outlet to the open batch, until it is full.
    fn collect(&mut self) {
        let now = Instant::now();
        self.pressed |= self.shared.outlet.was_pressed();
        while !self.batcher.is_full() {
            match self.shared.outlet.try_take() {
                Some(parcel) => self.batcher.push(parcel, now),
                None => break,
            }
        }
        // Without an open batch, what is in flight has the room; its end gives it back.
        self.pressed &= !self.batcher.is_empty();
    }

    /// A deletion must not overtake the row that it is about, nor a row that comes back the deletion:
    /// whatever else is in flight is settled before.
    fn must_wait(&self) -> bool {
        (self.deletes || self.batcher.deletes()) && !self.in_flight.is_empty()
    }

    /// Sends what is ready, as far as there are idle sinks.
    fn dispatch(&mut self) {
        while !self.idle.is_empty() && !self.must_wait() {
            let due = || self.batcher.due().is_some_and(|due| due <= Instant::now());
            if !(self.batcher.is_full() || self.pressed || self.drained || due()) {
                return;
            }
            let deletes = self.batcher.deletes();
            let Some(batch) = self.batcher.take() else {
                return;
            };
            self.deletes = deletes;
            self.pressed = false;
            let (Some(sink), oldest) = (self.idle.pop(), batch.oldest()) else {
                return self.left.push(batch);
            };
            let task = settle(Arc::clone(&self.shared), sink, batch);
            let id = self.in_flight.spawn(task).id();
            self.oldest_in_flight.extend(oldest.map(|at| (id, at)));
        }
    }

    fn retrieve(&mut self, settled: Result<(Id, Settled), JoinError>) {
        match settled {
            Ok((id, settled)) => {
                self.oldest_in_flight.remove(&id);
                self.idle.push(settled.sink);
                self.left.extend(settled.left);
            }
            // A batch would be lost without being counted: the daemon has to know.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    /// What is in the outlet came after what was taken out of it.
    fn note_oldest(&self) {
        let oldest = self.oldest_in_flight.values().copied();
        let oldest = oldest.chain(self.batcher.oldest()).min();
        self.shared.outlet.counters().set_oldest_pending(oldest);
    }

    /// Ends what is in flight and says what is left; of a removed destination nothing is.
    async fn stop(mut self) -> u64 {
        while let Some(settled) = self.in_flight.join_next_with_id().await {
            self.retrieve(settled);
        }
        let until = self.shared.orders.borrow().until;
        for sink in self.idle.drain(..) {
            sink.close(until).await;
        }
        while let Some(batch) = self.batcher.take() {
            self.left.push(batch);
        }
        let outlet = &self.shared.outlet;
        let parcels = std::iter::from_fn(|| outlet.try_take());
        let batches = self.left.iter().map(Batch::events);
        let left = batches.chain(parcels.map(|parcel| parcel.events));
        if self.shared.orders.borrow().last_plan.is_none() {
            let left = left.map(u64::from).sum();
            if outlet.stable().is_none() {
                return left;
            }
            outlet.leave_to_log(left);
            return 0;
        }
        left.for_each(|events| self.shared.count_dropped(DropReason::Removed, events));
        outlet.counters().set_oldest_pending(None);
        0
    }
}
