//! `consentd reload`: asks a running daemon to reload.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;

use crate::admin::{ReloadAnswer, Waiting};
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
        Err(error) => return failed(&error.to_string()),
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
        ReloadAnswer::Applied { version, table, changes, restart_needed, warnings, waiting } => {
            println!("reloaded: table {version} ({table}) is in force");
            for change in &changes {
                println!("  {change}");
            }
            if changes.is_empty() {
                println!("  nothing changed");
            }
            for waiting in &waiting {
                for sentence in told(waiting) {
                    println!("  {sentence}");
                }
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

/// What there is to say about the events that wait for a destination.
fn told(waiting: &Waiting) -> Vec<String> {
    let Waiting { destination, events, refused, complete, in_flight } = waiting;
    let mut sentences = vec![match (refused, complete) {
        (Some(0), true) => format!("destination `{destination}`: {events} events wait, as before"),
        (Some(refused), true) => format!(
            "destination `{destination}`: {events} events wait; it will not get {refused} of them"
        ),
        (Some(refused), false) => format!(
            "destination `{destination}`: {events} events wait; it will not get at least {refused} \
             of them (there was no time to look at all)"
        ),
        (None, _) => format!(
            "destination `{destination}`: {events} events wait; each is judged again before it leaves"
        ),
    }];
    if *in_flight > 0 {
        sentences.push(format!(
            "destination `{destination}`: {in_flight} events are in requests under way, permitted by \
             the rules before (--wait waits for them)"
        ));
    }
    sentences
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
