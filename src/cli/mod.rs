//! The command line: one file a command.
//!
//! Owns arguments, what is printed, and exit codes: 0 done, 1 failed, 2 wrong usage or config.
//! Output meant for programs goes to standard output, all else to standard error.

mod ask;
mod check;
mod demo;
mod erase;
mod explain;
mod log;
mod logging;
mod preview;
mod reference;
mod reload;
mod run;
mod sync;
mod sync_child;
mod syncs;
mod test;
mod verdict;
mod warehouse_demo;
mod warehouses;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where the config is unless somebody says otherwise.
const CONFIG_FILE: &str = "/etc/consentd/consentd.toml";

/// Sends every event only to the destinations whose consent categories its user agreed to.
#[derive(Debug, Parser)]
#[command(name = "consentd", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run(run::RunArgs),
    /// Check a config: every mistake at once, with its place and what to write instead
    Check(check::Args),
    /// Explain what becomes of events: NDJSON in, one JSON object per event out
    Explain(explain::Args),
    /// Run the `[[tests]]` of a config
    Test(test::Args),
    /// Make a running daemon read its config again
    Reload(reload::ReloadArgs),
    /// Look into the log and the dead letters of a daemon, which may be running
    Log(log::LogArgs),
    /// Erase what is stored about a user, running daemon or not
    Erase(erase::EraseArgs),
    /// Sync a model now: its warehouse is asked, and what changed is sent
    Sync(sync::SyncArgs),
    /// Show the syncs of the models: the ones that go on and the ones that ended
    Syncs(syncs::SyncsArgs),
    /// Show the first rows of a model, the events they become and where those may go; nothing is sent
    Preview(preview::PreviewArgs),
    /// Try out the warehouses of a config
    Warehouses(warehouses::WarehousesArgs),
    /// Start a daemon with sample destinations, stream sample events into it, show what happened
    Demo(demo::DemoArgs),
    /// The process of one sync, which the daemon starts
    #[command(hide = true)]
    SyncChild(sync_child::Args),
    /// Print the config reference, generated from the config types
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Reads the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Erase(args) => erase::run(args),
        Command::Sync(args) => sync::run(&args),
        Command::Syncs(args) => syncs::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Warehouses(args) => warehouses::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::SyncChild(args) => sync_child::run(&args),
    }
}
