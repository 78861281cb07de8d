//! What the log costs the senders: throughput with and without it, and how long an answer takes beside
//! how long the disk takes for one sync.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::measure::median;
use crate::round::{Findings, wait_for_arrival};
use crate::scenario::{Bench, Scenario};
use crate::send::{Demand, Feed, Sent, send};
use crate::subject::{DaemonOptions, Subject};

const SCENARIO: Scenario = Scenario::HttpToHttp;

/// With the log, of the throughput without.
const SHARE_MIN: f64 = 0.7;

/// The p99 of answers at the steady rate, in median syncs of the disk.
const SYNCS_MAX: f64 = 3.0;

/// Events of a request.
const REQUEST_EVENTS: u64 = 100;

/// Syncs that are timed while nothing else goes on.
const SYNCS: usize = 60;

/// How often one is timed beside the load. A disk that is given a budget of work is many times slower
/// once that is spent, so that a disk at rest says little.
const SYNC_EVERY: Duration = Duration::from_millis(20);

/// What is written before each: about a request.
const SYNC_BYTES: usize = 100 * 1024;

/// How much of what.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Shape {
    pub destinations: usize,
    pub connections: usize,
    /// Of each phase.
    pub seconds: u64,
}

/// The outcome.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it, and they are the keys of the JSON")]
pub struct AcknowledgeReport {
    pub shape: Shape,
    pub request_events: u64,
    pub rounds: Vec<AcknowledgeRound>,
    /// The median of the rounds' ratios of throughput with the log to that without.
    pub share: f64,
    /// The median of the rounds' ratios of the p99 at a steady rate to the disk's sync.
    pub syncs: f64,
    pub findings: Findings,
}

/// One of them.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AcknowledgeRound {
    pub without_log: Phase,
    /// Without the log, at the rate that was asked for: what the machine and the load test take themselves.
    pub steady_without_log: Phase,
    pub with_log: Phase,
    /// With the log, at the rate that was asked for.
    pub steady: Phase,
    /// The median of the disk while the daemon rests.
    pub idle_sync_ms: f64,
    /// The median of the disk beside the steady load,
    pub sync_ms: f64,
    /// and its p99.
    pub sync_p99_ms: f64,
}

/// Events that were sent for a while.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Phase {
    pub events_per_second: f64,
    pub answer_p50_ms: f64,
    pub answer_p99_ms: f64,
    /// The median and the p99 of the disk meanwhile, where it was timed.
    #[serde(skip)]
    sync_ms: (f64, f64),
}

/// Without the log and with it, in turns.
///
/// # Errors
/// When the daemon cannot be started, hangs up or does not answer, or the disk can't be measured.
pub fn run(
    bench: &Bench,
    shape: Shape,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<AcknowledgeReport> {
    let without = DaemonOptions { log: None, ..daemon.clone() };
    let log = daemon.log.clone().unwrap_or_else(|| "commit".to_owned());
    let with = DaemonOptions { log: Some(log), ..daemon.clone() };
    let mut findings = Findings::default();
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds() {
        let (phases, found) = side(bench, shape, &without, scratch)?;
        findings.merge(found);
        let (without_log, steady_without_log) = (phases[0], phases[1]);
        let idle = time_syncs(scratch, SYNCS, Duration::ZERO, &AtomicBool::new(false))?;
        let idle_sync_ms = median(idle);
        let (phases, found) = side(bench, shape, &with, scratch)?;
        findings.merge(found);
        let (with_log, steady) = (phases[0], phases[1]);
        let (sync_ms, sync_p99_ms) = steady.sync_ms;
        rounds.push(AcknowledgeRound {
            without_log,
            steady_without_log,
            with_log,
            steady,
            idle_sync_ms,
            sync_ms,
            sync_p99_ms,
        });
    }
    let each = |ratio: fn(&AcknowledgeRound) -> f64| median(rounds.iter().map(ratio).collect());
    let share = each(|one| one.with_log.events_per_second / one.without_log.events_per_second);
    let syncs = each(|one| one.steady.answer_p99_ms / one.sync_ms);
    if share < SHARE_MIN {
        findings.breaches.push(format!("with the log {share:.2} of the throughput without"));
    }
    if syncs > SYNCS_MAX {
        findings.breaches.push(format!("the p99 of answers is {syncs:.1} syncs of the disk"));
    }
    Ok(AcknowledgeReport { shape, request_events: REQUEST_EVENTS, rounds, share, syncs, findings })
}

/// As fast as it goes, and then at a steady rate.
fn side(
    bench: &Bench,
    shape: Shape,
    daemon: &DaemonOptions,
    scratch: &Path,
) -> io::Result<(Vec<Phase>, Findings)> {
    let (plan, expectations) = bench.plan(shape.destinations);
    let directory = tempfile::tempdir_in(scratch)?;
    let sink = bench.sink(SCENARIO.output(), &expectations, directory.path())?;
    let subject =
        Subject::daemon(daemon, &plan, sink.outputs(), SCENARIO.input(), directory.path())?;
    let due = |sent: u64| expectations.deliveries(sent).iter().sum::<u64>();
    // A warm-up; then what is measured.
    let mut sent = Sent::default();
    let mut phases: Vec<Phase> = Vec::new();
    for number in 0..3 {
        let rate = (number == 2).then(|| bench.load().rate);
        let seconds = if number == 0 { 1 } else { shape.seconds };
        let started = Instant::now();
        let give_up = started + Duration::from_secs(seconds);
        let demand = Demand { events: u64::MAX, rate, at_a_time: Some(REQUEST_EVENTS), give_up };
        let load = bench.load();
        let feed = Feed::new(&load.templates, load.clock, sent.events, demand);
        let sending = || send(&feed, subject.entry_over(shape.connections));
        let (now, syncs) = match rate {
            Some(_) => beside_syncs(scratch, sending)?,
            None => (sending(), Vec::new()),
        };
        let now = now?;
        sent = sent.plus(now);
        wait_for_arrival(sink.register(), due(sent.events));
        let seconds = started.elapsed().as_secs_f64();
        let events_per_second = now.events as f64 / seconds;
        phases.push(Phase::of(events_per_second, feed.into_answers_us(), syncs));
    }
    phases.remove(0);
    let mut findings = Findings::default();
    if !subject.stop()? {
        findings.breaches.push("the daemon did not end well".to_owned());
    }
    let register = Arc::clone(sink.register());
    findings.add_arrivals(&sink.finish()?, &expectations.deliveries(sent.events), &register);
    Ok((phases, findings))
}

impl Phase {
    fn of(events_per_second: f64, answers_us: Vec<u64>, syncs: Vec<f64>) -> Self {
        let answers = sorted(answers_us.into_iter().map(|us| us as f64 / 1000.0).collect());
        let syncs = sorted(syncs);
        let (answer_p50_ms, answer_p99_ms) = (quantile(&answers, 0.5), quantile(&answers, 0.99));
        let sync_ms = (quantile(&syncs, 0.5), quantile(&syncs, 0.99));
        Self { events_per_second, answer_p50_ms, answer_p99_ms, sync_ms }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
}

/// Milliseconds of the syncs of `count` writes, or of those until it is over, at this distance.
fn time_syncs(
    scratch: &Path,
    count: usize,
    every: Duration,
    is_over: &AtomicBool,
) -> io::Result<Vec<f64>> {
    let mut named = tempfile::NamedTempFile::new_in(scratch)?;
    let file: &mut File = named.as_file_mut();
    let bytes = vec![b'x'; SYNC_BYTES];
    let mut took = Vec::new();
    while took.len() < count && !is_over.load(Ordering::Acquire) {
        file.write_all(&bytes)?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(every);
    }
    Ok(took)
}

/// Does `work`; and what a sync takes meanwhile.
fn beside_syncs<T>(scratch: &Path, work: impl FnOnce() -> T) -> io::Result<(T, Vec<f64>)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let prober = scope.spawn(|| time_syncs(scratch, usize::MAX, SYNC_EVERY, &is_over));
        let done = work();
        is_over.store(true, Ordering::Release);
        let took = prober.join().map_err(|_| io::Error::other("the prober died"))??;
        Ok((done, took))
    })
}
