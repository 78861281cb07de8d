//! What the benches share: the corpus as frames, and plans of a given size.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use consentd::destination::{Memory, Outlet, OutletId};
use consentd::ingest::{Budget, Frame, Room};
use consentd::parse::Lines;
use consentd::route::{
    CategorySpec, DestinationSpec, Handle, Match, Missing, RoutingTable, SourceId, SourceSpec,
    TableSpec, Unmapped,
};
use consentd::shard::Plan;
use loadtest::corpus::{CATEGORIES, Corpus, Profile};

/// The load test's corpus, as one run of lines.
pub fn corpus(events: usize) -> Vec<u8> {
    Corpus::new(7, Profile::default()).contiguous(events)
}

/// The lines of a run.
pub fn lines(run: &[u8]) -> Vec<&[u8]> {
    let mut walk = Lines::new(run.len());
    std::iter::from_fn(|| walk.next(run))
        .map(|line| &run[line.start..line.start + line.len])
        .collect()
}

/// A table of `count` destinations of which an event reaches three or so: the first three need one
/// common category each, every other one needs a pair that no event grants together.
pub fn table(count: usize) -> TableSpec {
    let mut categories: Vec<CategorySpec> = CATEGORIES
        .iter()
        .map(|id| CategorySpec { id: (*id).to_owned(), name: (*id).to_owned(), enabled: true })
        .collect();
    let never = "NeverGranted";
    categories.push(CategorySpec { id: never.into(), name: never.into(), enabled: true });
    let destinations = (0..count)
        .map(|number| {
            let own = CATEGORIES[number % CATEGORIES.len()].to_owned();
            let second = CATEGORIES[number / CATEGORIES.len() % CATEGORIES.len()].to_owned();
            DestinationSpec {
                name: format!("destination-{number}"),
                enabled: true,
                sources: None,
                enforce: true,
                categories: if number < 3 { vec![own] } else { vec![own, second, never.into()] },
                match_mode: Match::All,
                integration: format!("Destination {number}"),
                receives_preferences: false,
                types: None,
            }
        })
        .collect();
    TableSpec {
        version: 1,
        categories,
        locations: vec![
            "/context/consent/categoryPreferences".into(),
            "/context/consentCategories".into(),
        ],
        missing: Missing::Deny,
        unmapped: Unmapped::Allow,
        sources: vec![SourceSpec { name: "bench".into(), missing: None }],
        destinations,
    }
}

/// A plan with outlets that nobody takes from but [`drain`].
pub fn plan(count: usize) -> (Handle<Plan>, Vec<Arc<Outlet>>) {
    let table = RoutingTable::compile(&table(count)).unwrap();
    let memory = Memory::new(usize::MAX);
    let outlets: Vec<Arc<Outlet>> = (0..count)
        .map(|n| {
            Outlet::new(
                OutletId(n as u64),
                format!("d{n}"),
                usize::MAX / 2,
                false,
                Arc::default(),
                &memory,
                None,
            )
        })
        .collect();
    (Handle::new(Arc::new(Plan::new(table, outlets.clone()))), outlets)
}

/// Takes what the worker handed over, as a delivery would.
pub fn drain(outlets: &[Arc<Outlet>]) -> u64 {
    let mut events = 0;
    for outlet in outlets {
        while let Some(parcel) = outlet.try_take() {
            events += u64::from(parcel.events);
        }
    }
    events
}

/// Cuts a run into frames of about 256 KiB of whole lines.
pub fn frame_bytes(run: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = vec![Vec::new()];
    for line in lines(run) {
        let last = frames.last_mut().unwrap();
        last.extend_from_slice(line);
        last.push(b'\n');
        if last.len() > 256 * 1024 {
            frames.push(Vec::new());
        }
    }
    frames
}

pub fn room() -> Arc<Room> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Arc::new(runtime.block_on(Budget::new(1 << 20).room(1)))
}

pub fn frame(bytes: &[u8], room: &Arc<Room>, at: Instant) -> Frame {
    let mut own = Vec::with_capacity(bytes.len() + 64);
    own.extend_from_slice(bytes);
    Frame::new(own, SourceId(0), at, Arc::clone(room))
}
