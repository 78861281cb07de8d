//! `consentd syncs`: what went on, and goes on, between warehouses and the daemon.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::ask::{self, NoAnswer};
use crate::admin::{ModelStatus, SyncRecord};
use crate::{config, daemon};

/// Arguments of `syncs`.
#[derive(Debug, Args)]
pub(super) struct SyncsArgs {
    /// A model: everything that is remembered of it; without one, the last sync of each
    model: Option<String>,
    /// The config of the daemon, which need not run.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Exit codes: 0 printed, 1 there is no such model, or it can't be read, 2 wrong usage or config.
pub(super) fn run(args: &SyncsArgs) -> ExitCode {
    let admin = match config::admin_address(&args.config) {
        Ok(admin) => admin,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let path = args.model.as_ref().map_or("/syncs".to_owned(), |model| format!("/syncs/{model}"));
    let models = match ask::get(admin, &path) {
        Ok((StatusCode::OK, body)) => read(&body),
        Ok((status, body)) => {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            Err(answer["message"].as_str().map_or(status.to_string(), str::to_owned))
        }
        Err(NoAnswer::Refused(_)) => return of_files(args),
        Err(NoAnswer::Failed(why)) => Err(why),
    };
    show(models, args)
}

/// One model, or all of them.
fn read(body: &[u8]) -> Result<Vec<ModelStatus>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let models = match answer.get("models") {
        Some(models) => models.clone(),
        None => json!([answer]),
    };
    serde_json::from_value(models).map_err(|error| format!("the daemon answered nonsense: {error}"))
}

/// The daemon does not run: what it left behind.
fn of_files(args: &SyncsArgs) -> ExitCode {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    eprintln!("the daemon does not run: this is what it remembered");
    let models = daemon::remembered_syncs(&loaded.config).map_err(|error| error.to_string());
    let models = models.and_then(|mut models| {
        match &args.model {
            None => models.iter_mut().for_each(|model| model.history.truncate(1)),
            Some(name) => models.retain(|model| model.model == *name),
        }
        let is_there = args.model.is_none() || !models.is_empty();
        is_there.then_some(models).ok_or("there is no such model".to_owned())
    });
    show(models, args)
}

fn show(models: Result<Vec<ModelStatus>, String>, args: &SyncsArgs) -> ExitCode {
    let printed = models.and_then(|models| print(&models, args).map_err(|error| error.to_string()));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn print(models: &[ModelStatus], args: &SyncsArgs) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return models.iter().try_for_each(|model| writeln!(out, "{}", json!(model)));
    }
    for model in models {
        let next = model.next.as_ref().map_or(String::new(), |next| format!(", next {next}"));
        writeln!(out, "{} ({}{next})", model.model, model.schedule)?;
        let records = model.running.iter().chain(&model.history);
        let mut is_empty = true;
        for record in records {
            is_empty = false;
            write_record(&mut out, record, args.model.is_some())?;
        }
        if is_empty {
            writeln!(out, "  no sync yet")?;
        }
    }
    Ok(())
}

fn write_record(out: &mut impl io::Write, record: &SyncRecord, whole: bool) -> io::Result<()> {
    let SyncRecord { sync, by, full, dry_run, start, end, counts } = record;
    let flag = |on: &bool, name: &'static str| if *on { name } else { "" };
    let (full, dry_run) = (flag(full, ", full"), flag(dry_run, ", dry run"));
    let end = end.as_ref().map_or(String::new(), |end| format!(" to {end}"));
    writeln!(out, "  {start}{end} {} (by {by}{full}{dry_run}, {sync})", counts.state.label())?;
    let numbers: Vec<String> = counts
        .by_change()
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(change, rows)| format!("{rows} {change}"))
        .collect();
    writeln!(out, "    {} rows: {}", counts.rows, numbers.join(", "))?;
    if let Some(error) = &counts.error {
        writeln!(out, "    error: {error}")?;
    }
    for sample in counts.samples.iter().filter(|_| whole) {
        writeln!(out, "    {sample}")?;
    }
    Ok(())
}
