//! `consentd erase`: forgets what is stored about somebody.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hyper::StatusCode;

use super::client::{self, Failure};
use crate::admin::{EraseAnswer, Subject};
use crate::{config, daemon};

/// How long a daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(80);

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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let subject = Subject { user: args.user, anonymous: args.anonymous };
    let asking = ask(admin, &subject, args.wait);
    match runtime.block_on(async { tokio::time::timeout(TIMEOUT, asking).await }) {
        Ok(Ok(in_flight)) => {
            println!("erased: what was received before is not delivered any more");
            println!(
                "it is being removed from the disk (consentd_erasures_pending is 0 when done)"
            );
            if in_flight {
                println!("requests under way began before; --wait waits for them");
            }
            ExitCode::SUCCESS
        }
        Ok(Err(error)) if is_refused(&error) => without_daemon(&args.config, admin, subject),
        Ok(Err(error)) => failed(&format!("the daemon at {admin}: {error}")),
        Err(_) => failed(&format!("the daemon at {admin} did not answer within {TIMEOUT:?}")),
    }
}

/// Whether requests are under way that began before.
async fn ask(admin: SocketAddr, subject: &Subject, wait: bool) -> Result<bool, Failure> {
    let path = if wait { "/erase?wait=1" } else { "/erase" };
    let (status, body) = client::post(admin, path, serde_json::to_vec(subject)?).await?;
    if status == StatusCode::OK
        && let EraseAnswer::Erased { in_flight } = serde_json::from_slice(&body)?
    {
        return Ok(in_flight);
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = said["message"].as_str().unwrap_or("is this the admin address of a consentd?");
    Err(format!("not erased: it answered {status}: {why}").into())
}

fn is_refused(error: &Failure) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
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
            println!("the daemon does not run: its next start removes it from the disk");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("nobody listens on {admin} (admin.listen), and {error}")),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
