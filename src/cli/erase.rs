//! `consentd erase`: forgets what is stored about somebody.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;

use super::ask::{self, NoAnswer};
use crate::admin::{EraseAnswer, Subject};
use crate::{config, daemon};

/// Arguments of `erase`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("id").required(true).multiple(true))]
pub(super) struct EraseArgs {
    /// Erase the stored events with this userId
    #[arg(long, value_name = "ID", group = "id", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Erase the stored events with this anonymousId (with --user: those with either)
    #[arg(long, value_name = "ID", group = "id", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    anonymous: Option<String>,
    /// The config of the daemon; its admin.listen is where a running one is asked
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// Wait until no request is under way that may still contain such an event
    #[arg(long)]
    wait: bool,
}

/// Exit codes: 0 erased, 1 not erased, 2 the config is wrong.
pub(super) fn run(args: EraseArgs) -> ExitCode {
    let admin = match config::admin_address(&args.config) {
        Ok(admin) => admin,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let subject = Subject { user: args.user, anonymous: args.anonymous };
    let path = if args.wait { "/erase?wait=1" } else { "/erase" };
    let body = match serde_json::to_vec(&subject) {
        Ok(body) => body,
        Err(error) => return failed(&error.to_string()),
    };
    match ask::post(admin, path, body) {
        Ok((status, body)) => report(admin, status, &body),
        Err(NoAnswer::Refused(_)) => without_daemon(&args.config, admin, subject),
        Err(error) => failed(&error.to_string()),
    }
}

fn report(admin: SocketAddr, status: StatusCode, body: &[u8]) -> ExitCode {
    if status == StatusCode::OK
        && let Ok(EraseAnswer::Erased { in_flight }) = serde_json::from_slice(body)
    {
        println!("erased: what was received before is not delivered any more");
        println!("dead letters are removed; the log on the disk is being written anew");
        println!("(consentd_erasures_pending is 0 when done)");
        if in_flight {
            println!("requests under way began before; --wait waits for them");
        }
        return ExitCode::SUCCESS;
    }
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let why = said["message"].as_str().unwrap_or("is this the admin address of a consentd?");
    failed(&format!("not erased: the daemon at {admin} answered {status}: {why}"))
}

/// Nobody listens: most likely the daemon does not run.
fn without_daemon(file: &std::path::Path, admin: SocketAddr, subject: Subject) -> ExitCode {
    let config = match config::load(file) {
        Ok(loaded) => loaded.config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match daemon::erase_stopped(&config, subject.user, subject.anonymous) {
        Ok(()) => {
            println!("erased: what is stored is not delivered any more");
            println!("the daemon does not run: its next start removes it from the log on the disk");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("nobody listens on {admin} (admin.listen), and {error}")),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
