//! Deliveries against scripted sinks (in paused time) and real peers on the loopback.

mod batching;
mod ending;
mod files;
mod over_http;
mod over_tcp;
mod rules;
mod succession;
mod trying;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, Keys, Piece};
use super::retry::Outcome;
use super::sink::Sink;
use super::{Around, Chunk, Lane, Memory, Outlet, OutletId, Parcel, Running};
use crate::config::{BatchLimits, Retry};
use crate::consent::Judge;
use crate::metrics::DestinationCounters;
use crate::parse::PADDING;
use crate::route::{
    CategorySpec, DestinationId, DestinationSpec, Handle, Match, Missing, RoutingTable, SourceId,
    SourceSpec, TableSpec, Unmapped,
};
use crate::shard::Plan;

/// A plan with the one destination of `outlet`, under `name`, which needs all of `categories`.
fn plan(version: u64, name: &str, outlet: &Arc<Outlet>, categories: &[&str]) -> Arc<Plan> {
    let category = |id: &str| CategorySpec { id: id.into(), name: id.into(), enabled: true };
    let source = |name: &str| SourceSpec { name: name.into(), missing: None };
    let spec = TableSpec {
        version,
        categories: vec![category("Ads"), category("Stats")],
        locations: vec!["/context/consent/categoryPreferences".into()],
        missing: Missing::Allow,
        unmapped: Unmapped::Allow,
        sources: vec![source("web"), source("app")],
        destinations: vec![DestinationSpec {
            name: name.into(),
            enabled: true,
            sources: None,
            enforce: true,
            categories: categories.iter().map(|id| (*id).into()).collect(),
            match_mode: Match::All,
            integration: name.into(),
            receives_preferences: false,
            types: None,
        }],
    };
    let table = RoutingTable::compile(&spec).unwrap();
    Arc::new(Plan::new(table, vec![Arc::clone(outlet)]))
}

/// A chunk of `lines` as a worker would make it under `plan`; every line must be permitted.
fn chunk(plan: &Plan, lines: &[String]) -> Arc<Chunk> {
    let table = plan.table();
    let mut judge = Judge::new(table, 1 << 20);
    let mut lane = Lane::default();
    let received_at = std::time::Instant::now();
    for (number, line) in lines.iter().enumerate() {
        let mut buffer = line.clone().into_bytes();
        buffer.resize(line.len() + PADDING, 0);
        // A new source every third line gives the chunk several runs.
        let source = SourceId((number / 3 % 2) as u16);
        let decision = judge.judge(&mut buffer, line.len(), source, table, |_| {});
        let permit = decision.unwrap().permit_for(DestinationId(0)).unwrap();
        lane.append(permit, table, source, received_at);
    }
    Arc::new(Chunk::rejudged(lane, table.version()))
}

/// All lines of a chunk.
fn parcel(plan: &Plan, lines: &[String]) -> Parcel {
    let chunk = chunk(plan, lines);
    Parcel {
        ranges: std::iter::once(0..chunk.bytes().len() as u32).collect(),
        events: lines.len() as u32,
        chunk,
        charge: None,
    }
}

/// A batch of all `lines`.
fn batch(lines: &[String]) -> Batch {
    let outlet = outlet("crm");
    let parcel = parcel(&plan(1, "crm", &outlet, &[]), lines);
    Batch::new(Piece::of(parcel).collect(), Keys::new(7).next())
}

fn outlet(name: &str) -> Arc<Outlet> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = OutletId(NEXT.fetch_add(1, Relaxed).into());
    let counters = Arc::new(DestinationCounters::default());
    Outlet::new(id, name.into(), 1 << 24, false, counters, &Memory::new(1 << 24), None)
}

/// `{"n":0}`, `{"n":1}`, ...
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"n\":{n}}}")).collect()
}

fn text(batch: &Batch) -> String {
    batch.slices().flatten().map(|byte| *byte as char).collect()
}

fn limits(max_bytes: usize, max_events: u32, max_wait: Duration) -> BatchLimits {
    BatchLimits { max_bytes, max_events: max_events.try_into().unwrap(), max_wait }
}

fn patience(give_up_after: Duration) -> Retry {
    Retry { initial: Duration::from_millis(100), max: Duration::from_secs(2), give_up_after }
}

const LONG: Duration = Duration::from_secs(24 * 3600);

/// An attempt as the destination saw it.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    key: u128,
    text: String,
}

type Answers = dyn Fn(&Seen) -> Outcome + Send + Sync;

/// A sink that answers what a test wants after some time.
#[derive(Clone)]
pub struct Script {
    answers: Arc<Answers>,
    takes: Duration,
    lanes: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
    at_once: Arc<Mutex<(u32, u32)>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    fn new(answers: impl Fn(&Seen) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            answers: Arc::new(answers),
            takes: Duration::from_millis(1),
            lanes: 1,
            seen: Arc::default(),
            at_once: Arc::default(),
        }
    }

    /// Gives `outcomes` one after the other, then takes everything.
    fn first(outcomes: Vec<Outcome>) -> Self {
        let outcomes = Mutex::new(outcomes.into_iter());
        Self::new(move |_| outcomes.lock().unwrap().next().unwrap_or(Outcome::Delivered))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// All that was delivered, in the order of delivery.
    fn delivered(&self) -> String {
        let taken = |seen: &Seen| (self.answers)(seen) == Outcome::Delivered;
        let seen = self.seen().into_iter().filter(taken);
        seen.map(|seen| seen.text).collect()
    }

    pub(super) fn into_lanes(self) -> impl Iterator<Item = Self> {
        let lanes = self.lanes;
        std::iter::repeat_n(self, lanes)
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Outcome {
        let seen = Seen { at: Instant::now(), key: batch.key(), text: text(batch) };
        self.seen.lock().unwrap().push(seen.clone());
        {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        tokio::time::sleep(self.takes).await;
        self.at_once.lock().unwrap().0 -= 1;
        (self.answers)(&seen)
    }
}

/// A destination with its outlet, its rules and its delivery.
struct Rig {
    outlet: Arc<Outlet>,
    plan: Arc<Plan>,
    plans: Handle<Plan>,
    running: Running,
}

impl Rig {
    fn start(sink: Sink, limits: BatchLimits, retry: Retry, categories: &[&str]) -> Self {
        let outlet = outlet("crm");
        let plan = plan(1, "crm", &outlet, categories);
        let plans = Handle::new(Arc::clone(&plan));
        let none = Handle::new(Arc::default());
        let running = Running::start(
            Arc::clone(&outlet),
            sink,
            limits,
            retry,
            Around { plans: plans.clone(), erasures: none, dead_letters: None, rejections: None },
            Vec::new(),
        );
        Self { outlet, plan, plans, running }
    }

    fn offer(&self, lines: &[String]) {
        self.outlet.offer(parcel(&self.plan, lines)).unwrap();
    }

    /// Lets it end; what was left.
    async fn finish(self, within: Duration) -> (u64, Arc<DestinationCounters>) {
        let counters = Arc::clone(self.outlet.counters());
        self.running.finish(Instant::now() + within);
        (self.running.ended().await.unwrap(), counters)
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}
