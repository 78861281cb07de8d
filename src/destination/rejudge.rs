//! Judged again: what waits is subject to the rules in force when it leaves.

use std::sync::Arc;

use super::batch::{Batch, Keys, Piece};
use super::chunk::{Chunk, Lane};
use crate::consent::{Address, Judge, Nature, Refusal};
use crate::metrics::{DestinationCounters, DropReason};
use crate::parse::PADDING;
use crate::route::DestinationId;
use crate::shard::Plan;

/// The rules for one destination: a plan that has it, and its number there.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) plan: Arc<Plan>,
    pub(super) destination: DestinationId,
}

/// How many lines were dropped, by reason.
type Dropped = [u32; Refusal::ALL.len()];

/// Deletions that are no longer permitted: at most one batch for each reason.
///
/// Whoever sent them has let go of the row when they were stored, and sends them no more. So they are
/// neither delivered nor dropped until they are kept elsewhere.
pub(super) type Refused = Vec<(Refusal, Batch)>;

/// Judges every line of `batch` again that was permitted by another table than the one of `rules`.
///
/// Lines that it no longer permits are taken out: events are counted as dropped, deletions go to
/// `refused`. Whole at every await: it may be cancelled there.
pub(super) async fn judge_again(
    batch: &mut Batch,
    rules: &Rules,
    refused: &mut Refused,
    keys: &Keys,
    counters: &DestinationCounters,
) {
    let table = rules.plan.table();
    // Not kept for the next time: that is as far away as the next reload.
    let mut judge = Judge::new(table, usize::MAX);
    let mut scratch = Vec::new();
    let mut position = 0;
    while let Some(piece) = batch.pieces().get(position) {
        if piece.table_version() == table.version() {
            position += 1;
            continue;
        }
        let Judged { next, dropped, deletions } =
            judge_piece(piece, rules, &mut judge, &mut scratch);
        let kept = next.is_some();
        piece.settle(dropped.iter().sum());
        batch.replace(position, next, || keys.next());
        position += usize::from(kept);
        for (refusal, events) in Refusal::ALL.into_iter().zip(dropped) {
            if events > 0 {
                counters.drop_pending(DropReason::from(refusal), events);
            }
        }
        for (refusal, piece) in deletions {
            match refused.iter_mut().find(|(other, _)| *other == refusal) {
                Some((_, batch)) => batch.push(piece),
                None => refused.push((refusal, Batch::new(vec![piece], keys.next()))),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// What became of the lines of a piece.
struct Judged {
    /// Those that are permitted.
    next: Option<Piece>,
    /// Events that are not,
    dropped: Dropped,
    /// and deletions.
    deletions: Vec<(Refusal, Piece)>,
}

fn judge_piece(piece: &Piece, rules: &Rules, judge: &mut Judge, scratch: &mut Vec<u8>) -> Judged {
    let table = rules.plan.table();
    let mut lane = Lane::default();
    let mut dropped = Dropped::default();
    let mut deletions = Vec::new();
    let lines = piece.lines();
    let mut at = 0;
    for run in piece.runs() {
        let mut rest = &lines[at..run.end as usize];
        at = run.end as usize;
        while let Some(len) = memchr::memchr(b'\n', rest) {
            scratch.clear();
            scratch.extend_from_slice(&rest[..len]);
            scratch.resize(len + PADDING, 0);
            rest = &rest[len + 1..];
            let end = at - rest.len();
            // A line that is no longer an event at all (a location was added, and a key in it stands
            // twice) has no consent that could be read.
            let address = Address::stored(run.nature);
            let decision = judge.judge_as(address, scratch, len, run.source, table, |_| {});
            let permit = decision
                .map_or(Err(Refusal::Consent), |decision| decision.permit_for(rules.destination));
            match (permit, run.nature) {
                (Ok(permit), _) => lane.append(permit, table, run.source, run.received_at),
                (Err(refusal), Nature::Event) => dropped[refusal as usize] += 1,
                (Err(refusal), Nature::Deletion) => {
                    deletions.push((refusal, piece.part(end - len - 1..end, 1)));
                }
            }
        }
    }
    let next = if lane.events() == piece.events() {
        // The chunk is shared with other destinations: a copy for each would add up.
        Some(piece.permitted_by(table.version()))
    } else {
        let kept = !lane.is_empty();
        kept.then(|| piece.replaced_by(Chunk::rejudged(lane, table.version())))
    };
    Judged { next, dropped, deletions }
}
