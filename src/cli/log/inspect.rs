//! `consentd log inspect`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::output::{add_line, size, table, time};
use super::place::Names;
use super::{Place, Which, Wrong};
use crate::dead_letters::{is_held_back, letters_of, noted_in};
use crate::destination::Erasures;
use crate::log::{Block, Cursors, Folder, Position, Reader, SegmentInfo, StableId, count_pending};

/// Arguments of `log inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    which: Which,
    /// Print every stored event instead, one JSON object a line, without what it says. Events that were
    /// erased are left out, also before they are removed from the files.
    #[arg(long)]
    events: bool,
    /// With what it says. This is personal data.
    #[arg(long, requires = "events")]
    with_lines: bool,
}

/// A destination's place in the log.
struct Standing {
    id: StableId,
    name: String,
    at: Position,
    events: u64,
    bytes: u64,
}

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, Wrong> {
    let place = Place::of(&args.which.at.config)?;
    let folders = place.folders(&args.which)?;
    let names = place.names()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (kind, folder) in &folders {
        if args.events {
            print_events(&mut out, folder, &names, args)?;
            continue;
        }
        let segments = folder.segments()?;
        let standings = if args.which.dead_letters {
            Vec::new()
        } else {
            standings(folder, &names, &segments)?
        };
        if args.which.json {
            writeln!(out, "{}", as_json(kind, folder, &segments, &standings))?;
        } else {
            write!(out, "{}", as_text(folder, &segments, &standings))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn standings(
    folder: &Folder,
    names: &Names,
    segments: &[SegmentInfo],
) -> Result<Vec<Standing>, Wrong> {
    let (cursors, _) = Cursors::open(folder, &names.live())?;
    let places: Vec<(StableId, Position)> = cursors.iter().collect();
    let pending = count_pending(folder, &places, folder.end_on_disk()?, |_| {})?;
    let standing = |(id, at): (StableId, Position)| {
        let after = |segment: &SegmentInfo| match at {
            _ if at <= segment.first() => segment.bytes,
            _ if at < segment.end() => segment.end().0 - at.0,
            _ => 0,
        };
        let events = pending.get(&id).copied().unwrap_or(0);
        let bytes = if events == 0 { 0 } else { segments.iter().map(after).sum() };
        Standing { id, name: names.of(id), at, events, bytes }
    };
    Ok(places.into_iter().map(standing).collect())
}

fn as_json(kind: &str, folder: &Folder, segments: &[SegmentInfo], standings: &[Standing]) -> Value {
    let segment = |segment: &SegmentInfo| {
        json!({
            "number": segment.number,
            "bytes": segment.bytes,
            "created_at": segment.created_unix_ms.map(time),
        })
    };
    let destination = |standing: &Standing| {
        json!({
            "destination": standing.name,
            "id": standing.id.0,
            "position": standing.at.to_string(),
            "waiting_events": standing.events,
            "waiting_bytes": standing.bytes,
        })
    };
    json!({
        "log": kind,
        "folder": folder.path(),
        "segments": segments.iter().map(segment).collect::<Vec<_>>(),
        "destinations": standings.iter().map(destination).collect::<Vec<_>>(),
    })
}

fn as_text(folder: &Folder, segments: &[SegmentInfo], standings: &[Standing]) -> String {
    let total = segments.iter().map(|segment| segment.bytes).sum();
    let mut text =
        format!("{}: {} segments, {}\n", folder.path().display(), segments.len(), size(total));
    let rows: Vec<Vec<String>> = segments
        .iter()
        .map(|segment| {
            let created = segment.created_unix_ms.map_or("header damaged".to_owned(), time);
            vec![format!("{:x}", segment.number), size(segment.bytes), created]
        })
        .collect();
    text += &table(&["SEGMENT", "SIZE", "CREATED"], &rows);
    let rows: Vec<Vec<String>> = standings
        .iter()
        .map(|standing| {
            vec![
                standing.name.clone(),
                standing.id.0.to_string(),
                standing.at.to_string(),
                standing.events.to_string(),
                size(standing.bytes),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
    }
    text + &table(&["DESTINATION", "ID", "DONE UP TO", "EVENTS WAITING", "WITHIN"], &rows)
}

fn print_events(
    out: &mut impl Write,
    folder: &Folder,
    names: &Names,
    args: &InspectArgs,
) -> Result<(), Wrong> {
    let marks = noted_in(folder)?;
    let erasures = Erasures::new(1, marks.clone());
    let is_erased = |line: &[u8], at: Position| match args.which.dead_letters {
        true => is_held_back(&marks, line, at),
        false => erasures.erases(line, at),
    };
    let mut reader = Reader::new(folder.clone(), Position::START);
    let end = folder.end_on_disk()?;
    while let Some(block) = reader.next(end)? {
        let with_reason = args.which.dead_letters;
        let at = block.position();
        for (record, mut object) in objects(&block, names, with_reason) {
            if is_erased(record, at) {
                continue;
            }
            if args.with_lines {
                add_line(&mut object, record);
            }
            writeln!(out, "{object}")?;
        }
    }
    Ok(())
}

/// The records of a block, without what they say.
fn objects<'a>(
    block: &Block<'a>,
    names: &Names,
    with_reason: bool,
) -> impl Iterator<Item = (&'a [u8], Value)> {
    let destinations: Vec<Vec<String>> =
        block.decisions().map(|decision| decision.ids().map(|id| names.of(id)).collect()).collect();
    let mut head = json!({
        "position": block.position().to_string(),
        "source": block.source(),
        "received_at": time(block.received_unix_ms()),
        "table_version": block.table_version(),
    });
    if block.are_deletions() {
        head["deletion"] = json!(true);
    }
    if with_reason && let Some(letter) = letters_of(block).next() {
        head["reason"] = json!(letter.reason);
        head["detail"] = json!(letter.detail);
    }
    block.records().map(move |record| {
        let mut object = head.clone();
        object["bytes"] = json!(record.line.len());
        object["destinations"] = json!(destinations.get(record.decision as usize));
        (record.line, object)
    })
}
