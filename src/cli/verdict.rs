//! What is said of a line that was judged: the same words wherever a command shows a decision.

use serde::{Serialize, Serializer};

use crate::consent::{ConsentState, Decision, Outcome};
use crate::parse::{Lines, PADDING, Rejection, blank_stray_returns};
use crate::route::{DestinationId, RoutingTable};

/// Does to a line what happens to it on its way to a worker, and adds the padding; its length, or
/// `None` for a blank line.
pub(super) fn prepare(line: &mut Vec<u8>) -> Option<usize> {
    let found = Lines::new(line.len()).next(line)?;
    let blank = found.is_blank(line);
    blank_stray_returns(line);
    line.resize(line.len() + PADDING, 0);
    (!blank).then_some(found.len)
}

/// What is printed for an event that is decided on.
#[derive(Serialize)]
pub(super) struct Accepted<'a> {
    accepted: bool,
    consent: &'static str,
    granted: Granted<'a>,
    deliver: Delivered<'a>,
    drop: Dropped<'a>,
    table: &'a str,
    unknown_categories: u32,
}

impl<'a> Accepted<'a> {
    pub(super) fn new(decision: &'a Decision<'a>, table: &'a RoutingTable) -> Self {
        Self {
            accepted: true,
            consent: match decision.consent() {
                ConsentState::Given(_) => "given",
                ConsentState::NotProvided => "not_provided",
                ConsentState::Malformed => "malformed",
            },
            granted: Granted(decision, table),
            deliver: Delivered(decision, table),
            drop: Dropped(decision, table),
            table: table.hash(),
            unknown_categories: decision.unknown_categories(),
        }
    }
}

/// What is printed for a line that is not an event.
#[derive(Serialize)]
pub(super) struct Rejected {
    accepted: bool,
    reason: &'static str,
    detail: String,
}

impl Rejected {
    pub(super) fn new(rejection: Rejection) -> Self {
        Self { accepted: false, reason: rejection.reason.label(), detail: rejection.to_string() }
    }
}

/// IDs of the categories that are on and granted.
struct Granted<'a>(&'a Decision<'a>, &'a RoutingTable);

impl Serialize for Granted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(decision, table) = self;
        let granted = (0..)
            .zip(table.categories())
            .filter(|&(number, category)| category.enabled && decision.granted(number))
            .map(|(_, category)| &category.id);
        serializer.collect_seq(granted)
    }
}

/// Names of the destinations that receive the event.
struct Delivered<'a>(&'a Decision<'a>, &'a RoutingTable);

impl Serialize for Delivered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(outcomes(self.0, self.1).filter_map(
            |(name, outcome)| match outcome {
                Outcome::Deliver => Some(name),
                Outcome::Drop(_) => None,
            },
        ))
    }
}

/// Names of the others, and why they do not.
struct Dropped<'a>(&'a Decision<'a>, &'a RoutingTable);

impl Serialize for Dropped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(outcomes(self.0, self.1).filter_map(
            |(name, outcome)| match outcome {
                Outcome::Deliver => None,
                Outcome::Drop(refusal) => Some((name, refusal.label())),
            },
        ))
    }
}

/// Every destination in config order, and what is decided for it.
pub(super) fn outcomes<'a>(
    decision: &'a Decision<'a>,
    table: &'a RoutingTable,
) -> impl Iterator<Item = (&'a str, Outcome)> {
    (0..).zip(table.destinations()).map(|(number, destination)| {
        (destination.name.as_str(), decision.outcome(DestinationId(number)))
    })
}
