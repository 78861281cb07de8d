//! How fast a destination that was down gets what waits for it in the log, beside how fast it gets
//! events as they come in.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::measure::median;
use crate::plan::Plan;
use crate::round::{Findings, Load, wait_for_arrival};
use crate::scenario::{Bench, Scenario};
use crate::send::{Demand, Feed, Sent, send};
use crate::sink::{Register, Sink};
use crate::subject::{DaemonOptions, Subject};

/// What catching up must reach of the speed of live delivery.
const SHARE_MIN: f64 = 0.7;

/// The only one whose sink can say that it takes nothing now.
const SCENARIO: Scenario = Scenario::HttpToHttp;

/// No phase of a sound run lasts this long.
const PHASE_TIMEOUT: Duration = Duration::from_secs(300);

/// Senders at a time.
const CONNECTIONS: usize = 16;

/// The outcome.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it, and they are the keys of the JSON")]
pub struct CatchUpReport {
    pub destinations: usize,
    /// That are stored while nothing is taken.
    pub events: u64,
    /// Of each round.
    pub rounds: Vec<Speeds>,
    /// The median of the rounds' ratios of catching up to live.
    pub share: f64,
    /// The most memory that the daemon ever had.
    pub rss_peak_mib: f64,
    pub findings: Findings,
}

/// Events a second that arrive.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Speeds {
    pub live: f64,
    pub catching_up: f64,
    /// Only stored: taken in while nothing is delivered.
    pub stored: f64,
}

/// Live, then down, then up again, in one daemon; every destination gets every event.
///
/// # Errors
/// When the daemon cannot be started, hangs up or does not answer.
pub fn run(
    bench: &Bench,
    destinations: usize,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<CatchUpReport> {
    let (mut plan, _) = bench.plan(destinations);
    plan.rules.iter_mut().for_each(|rule| {
        rule.categories.clear();
        rule.types.clear();
    });
    let daemon = DaemonOptions { retry_max: Some("100ms".to_owned()), ..daemon.clone() };
    let (mut rounds, mut peaks) = (Vec::new(), Vec::new());
    let mut findings = Findings::default();
    for _ in 0..bench.rounds() {
        let (speeds, peak, found) = round(bench, &plan, &daemon, scratch)?;
        rounds.push(speeds);
        peaks.push(peak);
        findings.merge(found);
    }
    let share = median(rounds.iter().map(|speeds| speeds.catching_up / speeds.live).collect());
    if share < SHARE_MIN {
        findings.breaches.push(format!("catching up reaches {share:.2} of live delivery"));
    }
    let rss_peak_mib = peaks.into_iter().fold(0.0, f64::max);
    let events = bench.load().events;
    Ok(CatchUpReport { destinations, events, rounds, share, rss_peak_mib, findings })
}

fn round(
    bench: &Bench,
    plan: &Plan,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<(Speeds, f64, Findings)> {
    let expectations = bench.expectations(plan);
    let directory = tempfile::tempdir_in(scratch)?;
    let sink = bench.sink(SCENARIO.output(), &expectations, directory.path())?;
    let subject =
        Subject::daemon(daemon, plan, sink.outputs(), SCENARIO.input(), directory.path())?;
    let load = bench.load();
    let due = |sent: u64| expectations.deliveries(sent).iter().sum::<u64>();

    let mut sent = put(load, &subject, load.events / 10, 0)?;
    wait_for_arrival(sink.register(), due(sent.events));
    let started = Instant::now();
    let (before, arrived) = (sent.events, sink.register().arrived());
    sent = sent.plus(put(load, &subject, load.events, before)?);
    wait_for_arrival(sink.register(), due(sent.events));
    let live = speed(sink.register(), arrived, started);

    sink.set_open(false);
    let (before, started) = (sent.events, Instant::now());
    sent = sent.plus(put(load, &subject, load.events, before)?);
    let stored = (sent.events - before) as f64 / started.elapsed().as_secs_f64();
    let catching_up = open_and_wait(&sink, due(sent.events));

    let rss_peak_mib = subject.meter().rss_peak()? as f64 / f64::from(1 << 20);
    let mut findings = Findings::default();
    if !subject.stop()? {
        findings.breaches.push("the daemon did not end well".to_owned());
    }
    let register = Arc::clone(sink.register());
    findings.add_arrivals(&sink.finish()?, &expectations.deliveries(sent.events), &register);
    Ok((Speeds { live, catching_up, stored }, rss_peak_mib, findings))
}

fn put(load: &Load, subject: &Subject, events: u64, first: u64) -> io::Result<Sent> {
    let give_up = Instant::now() + PHASE_TIMEOUT;
    let demand = Demand { events, rate: None, at_a_time: Some(100), give_up };
    let feed = Feed::new(&load.templates, load.clock, first, demand);
    send(&feed, subject.entry_over(CONNECTIONS))
}

/// From the first arrival on: when a destination is tried again is another matter.
fn open_and_wait(sink: &Sink, due: u64) -> f64 {
    let before = sink.register().arrived();
    sink.set_open(true);
    let give_up = Instant::now() + PHASE_TIMEOUT;
    while sink.register().arrived() == before && Instant::now() < give_up {
        thread::sleep(Duration::from_millis(1));
    }
    let (first, started) = (sink.register().arrived(), Instant::now());
    wait_for_arrival(sink.register(), due);
    speed(sink.register(), first, started)
}

fn speed(register: &Register, arrived: u64, started: Instant) -> f64 {
    (register.arrived() - arrived) as f64 / started.elapsed().as_secs_f64()
}
