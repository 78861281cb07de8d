//! The crate under test, put into the oracle's words. The only file here that knows its API.

use super::decide::{Accepted, Outcome, Verdict};
use super::model::{self, Model};
use consentd::consent::{self, ConsentState, Decision, Judge, Recipients};
use consentd::parse::PADDING;
use consentd::route::{
    CategorySpec, DestinationId, DestinationSpec, Match, Missing, RoutingTable, SourceSpec,
    TableSpec, Unmapped,
};

const MAX_EVENT_BYTES: usize = 1 << 20;

/// A compiled table, and a judge that is reused from event to event as a worker does.
pub(crate) struct Subject {
    table: RoutingTable,
    judge: Judge,
    buffer: Vec<u8>,
}

impl Subject {
    pub(crate) fn compile(model: &Model) -> Self {
        let table = RoutingTable::compile(&spec(model)).expect("the model is a valid table");
        Self { judge: Judge::new(&table, MAX_EVENT_BYTES), table, buffer: Vec::new() }
    }

    pub(crate) fn decide(&mut self, line: &[u8], source: Option<&str>, model: &Model) -> Outcome {
        let source = match source {
            Some(name) => self.table.source(name).expect("the source is configured"),
            None => self.table.any_source(),
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(line);
        // What lies behind the line must not matter: make it look like more of an event.
        let behind = b"\"}\\0,"[line.len() % 5];
        self.buffer.resize(line.len() + PADDING, behind);
        let judged =
            self.judge.judge(&mut self.buffer, line.len(), source, &self.table, |_counted| {});
        match judged {
            Err(rejection) => Outcome::Rejected(rejection.reason.label()),
            Ok(decision) => Outcome::Accepted(Accepted {
                consent: match decision.consent() {
                    ConsentState::NotProvided => "not_provided",
                    ConsentState::Given(_) => "given",
                    ConsentState::Malformed => "malformed",
                },
                // The crate's mask has a bit for categories that are switched off, too.
                granted: (0..)
                    .zip(&model.categories)
                    .filter(|(number, category)| category.enabled && decision.granted(*number))
                    .map(|(_, category)| category.id.clone())
                    .collect(),
                unknown_categories: decision.unknown_categories() as usize,
                verdicts: verdicts(&decision, &self.table, line),
            }),
        }
    }
}

/// The reasons are for people; the bytes go where the permits say. Both must say the same.
fn verdicts(decision: &Decision<'_>, table: &RoutingTable, line: &[u8]) -> Vec<Verdict> {
    let mut permitted = vec![false; table.destinations().len()];
    for permit in decision.permits() {
        assert_eq!(permit.line(), line, "a permit carries the bytes that came in");
        let mut permit_to = |DestinationId(number)| {
            let twice = std::mem::replace(&mut permitted[usize::from(number)], true);
            assert!(!twice, "destination {number} is permitted twice");
        };
        match permit.recipients() {
            Recipients::One(destination) => permit_to(destination),
            Recipients::Class { class, except } => table.classes()[usize::from(class.0)]
                .members
                .iter()
                .filter(|member| !except.is_some_and(|off| off.contains(member.0.into())))
                .for_each(|member| permit_to(*member)),
        }
    }
    (0..)
        .zip(permitted)
        .map(|(number, permitted)| match (decision.outcome(DestinationId(number)), permitted) {
            (consent::Outcome::Deliver, true) => Verdict::Deliver,
            (consent::Outcome::Drop(reason), false) => Verdict::Drop(reason.label()),
            (consent::Outcome::Deliver, false) => Verdict::Drop("delivered without a permit"),
            (consent::Outcome::Drop(_), true) => Verdict::Drop("permitted though dropped"),
        })
        .collect()
}

fn spec(model: &Model) -> TableSpec {
    TableSpec {
        version: 1,
        categories: model
            .categories
            .iter()
            .map(|category| CategorySpec {
                id: category.id.clone(),
                name: category.id.clone(),
                enabled: category.enabled,
            })
            .collect(),
        locations: model.locations.clone(),
        missing: missing(model.missing),
        unmapped: match model.unmapped {
            model::Policy::Allow => Unmapped::Allow,
            model::Policy::Deny => Unmapped::Deny,
        },
        sources: model
            .sources
            .iter()
            .map(|source| SourceSpec {
                name: source.name.clone(),
                missing: source.missing.map(missing),
            })
            .collect(),
        destinations: model.destinations.iter().map(destination).collect(),
    }
}

fn missing(policy: model::Policy) -> Missing {
    match policy {
        model::Policy::Allow => Missing::Allow,
        model::Policy::Deny => Missing::Deny,
    }
}

fn destination(destination: &model::Destination) -> DestinationSpec {
    DestinationSpec {
        name: destination.name.clone(),
        enabled: destination.enabled,
        sources: destination.sources.clone(),
        enforce: destination.enforce,
        categories: destination.categories.clone(),
        match_mode: match destination.match_mode {
            model::Match::All => Match::All,
            model::Match::Any => Match::Any,
        },
        integration: destination.integration.clone(),
        receives_preferences: destination.receives_preferences,
        types: destination.types.clone(),
    }
}
