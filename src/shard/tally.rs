//! Counts of one worker, per class, until they are added to the shared counters.

use std::sync::atomic::Ordering::Relaxed;

use super::plan::Plan;
use crate::consent::{Counted, Decision, Refusal};
use crate::metrics::DestinationCounters;
use crate::route::{RoutingTable, SourceId, ones};

/// How many decisions refused what, per class and per destination of one table.
///
/// Consent is what is left: an accepted event that a class neither receives nor filters, from a
/// source that is open to it, was refused by consent.
#[derive(Debug)]
pub(super) struct Tally {
    by_source: Vec<u64>,
    delivered: Vec<u64>,
    filtered: Vec<u64>,
    /// Destinations that integrations switched off: events they would have received, and events
    /// they would have filtered. Integrations are tested before types.
    switched_off: Vec<SwitchedOff>,
    any_switched_off: bool,
    /// Events that a destination would have received, had they been addressed to it; empty before the
    /// first.
    not_addressed: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SwitchedOff {
    delivered: u64,
    filtered: u64,
}

impl Tally {
    pub(super) fn new(table: &RoutingTable) -> Self {
        Self {
            by_source: vec![0; usize::from(table.any_source().0) + 1],
            delivered: vec![0; table.classes().len()],
            filtered: vec![0; table.classes().len()],
            switched_off: vec![SwitchedOff::default(); table.destinations().len()],
            any_switched_off: false,
            not_addressed: Vec::new(),
        }
    }

    /// Adds the events that got one answer.
    pub(super) fn add(&mut self, counted: Counted<'_>) {
        self.by_source[usize::from(counted.source.0)] += counted.events;
        for class in ones(counted.deliver) {
            self.delivered[class] += counted.events;
        }
        for class in ones(counted.filtered) {
            self.filtered[class] += counted.events;
        }
    }

    /// Adds what integrations change about one decision; its answer is counted for the class.
    pub(super) fn add_switched_off(&mut self, decision: &Decision<'_>) {
        for (destination, delivered) in decision.switched_off() {
            let off = &mut self.switched_off[usize::from(destination.0)];
            if delivered {
                off.delivered += 1;
            } else {
                off.filtered += 1;
            }
            self.any_switched_off = true;
        }
    }

    /// Adds the destinations that a decision allows and its event is not addressed to.
    pub(super) fn add_not_addressed(&mut self, decision: &Decision<'_>) {
        self.not_addressed.resize(self.switched_off.len(), 0);
        for destination in decision.not_addressed() {
            self.not_addressed[usize::from(destination.0)] += 1;
        }
    }

    /// Adds everything to the counters of the destinations, and starts again from zero.
    pub(super) fn flush(&mut self, plan: &Plan) {
        let table = plan.table();
        let accepted: u64 = self.by_source.iter().sum();
        if accepted == 0 {
            return;
        }
        for (outlet, events) in plan.outlets().iter().zip(&mut self.not_addressed) {
            add(outlet.counters(), Refusal::NotAddressed, std::mem::take(events));
        }
        for (number, class) in table.classes().iter().enumerate() {
            let delivered = std::mem::take(&mut self.delivered[number]);
            let filtered = std::mem::take(&mut self.filtered[number]);
            let closed = self.closed_to(number, table);
            let refused = accepted - closed - delivered - filtered;
            if closed + refused + filtered == 0 && !self.any_switched_off {
                continue;
            }
            for &member in &class.members {
                let member = usize::from(member.0);
                let off = std::mem::take(&mut self.switched_off[member]);
                let counters = plan.outlets()[member].counters();
                let elsewhere = if table.destinations()[member].enabled {
                    Refusal::Source
                } else {
                    Refusal::Disabled
                };
                add(counters, elsewhere, closed);
                add(counters, Refusal::Consent, refused);
                add(counters, Refusal::Integrations, off.delivered + off.filtered);
                add(counters, Refusal::Filtered, filtered - off.filtered);
            }
        }
        self.by_source.fill(0);
        self.any_switched_off = false;
    }

    /// Events from sources that the class is closed to.
    fn closed_to(&self, class: usize, table: &RoutingTable) -> u64 {
        let sources = (0..).map(SourceId).zip(&self.by_source);
        sources
            .filter(|(_, events)| **events > 0)
            .filter(|(source, _)| !table.open(*source).is_some_and(|open| open.contains(class)))
            .map(|(_, events)| events)
            .sum()
    }
}

fn add(counters: &DestinationCounters, refusal: Refusal, events: u64) {
    if events > 0 {
        counters.add_dropped(refusal.into(), events);
    }
}

/// Counts of the frames of one source, until they are added to the source's counters.
#[derive(Debug, Default)]
pub(super) struct SourceTally {
    pub(super) received: u64,
    pub(super) bytes: u64,
    pub(super) unknown: u64,
}

impl SourceTally {
    pub(super) fn flush(&mut self, counters: &crate::metrics::SourceCounters) {
        counters.received.fetch_add(self.received, Relaxed);
        counters.bytes.fetch_add(self.bytes, Relaxed);
        if self.unknown > 0 {
            counters.unknown_categories.fetch_add(self.unknown, Relaxed);
        }
        *self = Self::default();
    }
}
