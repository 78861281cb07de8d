//! One destination that nobody listens on: does memory stay flat, do the others still get theirs?

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::WhenFull;
use crate::law::Counts;
use crate::measure::{GROWTH_MAX_MIB, growth, sampled};
use crate::round::{Findings, wait_for_arrival};
use crate::scenario::{Bench, Case, Scenario};
use crate::send::{Demand, Feed, Sent, send};
use crate::sink::{Output, OutputKind};
use crate::subject::{DaemonOptions, Subject};

/// How long counts must stay as they are to be at rest.
const REST: Duration = Duration::from_millis(500);

/// The outcome.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it, and they are the keys of the JSON")]
pub struct DeadReport {
    pub scenario: Scenario,
    pub destinations: usize,
    pub when_full: &'static str,
    pub dead: String,
    pub seconds: u64,
    pub events: u64,
    pub events_per_second: f64,
    /// With every destination alive; only where the dead one must not slow the others.
    pub healthy_events_per_second: Option<f64>,
    /// Of the dead destination.
    pub overflow: u64,
    /// Of the dead destination, at the end.
    pub pending: u64,
    pub rss_mib: Vec<f64>,
    pub rss_growth_mib: f64,
    pub findings: Findings,
}

/// Sends for so many seconds with one destination dead, the one with the most to receive.
///
/// # Errors
/// When the daemon cannot be started, hangs up or does not answer.
pub fn run(
    bench: &Bench,
    case: Case,
    when_full: WhenFull,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<DeadReport> {
    let Case { scenario, destinations, seconds } = case;
    let (plan, expectations) = bench.plan(destinations);
    let daemon = DaemonOptions { when_full: Some(when_full), ..daemon.clone() };
    let mut findings = Findings::default();
    let mut healthy_events_per_second = None;
    if when_full == WhenFull::DropNewest {
        let (measured, found) =
            bench.daemon_round(scenario, &daemon, &plan, &expectations, scratch)?;
        healthy_events_per_second = Some(measured.events_per_second);
        findings.merge(found);
    }
    let directory = tempfile::tempdir_in(scratch)?;
    let sink = bench.sink(scenario.output(), &expectations, directory.path())?;
    let dead = busiest(&expectations.deliveries(bench.load().templates.len() as u64));
    let mut outputs = sink.outputs().to_vec();
    outputs[dead] = unreachable_output(scenario.output());
    let daemon = DaemonOptions { when_full: Some(when_full), ..daemon.clone() };
    let subject = Subject::daemon(&daemon, &plan, &outputs, scenario.input(), directory.path())?;

    let started = Instant::now();
    let give_up = started + Duration::from_secs(seconds);
    let (sent, rss_mib) = send_and_sample(bench, &subject, give_up)?;
    let sending_seconds = started.elapsed().as_secs_f64();

    let mut due = expectations.deliveries(sent.events);
    due[dead] = 0;
    if when_full == WhenFull::Block {
        // What the daemon holds back is not missing.
        due.fill(0);
    } else {
        wait_for_arrival(sink.register(), due.iter().sum());
    }
    let counts = at_rest(&subject)?;
    let mut findings = Findings { breaches: counts.breaches(), ..Findings::default() };
    let account = counts.destinations.get(&plan.rules[dead].name).copied().unwrap_or_default();
    if when_full == WhenFull::DropNewest && account.overflow == 0 {
        findings.breaches.push("nothing overflowed, so the bound was not tested".to_owned());
    }
    let rss_growth_mib = growth(&rss_mib);
    if rss_growth_mib > GROWTH_MAX_MIB {
        findings.breaches.push(format!("memory grew by {rss_growth_mib:.1} MiB"));
    }
    // It may have to leave events behind, and then says so in its exit status.
    subject.stop()?;
    let register = std::sync::Arc::clone(sink.register());
    findings.add_arrivals(&sink.finish()?, &due, &register);
    Ok(DeadReport {
        scenario,
        destinations,
        when_full: when_full.key(),
        dead: plan.rules[dead].name.clone(),
        seconds,
        events: sent.events,
        events_per_second: sent.events as f64 / sending_seconds,
        healthy_events_per_second,
        overflow: account.overflow,
        pending: account.pending,
        rss_mib,
        rss_growth_mib,
        findings,
    })
}

fn busiest(due: &[u64]) -> usize {
    (0..due.len()).max_by_key(|destination| due[*destination]).unwrap_or(0)
}

/// Port 1 is reserved, so nobody who was given a free port listens there.
fn unreachable_output(kind: OutputKind) -> Output {
    let address = ([127, 0, 0, 1], 1).into();
    match kind {
        OutputKind::Http => Output::Http(address, "/dead".to_owned()),
        OutputKind::Tcp | OutputKind::File | OutputKind::Blackhole => Output::Tcp(address),
    }
}

fn send_and_sample(
    bench: &Bench,
    subject: &Subject,
    give_up: Instant,
) -> io::Result<(Sent, Vec<f64>)> {
    let load = bench.load();
    let demand = Demand { events: u64::MAX, rate: None, at_a_time: None, give_up };
    let feed = Feed::new(&load.templates, load.clock, 0, demand);
    let (sent, rss_mib) = sampled(subject.meter(), || send(&feed, subject.entry()))?;
    Ok((sent?, rss_mib))
}

fn at_rest(subject: &Subject) -> io::Result<Counts> {
    let mut counts = subject.counts()?.unwrap_or_default();
    for _ in 0..20 {
        thread::sleep(REST);
        let later = subject.counts()?.unwrap_or_default();
        if later == counts {
            break;
        }
        counts = later;
    }
    Ok(counts)
}
