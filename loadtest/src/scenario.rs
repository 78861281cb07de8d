//! What is put under load, and the comparison of daemon and relay within one run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::clock::Clock;
use crate::corpus::{Corpus, Profile};
use crate::expect::Expectations;
use crate::measure;
use crate::plan::Plan;
use crate::relay::Input;
use crate::round::{Findings, Load, Measured, Round};
use crate::send::Template;
use crate::sink::{OutputKind, Register, Sink};
use crate::subject::{DaemonOptions, Subject};

/// The yardstick always has as many outputs as an event has destinations on average.
pub const FAN_OUT: usize = 3;

/// Which way the events take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// One connection in, TCP out.
    TcpToTcp,
    /// One connection in, files out.
    TcpToFile,
    /// `POST` in, `POST` out.
    HttpToHttp,
    /// One connection in, nothing out.
    TcpToBlackhole,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::TcpToTcp, Self::TcpToFile, Self::HttpToHttp, Self::TcpToBlackhole];

    /// How events come in.
    pub fn input(self) -> Input {
        match self {
            Self::HttpToHttp => Input::Http,
            Self::TcpToTcp | Self::TcpToFile | Self::TcpToBlackhole => Input::Tcp,
        }
    }

    /// How they go out.
    pub fn output(self) -> OutputKind {
        match self {
            Self::TcpToTcp => OutputKind::Tcp,
            Self::TcpToFile => OutputKind::File,
            Self::HttpToHttp => OutputKind::Http,
            Self::TcpToBlackhole => OutputKind::Blackhole,
        }
    }
}

/// A campaign of its own: which way, to how many, for how long.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Case {
    pub scenario: Scenario,
    pub destinations: usize,
    pub seconds: u64,
}

/// How much is sent, and how often.
#[derive(Debug, Clone)]
pub struct Amount {
    /// Of the corpus.
    pub seed: u64,
    /// Different lines in it.
    pub templates: usize,
    /// Events as fast as it goes.
    pub events: u64,
    /// Events a second in the steady phase.
    pub rate: u64,
    /// Its length.
    pub paced_seconds: u64,
    /// Of which the medians are taken.
    pub rounds: usize,
    /// The executable that has the subcommand `relay`.
    pub relay: PathBuf,
}

/// The corpus in memory, ready for any number of cases.
#[derive(Debug)]
pub struct Bench {
    lines: Vec<Vec<u8>>,
    load: Load,
    rounds: usize,
    relay: PathBuf,
}

/// The outcome of one scenario with one number of destinations.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names say it, and they are the keys of the JSON")]
pub struct Comparison {
    pub scenario: Scenario,
    pub destinations: usize,
    pub fan_out: f64,
    pub events: u64,
    pub rounds: usize,
    pub paced_events_per_second: u64,
    pub relay_outputs: usize,
    pub daemon: Option<Measured>,
    pub relay: Measured,
    /// Daemon to relay.
    pub ratio: Option<Measured>,
    pub daemon_rounds: Vec<Measured>,
    pub relay_rounds: Vec<Measured>,
    pub findings: Findings,
}

impl Bench {
    /// Generates the corpus.
    pub fn new(amount: Amount) -> Self {
        let lines = Corpus::new(amount.seed, Profile::default()).lines(amount.templates);
        let load = Load {
            templates: Arc::new(Template::all(&lines)),
            clock: Clock::start(),
            events: amount.events,
            rate: amount.rate,
            paced_events: amount.rate * amount.paced_seconds,
        };
        Self { lines, load, rounds: amount.rounds.max(1), relay: amount.relay }
    }

    /// The corpus, as sent.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Destinations and what must reach them.
    pub fn plan(&self, destinations: usize) -> (Plan, Arc<Expectations>) {
        let sample = &self.lines[..self.lines.len().min(5000)];
        let plan = Plan::with_fan_out(destinations, FAN_OUT as f64, sample);
        let expectations = self.expectations(&plan);
        (plan, expectations)
    }

    /// What must reach the destinations of a plan.
    pub fn expectations(&self, plan: &Plan) -> Arc<Expectations> {
        Arc::new(Expectations::by_consent(&self.lines, plan))
    }

    /// Rounds of which the medians are taken.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Receivers for these expectations.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn sink(
        &self,
        kind: OutputKind,
        expectations: &Arc<Expectations>,
        directory: &Path,
    ) -> io::Result<Sink> {
        let templates = Arc::clone(&self.load.templates);
        let register = Register::new(templates, Arc::clone(expectations), self.load.clock)?;
        Sink::open(kind, expectations.destinations(), register, directory)
    }

    /// Measures daemon and relay in turn. Without a daemon, the relay alone.
    ///
    /// # Errors
    /// When one of them cannot be started or measured.
    pub fn compare(
        &self,
        scenario: Scenario,
        destinations: usize,
        daemon: Option<&DaemonOptions>,
        scratch: &Path,
    ) -> io::Result<Comparison> {
        let (plan, expectations) = self.plan(destinations);
        let mut findings = Findings::default();
        let (mut daemons, mut relays) = (Vec::new(), Vec::new());
        if scenario == Scenario::TcpToFile {
            // Pages that files take for the first time since the machine was started may cost
            // several times as much as any later ones, and whoever comes first would pay for it.
            self.relay_round(scenario, scratch)?;
        }
        for _ in 0..self.rounds {
            let (measured, found) = self.relay_round(scenario, scratch)?;
            relays.push(measured);
            findings.merge(found);
            if let Some(daemon) = daemon {
                let (measured, found) =
                    self.daemon_round(scenario, daemon, &plan, &expectations, scratch)?;
                daemons.push(measured);
                findings.merge(found);
            }
        }
        let relay = median(&relays);
        let daemon = (!daemons.is_empty()).then(|| median(&daemons));
        Ok(Comparison {
            scenario,
            destinations,
            fan_out: expectations.fan_out(),
            events: self.load.events,
            rounds: self.rounds,
            paced_events_per_second: self.load.rate,
            relay_outputs: FAN_OUT,
            ratio: daemon.as_ref().map(|daemon| ratio(daemon, &relay)),
            daemon,
            relay,
            daemon_rounds: daemons,
            relay_rounds: relays,
            findings,
        })
    }

    fn relay_round(&self, scenario: Scenario, scratch: &Path) -> io::Result<(Measured, Findings)> {
        let directory = tempfile::tempdir_in(scratch)?;
        let everywhere = Arc::new(Expectations::everywhere(self.load.templates.len(), FAN_OUT));
        let sink = self.sink(scenario.output(), &everywhere, directory.path())?;
        let subject =
            Subject::relay(&self.relay, scenario.input(), sink.outputs(), directory.path())?;
        let is_blind = scenario.output() == OutputKind::Blackhole;
        Round::new(&self.load, &everywhere, subject, sink, is_blind).run(None)
    }

    /// One round of the daemon, measured like any other.
    ///
    /// # Errors
    /// When it cannot be started or measured.
    pub fn daemon_round(
        &self,
        scenario: Scenario,
        daemon: &DaemonOptions,
        plan: &Plan,
        expectations: &Arc<Expectations>,
        scratch: &Path,
    ) -> io::Result<(Measured, Findings)> {
        let directory = tempfile::tempdir_in(scratch)?;
        let sink = self.sink(scenario.output(), expectations, directory.path())?;
        let outputs = sink.outputs();
        let subject = Subject::daemon(daemon, plan, outputs, scenario.input(), directory.path())?;
        let is_blind = scenario.output() == OutputKind::Blackhole;
        Round::new(&self.load, expectations, subject, sink, is_blind).run(Some(plan))
    }
}

fn median(rounds: &[Measured]) -> Measured {
    let rounds: Vec<_> = rounds.iter().collect();
    Measured::combine(&rounds, |figures| measure::median(figures.to_vec()))
}

fn ratio(daemon: &Measured, relay: &Measured) -> Measured {
    Measured::combine(&[daemon, relay], |figures| figures[0] / figures[1])
}
