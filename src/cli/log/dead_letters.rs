//! `consentd log dead-letters list`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::{add_line, table, time};
use super::{FilterArgs, Place, Where, Wrong, unix_ms};
use crate::dead_letters::{Filter, is_held_back, letters_of, noted_in};
use crate::log::{Position, Reader};

/// Arguments of `log dead-letters list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    filter: FilterArgs,
    /// Print one JSON object a line, for programs.
    #[arg(long)]
    json: bool,
    /// Print the events, too, as JSON. This is personal data.
    #[arg(long)]
    with_events: bool,
}

/// So many rows are put into one table.
const ROWS_MAX: usize = 1000;

pub(super) fn run(args: &ListArgs) -> Result<ExitCode, Wrong> {
    let place = Place::of(&args.at.config)?;
    let shelves = place.shelves()?;
    let names = place.names()?;
    let asked = &args.filter;
    let filter = Filter {
        destinations: asked.destination.as_ref().map(|name| names.named(name)),
        source: asked.source.clone(),
        reason: asked.reason.clone(),
        since_unix_ms: asked.since.map(unix_ms),
        before_unix_ms: asked.before.map(unix_ms),
    };
    let is_json = args.json || args.with_events;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut left = asked.limit.unwrap_or(u64::MAX);
    let mut rows = Vec::new();
    for (_, folder) in shelves {
        let erased = noted_in(&folder)?;
        let mut reader = Reader::new(folder.clone(), Position::START);
        let end = folder.end_on_disk()?;
        while left > 0
            && let Some(block) = reader.next(end)?
        {
            if !filter.takes(&block) {
                continue;
            }
            let room = usize::try_from(left).unwrap_or(usize::MAX);
            let sound = letters_of(&block)
                .filter(|letter| !is_held_back(&erased, letter.line, letter.position));
            for letter in sound.take(room) {
                left -= 1;
                let destination = letter.destination.map(|id| names.of(id));
                let received = time(letter.received_unix_ms);
                if !is_json {
                    rows.push(vec![
                        received,
                        letter.reason.to_owned(),
                        letter.source.to_owned(),
                        destination.unwrap_or_default(),
                        letter.line.len().to_string(),
                        letter.detail.to_owned(),
                    ]);
                    flush_rows(&mut out, &mut rows, ROWS_MAX)?;
                    continue;
                }
                let mut object = json!({
                    "position": letter.position.to_string(),
                    "received_at": received,
                    "reason": letter.reason,
                    "detail": letter.detail,
                    "source": letter.source,
                    "destination": destination,
                    "id": letter.destination.map(|id| id.0),
                    "bytes": letter.line.len(),
                });
                if args.with_events {
                    add_line(&mut object, letter.line);
                }
                writeln!(out, "{object}")?;
            }
        }
    }
    flush_rows(&mut out, &mut rows, 1)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn flush_rows(out: &mut impl Write, rows: &mut Vec<Vec<String>>, least: usize) -> io::Result<()> {
    if rows.len() < least {
        return Ok(());
    }
    let headings = ["RECEIVED", "REASON", "SOURCE", "DESTINATION", "BYTES", "DETAIL"];
    write!(out, "{}", table(&headings, rows))?;
    rows.clear();
    Ok(())
}
