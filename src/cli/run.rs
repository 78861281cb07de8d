//! `consentd run`: the daemon, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::logging::{self, Level};
use crate::daemon;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The config
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// Least important messages to log
    #[arg(long, value_enum, default_value_t = Level::Info)]
    log_level: Level,
}

/// Exit codes: 0 stopped and everything delivered, 1 not everything, 2 could not start.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    logging::start(args.log_level);
    daemon::run(&args.config)
}
