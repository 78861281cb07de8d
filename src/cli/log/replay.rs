//! `consentd log dead-letters replay`

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::{FilterArgs, Where, Wrong, unix_ms};
use crate::admin::{ReplayAnswer, ReplayRequest};
use crate::cli::ask;
use crate::config;

/// Arguments of `log dead-letters replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only count what would be replayed.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, Wrong> {
    let admin = config::admin_address(&args.at.config);
    let admin = admin.map_err(|error| Wrong::Usage(error.to_string()))?;
    let filter = &args.filter;
    let mut asked = ReplayRequest {
        destination: filter.destination.clone(),
        source: filter.source.clone(),
        reason: filter.reason.clone(),
        since_unix_ms: filter.since.map(unix_ms),
        before_unix_ms: filter.before.map(unix_ms),
        limit: filter.limit,
        dry_run: args.dry_run,
        resume: None,
    };
    let mut sum = ReplayAnswer::default();
    loop {
        let answer = match ask(admin, &asked) {
            Ok(answer) => answer,
            Err(wrong) => {
                if sum != ReplayAnswer::default() {
                    print(&sum, args)?;
                }
                return Err(wrong);
            }
        };
        sum.replayed += answer.replayed;
        sum.without_owner += answer.without_owner;
        sum.cut += answer.cut;
        sum.rejected_again += answer.rejected_again;
        let seen = answer.replayed + answer.without_owner + answer.cut + answer.rejected_again;
        asked.limit = asked.limit.map(|limit| limit.saturating_sub(seen));
        asked.resume = answer.resume;
        if answer.resume.is_none() {
            break;
        }
    }
    print(&sum, args)?;
    Ok(ExitCode::SUCCESS)
}

fn ask(admin: SocketAddr, asked: &ReplayRequest) -> Result<ReplayAnswer, Wrong> {
    let body = serde_json::to_vec(asked).map_err(|error| Wrong::Failed(error.to_string()))?;
    let (status, body) = ask::post(admin, "/dead-letters/replay", body)
        .map_err(|error| Wrong::Failed(error.to_string()))?;
    let answer: Result<Value, _> = serde_json::from_slice(&body);
    let nonsense = || Wrong::Failed(format!("the daemon at {admin} answered {status}"));
    let answer = answer.map_err(|_| nonsense())?;
    if status == StatusCode::OK {
        return serde_json::from_value(answer).map_err(|_| nonsense());
    }
    let said = answer["message"].as_str().ok_or_else(nonsense)?;
    Err(Wrong::Failed(format!("not replayed: {said}")))
}

fn print(sum: &ReplayAnswer, args: &ReplayArgs) -> Result<(), Wrong> {
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::json!(sum))?;
        return Ok(());
    }
    let ReplayAnswer { replayed, without_owner, cut, rejected_again, .. } = sum;
    let (did, stay) =
        if args.dry_run { ("would be replayed", "would stay") } else { ("replayed", "stay") };
    writeln!(out, "{replayed} {did}")?;
    for (events, why) in [
        (without_owner, "their destination or source does not exist any more"),
        (cut, "only their beginning was kept"),
        (rejected_again, "they were rejected again"),
    ] {
        if *events > 0 {
            writeln!(out, "{events} {stay}: {why}")?;
        }
    }
    Ok(())
}
