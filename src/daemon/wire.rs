//! The one place that sees everything: reading it from top to bottom is reading the pipeline.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::book::{Book, Opened, dead_letter_settings};
use super::drain::{self, Running};
use super::erase::{ERASURES_MAX, Eraser};
use super::fleet::{Fleet, Slot};
use super::lock::DataDirLock;
use super::notify;
use super::pulse::Pulse;
use super::readmit::Readmit;
use super::reload::{Next, Outlook, Reloader};
use super::replay::{Parts, Replayer};
use super::signal::{Asked, Signals};
use super::stall;
use super::syncs::{self, Syncs};
use crate::admin::{Admin, Control, Listening, Readiness, ReloadAnswer, ReloadRequest};
use crate::commit::Committer;
use crate::config::{self, Config, Input, Loaded};
use crate::dead_letters::DeadLetters;
use crate::ingest::{
    self, Budget, HttpLimits, HttpSource, Passes, TAIL_BYTES_MAX, Tails, TcpSource, WarehouseSource,
};
use crate::metrics::{DestinationTotals, Exposition, SourceCounters, SourceTotals};
use crate::route::{Handle, RoutingTable, SourceId};
use crate::shard::{Intake, Plan, Pool};

/// How often histograms are tidied and old plans are freed.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often it is looked whether the workers live.
const HEALTH: Duration = Duration::from_secs(1);
/// Reloads that can wait for their turn.
const RELOADS_MAX: usize = 16;

/// Why the daemon did not start: every reason at once, a sentence each. Nothing was left running.
#[derive(Debug)]
pub struct StartError {
    /// The reasons.
    pub reasons: Vec<String>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("\n"))
    }
}

impl std::error::Error for StartError {}

/// A daemon that serves.
pub struct Daemon {
    reloader: Reloader,
    requests: mpsc::Receiver<ReloadRequest>,
    sources: JoinSet<()>,
    pool: Pool,
    intake: Intake,
    committer: Option<Committer>,
    dead_letters: Option<Arc<DeadLetters>>,
    replayer: Arc<Replayer>,
    syncs: Arc<Syncs>,
    phase: Arc<AtomicU8>,
    stop_sources: CancellationToken,
    stop_admin: CancellationToken,
    addresses: Vec<(String, SocketAddr)>,
    _lock: Option<DataDirLock>,
}

const SERVING: u8 = 0;
const DRAINING: u8 = 1;

/// `consentd run`: reads the config at `file`, serves until a signal, drains.
///
/// Exit codes: 0 drained, 1 something was left or failed, 2 could not start.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        // Before anything else: a signal during the start must not end the process half way.
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("error: cannot listen for signals: {error}");
                return ExitCode::FAILURE;
            }
        };
        match Daemon::start(file, loaded).await {
            Ok(daemon) => daemon.serve(&mut signals).await,
            Err(error) => {
                for reason in &error.reasons {
                    eprintln!("error: {reason}");
                }
                ExitCode::from(2)
            }
        }
    });
    // A write to a pipe that nobody reads can't be ended; the end of the process ends it.
    runtime.shutdown_background();
    code
}

impl Daemon {
    /// Starts everything, from the destinations back to the sources, so that nothing flows into a
    /// part that is not there yet.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub async fn start(file: &Path, loaded: Loaded) -> Result<Self, StartError> {
        let config = loaded.config;
        let fail = |reason: String| StartError { reasons: vec![reason] };

        // All that can fail, first.
        let lock = config.daemon.data_dir.as_deref().map(DataDirLock::acquire).transpose();
        let lock = lock.map_err(fail)?;
        let table = RoutingTable::compile(&config.table_spec(1))
            .map_err(|error| fail(error.to_string()))?;
        let exposition = Arc::new(Exposition::install().map_err(|error| fail(error.to_string()))?);
        let (inputs, admin) = bind(&config)?;
        let workers = config.daemon.workers.get();
        let names: Arc<[String]> = config.source_names().map(str::to_owned).collect();
        let (office, rejections) = syncs::open(&config).map_err(fail)?;
        let opened = match config.log.clone().zip(dead_letter_settings(&config, &names)) {
            None => None,
            Some((log, letters)) => {
                let opening = tokio::task::spawn_blocking(move || {
                    Book::open(&log, &letters, rejections, workers)
                });
                Some(opening.await.map_err(|error| fail(error.to_string()))?.map_err(fail)?)
            }
        };
        let book = opened.as_ref().map(|opened| Arc::clone(&opened.book));
        let dead_letters = book.as_ref().map(|book| Arc::clone(book.dead_letters()));
        let rejected = dead_letters.clone().filter(|letters| letters.keeps_rejected());
        let mut fleet = Fleet::new(config.daemon.memory_max, book.clone());
        let prepared = fleet.roster().prepare(&config.destinations, &exposition).await;
        let slots = prepared.map_err(|reasons| StartError { reasons })?;

        // The table, and the way to the destinations.
        let (version, hash) = (table.version(), table.hash().to_owned());
        exposition.set_table(version, &hash);
        let outlets = slots.iter().map(Slot::outlet).cloned().collect();
        let plans = Handle::new(Arc::new(Plan::new(table, outlets)));

        // 2, 3, 4: workers that parse, decide and append.
        let budget = Budget::new(config.daemon.ingest_bytes_max);
        let counters: Arc<[Arc<SourceCounters>]> = names.iter().map(|_| Arc::default()).collect();
        for (source, counters) in names.iter().zip(counters.iter()) {
            exposition.add_source(source, counters);
        }
        let max_event_bytes = config.daemon.max_event_bytes;
        let (committer, to_log) = match opened {
            Some(Opened { committer, intake, .. }) => {
                exposition.add_log(committer.log().counters());
                if let Some(dead_letters) = &dead_letters {
                    exposition.add_dead_letters(dead_letters.counters());
                }
                (Some(committer), Some((intake, names)))
            }
            None => (None, None),
        };
        let (pool, intake) = Pool::start(
            workers,
            &plans,
            &counters,
            &budget,
            max_event_bytes,
            to_log.as_ref(),
            rejected.as_ref(),
        )
        .map_err(|error| fail(format!("cannot start the workers: {error}")))?;

        // The last thing that can fail: from here on somebody may connect.
        let mut addresses: Vec<_> =
            inputs.iter().map(|(input, name)| (name.clone(), input.address())).collect();
        addresses.extend(admin.address().ok().map(|address| ("admin".to_owned(), address)));
        let admin = listen(&inputs, admin, config.admin.listen)?;

        // 6: destinations.
        fleet.adopt(slots, &plans, None, Duration::ZERO);

        // 1: sources.
        let stop_sources = CancellationToken::new();
        let tails = Tails::new(TAIL_BYTES_MAX);
        let full = committer.as_ref().map(|committer| committer.log().full());
        let full = full.unwrap_or_else(|| watch::channel(false).1);
        let mut sources = JoinSet::new();
        let context_of = |source: SourceId| ingest::Context {
            source,
            counters: Arc::clone(&counters[usize::from(source.0)]),
            budget: budget.clone(),
            tails: tails.clone(),
            full: full.clone(),
            workers: Arc::new(intake.clone()),
            max_event_bytes,
            dead_letters: rejected.clone(),
            stop: stop_sources.clone(),
        };
        for (number, (input, name)) in (0..).zip(inputs) {
            let context = context_of(SourceId(number));
            sources.spawn(async move {
                if let Err(error) = input.serve(context).await {
                    error!(source = name, %error, "source ended");
                }
            });
        }

        let mut syncs = Syncs::default();
        if let Some((office, book)) = office.zip(book.as_ref()) {
            let passes = Arc::new(Passes::default());
            let lanes = office.models().map(|(id, name)| (name.to_owned(), context_of(id)));
            let lanes = lanes.collect();
            let around = syncs::Around {
                config: file.to_owned(),
                folder: office.folder().to_owned(),
                passes: Arc::clone(&passes),
                plans: plans.clone(),
                rejections: Arc::clone(book.rejections()),
                max_event_bytes,
                stop: stop_sources.clone(),
            };
            let (started, door) = Syncs::start(office, around, &mut sources);
            syncs = started;
            let source = WarehouseSource::new(door, lanes, passes);
            let stop = stop_sources.clone();
            sources.spawn(async move {
                if let Err(error) = source.serve(stop).await {
                    error!(%error, "the socket of the syncs ended");
                }
            });
        }
        let syncs = Arc::new(syncs);

        // Beside the data path: the admin address and what keeps the house.
        let phase = Arc::new(AtomicU8::new(SERVING));
        let stalled = Arc::new(AtomicBool::new(false));
        let (reloads, requests) = mpsc::channel(RELOADS_MAX);
        let stop_admin = CancellationToken::new();
        let replayer = Replayer::new(book.zip(to_log).map(|(book, (to_log, _))| Parts {
            book,
            to_log,
            plans: plans.clone(),
            readmit: Readmit { budget: budget.clone(), workers: intake.clone() },
        }));
        let erasures = committer.as_ref().zip(dead_letters.clone()).map(|(committer, letters)| {
            let (erasures, asked) = mpsc::channel(ERASURES_MAX);
            let (intake, log) = (intake.clone(), Arc::clone(committer.log()));
            let stop = stop_sources.clone();
            tokio::spawn(Eraser { intake, log, dead_letters: letters, stop }.run(asked));
            erasures
        });
        let control = Arc::new(Control {
            metrics: {
                let exposition = Arc::clone(&exposition);
                let budget = budget.clone();
                Box::new(move || exposition.render(budget.blocked_seconds()))
            },
            ready: {
                let (phase, stalled) = (Arc::clone(&phase), Arc::clone(&stalled));
                Box::new(move || readiness(phase.load(Relaxed), stalled.load(Relaxed)))
            },
            reloads,
            replay: {
                let replayer = Arc::clone(&replayer);
                Box::new(move |asked| {
                    let replayer = Arc::clone(&replayer);
                    Box::pin(async move { replayer.replay(asked).await })
                })
            },
            syncs: {
                let syncs = Arc::clone(&syncs);
                Box::new(move |asked| {
                    let syncs = Arc::clone(&syncs);
                    Box::pin(async move { syncs.answer(asked).await })
                })
            },
            erasures,
        });
        tokio::spawn(admin.serve(control, stop_admin.clone()));
        stall::watch(budget, Arc::clone(&stalled), stop_admin.clone());

        let reloader = Reloader {
            file: file.to_owned(),
            config,
            fleet,
            plans,
            exposition,
            version,
            replaced: Vec::new(),
        };
        Ok(Self {
            reloader,
            requests,
            sources,
            pool,
            intake,
            committer,
            dead_letters,
            replayer,
            syncs,
            phase,
            stop_sources,
            stop_admin,
            addresses,
            _lock: lock,
        })
    }

    /// Where the sources and the admin address listen.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// What was counted so far, in config order.
    #[must_use]
    pub fn totals(&self) -> (Vec<SourceTotals>, Vec<DestinationTotals>) {
        let exposition = &self.reloader.exposition;
        let names = self.reloader.config.destinations.iter().map(|d| d.route.name.as_str());
        (exposition.sources(), exposition.destinations(names))
    }

    /// Drains at once.
    pub async fn stop(self, signals: &mut Signals) -> ExitCode {
        self.drain(signals, false).await
    }

    /// Serves until a signal asks for the stop, or until a worker dies; then drains.
    pub async fn serve(mut self, signals: &mut Signals) -> ExitCode {
        for (name, address) in &self.addresses {
            info!(name, %address, "listening");
        }
        let status = self.reloader.status();
        info!("{status}");
        notify::ready(&status);
        let died = self.attend(signals).await;
        self.drain(signals, died).await
    }

    /// Reloads, upkeep, the watchdog; returns when it is time to stop, and whether a worker died.
    async fn attend(&mut self, signals: &mut Signals) -> bool {
        let mut upkeep = tokio::time::interval(UPKEEP);
        let mut health = tokio::time::interval(
            notify::watchdog_interval().map_or(HEALTH, |limit| (limit / 3).max(HEALTH)),
        );
        let mut pulse = Pulse::default();
        let mut reload = Reload::default();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    // What is being prepared is dropped: it may hang.
                    Asked::Stop => return false,
                    Asked::Reload => reload.ask(&self.reloader, None),
                },
                request = self.requests.recv(), if !reload.is_going_on() => {
                    if request.is_some() {
                        reload.ask(&self.reloader, request);
                    }
                },
                Some(next) = reload.preparing.join_next() => {
                    let next = next.unwrap_or_else(|error| Err(vec![error.to_string()]));
                    let (answer, outlook) = self.reloader.finish(next, &self.syncs);
                    self.answer(reload.asked_by.take(), answer, outlook);
                    reload.go_on(&self.reloader);
                }
                _ = upkeep.tick() => {
                    self.reloader.exposition.upkeep();
                    self.reloader.tidy();
                }
                _ = health.tick() => {
                    if self.pool.any_dead() || self.reloader.fleet.any_dead() {
                        error!("a worker or a delivery died; stopping");
                        return true;
                    }
                    if self.committer.as_ref().is_some_and(Committer::is_dead) {
                        error!("the log can't be written to; stopping");
                        return true;
                    }
                    if self.committer.as_ref().is_some_and(|it| it.log().has_dead_reader()) {
                        error!("a reader of the log died; stopping");
                        return true;
                    }
                    if self.dead_letters.as_ref().is_some_and(|it| it.failure().is_some()) {
                        error!("the dead letters can't be written to; stopping");
                        return true;
                    }
                    if pulse.is_felt(self.pool.progress()) {
                        notify::watchdog();
                    }
                }
            }
        }
    }

    fn answer(
        &self,
        request: Option<ReloadRequest>,
        mut answer: ReloadAnswer,
        outlook: Option<Outlook>,
    ) {
        let Some(request) = request else { return };
        let settled = self.reloader.older_plans_gone();
        tokio::spawn(async move {
            if let (ReloadAnswer::Applied { waiting, .. }, Some(outlook)) = (&mut answer, outlook) {
                *waiting = outlook.look().await;
            }
            if request.wait {
                settled.await;
            }
            // Whoever asked may be gone.
            let _ = request.answer.send(answer);
        });
    }

    async fn drain(self, signals: &mut Signals, died: bool) -> ExitCode {
        self.phase.store(DRAINING, Relaxed);
        self.stop_sources.cancel();
        self.replayer.close().await;
        let patience = self.reloader.config.daemon.shutdown_timeout;
        let running = Running {
            sources: self.sources,
            intake: self.intake,
            pool: self.pool,
            committer: self.committer,
            dead_letters: self.dead_letters,
            fleet: self.reloader.fleet,
        };
        let drained = drain::drain(running, patience, signals).await;
        self.stop_admin.cancel();
        if drained.left.is_empty() && !drained.failed && !died {
            info!("stopped: everything was delivered, or is in the log");
            return ExitCode::SUCCESS;
        }
        let left: u64 = drained.left.iter().map(|(_, events)| events).sum();
        error!(left, "stopped: not everything was delivered");
        ExitCode::FAILURE
    }
}

/// The reload that is being prepared, if one is. There is one at a time: requests wait in their queue,
/// and signals that come meanwhile are one more reload, of what the file says then.
#[derive(Default)]
struct Reload {
    preparing: JoinSet<Result<Next, Vec<String>>>,
    /// Who gets the answer.
    asked_by: Option<ReloadRequest>,
    again: bool,
}

impl Reload {
    fn is_going_on(&self) -> bool {
        !self.preparing.is_empty()
    }

    fn ask(&mut self, reloader: &Reloader, asked_by: Option<ReloadRequest>) {
        if self.is_going_on() {
            self.again = true;
            return;
        }
        self.asked_by = asked_by;
        self.preparing.spawn(reloader.begin());
    }

    /// The reload that was asked for while another went on.
    fn go_on(&mut self, reloader: &Reloader) {
        if std::mem::take(&mut self.again) {
            self.ask(reloader, None);
        }
    }
}

/// A source that is bound and does not serve yet.
enum Bound {
    Tcp(TcpSource),
    Http(HttpSource),
}

impl Bound {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(source) => source.address(),
            Self::Http(source) => source.address(),
        }
    }

    fn listen(&self) -> io::Result<()> {
        match self {
            Self::Tcp(source) => source.listen(),
            Self::Http(source) => source.listen(),
        }
    }

    async fn serve(self, context: ingest::Context) -> io::Result<()> {
        match self {
            Self::Tcp(source) => source.serve(context).await,
            Self::Http(source) => source.serve(context).await,
        }
    }
}

/// Binds every address; all that cannot be bound are named. Nobody can connect yet.
fn bind(config: &Config) -> Result<(Vec<(Bound, String)>, Admin), StartError> {
    let mut reasons = Vec::new();
    let mut inputs = Vec::new();
    for source in &config.sources {
        let bound = match &source.input {
            Input::Tcp { listen, max_connections, ack } => {
                TcpSource::bind(*listen, *max_connections, *ack).map(Bound::Tcp)
            }
            Input::Http { listen, max_connections, max_body_bytes, request_timeout } => {
                let limits = HttpLimits {
                    connections_max: *max_connections,
                    max_body_bytes: *max_body_bytes,
                    request_timeout: *request_timeout,
                };
                HttpSource::bind(*listen, limits).map(Bound::Http)
            }
        };
        match bound {
            Ok(bound) => inputs.push((bound, source.name.clone())),
            Err(error) => reasons.push(format!("sources.{}.listen: {error}", source.name)),
        }
    }
    match Admin::bind(config.admin.listen) {
        Ok(admin) if reasons.is_empty() => return Ok((inputs, admin)),
        Ok(_) => {}
        Err(error) => {
            reasons.push(admin_fails(config.admin.listen, &error));
        }
    }
    Err(StartError { reasons })
}

/// Lets clients connect. Two processes may have bound one address; the second to listen fails here.
fn listen(
    inputs: &[(Bound, String)],
    admin: Admin,
    admin_address: SocketAddr,
) -> Result<Listening, StartError> {
    for (input, name) in inputs {
        input.listen().map_err(|error| StartError {
            reasons: vec![format!("sources.{name}.listen: {error}")],
        })?;
    }
    admin.listen().map_err(|error| StartError { reasons: vec![admin_fails(admin_address, &error)] })
}

fn admin_fails(address: SocketAddr, error: &io::Error) -> String {
    format!("admin.listen: cannot listen on {address}: {error}")
}

fn readiness(phase: u8, stalled: bool) -> Readiness {
    if phase == DRAINING {
        Readiness::NotReady("the daemon is stopping".to_owned())
    } else if stalled {
        let why = "no events are taken: a destination with when_full = \"block\" has no room";
        Readiness::NotReady(why.to_owned())
    } else {
        Readiness::Ready
    }
}
