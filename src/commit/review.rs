//! What new rules mean for the events that wait: told to whoever put them in force.
//!
//! Nothing is done to the events here. They are judged again when they leave; this only says before
//! how that will end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::catch_up::{nature_of, source_of};
use super::state::Log;
use crate::consent::{Address, Decision, Judge, Nature};
use crate::destination::Outlet;
use crate::log::{LogError, Position, Reader, StableId};
use crate::parse::PADDING;
use crate::route::{DestinationId, SourceId};
use crate::shard::Plan;

/// What waits for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    from: Position,
    before: DestinationId,
    now: DestinationId,
    /// Events that were looked at.
    pub looked_at: u64,
    /// Those among them that the rules before permitted and the rules now do not.
    pub refused: u64,
}

/// What waits in the log, by destination of the plan now, as far as it was looked at.
#[derive(Debug, Default)]
pub struct Review {
    /// By the destination's name in the log.
    pub waiting: BTreeMap<StableId, Waiting>,
    /// Whether everything was looked at.
    pub complete: bool,
}

/// Judges lines by one table.
struct Court<'p> {
    plan: &'p Plan,
    judge: Judge,
    scratch: Vec<u8>,
}

/// Reads what waits, until everything was seen or it is `until`. Reads files; memory does not grow with
/// what waits. Events that were erased are not counted.
///
/// # Errors
/// [`LogError`].
pub fn review(log: &Log, before: &Plan, now: &Plan, until: Instant) -> Result<Review, LogError> {
    let (handed, end) = (log.handed(), log.end());
    let mut review = Review { waiting: whose(before, now, handed), complete: false };
    let Some(from) = review.waiting.values().map(|waiting| waiting.from).min() else {
        return Ok(Review { complete: true, ..review });
    };
    let erasures = log.erasures().load();
    let (mut old, mut new) = (Court::of(before), Court::of(now));
    let mut reader = Reader::new(log.folder().clone(), from);
    while let Some(block) = reader.next(end)? {
        let decisions: Vec<Vec<StableId>> = block.decisions().map(|d| d.ids().collect()).collect();
        let (source_before, source_now) = (source_of(&block, before), source_of(&block, now));
        let nature = nature_of(&block);
        for record in block.records() {
            let Some(ids) = decisions.get(record.decision as usize) else { continue };
            if erasures.erases(record.line, block.position()) {
                continue;
            }
            let decision = new.judge(record.line, nature, source_now);
            let permits = |destination| {
                decision.as_ref().is_some_and(|decision| decision.permit_for(destination).is_ok())
            };
            let mut refused = Vec::new();
            for id in ids {
                let Some(waiting) = review.waiting.get_mut(id) else { continue };
                if block.position() < waiting.from {
                    continue;
                }
                waiting.looked_at += 1;
                if !permits(waiting.now) {
                    refused.push(id);
                }
            }
            if refused.is_empty() {
                continue;
            }
            let decision = old.judge(record.line, nature, source_before);
            let permitted = |destination| {
                decision.as_ref().is_some_and(|decision| decision.permit_for(destination).is_ok())
            };
            for id in refused {
                let Some(waiting) = review.waiting.get_mut(id) else { continue };
                if permitted(waiting.before) {
                    waiting.refused += 1;
                }
            }
        }
        if Instant::now() >= until {
            return Ok(review);
        }
    }
    Ok(Review { complete: true, ..review })
}

/// Those that run on, and where each of them is.
fn whose(before: &Plan, now: &Plan, handed: Position) -> BTreeMap<StableId, Waiting> {
    let numbered = |plan: &Plan| {
        let outlets = (0..).map(DestinationId).zip(plan.outlets().to_vec());
        outlets.filter_map(|(number, outlet)| Some((outlet.stable()?, number, outlet)))
    };
    let now: BTreeMap<StableId, DestinationId> =
        numbered(now).map(|(id, number, _)| (id, number)).collect();
    let waiting = |(id, before, outlet): (StableId, DestinationId, Arc<Outlet>)| {
        let (from, now) = (outlet.cursor(handed)?, *now.get(&id)?);
        Some((id, Waiting { from, before, now, looked_at: 0, refused: 0 }))
    };
    numbered(before).filter_map(waiting).collect()
}

impl<'p> Court<'p> {
    fn of(plan: &'p Plan) -> Self {
        let judge = Judge::new(plan.table(), usize::MAX);
        Self { plan, judge, scratch: Vec::new() }
    }

    fn judge(&mut self, line: &[u8], nature: Nature, source: SourceId) -> Option<Decision<'_>> {
        self.scratch.clear();
        self.scratch.extend_from_slice(line);
        self.scratch.resize(line.len() + PADDING, 0);
        let table = self.plan.table();
        let address = Address::stored(nature);
        self.judge.judge_as(address, &mut self.scratch, line.len(), source, table, |_| {}).ok()
    }
}
