//! The worker allocates nothing per event in the steady state: only what is handed over costs an
//! allocation, per chunk and destination.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../benches/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use consentd::destination::{Memory, Outlet, OutletId};
use consentd::ingest::{Frame, Room};
use consentd::route::{Handle, RoutingTable, TableSpec};
use consentd::shard::{Plan, WorkerPath};

/// Counts what the current thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends there is nothing left to count in.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A worker, and the far ends of its destinations.
struct Scene {
    path: WorkerPath,
    outlets: Vec<Arc<Outlet>>,
    room: Arc<Room>,
}

/// What some frames cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    allocations: u64,
    parcels: u64,
}

impl Scene {
    fn new(spec: &TableSpec) -> Self {
        let memory = Memory::new(usize::MAX);
        let outlet = |number: usize| {
            let id = OutletId(number as u64);
            Outlet::new(
                id,
                format!("d{number}"),
                usize::MAX / 2,
                false,
                Arc::default(),
                &memory,
                None,
            )
        };
        let outlets: Vec<_> = (0..spec.destinations.len()).map(outlet).collect();
        let plan = Plan::new(RoutingTable::compile(spec).unwrap(), outlets.clone());
        let plans = Handle::new(Arc::new(plan));
        let path = WorkerPath::new(&plans, &Arc::from([Arc::default()]), 1 << 20);
        Self { path, outlets, room: support::room() }
    }

    /// Takes frames up; what arrives is taken and dropped, as a delivery would.
    fn take_up(&mut self, frames: &[Vec<u8>]) -> Cost {
        let at = Instant::now();
        let mut cost = Cost::default();
        for bytes in frames {
            let frame: Frame = support::frame(bytes, &self.room, at);
            let before = ALLOCATIONS.get();
            self.path.take_up(frame);
            cost.allocations += ALLOCATIONS.get() - before;
            for outlet in &self.outlets {
                cost.parcels += std::iter::from_fn(|| outlet.try_take()).count() as u64;
            }
        }
        cost
    }

    /// The cost once every buffer has found its size and every mask was met.
    fn steady(&mut self, frames: &[Vec<u8>]) -> Cost {
        self.take_up(frames);
        self.take_up(frames);
        self.take_up(frames)
    }
}

/// Frames of so many lines of the corpus each.
fn frames(run: &[u8], events: usize) -> Vec<Vec<u8>> {
    let join =
        |lines: &[&[u8]]| lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    support::lines(run).chunks(events).map(join).collect()
}

#[test]
fn events_that_go_nowhere_allocate_nothing() {
    let mut spec = support::table(64);
    // The first three are the ones that an event can reach.
    spec.destinations.drain(..3);
    let run = support::corpus(10_000);
    for events in [100, 1000] {
        let cost = Scene::new(&spec).steady(&frames(&run, events));
        assert_eq!(cost.parcels, 0);
        assert_eq!(cost.allocations, 0, "frames of {events} events");
    }
}

#[test]
fn events_that_are_delivered_allocate_per_chunk_and_not_per_event() {
    /// A parcel, its ranges and its charge; of the chunk, itself and the list of its frames.
    const PER_PARCEL_MAX: u64 = 6;
    const EVENTS: usize = 10_000;
    let run = support::corpus(EVENTS);
    for destinations in [3, 64, 512] {
        for events in [100, 1000] {
            let spec = support::table(destinations);
            let cost = Scene::new(&spec).steady(&frames(&run, events));
            let place = format!("{destinations} destinations, frames of {events}: {cost:?}");
            assert!(cost.parcels > 0, "{place}");
            assert!(cost.allocations <= cost.parcels * PER_PARCEL_MAX, "{place}");
            // The bound means something only if a parcel holds many events.
            assert!(cost.parcels * PER_PARCEL_MAX < EVENTS as u64 / 2, "{place}");
        }
    }
}
