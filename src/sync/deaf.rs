//! Destinations that no deletion can reach, as the config is.
//!
//! A destination whose `types`, or whose `integration` in the model's `deletion`, leaves deletions out has
//! rows that it is never told of. That is noted as for one that is switched off: it is told once another
//! config lets deletions through, and until then none is sent in vain.

use crate::config::{Config, Model, OnWithdrawal};
use crate::consent::{Address, Judge, Nature, Outcome, Refusal};
use crate::parse::PADDING;
use crate::route::RoutingTable;
use crate::warehouse::deletion;

/// Names of the destinations of which this is certain. The worker decides by the config that is in force;
/// where that is another one, nothing is lost but time.
pub(super) fn deaf(config: &Config, model: &Model) -> Vec<String> {
    if !model.send.deleted && model.on_withdrawal == OnWithdrawal::Ignore {
        return Vec::new();
    }
    let Ok(table) = RoutingTable::compile(&config.table_spec(1)) else { return Vec::new() };
    let source = table.source(&model.name).unwrap_or(table.any_source());
    let mut line = Vec::new();
    // They differ in their ids only, and nothing depends on those.
    deletion(model, "0", "", &mut line);
    let len = line.len();
    line.resize(len + PADDING, 0);
    let mut judge = Judge::new(&table, config.daemon.max_event_bytes);
    let address = Address::stored(Nature::Deletion);
    let Ok(decision) = judge.judge_as(address, &mut line, len, source, &table, |_| {}) else {
        return Vec::new();
    };
    let is_deaf = |outcome| match outcome {
        Outcome::Deliver => false,
        Outcome::Drop(refusal) => match refusal {
            Refusal::Filtered | Refusal::Integrations => true,
            Refusal::Disabled | Refusal::Source | Refusal::Consent | Refusal::NotAddressed => false,
        },
    };
    let numbered = (0..).map(crate::route::DestinationId).zip(table.destinations());
    let deaf = numbered.filter(|(id, _)| is_deaf(decision.outcome(*id)));
    deaf.map(|(_, destination)| destination.name.clone()).collect()
}
