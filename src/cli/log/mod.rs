//! `consentd log ...`: what is in the log and in the dead letters, and is it sound.
//!
//! Owns how they are shown. They are read from the files, beside a running daemon or without one, and
//! nothing of them is changed; only `dead-letters replay` asks the daemon for something.
//!
//! What always holds: events are personal data, and are shown only to those who ask for them.

mod dead_letters;
mod inspect;
mod output;
mod place;
mod replay;
mod stats;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use place::{Place, Wrong};

/// Arguments of `log`.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the segments, and how far each destination is
    Inspect(inspect::InspectArgs),
    /// Read everything through and check it: exit 0 sound, 1 damaged
    Verify(verify::VerifyArgs),
    /// Count what is stored, by source and destination
    Stats(stats::StatsArgs),
    /// Events that failed for good
    #[command(subcommand)]
    DeadLetters(DeadLetters),
}

#[derive(Debug, Subcommand)]
enum DeadLetters {
    /// List them: one JSON object a line, or a table
    List(dead_letters::ListArgs),
    /// Have the running daemon deliver them again, if the rules in force allow it
    Replay(replay::ReplayArgs),
}

/// What the commands that read have in common.
#[derive(Debug, Args)]
struct Where {
    /// The config of the daemon; its `data_dir` is where the log is.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
}

/// Which log.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    at: Where,
    /// Look into the dead letters instead.
    #[arg(long)]
    dead_letters: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Which dead letters: those for which everything that is said is so.
#[derive(Debug, Args)]
struct FilterArgs {
    /// For this destination.
    #[arg(long)]
    destination: Option<String>,
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    /// For this reason: `rejected_by_destination`, `gave_up`, why a deletion of a row was refused when it
    /// was to leave (`disabled`, `filtered`, ...), or why it was rejected on the way in.
    #[arg(long)]
    reason: Option<String>,
    /// Received then or later, as in `2026-01-31T12:00:00Z`.
    #[arg(long)]
    since: Option<jiff::Timestamp>,
    /// Received before that.
    #[arg(long)]
    before: Option<jiff::Timestamp>,
    /// No more than so many.
    #[arg(long)]
    limit: Option<u64>,
}

fn unix_ms(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// Exit codes: 0 done, 1 damaged, unreadable or refused, 2 the config is wrong or has no log.
pub(super) fn run(args: &LogArgs) -> ExitCode {
    let done = match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Stats(args) => stats::run(args),
        Command::DeadLetters(DeadLetters::List(args)) => dead_letters::run(args),
        Command::DeadLetters(DeadLetters::Replay(args)) => replay::run(args),
    };
    match done {
        Ok(code) => code,
        Err(Wrong::Reported(code)) => code,
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
