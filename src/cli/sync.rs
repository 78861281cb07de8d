//! `consentd sync`: has the running daemon sync a model, and watches.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::ask;
use crate::admin::{Counts, ModelStatus, SyncRecord, SyncState};
use crate::config;

/// How often it is asked how far the sync is.
const LOOK: Duration = Duration::from_millis(300);

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The model
    model: String,
    /// The config of the running daemon; its admin.listen is where it is asked.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// Forget what was sent before, and send every row again
    #[arg(long)]
    full: bool,
    /// Only count what would be sent; nothing is sent or remembered
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before --full
    #[arg(long)]
    yes: bool,
    /// Cancel the sync that goes on; what it sent stays sent
    #[arg(long, conflicts_with_all = ["full", "dry_run"])]
    cancel: bool,
}

/// Why there is nothing to show.
enum Wrong {
    Usage(String),
    Failed(String),
}

/// Exit codes: 0 done, 1 it failed, was cancelled or could not start, 2 wrong usage or config.
pub(super) fn run(args: &SyncArgs) -> ExitCode {
    match sync(args) {
        Ok(code) => code,
        Err(Wrong::Usage(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
        Err(Wrong::Failed(why)) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn sync(args: &SyncArgs) -> Result<ExitCode, Wrong> {
    let admin =
        config::admin_address(&args.config).map_err(|error| Wrong::Usage(error.to_string()))?;
    let model = &args.model;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if model.is_empty() || !model.chars().all(is_name) {
        return Err(Wrong::Usage(format!("`{model}` is not the name of a model")));
    }
    if args.cancel {
        let sync = accepted(admin, &format!("/syncs/{model}/cancel"))?;
        eprintln!("sync {sync} of `{model}` was asked to stop");
        return Ok(ExitCode::SUCCESS);
    }
    if args.full && !args.dry_run && !args.yes {
        confirm(model)?;
    }
    let flags = format!("full={}&dry_run={}", u8::from(args.full), u8::from(args.dry_run));
    let sync = accepted(admin, &format!("/syncs/{model}?{flags}"))?;
    let record = watch(admin, model, &sync)?;
    print(&record).map_err(|error| Wrong::Failed(error.to_string()))?;
    Ok(match record.counts.state {
        SyncState::Done => ExitCode::SUCCESS,
        SyncState::Running | SyncState::Failed | SyncState::Cancelled => ExitCode::FAILURE,
    })
}

/// Has a model synced; what came of it.
///
/// # Errors
/// A sentence: it could not start, or nobody can say how it went.
pub(super) fn to_its_end(admin: SocketAddr, model: &str, full: bool) -> Result<SyncRecord, String> {
    let path = format!("/syncs/{model}?full={}", u8::from(full));
    let record = accepted(admin, &path).and_then(|sync| watch(admin, model, &sync));
    record.map_err(|wrong| match wrong {
        Wrong::Usage(why) | Wrong::Failed(why) => why,
    })
}

fn confirm(model: &str) -> Result<(), Wrong> {
    if !io::stdin().is_terminal() {
        let why = "--full sends every row again: say --yes where nobody can be asked";
        return Err(Wrong::Usage(why.to_owned()));
    }
    eprint!("Forget what was sent of `{model}`, and send every row again? [y/N] ");
    let mut said = String::new();
    let read = io::stdin().lock().read_line(&mut said);
    match read {
        Ok(_) if matches!(said.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Wrong::Failed("not started".to_owned())),
    }
}

/// Posts; the ID of the sync that it is about.
fn accepted(admin: SocketAddr, path: &str) -> Result<String, Wrong> {
    let answer = ask::post(admin, path, Vec::new());
    let (status, body) = answer.map_err(|error| Wrong::Failed(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let said = if status == StatusCode::ACCEPTED { &answer["sync"] } else { &answer["message"] };
    let said = said.as_str().unwrap_or("nonsense").to_owned();
    if status == StatusCode::ACCEPTED { Ok(said) } else { Err(Wrong::Failed(said)) }
}

/// Shows how far the sync is, until it has ended.
fn watch(admin: SocketAddr, model: &str, sync: &str) -> Result<SyncRecord, Wrong> {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    // On standard error, and nothing at all where that is no terminal.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(LOOK);
    loop {
        let status = status(admin, model)?;
        let its = |record: &SyncRecord| record.sync == sync;
        if let Some(record) = status.history.into_iter().find(its) {
            bar.finish_and_clear();
            return Ok(record);
        }
        match status.running.filter(its) {
            Some(record) => bar.set_message(progress(&record.counts)),
            None => return Err(Wrong::Failed(format!("the daemon has forgotten sync {sync}"))),
        }
        sleep(LOOK);
    }
}

fn status(admin: SocketAddr, model: &str) -> Result<ModelStatus, Wrong> {
    let answer = ask::get(admin, &format!("/syncs/{model}"));
    let (status, body) = answer.map_err(|error| Wrong::Failed(error.to_string()))?;
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body);
        return Err(Wrong::Failed(format!("the daemon answered {status}: {}", said.trim())));
    }
    serde_json::from_slice(&body)
        .map_err(|error| Wrong::Failed(format!("the daemon answered nonsense: {error}")))
}

fn progress(counts: &Counts) -> String {
    let Counts { phase, rows, sent, failed, .. } = counts;
    let what = match phase.as_str() {
        "" => "starting",
        "query" => "querying",
        "send" => "sending",
        other => other,
    };
    format!("{what}: {rows} rows, {sent} events sent, {failed} failed")
}

fn print(record: &SyncRecord) -> io::Result<()> {
    let counts = &record.counts;
    let mut out = io::stdout().lock();
    let dry = if record.dry_run { " (dry run: nothing was sent)" } else { "" };
    writeln!(out, "{}{dry}: {} rows", counts.state.label(), counts.rows)?;
    for (change, rows) in counts.by_change() {
        let is_usual = matches!(change, "added" | "updated" | "deleted" | "unchanged");
        if rows > 0 || is_usual || matches!(change, "refused" | "failed") {
            writeln!(out, "  {rows:>12} {change}")?;
        }
    }
    for sample in &counts.samples {
        writeln!(out, "  {sample}")?;
    }
    if let Some(error) = &counts.error {
        eprintln!("error: {error}");
    }
    Ok(())
}
