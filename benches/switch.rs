//! What a reload costs a worker: CPU time of its thread from noticing that another plan is in force
//! until it judges by it, with the largest table there can be.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::sync::Arc;
use std::time::{Duration, Instant};

use consentd::destination::{Memory, Outlet, OutletId};
use consentd::route::{CategorySpec, Handle, RoutingTable, TableSpec};
use consentd::shard::{Plan, WorkerPath};

const ROUNDS: usize = 200;
const DESTINATIONS: usize = 4096;
const CATEGORIES: usize = 256;

fn main() {
    println!("switch to another table of {DESTINATIONS} destinations, {ROUNDS} rounds");
    let few = support::table(DESTINATIONS);
    report("few classes", &few);
    report("a class per destination", &every_one_a_class(few));
}

/// Pairs of categories, no two destinations the same.
fn every_one_a_class(mut spec: TableSpec) -> TableSpec {
    let id = |number: usize| format!("C{number}");
    spec.categories = (0..CATEGORIES)
        .map(|number| CategorySpec { id: id(number), name: id(number), enabled: true })
        .collect();
    for (number, destination) in spec.destinations.iter_mut().enumerate() {
        let (first, step) = (number % CATEGORIES, 1 + number / CATEGORIES);
        destination.categories = vec![id(first), id((first + step) % CATEGORIES)];
    }
    spec
}

fn report(name: &str, spec: &TableSpec) {
    let mut times = measure(spec);
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    let (median, p99, max) = (at(50), at(99), at(100));
    println!("{name:28} median {median:7.1} us   p99 {p99:7.1} us   max {max:7.1} us");
}

/// CPU time of the first small frame after each switch, less that of the same frame without one.
fn measure(spec: &TableSpec) -> Vec<Duration> {
    let memory = Memory::new(usize::MAX);
    let outlets: Vec<Arc<Outlet>> = (0..spec.destinations.len())
        .map(|n| {
            let id = OutletId(n as u64);
            Outlet::new(id, format!("d{n}"), usize::MAX / 2, false, Arc::default(), &memory, None)
        })
        .collect();
    let plan = |version| {
        let spec = TableSpec { version, ..spec.clone() };
        Arc::new(Plan::new(RoutingTable::compile(&spec).unwrap(), outlets.clone()))
    };
    let plans = Handle::new(plan(0));
    let mut path = WorkerPath::new(&plans, &Arc::from([Arc::default()]), 1 << 20);
    let run = support::corpus(100);
    let room = support::room();
    let mut take_up = || {
        let frame = support::frame(&run, &room, Instant::now());
        let before = thread_cpu();
        path.take_up(frame);
        let taken = thread_cpu() - before;
        support::drain(&outlets);
        taken
    };
    (1..=ROUNDS as u64)
        .map(|version| {
            take_up();
            let without = take_up();
            // Kept until the switch is over, as the daemon does: a worker never frees a plan.
            let replaced = plans.publish(plan(version));
            let with = take_up();
            drop(replaced);
            with.saturating_sub(without)
        })
        .collect()
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
