//! The command line: one file a command.
//!
//! Owns arguments, what is printed, and exit codes: 0 done, 1 failed, 2 wrong usage or config.
//! Output meant for programs goes to standard output, all else to standard error.

mod logging;
mod reload;
mod run;

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
    /// Make a running daemon read its config again
    Reload(reload::ReloadArgs),
}

/// Reads the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Reload(args) => reload::run(&args),
    }
}
