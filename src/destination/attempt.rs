//! One batch on its way: judged, tried, waited, tried again, split, until every event in it was
//! delivered or dropped and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::batch::{Batch, Keys, Piece};
use super::deliver::Orders;
use super::erase::{Erasures, erase};
use super::health::Health;
use super::queue::{Charge, Outlet};
use super::rejudge::{Refused, Rules, judge_again};
use super::retry::{self, Outcome};
use super::sink::Sink;
use crate::config::Retry;
use crate::dead_letters::{DeadLetters, Reason, Rejections};
use crate::log::Position;
use crate::metrics::{DeliveryMetrics, DropReason};
use crate::route::Handle;
use crate::shard::Plan;

/// What all batches of a destination share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) outlet: Arc<Outlet>,
    pub(super) plans: Handle<Plan>,
    pub(super) erasures: Handle<Erasures>,
    pub(super) retry: Retry,
    pub(super) keys: Arc<Keys>,
    pub(super) health: Health,
    pub(super) metrics: DeliveryMetrics,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) rejections: Option<Arc<Rejections>>,
    pub(super) orders: watch::Receiver<Orders>,
    /// See [`Left`].
    pub(super) left: Mutex<Option<Left>>,
}

/// What is left when the time to stop has come.
pub(super) struct Settled {
    pub(super) sink: Sink,
    pub(super) left: VecDeque<Batch>,
}

/// What a batch was split into, in order, as far as it is neither delivered nor dropped.
#[derive(Default)]
struct Parts {
    waiting: VecDeque<Batch>,
    /// Single events that the destination rejected, and why the last one was. They become dead letters
    /// together: a write to the disk for each would take longer than finding them.
    rejected: Vec<Batch>,
    why: String,
    /// Deletions that are no longer permitted.
    refused: Refused,
}

/// Brings `batch` through `sink`, or stops when the orders say so.
pub(super) async fn settle(shared: Arc<Shared>, mut sink: Sink, batch: Batch) -> Settled {
    // What is in the queue is pending, what left it was counted: stopping at any await is safe.
    let mut parts = Parts { waiting: VecDeque::from([batch]), ..Parts::default() };
    let mut orders = shared.orders.clone();
    tokio::select! {
        biased;
        () = Box::pin(deliver(&shared, &mut sink, &mut parts)) => {}
        () = stopped(&mut orders) => {}
        () = shared.leaves_to_log() => {}
    }
    let Parts { mut waiting, rejected, refused, .. } = parts;
    waiting.extend(rejected);
    waiting.extend(refused.into_iter().map(|(_, batch)| batch));
    Settled { sink, left: waiting }
}

/// Waits for the time at which deliveries have to stop.
pub(super) async fn stopped(orders: &mut watch::Receiver<Orders>) {
    loop {
        let until = orders.borrow_and_update().until;
        let changed = match until {
            None => orders.changed().await,
            Some(until) => tokio::select! {
                () = sleep_until(until) => return,
                changed = orders.changed() => changed,
            },
        };
        if changed.is_err() {
            // Nobody can give orders any more; the last ones stand.
            match until {
                Some(until) => return sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// Delivers the one batch in `parts`, or all that it is split into, in order.
async fn deliver(shared: &Shared, sink: &mut Sink, parts: &mut Parts) {
    let mut trial = Trial::new(shared);
    trial.resume(parts);
    while let Some(batch) = parts.waiting.front_mut() {
        let turn = trial.wait_for_turn().await;
        if let Turn::GiveUp = turn {
            trial.give_up(parts).await;
            continue;
        }
        // Held until the attempt is over: whoever waits until nothing is under way that they do not
        // know of, waits for these to be let go of.
        let (plan, erasures) = (shared.plans.load(), shared.erasures.load());
        trial.judged_by = plan.table().version();
        erase(batch, &erasures, &shared.keys, shared.outlet.counters()).await;
        shared.judge(batch, &mut parts.refused).await;
        if !parts.refused.is_empty() {
            // Not held while they are stored, which may take until the disk has room.
            drop((plan, erasures));
            shared.bury_refused(&mut parts.refused).await;
            continue;
        }
        if batch.events() == 0 {
            parts.waiting.pop_front();
            continue;
        }
        if let Turn::Judge = turn {
            continue;
        }
        let outcome = trial.attempt(sink, batch).await;
        drop((plan, erasures));
        match outcome {
            Outcome::Delivered => {
                trial.answered();
                if let Some(batch) = parts.waiting.pop_front() {
                    shared.count_delivered(&batch);
                }
            }
            Outcome::Reject { why } => {
                trial.answered();
                shared.split(why, parts);
            }
            Outcome::Retry { after, why } => {
                shared.health.fails(&why, Instant::now());
                trial.failed(after, why, parts).await;
            }
            Outcome::Hold { why } => {
                shared.health.holds(&why, Instant::now());
                trial.failed(None, why, parts).await;
            }
        }
    }
    shared.bury_rejected(parts).await;
}

/// What a wait ended with.
enum Turn {
    /// An attempt may be made.
    Try,
    /// Another table is in force: what it does not allow need not wait, and its room is wanted.
    Judge,
    /// It was tried for long enough.
    GiveUp,
}

/// How often a batch that waits looks whether another table is in force.
const PLAN_LOOK: Duration = Duration::from_millis(250);

/// What is known of a batch that was left to the log between two attempts.
#[derive(Debug)]
pub(super) struct Left {
    stored_at: Position,
    first: Option<Instant>,
    failures: u32,
    why: String,
}

/// What a batch takes that is nothing but one event larger than the destination's room.
fn oversize(batch: &Batch) -> Option<&Arc<Charge>> {
    match batch.pieces() {
        [piece] => piece.charge().filter(|charge| charge.oversize_at().is_some()),
        _ => None,
    }
}

/// Lets go of a batch that keeps the events of other destinations waiting, if it comes from the log
/// again. Nothing else of the destination does before the charge is dropped.
fn give_back(parts: &mut Parts) -> Option<(Arc<Charge>, Position)> {
    let [batch] = parts.waiting.make_contiguous() else { return None };
    let charge = Arc::clone(oversize(batch)?);
    let stored_at = charge.oversize_at()?;
    charge.give_back(batch.events()).then(|| parts.waiting.clear())?;
    Some((charge, stored_at))
}

/// The attempts at a batch and at what it was split into.
struct Trial<'s> {
    shared: &'s Shared,
    /// Version of the table that the batch was judged by last.
    judged_by: u64,
    orders: watch::Receiver<Orders>,
    first: Option<Instant>,
    failures: u32,
    next: Option<Instant>,
    why: String,
    /// Its turn to try while the circuit is open.
    probe: Option<MutexGuard<'s, ()>>,
}

impl<'s> Trial<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self {
            shared,
            judged_by: 0,
            orders: shared.orders.clone(),
            first: None,
            failures: 0,
            next: None,
            why: String::new(),
            probe: None,
        }
    }

    /// Waits until the circuit and the last failure allow an attempt, or another table is in force.
    async fn wait_for_turn(&mut self) -> Turn {
        let health = &self.shared.health;
        if self.probe.is_none() && health.is_held() {
            let probe = match self.give_up_at() {
                None => health.probe.lock().await,
                Some(at) => match timeout_at(at, health.probe.lock()).await {
                    Ok(probe) => probe,
                    Err(_) => return Turn::GiveUp,
                },
            };
            if health.is_held() {
                self.probe = Some(probe);
            } else {
                // Somebody else's probe got through.
                self.next = None;
            }
        }
        if let Some(at) = self.next.take() {
            tokio::select! {
                () = sleep_until(at) => {}
                // The time is running out: one attempt now, then back to waiting.
                Ok(()) = self.orders.changed() => {}
                () = self.shared.plan_other_than(self.judged_by) => {
                    self.next = Some(at);
                    return Turn::Judge;
                }
            }
        }
        Turn::Try
    }

    async fn attempt(&mut self, sink: &mut Sink, batch: &Batch) -> Outcome {
        let started = Instant::now();
        self.first.get_or_insert(started);
        let in_flight = self.shared.outlet.begin_attempt(batch.events());
        let outcome = sink.send(batch).await;
        drop(in_flight);
        let metrics = &self.shared.metrics;
        metrics.attempted(outcome.kind(), started.elapsed());
        outcome
    }

    /// The destination is there.
    fn answered(&mut self) {
        self.shared.health.works(Instant::now());
        self.failures = 0;
        self.probe = None;
    }

    /// Goes on with what was left to the log after an attempt.
    fn resume(&mut self, parts: &Parts) {
        let stored_at = parts.waiting.front().and_then(oversize).and_then(|it| it.oversize_at());
        let left = self.shared.left_to_log().take();
        if let Some(left) = left.filter(|left| Some(left.stored_at) == stored_at) {
            (self.first, self.failures, self.why) = (left.first, left.failures, left.why);
        }
    }

    /// Prepares the next attempt, or gives up.
    async fn failed(&mut self, after: Option<Duration>, why: String, parts: &mut Parts) {
        self.shared.bury_rejected(parts).await;
        if !self.may_try_again(after, why) {
            return self.give_up(parts).await;
        }
        let Some((charge, stored_at)) = give_back(parts) else { return };
        let (first, failures, why) = (self.first, self.failures, std::mem::take(&mut self.why));
        *self.shared.left_to_log() = Some(Left { stored_at, first, failures, why });
        let next = self.next.unwrap_or_else(Instant::now);
        // Orders to end: whoever goes on with it reads it.
        let _ = timeout_at(next, self.orders.changed()).await;
        drop(charge);
    }

    /// Sets the time of the next attempt; `false` if that was the last one.
    fn may_try_again(&mut self, after: Option<Duration>, why: String) -> bool {
        self.why = why;
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        let delay = retry::delay(&self.shared.retry, self.failures, after, fastrand::f64());
        let next = now + delay;
        self.next = match self.give_up_at() {
            Some(last) if last <= now => return false,
            Some(last) => Some(next.min(last)),
            None => Some(next),
        };
        true
    }

    fn give_up_at(&self) -> Option<Instant> {
        let first = self.first?;
        retry::give_up_at(&self.shared.retry, first)
    }

    async fn give_up(&mut self, parts: &mut Parts) {
        self.failures = 0;
        if let Some(batch) = parts.waiting.front_mut() {
            let shared = self.shared;
            shared.health.gave_up(batch.events(), &self.why);
            // It stays among the parts until it is stored: stopping meanwhile leaves it pending.
            shared.bury(Reason::GaveUp, &self.why, std::slice::from_mut(batch)).await;
            shared.drop_batch(DropReason::GaveUp, batch);
            parts.waiting.pop_front();
        }
    }
}

impl Shared {
    fn left_to_log(&self) -> std::sync::MutexGuard<'_, Option<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the daemon stops while the destination is in trouble: what it has not taken is in
    /// the log, and waiting for it would only delay the stop.
    async fn leaves_to_log(&self) {
        let mut orders = self.orders.clone();
        let stops = |orders: &Orders| orders.until.is_some() && orders.last_plan.is_none();
        if self.outlet.stable().is_none() || orders.wait_for(stops).await.is_err() {
            return std::future::pending().await;
        }
        self.health.in_trouble().await;
    }

    /// Waits until a table of another version than `version` is in force.
    async fn plan_other_than(&self, version: u64) {
        while self.plans.load().table().version() == version {
            tokio::time::sleep(PLAN_LOOK).await;
        }
    }

    /// Takes out of `batch` what the rules in force do not permit; deletions go to `refused`.
    async fn judge(&self, batch: &mut Batch, refused: &mut Refused) {
        loop {
            let plan = self.plans.load();
            if was_judged_by(batch, &plan) {
                return;
            }
            let Some(rules) = self.rules(plan).await else {
                self.drop_batch(DropReason::Removed, batch);
                batch.clear();
                return;
            };
            if was_judged_by(batch, &rules.plan) {
                return;
            }
            // The rules may change while this goes on: look again afterwards.
            judge_again(batch, &rules, refused, &self.keys, self.outlet.counters()).await;
        }
    }

    /// The rules for this destination: those in `plan`, for it or for the one that took its name and
    /// place; if there is none, those of the last plan that had it.
    async fn rules(&self, plan: Arc<Plan>) -> Option<Rules> {
        let name = self.outlet.name();
        let found = plan.destination(self.outlet.id()).or_else(|| plan.table().destination(name));
        if let Some(destination) = found {
            return Some(Rules { plan, destination });
        }
        let mut orders = self.orders.clone();
        let retired = orders.wait_for(|orders| orders.last_plan.is_some()).await;
        let plan = retired.ok()?.last_plan.clone()?;
        let destination = plan.destination(self.outlet.id())?;
        Some(Rules { plan, destination })
    }

    fn count_delivered(&self, batch: &Batch) {
        let counters = self.outlet.counters();
        let line_ends = batch.events() as usize;
        counters.deliver_pending(batch.events(), batch.bytes() - line_ends);
        batch.settle();
        let now = std::time::Instant::now();
        for run in batch.pieces().iter().flat_map(Piece::runs) {
            let taken = now.saturating_duration_since(run.received_at);
            counters.end_to_end.record(taken, run.events.into());
        }
    }

    /// Puts the halves of the rejected batch in its place, or the bad event among the rejected.
    fn split(&self, why: String, parts: &mut Parts) {
        let Some(batch) = parts.waiting.pop_front() else { return };
        let (front, back) = batch.halve(&self.keys);
        match back {
            None => {
                parts.rejected.push(front);
                parts.why = why;
            }
            Some(back) => {
                parts.waiting.push_front(back);
                parts.waiting.push_front(front);
            }
        }
    }

    /// Drops the rejected events, once they are dead letters.
    async fn bury_rejected(&self, parts: &mut Parts) {
        if parts.rejected.is_empty() {
            return;
        }
        self.bury(Reason::RejectedByDestination, &parts.why, &mut parts.rejected).await;
        for batch in parts.rejected.drain(..) {
            self.drop_batch(DropReason::RejectedByDestination, &batch);
        }
    }

    /// Drops deletions that are no longer permitted, once they are dead letters.
    async fn bury_refused(&self, refused: &mut Refused) {
        while let Some((refusal, batch)) = refused.last_mut() {
            let why = "a deletion that the rules in force did not let go out";
            self.bury(Reason::Refused(*refusal), why, std::slice::from_mut(batch)).await;
            self.drop_batch(DropReason::from(*refusal), batch);
            refused.pop();
        }
    }

    /// Counts the events of a batch as dropped.
    fn drop_batch(&self, reason: DropReason, batch: &Batch) {
        self.count_dropped(reason, batch.events());
        batch.settle();
    }

    /// Counts pending events as dropped.
    pub(super) fn count_dropped(&self, reason: DropReason, events: u32) {
        self.outlet.counters().drop_pending(reason, events);
    }
}

fn was_judged_by(batch: &Batch, plan: &Plan) -> bool {
    let version = plan.table().version();
    let mut pieces = batch.pieces().iter();
    pieces.all(|piece| piece.table_version() == version)
}
