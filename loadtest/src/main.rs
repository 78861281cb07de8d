//! Command line of the load test.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use loadtest::config::WhenFull;
use loadtest::corpus::{Corpus, Profile};
use loadtest::relay::{self, Input};
use loadtest::report;
use loadtest::scenario::{Amount, Bench, Case, Comparison, Scenario};
use loadtest::sink::Output;
use loadtest::subject::DaemonOptions;
use loadtest::{acknowledge, catch_up, dead, troubled};
use serde::Serialize;

/// Puts consentd under load, checks every event that it delivers, and compares it with a relay
/// that copies every byte.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One scenario.
    Run(Run),
    /// Every scenario with 8, 64 and 512 destinations, and three files.
    All(All),
    /// Healthy destinations alone, and beside a dead, a slow and an erring one.
    Troubled(Troubled),
    /// A destination that was down catches up from the log, beside live delivery.
    CatchUp(CatchUp),
    /// With the log and without: throughput, and how long answers take in syncs of the disk.
    Acknowledge(Acknowledge),
    /// Prints lines of the corpus.
    Corpus(Lines),
    /// The yardstick, as a process of its own.
    Relay(Relay),
}

#[derive(Debug, Args)]
struct Run {
    /// Which way the events take.
    #[arg(long, value_enum)]
    scenario: Scenario,
    /// Destinations; an event reaches about three of them.
    #[arg(long, default_value_t = 8)]
    destinations: usize,
    #[command(flatten)]
    setup: Setup,
    /// Nobody listens on one destination; this is what happens to its events.
    #[arg(long, value_enum)]
    dead: Option<WhenFull>,
    /// How long events are sent with a dead destination.
    #[arg(long, default_value_t = 15)]
    dead_seconds: u64,
}

#[derive(Debug, Args)]
struct All {
    #[command(flatten)]
    setup: Setup,
    /// One short round of each.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct Troubled {
    /// Which way the events take.
    #[arg(long, value_enum, default_value = "tcp_to_tcp")]
    scenario: Scenario,
    /// Healthy destinations.
    #[arg(long, default_value_t = 8)]
    destinations: usize,
    /// How long events are sent, each time; buffers take some seconds to fill.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Args)]
struct CatchUp {
    /// Destinations; each gets every event.
    #[arg(long, default_value_t = 1)]
    destinations: usize,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Args)]
struct Acknowledge {
    /// Destinations; an event reaches about three of them.
    #[arg(long, default_value_t = 8)]
    destinations: usize,
    /// Senders, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long each phase is.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Args)]
struct Setup {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Events that are sent as fast as they are taken.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Rounds of which the medians are taken.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events a second while latency is measured.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long latency is measured.
    #[arg(long, default_value_t = 3)]
    paced_seconds: u64,
    /// Of the corpus.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Different lines in the corpus.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    lines: u32,
    /// Where files, configs and logs go while it runs.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Writes the outcome to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DaemonArgs {
    /// The daemon's executable.
    #[arg(long, default_value = "target/release/consentd")]
    daemon: PathBuf,
    /// Measures the relay alone.
    #[arg(long)]
    relay_only: bool,
    /// Worker threads of the daemon.
    #[arg(long)]
    workers: Option<usize>,
    /// The daemon's `memory_max`.
    #[arg(long)]
    memory_max: Option<String>,
    /// Every destination's `buffer`.
    #[arg(long)]
    buffer: Option<String>,
    /// Every destination's `batch.max_wait`; latency cannot be lower by much.
    #[arg(long, default_value = "20ms")]
    max_wait: String,
    /// Runs with the log, and this `log.sync`.
    #[arg(long)]
    log: Option<String>,
    /// The daemon's `log.window`.
    #[arg(long)]
    log_window: Option<String>,
}

#[derive(Debug, Args)]
struct Lines {
    /// Of the corpus.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 10)]
    lines: usize,
}

#[derive(Debug, Args)]
struct Relay {
    /// How bytes come in.
    #[arg(long, value_enum)]
    input: Input,
    /// On which address.
    #[arg(long)]
    listen: SocketAddr,
    /// Where they go: `tcp:HOST:PORT`, `http:HOST:PORT/PATH`, `file:PATH` or `blackhole`.
    #[arg(long = "output")]
    outputs: Vec<Output>,
}

impl LoadArgs {
    fn bench(&self) -> io::Result<Bench> {
        Ok(Bench::new(Amount {
            seed: self.seed,
            templates: self.lines as usize,
            events: self.events,
            rate: self.rate,
            paced_seconds: self.paced_seconds,
            rounds: self.rounds,
            relay: std::env::current_exe()?,
        }))
    }

    fn write_json(&self, outcome: &impl Serialize) -> io::Result<()> {
        match &self.json {
            Some(path) => fs::write(path, serde_json::to_vec_pretty(outcome)?),
            None => Ok(()),
        }
    }
}

impl DaemonArgs {
    /// `None` when only the relay is to be measured.
    fn options(&self) -> io::Result<Option<DaemonOptions>> {
        if self.relay_only {
            return Ok(None);
        }
        if !self.daemon.exists() {
            let missing = format!(
                "{} is not there: `cargo build --release` makes it, `--daemon` names another",
                self.daemon.display()
            );
            return Err(io::Error::other(missing));
        }
        Ok(Some(DaemonOptions {
            binary: self.daemon.clone(),
            workers: self.workers,
            memory_max: self.memory_max.clone(),
            buffer: self.buffer.clone(),
            max_wait: Some(self.max_wait.clone()),
            when_full: None,
            log: self.log.clone(),
            log_window: self.log_window.clone(),
            retry_max: None,
        }))
    }

    /// With the log, which a test may be about; there is no relay in it.
    fn with_log(&self) -> Result<DaemonOptions, Box<dyn Error>> {
        let mut options = self.options()?.ok_or("a relay has no log")?;
        options.log.get_or_insert_with(|| "commit".to_owned());
        Ok(options)
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(run) => match run.dead {
            None => compare(&run.setup, &[(run.scenario, run.destinations)]),
            Some(when_full) => run_dead(&run, when_full),
        },
        Command::All(all) => run_all(all),
        Command::Troubled(troubled) => run_troubled(&troubled),
        Command::CatchUp(catch_up) => run_catch_up(&catch_up),
        Command::Acknowledge(acknowledge) => run_acknowledge(&acknowledge),
        Command::Corpus(lines) => print_corpus(&lines),
        Command::Relay(relay) => {
            relay::run(relay.input, relay.listen, &relay.outputs).map(|()| true).map_err(Into::into)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Was nothing found wrong?
type Outcome = Result<bool, Box<dyn Error>>;

fn compare(setup: &Setup, cases: &[(Scenario, usize)]) -> Outcome {
    let Setup { load, daemon } = setup;
    let (options, bench) = (daemon.options()?, load.bench()?);
    let mut comparisons: Vec<Comparison> = Vec::new();
    for (scenario, destinations) in cases {
        let comparison =
            bench.compare(*scenario, *destinations, options.as_ref(), &load.scratch)?;
        let what = format!("{scenario:?}, {destinations} destinations");
        eprintln!("{}", report::findings(&what, &comparison.findings));
        comparisons.push(comparison);
    }
    println!("{}", report::table(&comparisons));
    load.write_json(&comparisons)?;
    Ok(comparisons.iter().all(|comparison| comparison.findings.is_clean()))
}

fn run_all(mut all: All) -> Outcome {
    if all.quick {
        all.setup.load.events = all.setup.load.events.min(100_000);
        all.setup.load.rounds = 1;
        all.setup.load.paced_seconds = 1;
    }
    let mut cases = vec![(Scenario::TcpToFile, 3)];
    for scenario in Scenario::ALL {
        cases.extend([8, 64, 512].map(|destinations| (scenario, destinations)));
    }
    compare(&all.setup, &cases)
}

fn run_dead(run: &Run, when_full: WhenFull) -> Outcome {
    let options = run.setup.daemon.options()?.ok_or("a relay has no dead destinations")?;
    let bench = run.setup.load.bench()?;
    let report = dead::run(
        &bench,
        Case { scenario: run.scenario, destinations: run.destinations, seconds: run.dead_seconds },
        when_full,
        &options,
        &run.setup.load.scratch,
    )?;
    eprintln!("{}", report::findings("dead destination", &report.findings));
    println!("{}", report::dead(&report));
    run.setup.load.write_json(&report)?;
    Ok(report.findings.is_clean())
}

fn run_troubled(args: &Troubled) -> Outcome {
    let mut options = args.setup.daemon.with_log()?;
    // Shorter than the default, so that those in trouble are tried all the time.
    options.retry_max = Some("2s".to_owned());
    let (bench, scratch) = (args.setup.load.bench()?, &args.setup.load.scratch);
    let &Troubled { scenario, destinations, seconds, .. } = args;
    let case = Case { scenario, destinations, seconds };
    let report = troubled::run(&bench, case, &options, scratch)?;
    eprintln!("{}", report::findings("troubled destinations", &report.findings));
    println!("{}", report::troubled(&report));
    args.setup.load.write_json(&report)?;
    Ok(report.findings.is_clean())
}

fn run_catch_up(args: &CatchUp) -> Outcome {
    let options = args.setup.daemon.with_log()?;
    let bench = args.setup.load.bench()?;
    let report = catch_up::run(&bench, args.destinations, &options, &args.setup.load.scratch)?;
    eprintln!("{}", report::findings("catching up", &report.findings));
    println!("{}", report::catch_up(&report));
    args.setup.load.write_json(&report)?;
    Ok(report.findings.is_clean())
}

fn run_acknowledge(args: &Acknowledge) -> Outcome {
    let options = args.setup.daemon.with_log()?;
    let &Acknowledge { destinations, connections, seconds, .. } = args;
    let shape = acknowledge::Shape { destinations, connections, seconds };
    let report =
        acknowledge::run(&args.setup.load.bench()?, shape, &options, &args.setup.load.scratch)?;
    eprintln!("{}", report::findings("answers", &report.findings));
    println!("{}", report::acknowledge(&report));
    args.setup.load.write_json(&report)?;
    Ok(report.findings.is_clean())
}

fn print_corpus(lines: &Lines) -> Outcome {
    let buffer = Corpus::new(lines.seed, Profile::default()).contiguous(lines.lines);
    io::stdout().write_all(&buffer)?;
    Ok(true)
}
