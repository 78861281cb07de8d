//! `consentd sync-child`: the process of one sync, which the daemon starts.

use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::error;

use super::logging::{self, Level};
use crate::config;
use crate::sync::{self, Errand};

/// Arguments of `sync-child`; the errand comes on standard input.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The config
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
}

/// Exit codes: 0 done, 1 failed, 2 wrong usage or config.
pub(super) fn run(args: &Args) -> ExitCode {
    logging::start(Level::Info);
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string());
    let errand: Result<Errand, String> =
        read.and_then(|_| serde_json::from_str(&line).map_err(|error| error.to_string()));
    let errand = match errand {
        Ok(errand) => errand,
        Err(error) => {
            error!("the daemon starts this command with an errand on standard input: {error}");
            return ExitCode::from(2);
        }
    };
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            error!("{errors}");
            return ExitCode::from(2);
        }
    };
    match sync::run(&errand, &loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}
