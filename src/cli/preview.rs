//! `consentd preview`: the first rows of a model, the events they become, and where those may go. The
//! very code of a sync and of the worker; nothing is sent, and no state is read or written.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use arrow_array::RecordBatch;
use clap::Args;

use super::verdict::{Accepted, Rejected, outcomes, prepare};
use crate::config::{Config, Model, suggest};
use crate::consent::{Judge, Outcome};
use crate::route::{RoutingTable, SourceId};
use crate::sync::{ID_BYTES_MAX, first_message_id};
use crate::warehouse::{self, BoundBatch, RowShape};

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();

/// Arguments of `preview`.
#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// The model
    model: String,
    /// The config; no daemon needs to run.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// So many rows
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rows: u32,
    /// Print one JSON object for each row, for programs.
    #[arg(long)]
    json: bool,
}

/// A row as a first sync would treat it.
pub(super) struct Shown {
    /// JSON; empty where it is NULL.
    pub(super) id: String,
    /// The columns that the model uses, as JSON.
    pub(super) columns: String,
    pub(super) fate: Fate,
}

/// What becomes of a row.
pub(super) enum Fate {
    /// It can't be sent; why.
    Left(String),
    /// It is sent, and judged.
    Judged(Judged),
}

/// An event and what is decided about it.
pub(super) struct Judged {
    event: String,
    /// As `explain` prints it, without the line's number.
    verdict: String,
    /// Why it was rejected, if it was.
    rejected: Option<String>,
    /// IDs of the categories.
    granted: Vec<String>,
    /// Every destination, and why it does not get the event, if it does not.
    pub(super) outcomes: Vec<(String, Option<&'static str>)>,
}

/// Exit codes: 0 shown, 1 the rows can't be had, 2 wrong usage or config.
pub(super) fn run(args: &PreviewArgs) -> ExitCode {
    let config = match super::check::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let model = match named(&config, &args.model) {
        Ok(model) => model,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let printed = rows(&config, model, args.rows as usize, |remark| eprintln!("warning: {remark}"))
        .and_then(|rows| match print(&rows, &config, model, args.json) {
            // Whoever read the output has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            _ => Ok(()),
        });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The model of that name.
///
/// # Errors
/// There is none: which there are.
pub(super) fn named<'c>(config: &'c Config, name: &str) -> Result<&'c Model, String> {
    let names = config.models.iter().map(|model| model.name.as_str());
    config
        .models
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| format!("the config has no model `{name}`; {}", suggest::help(name, names)))
}

/// The first `max` rows of a model; what is odd about its columns goes to `remark`.
///
/// # Errors
/// For people: the rows can't be had, or can't be events.
pub(super) fn rows(
    config: &Config,
    model: &Model,
    max: usize,
    remark: impl FnMut(&String),
) -> Result<Vec<Shown>, String> {
    let (shape, batches) = fetch(config, model, max)?;
    shape.remarks().iter().for_each(remark);
    let table = RoutingTable::compile(&config.table_spec(1)).map_err(|error| error.to_string())?;
    // A model is a source of its name.
    let source = table.source(&model.name).unwrap_or(table.any_source());
    let mut judge = Judge::new(&table, config.daemon.max_event_bytes);
    let bound = batches.iter().map(|batch| shape.bind(batch).map_err(|error| error.to_string()));
    let bound: Vec<BoundBatch<'_>> = bound.collect::<Result<_, _>>()?;
    let ids: Vec<String> = each_row(&bound, id);
    let mut times: HashMap<&str, usize> = HashMap::new();
    ids.iter().for_each(|id| *times.entry(id).or_default() += 1);
    let mut at = ids.iter();
    let rows = each_row(&bound, |batch, row| {
        let id = at.next().cloned().unwrap_or_default();
        let fate = match unsendable(model, &id, times.get(id.as_str()).copied().unwrap_or(0)) {
            Some(why) => Fate::Left(why),
            None => event(config, model, batch, row, &id).map_or_else(Fate::Left, |event| {
                Fate::Judged(judged(event, &mut judge, source, &table))
            }),
        };
        Shown { id, columns: text(|into| batch.raw(row, into)), fate }
    });
    Ok(rows)
}

/// Not more than are wanted, as far as the driver can be told.
fn fetch(
    config: &Config,
    model: &Model,
    max: usize,
) -> Result<(RowShape, Vec<RecordBatch>), String> {
    let sql = model.sql()?;
    let words = |error: warehouse::Error| error.to_string();
    let mut connection = warehouse::open(&config.warehouses[model.warehouse]).map_err(words)?;
    let mut answer = connection.query_few(&sql, max).map_err(words)?;
    let shape = RowShape::new(model, &answer.schema()).map_err(words)?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < max
        && let Some(batch) = answer.next()
    {
        let batch = batch.map_err(words)?;
        let batch = batch.slice(0, batch.num_rows().min(max - rows));
        rows += batch.num_rows();
        batches.push(batch);
    }
    Ok((shape, batches))
}

fn each_row<'s, T>(
    batches: &[BoundBatch<'s>],
    mut of: impl FnMut(&BoundBatch<'s>, usize) -> T,
) -> Vec<T> {
    let mut all = Vec::new();
    for batch in batches {
        all.extend((0..batch.rows()).map(|row| of(batch, row)));
    }
    all
}

fn id(batch: &BoundBatch<'_>, row: usize) -> String {
    text(|into| {
        batch.id(row, into);
    })
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why a sync leaves out a row with this ID, which stands so often among those that are shown.
fn unsendable(model: &Model, id: &str, times: usize) -> Option<String> {
    let column = &model.unique_id;
    if id.is_empty() {
        Some(format!("{column} is NULL"))
    } else if id.len() > ID_BYTES_MAX {
        Some(format!("{column} has {} bytes, more than {ID_BYTES_MAX}", id.len()))
    } else if times > 1 {
        Some(format!("{column} {id} stands {times} times"))
    } else if !model.send.added {
        Some("`send` has no \"added\": a row that is new is not sent".to_owned())
    } else {
        None
    }
}

/// The event of a row, or why it is left out.
fn event(
    config: &Config,
    model: &Model,
    batch: &BoundBatch<'_>,
    row: usize,
    id: &str,
) -> Result<String, String> {
    let message_id = first_message_id(model, batch, row, id.as_bytes());
    let event = text(|into| batch.event(row, &message_id, into));
    let max = model.limits.row_bytes.min(config.daemon.max_event_bytes);
    match event.len() {
        bytes if bytes > max => Err(format!("its event has {bytes} bytes, more than {max}")),
        _ => Ok(event),
    }
}

fn judged(event: String, judge: &mut Judge, source: SourceId, table: &RoutingTable) -> Judged {
    let mut line = event.as_bytes().to_vec();
    let len = prepare(&mut line).unwrap_or(0);
    match judge.judge(&mut line, len, source, table, |_| {}) {
        Ok(decision) => {
            let name = |(name, outcome): (&str, Outcome)| match outcome {
                Outcome::Deliver => (name.to_owned(), None),
                Outcome::Drop(refusal) => (name.to_owned(), Some(refusal.label())),
            };
            let categories = (0..).zip(table.categories());
            let granted = categories.filter(|(at, it)| it.enabled && decision.granted(*at));
            Judged {
                event,
                verdict: json(&Accepted::new(&decision, table)),
                rejected: None,
                granted: granted.map(|(_, category)| category.id.clone()).collect(),
                outcomes: outcomes(&decision, table).map(name).collect(),
            }
        }
        Err(rejection) => Judged {
            event,
            rejected: Some(rejection.to_string()),
            verdict: json(&Rejected::new(rejection)),
            granted: Vec::new(),
            outcomes: Vec::new(),
        },
    }
}

/// What is written here has string keys only, so that it is always possible.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn print(rows: &[Shown], config: &Config, model: &Model, as_json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    for (number, row) in (1..).zip(rows) {
        if as_json {
            print_json(&mut out, number, row)?;
        } else {
            print_text(&mut out, number, row, config, model)?;
        }
    }
    if rows.is_empty() && !as_json {
        writeln!(out, "the query of `{}` returns no rows", model.name)?;
    }
    out.flush()
}

/// Columns and event stand as they are: a parser in between might round numbers.
fn print_json(out: &mut impl Write, number: usize, row: &Shown) -> io::Result<()> {
    let Shown { id, columns, fate } = row;
    let id = if id.is_empty() { "null" } else { id };
    write!(out, "{{\"row\":{number},\"id\":{id},\"columns\":{columns},")?;
    match fate {
        Fate::Left(why) => writeln!(out, "\"sent\":false,\"why\":{}}}", json(why)),
        Fate::Judged(Judged { event, verdict, .. }) => {
            let verdict = verdict.trim_start_matches('{');
            writeln!(out, "\"sent\":true,\"event\":{event},{verdict}")
        }
    }
}

fn print_text(
    out: &mut impl Write,
    number: usize,
    row: &Shown,
    config: &Config,
    model: &Model,
) -> io::Result<()> {
    let Shown { id, columns, fate } = row;
    let shown_id = if id.is_empty() { "NULL" } else { id };
    writeln!(out, "{BOLD}row {number}: {} {shown_id}{BOLD:#}", model.unique_id)?;
    writeln!(out, "  columns  {columns}")?;
    let judged = match fate {
        Fate::Left(why) => return writeln!(out, "  {RED}not sent: {why}{RED:#}\n"),
        Fate::Judged(judged) => judged,
    };
    writeln!(out, "  event    {}", judged.event)?;
    if let Some(why) = &judged.rejected {
        return writeln!(out, "  {RED}rejected: {why}{RED:#}\n");
    }
    let granted = judged.granted.join(", ");
    writeln!(out, "  granted  {}", if granted.is_empty() { "nothing" } else { &granted })?;
    for ((name, refusal), destination) in judged.outcomes.iter().zip(&config.destinations) {
        let needs = destination.route.categories.join(", ");
        match refusal {
            None => writeln!(out, "  {GREEN}deliver{GREEN:#}  {name}")?,
            Some("consent") if !needs.is_empty() => {
                writeln!(out, "  {RED}drop{RED:#}     {name}: consent (needs {needs})")?;
            }
            Some(reason) => writeln!(out, "  {RED}drop{RED:#}     {name}: {reason}")?,
        }
    }
    writeln!(out)
}
