//! One measured run of one process: as fast as it goes, then at a steady rate, then at rest.
//!
//! Always: nothing is measured before a warm-up, the law is looked at only at rest, and what
//! arrives is counted only after the process has ended.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Clock;
use crate::expect::Expectations;
use crate::law::Counts;
use crate::plan::Plan;
use crate::send::{Demand, Feed, Sent, Template, send};
use crate::sink::{Register, Sink, Tally};
use crate::subject::Subject;

/// How long nothing may arrive before what is missing is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// No phase of a sound run lasts this long.
const PHASE_TIMEOUT: Duration = Duration::from_secs(300);

/// The events of a load and what they are copies of.
#[derive(Debug)]
pub struct Load {
    /// In the order in which they are sent.
    pub templates: Arc<Vec<Template>>,
    /// Of sender and sink.
    pub clock: Clock,
    /// Events of the phase that goes as fast as it can.
    pub events: u64,
    /// Events a second of the steady phase.
    pub rate: u64,
    /// Events of the steady phase.
    pub paced_events: u64,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    /// As fast as it goes.
    pub events_per_second: f64,
    /// Of input.
    pub mb_per_second: f64,
    /// User and system.
    pub cpu_seconds_per_million_events: f64,
    /// The inverse.
    pub events_per_cpu_second: f64,
    /// Over the whole run.
    pub rss_peak_mib: f64,
    /// At the steady rate, from sending to arrival; none where nothing arrives anywhere.
    pub latency_ms: Option<Latency>,
}

impl Measured {
    /// Combines several, every figure by itself: into their median, for instance, or their ratio.
    pub fn combine(of: &[&Self], figures: impl Fn(&[f64]) -> f64) -> Self {
        let each = |figure: &dyn Fn(&Self) -> f64| {
            figures(&of.iter().map(|measured| figure(measured)).collect::<Vec<_>>())
        };
        let latencies: Option<Vec<Latency>> = of.iter().map(|one| one.latency_ms).collect();
        let latency = |quantile: fn(&Latency) -> f64, all: &[Latency]| {
            figures(&all.iter().map(quantile).collect::<Vec<_>>())
        };
        Self {
            events_per_second: each(&|one| one.events_per_second),
            mb_per_second: each(&|one| one.mb_per_second),
            cpu_seconds_per_million_events: each(&|one| one.cpu_seconds_per_million_events),
            events_per_cpu_second: each(&|one| one.events_per_cpu_second),
            rss_peak_mib: each(&|one| one.rss_peak_mib),
            latency_ms: latencies.map(|all| Latency {
                p50: latency(|one| one.p50, &all),
                p99: latency(|one| one.p99, &all),
                p999: latency(|one| one.p999, &all),
            }),
        }
    }
}

/// End to end.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[expect(missing_docs, reason = "quantiles in milliseconds")]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Latency {
    fn of(latency_us: &Histogram<u64>) -> Option<Self> {
        let quantile = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        (!latency_us.is_empty()).then(|| Self {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
        })
    }
}

/// What was right and wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Lines that arrived where they must not.
    pub violations: u64,
    /// Events that did not arrive where they must.
    pub missing: u64,
    /// Events that arrived again; at least once is all that is promised.
    pub duplicates: u64,
    /// Counts that contradict each other or the load.
    pub breaches: Vec<String>,
    /// The first few violations, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Is there nothing to complain of?
    pub fn is_clean(&self) -> bool {
        self.violations == 0 && self.missing == 0 && self.breaches.is_empty()
    }

    /// Both together.
    pub fn merge(&mut self, other: Self) {
        self.violations += other.violations;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.breaches.extend(other.breaches);
        self.examples.extend(other.examples);
    }

    /// Adds what arrived, held against what had to.
    pub fn add_arrivals(&mut self, tallies: &[Tally], due: &[u64], register: &Register) {
        self.violations += tallies.iter().map(|tally| tally.violations).sum::<u64>();
        self.duplicates += tallies.iter().map(|tally| tally.duplicates).sum::<u64>();
        let missing = tallies.iter().zip(due).map(|(tally, due)| due.saturating_sub(tally.events));
        self.missing += missing.sum::<u64>();
        self.examples.extend(register.examples());
    }
}

/// A subject with its sink, in the middle of a run.
#[derive(Debug)]
pub struct Round<'a> {
    load: &'a Load,
    expectations: &'a Expectations,
    subject: Subject,
    sink: Sink,
    /// Nothing is delivered to the sink: arrival can only be asked for.
    is_blind: bool,
    sent: Sent,
}

impl<'a> Round<'a> {
    /// `is_blind` when the outputs are blackholes.
    pub fn new(
        load: &'a Load,
        expectations: &'a Expectations,
        subject: Subject,
        sink: Sink,
        is_blind: bool,
    ) -> Self {
        Self { load, expectations, subject, sink, is_blind, sent: Sent::default() }
    }

    /// Runs it from warm-up to end. `plan` is the daemon's; a relay has none.
    ///
    /// # Errors
    /// When the subject hangs up, does not answer, or cannot be measured.
    pub fn run(mut self, plan: Option<&Plan>) -> io::Result<(Measured, Findings)> {
        self.phase(self.load.events / 10, None)?;
        let mut measured = self.measure_throughput()?;
        self.sink.register().take_latency();
        self.phase(self.load.paced_events, Some(self.load.rate))?;
        measured.latency_ms = Latency::of(&self.sink.register().take_latency());
        measured.rss_peak_mib = self.subject.meter().rss_peak()? as f64 / f64::from(1 << 20);
        let findings = self.finish(plan)?;
        Ok((measured, findings))
    }

    fn measure_throughput(&mut self) -> io::Result<Measured> {
        let meter = self.subject.meter();
        let (cpu, started) = (meter.cpu()?, Instant::now());
        let sent = self.phase(self.load.events, None)?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu_seconds = (meter.cpu()? - cpu).as_secs_f64();
        let events = sent.events as f64;
        Ok(Measured {
            events_per_second: events / seconds,
            mb_per_second: sent.bytes as f64 / 1e6 / seconds,
            cpu_seconds_per_million_events: cpu_seconds / events * 1e6,
            events_per_cpu_second: events / cpu_seconds,
            ..Measured::default()
        })
    }

    /// Sends and waits until everything has arrived, or nothing does any more.
    fn phase(&mut self, events: u64, rate: Option<u64>) -> io::Result<Sent> {
        let demand =
            Demand { events, rate, at_a_time: None, give_up: Instant::now() + PHASE_TIMEOUT };
        let feed = Feed::new(&self.load.templates, self.load.clock, self.sent.events, demand);
        let sent = send(&feed, self.subject.entry())?;
        self.sent = self.sent.plus(sent);
        if self.is_blind {
            self.wait_for_rest()?;
        } else {
            let due = self.expectations.deliveries(self.sent.events).iter().sum();
            wait_for_arrival(self.sink.register(), due);
        }
        Ok(sent)
    }

    /// Until the daemon has counted everything and nothing is pending.
    fn wait_for_rest(&self) -> io::Result<Option<Counts>> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let counts = self.subject.counts()?;
            let is_at_rest = counts
                .as_ref()
                .is_none_or(|counts| counts.received >= self.sent.events && counts.pending() == 0);
            if is_at_rest || Instant::now() > give_up {
                return Ok(counts);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn finish(self, plan: Option<&Plan>) -> io::Result<Findings> {
        let mut findings = Findings::default();
        let counts = self.wait_for_rest()?;
        if let (Some(counts), Some(plan)) = (&counts, plan) {
            findings.breaches = counts.breaches();
            findings.breaches.extend(contradictions(counts, plan, self.expectations, &self.sent));
        }
        let ended_well = self.subject.stop()?;
        if plan.is_some() && !ended_well {
            findings.breaches.push("the daemon did not end well".to_owned());
        }
        let due = match self.is_blind {
            true => Vec::new(),
            false => self.expectations.deliveries(self.sent.events),
        };
        let register = Arc::clone(self.sink.register());
        findings.add_arrivals(&self.sink.finish()?, &due, &register);
        Ok(findings)
    }
}

/// Until so many events have arrived, or none does for a while.
pub fn wait_for_arrival(register: &Register, due: u64) {
    let (mut arrived, mut since) = (register.arrived(), Instant::now());
    while arrived < due && since.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
        let now = register.arrived();
        if now > arrived {
            (arrived, since) = (now, Instant::now());
        }
    }
}

/// Where the daemon's own counts are not those that follow from what was sent.
fn contradictions(
    counts: &Counts,
    plan: &Plan,
    expectations: &Expectations,
    sent: &Sent,
) -> Vec<String> {
    let rejected = expectations.rejections(sent.events);
    let mut pairs = vec![
        ("received".to_owned(), counts.received, sent.events),
        ("rejected".to_owned(), counts.rejected, rejected),
    ];
    if let Some(accepted) = sent.accepted {
        pairs.push(("accepted in answers".to_owned(), accepted, sent.events - rejected));
    }
    for (rule, due) in plan.rules.iter().zip(expectations.deliveries(sent.events)) {
        let account = counts.destinations.get(&rule.name).copied().unwrap_or_default();
        pairs.push((format!("delivered to {}", rule.name), account.delivered, due));
    }
    let contradicts = |(what, count, due): (String, u64, u64)| {
        (count != due).then(|| format!("{what}: {count} counted, {due} follow from what was sent"))
    };
    pairs.into_iter().filter_map(contradicts).collect()
}
