//! `consentd test`: the `[[tests]]` of a config, in the manner of unit tests.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::verdict::{outcomes, prepare};
use crate::config::{Config, Expect, Test};
use crate::consent::{Judge, Outcome};
use crate::route::RoutingTable;

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The config whose tests are run.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
}

/// Exit codes: 0 all passed, 1 some failed, 2 wrong config.
pub(super) fn run(args: &Args) -> ExitCode {
    let config = match super::check::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let table = match RoutingTable::compile(&config.table_spec(1)) {
        Ok(table) => table,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut out = anstream::stdout().lock();
    let failed = report(&config, &table, &mut out);
    match failed {
        Ok(0) => ExitCode::SUCCESS,
        // Whoever reads the report has gone, or there are failures to see in it.
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// Runs every test; how many failed.
fn report(config: &Config, table: &RoutingTable, out: &mut impl Write) -> std::io::Result<usize> {
    let mut judge = Judge::new(table, config.daemon.max_event_bytes);
    let mut failed = 0;
    for test in &config.tests {
        let differences = differences(test, &observe(test, table, &mut judge));
        if differences.is_empty() {
            writeln!(out, "{GREEN}ok{GREEN:#}      {}", test.name)?;
            continue;
        }
        failed += 1;
        writeln!(out, "{RED}FAILED{RED:#}  {}", test.name)?;
        for difference in differences {
            writeln!(out, "          {difference}")?;
        }
    }
    writeln!(out, "{} passed, {failed} failed", config.tests.len() - failed)?;
    Ok(failed)
}

/// What became of an event.
enum Observed {
    Accepted { deliver: Vec<String>, drop: Vec<(String, &'static str)> },
    Rejected { reason: &'static str, detail: String },
}

fn observe(test: &Test, table: &RoutingTable, judge: &mut Judge) -> Observed {
    let source = test.source.as_deref().and_then(|name| table.source(name));
    let mut line = test.event.as_bytes().to_vec();
    let len = prepare(&mut line).unwrap_or(0);
    match judge.judge(&mut line, len, source.unwrap_or(table.any_source()), table, |_| {}) {
        Ok(decision) => {
            let (mut deliver, mut drop) = (Vec::new(), Vec::new());
            for (name, outcome) in outcomes(&decision, table) {
                match outcome {
                    Outcome::Deliver => deliver.push(name.to_owned()),
                    Outcome::Drop(refusal) => drop.push((name.to_owned(), refusal.label())),
                }
            }
            Observed::Accepted { deliver, drop }
        }
        Err(rejection) => {
            Observed::Rejected { reason: rejection.reason.label(), detail: rejection.to_string() }
        }
    }
}

/// What is not as expected, each a line.
fn differences(test: &Test, observed: &Observed) -> Vec<String> {
    match (&test.expect, observed) {
        (Expect::Rejected(expected), Observed::Rejected { reason, .. }) if expected == reason => {
            Vec::new()
        }
        (Expect::Rejected(expected), Observed::Rejected { reason, detail }) => {
            vec![format!("expected rejected: {expected}, got: {reason} ({detail})")]
        }
        (Expect::Rejected(expected), Observed::Accepted { deliver, .. }) => {
            vec![format!("expected rejected: {expected}, got deliver: {}", listed(deliver))]
        }
        (Expect::Accepted { .. }, Observed::Rejected { reason, detail }) => {
            vec![format!("expected an event, got rejected: {reason} ({detail})")]
        }
        (
            Expect::Accepted { deliver: expected, drop: reasons },
            Observed::Accepted { deliver, drop },
        ) => {
            let mut found = Vec::new();
            if let Some(expected) = expected
                && !same_names(expected, deliver)
            {
                found.push(format!("expected deliver: {}", listed(expected)));
                found.push(format!("     got deliver: {}", listed(deliver)));
            }
            for (name, expected) in reasons {
                let got = drop.iter().find(|(other, _)| other == name);
                let got = got.map_or("deliver", |(_, reason)| *reason);
                if got != expected {
                    found.push(format!("expected {name}: {expected}, got: {got}"));
                }
            }
            found
        }
    }
}

/// Whether two lists name the same, in any order.
fn same_names(one: &[String], other: &[String]) -> bool {
    let covers = |a: &[String], b: &[String]| b.iter().all(|name| a.contains(name));
    covers(one, other) && covers(other, one)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") }
}
