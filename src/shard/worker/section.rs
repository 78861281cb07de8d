//! Frames of a warehouse: as all others, but that the source says more about the lines, and is told what
//! became of each.

use std::collections::HashMap;

use super::Worker;
use crate::consent::{Address, Decision, Judge, Nature, Outcome, Recipients, Refusal};
use crate::ingest::{Frame, LineOutcome, Outcomes, Report, Section};
use crate::log::StableId;
use crate::parse::{Lines, RejectReason};
use crate::route::{BitSet, DestinationId};
use crate::shard::plan::Plan;
use crate::shard::tally::SourceTally;

impl Worker {
    pub(super) fn judge_section(
        &mut self,
        frame: &mut Frame,
        section: &Section,
        report: &mut Report,
    ) {
        let plan = self.outputs.plan().clone();
        let (nature, to) = match section {
            Section::Events { to } => (Nature::Event, to.as_deref()),
            Section::Deletions { to } => (Nature::Deletion, Some(&**to)),
            Section::Rehearsal => return self.rehearse(frame, &plan, report),
        };
        let only = to.map(|to| numbers_of(to, &plan));
        let address = Address { nature, only: only.as_ref() };
        // A letter that is replayed is an event for everybody: what was for some must not become one.
        let keeps_rejected = *section == Section::Events { to: None };
        let (source, received_at) = (frame.source, frame.received_at);
        let counters = &self.sources[usize::from(source.0)];
        let mut told = Told::of(&plan);
        let mut counts = SourceTally::default();
        let (bytes, end) = frame.bytes();
        let mut lines = Lines::new(end);
        while let Some(line) = lines.next(bytes) {
            report.lines += 1;
            if line.is_blank(bytes) {
                continue;
            }
            counts.received += 1;
            counts.bytes += line.len as u64;
            let (buffer, tally) = (&mut bytes[line.start..], &mut self.tally);
            let judged =
                self.judge.judge_as(address, buffer, line.len, source, plan.table(), |count| {
                    tally.add(count);
                });
            let decision = match judged {
                Ok(decision) => decision,
                Err(rejection) => {
                    report.rejected += 1;
                    told.rejected(rejection.reason);
                    counters.add_rejected(rejection.reason, 1);
                    if let Some(rejected) = self.rejected.as_mut().filter(|_| keeps_rejected) {
                        let line = &bytes[line.start..line.start + line.len];
                        rejected.add(source, rejection, line, received_at);
                    }
                    continue;
                }
            };
            counts.unknown += u64::from(decision.unknown_categories());
            report.accepted += 1;
            told.decided(&decision, &plan);
            let before_waiting = &mut || counts.flush(counters);
            self.outputs.append(&decision, line.len, source, received_at, before_waiting);
            if decision.switches_off() {
                tally.add_switched_off(&decision);
            }
            if only.is_some() {
                tally.add_not_addressed(&decision);
            }
        }
        counts.flush(counters);
        report.outcomes = Some(Box::new(told.outcomes));
    }

    /// Only says what would become of the lines.
    fn rehearse(&mut self, frame: &mut Frame, plan: &Plan, report: &mut Report) {
        let judge = self.rehearsal.get_or_insert_with(|| {
            Box::new(Judge::new(plan.table(), self.judge.max_event_bytes()))
        });
        let source = frame.source;
        let mut told = Told::of(plan);
        let (bytes, end) = frame.bytes();
        let mut lines = Lines::new(end);
        while let Some(line) = lines.next(bytes) {
            report.lines += 1;
            if line.is_blank(bytes) {
                continue;
            }
            // What this judge counts is never asked for.
            match judge.judge(&mut bytes[line.start..], line.len, source, plan.table(), |_| {}) {
                Ok(decision) => {
                    report.accepted += 1;
                    told.decided(&decision, plan);
                }
                Err(rejection) => {
                    report.rejected += 1;
                    told.rejected(rejection.reason);
                }
            }
        }
        report.outcomes = Some(Box::new(told.outcomes));
    }
}

/// The destinations of the plan that have these names in the log.
fn numbers_of(to: &[StableId], plan: &Plan) -> BitSet {
    let mut numbers = BitSet::new(plan.outlets().len());
    for (number, outlet) in plan.outlets().iter().enumerate() {
        if outlet.stable().is_some_and(|id| to.binary_search(&id).is_ok()) {
            numbers.insert(number);
        }
    }
    numbers
}

/// The outcomes of a frame. Few differ, so each is worked out once.
#[derive(Default)]
struct Told {
    outcomes: Outcomes,
    /// The kinds of decisions, by what tells them apart.
    decided: HashMap<Box<[u64]>, u32>,
    rejected: [Option<u32>; RejectReason::ALL.len()],
    /// What tells the last decision from others, and its kind.
    last: (Vec<u64>, u32),
    scratch: Vec<u64>,
}

impl Told {
    fn of(plan: &Plan) -> Self {
        let table = plan.table().hash().to_owned();
        Self { outcomes: Outcomes { table, ..Outcomes::default() }, ..Self::default() }
    }

    fn decided(&mut self, decision: &Decision<'_>, plan: &Plan) {
        self.scratch.clear();
        decision.distinguish(&mut self.scratch);
        if self.last.0 != self.scratch || self.scratch.is_empty() {
            let kind = match self.decided.get(self.scratch.as_slice()) {
                Some(kind) => *kind,
                None => {
                    let kind = self.add_kind(outcome_of(decision, plan));
                    self.decided.insert(self.scratch.as_slice().into(), kind);
                    kind
                }
            };
            self.last.1 = kind;
            std::mem::swap(&mut self.last.0, &mut self.scratch);
        }
        self.outcomes.add(self.last.1);
    }

    fn rejected(&mut self, reason: RejectReason) {
        let kind = match self.rejected[reason as usize] {
            Some(kind) => kind,
            None => {
                let kind = self.add_kind(LineOutcome::Rejected(reason));
                self.rejected[reason as usize] = Some(kind);
                kind
            }
        };
        self.outcomes.add(kind);
    }

    fn add_kind(&mut self, kind: LineOutcome) -> u32 {
        self.outcomes.kinds.push(kind);
        self.outcomes.kinds.len() as u32 - 1
    }
}

fn outcome_of(decision: &Decision<'_>, plan: &Plan) -> LineOutcome {
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for permit in decision.permits() {
        let Recipients::Class { class, except } = permit.recipients() else { continue };
        let members = plan.table().classes()[usize::from(class.0)].members.iter();
        let may = members.filter(|it| except.is_none_or(|except| !except.contains(it.0.into())));
        stored.extend(may.filter_map(|it| plan.outlets()[usize::from(it.0)].stable()));
    }
    for (number, outlet) in (0..).zip(plan.outlets()) {
        if decision.outcome(DestinationId(number)) == Outcome::Drop(Refusal::Consent) {
            refused.extend(outlet.stable());
        }
    }
    stored.sort_unstable();
    refused.sort_unstable();
    LineOutcome::Decided { stored, refused }
}
