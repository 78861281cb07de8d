//! `consentd reload`: asks a running daemon to reload.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;

use crate::admin::ReloadAnswer;
use crate::config;

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// The config of the running daemon; its admin.listen is where it is asked.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// Wait until nothing is delivered any more that an older table permitted.
    #[arg(long)]
    wait: bool,
}

/// Exit codes: 0 applied, 1 refused or not reached, 2 the config names no admin address.
pub(super) fn run(args: &ReloadArgs) -> ExitCode {
    let admin = match config::admin_address(&args.config) {
        Ok(admin) => admin,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let path = if args.wait { "/reload?wait=1" } else { "/reload" };
    let (status, body) = match super::ask::post(admin, path, Vec::new()) {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    if status != StatusCode::OK && status != StatusCode::UNPROCESSABLE_ENTITY {
        let said = String::from_utf8_lossy(&body);
        return failed(&format!("the daemon at {admin} answered {status}: {}", said.trim()));
    }
    match serde_json::from_slice(&body) {
        Ok(answer) => report(answer),
        Err(error) => failed(&format!("the daemon at {admin} answered nonsense: {error}")),
    }
}

fn report(answer: ReloadAnswer) -> ExitCode {
    match answer {
        ReloadAnswer::Applied { version, table, changes, restart_needed, warnings } => {
            println!("reloaded: table {version} ({table}) is in force");
            for change in &changes {
                println!("  {change}");
            }
            if changes.is_empty() {
                println!("  nothing changed");
            }
            for key in &restart_needed {
                println!("  `{key}` changed in the file: it takes effect after a restart");
            }
            for warning in &warnings {
                eprintln!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        ReloadAnswer::Refused { errors } => {
            eprintln!("refused: the running config stays in force");
            for error in &errors {
                eprintln!("  {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
