//! `consentd log stats`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::output::{damage, size, table, time};
use super::place::Names;
use super::{Place, Which, Wrong};
use crate::log::{Amount, Folder, Position, Stats, stats};

/// Arguments of `log stats`.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &StatsArgs) -> Result<ExitCode, Wrong> {
    let place = Place::of(&args.which.at.config)?;
    let folders = place.folders(&args.which)?;
    let names = place.names()?;
    let mut out = io::stdout().lock();
    for (kind, folder) in folders {
        let found = stats(&folder, Position::START, folder.end_on_disk()?)?;
        if args.which.json {
            writeln!(out, "{}", as_json(kind, &found, &names))?;
        } else {
            write!(out, "{}", as_text(&folder, &found, &names))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// By name: a destination that was replaced by one of the same name is counted with it.
fn by_destination(found: &Stats, names: &Names) -> Vec<(String, Amount)> {
    let mut amounts: Vec<(String, Amount)> = Vec::new();
    for (id, amount) in &found.destinations {
        let name = names.of(*id);
        match amounts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, sum)) => {
                sum.events += amount.events;
                sum.bytes += amount.bytes;
            }
            None => amounts.push((name, *amount)),
        }
    }
    amounts
}

fn as_json(kind: &str, found: &Stats, names: &Names) -> Value {
    let amount = |amount: &Amount| json!({ "events": amount.events, "bytes": amount.bytes });
    let sources = found.sources.iter().map(|(name, sum)| (name.clone(), amount(sum)));
    let destinations = by_destination(found, names);
    let destinations = destinations.iter().map(|(name, sum)| (name.clone(), amount(sum)));
    json!({
        "log": kind,
        "total": amount(&found.total),
        "blocks": found.blocks,
        "sources": sources.collect::<serde_json::Map<_, _>>(),
        "destinations": destinations.collect::<serde_json::Map<_, _>>(),
        "oldest_received_at": found.oldest_unix_ms.map(time),
        "newest_received_at": found.newest_unix_ms.map(time),
        "damage": damage(&found.damage),
    })
}

fn as_text(folder: &Folder, found: &Stats, names: &Names) -> String {
    let row = |what: &str, name: &str, amount: &Amount| {
        vec![what.to_owned(), name.to_owned(), amount.events.to_string(), size(amount.bytes)]
    };
    let mut rows = vec![row("total", "", &found.total)];
    rows.extend(found.sources.iter().map(|(name, amount)| row("source", name, amount)));
    let destinations = by_destination(found, names);
    rows.extend(destinations.iter().map(|(name, amount)| row("destination", name, amount)));
    let mut text = format!("{}\n", folder.path().display());
    if let (Some(oldest), Some(newest)) = (found.oldest_unix_ms, found.newest_unix_ms) {
        text += &format!("received from {} to {}\n", time(oldest), time(newest));
    }
    text += &table(&["", "NAME", "EVENTS", "SIZE OF THEIR BLOCKS"], &rows);
    if !found.damage.is_none() {
        text += "some of it is damaged and was not counted: see `consentd log verify`\n";
    }
    text
}
