//! Reloads: a new config in force, as a whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::fleet::{Changes, Fleet, Slot};
use super::notify;
use super::syncs::Syncs;
use crate::admin::{ReloadAnswer, Waiting};
use crate::commit::{self, Log, Review};
use crate::config::{self, Config, Model, Schedule, Source};
use crate::destination::Outlet;
use crate::metrics::Exposition;
use crate::route::{Handle, RoutingTable};
use crate::shard::Plan;

/// How often it is looked whether an old plan is still in use.
const POLL: Duration = Duration::from_millis(20);

/// How long it is looked at what waits.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// The config in force and what follows from it.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    pub(super) config: Config,
    pub(super) fleet: Fleet,
    pub(super) plans: Handle<Plan>,
    pub(super) exposition: Arc<Exposition>,
    pub(super) version: u64,
    /// Plans that were replaced and that somebody may still hold. They are freed here, never by a
    /// worker that happens to be the last to let go.
    pub(super) replaced: Vec<Arc<Plan>>,
}

/// A config that is right, and all that putting it in force takes.
pub(super) struct Next {
    config: Config,
    table: RoutingTable,
    slots: Vec<Slot>,
    /// The models that the file has.
    schedules: Vec<(String, Schedule)>,
    restart_needed: Vec<String>,
    warnings: Vec<String>,
}

impl Reloader {
    /// Reads the file again and prepares what it says, without changing anything. File systems may
    /// hang: it holds nothing of the daemon, and may be dropped. One at a time, and what comes of it
    /// goes to [`Self::finish`].
    pub(super) fn begin(&self) -> impl Future<Output = Result<Next, Vec<String>>> + Send + use<> {
        notify::reloading();
        let (file, running) = (self.file.clone(), self.config.clone());
        let (roster, exposition) = (self.fleet.roster(), Arc::clone(&self.exposition));
        let version = self.version + 1;
        async move {
            // A config of thousands of destinations takes a while to read, and files may be slow.
            let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
            let loaded = match loaded {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(error)) => return Err(error.messages()),
                Err(error) => return Err(vec![error.to_string()]),
            };
            let restart_needed = needs_restart(&running, &loaded.config);
            let mut config = loaded.config;
            let schedules = schedules_of(&config);
            config.sources = running_sources(&running, &config);
            config.models = running_models(&running, &config);
            config.daemon = running_daemon(&running, &config);
            config.admin = running.admin;
            config.dead_letters = running.dead_letters.clone();
            let table = RoutingTable::compile(&config.table_spec(version))
                .map_err(|error| vec![format!("{error} (a change of sources needs a restart)")])?;
            let slots = roster.prepare(&config.destinations, &exposition).await?;
            let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
            Ok(Next { config, table, slots, schedules, restart_needed, warnings })
        }
    }

    /// Puts what was prepared in force, if it is right, and says so; what it means for the events that
    /// wait can be looked at afterwards.
    pub(super) fn finish(
        &mut self,
        next: Result<Next, Vec<String>>,
        syncs: &Syncs,
    ) -> (ReloadAnswer, Option<Outlook>) {
        let before = self.plans.load();
        let answer = match next {
            Ok(next) => {
                let schedules = next.schedules.clone();
                let answer = self.apply(next);
                syncs.reschedule(&schedules);
                answer
            }
            Err(errors) => ReloadAnswer::Refused { errors },
        };
        self.exposition.count_reload(matches!(answer, ReloadAnswer::Applied { .. }));
        match &answer {
            ReloadAnswer::Applied { version, table, changes, restart_needed, .. } => {
                info!(version, table, ?changes, ?restart_needed, "reloaded");
            }
            ReloadAnswer::Refused { errors } => {
                for error in errors {
                    warn!("reload refused: {error}");
                }
            }
        }
        notify::ready(&self.status());
        let now = self.plans.load();
        let is_other = now.table().version() != before.table().version();
        let outlook = is_other.then(|| Outlook::new(before, now, self.fleet.log()));
        (answer, outlook)
    }

    /// What `systemctl status` shows while the daemon serves.
    pub(super) fn status(&self) -> String {
        let table = self.plans.load();
        format!(
            "serving {} sources and {} destinations, table {} ({})",
            self.config.source_names().count(),
            table.outlets().len(),
            table.table().version(),
            table.table().hash()
        )
    }

    /// Frees what nobody uses any more.
    pub(super) fn tidy(&mut self) {
        self.replaced.retain(|plan| Arc::strong_count(plan) > 1);
        self.fleet.tidy();
    }

    /// Waits until no worker and no delivery uses an older plan.
    pub(super) fn older_plans_gone(&self) -> impl Future<Output = ()> + use<> {
        let older: Vec<_> = self.replaced.iter().map(Arc::downgrade).collect();
        async move {
            // One owner is the list of replaced plans, until it is tidied.
            while older.iter().any(|plan| plan.strong_count() > 1) {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    fn apply(&mut self, next: Next) -> ReloadAnswer {
        let Next { config: next, table, slots, restart_needed, warnings, .. } = next;
        let (version, hash) = (table.version(), table.hash().to_owned());
        let outlets = slots.iter().map(|slot| Arc::clone(slot.outlet())).collect();
        self.fleet.set_room(&slots, next.daemon.memory_max);
        let before = self.plans.publish(Arc::new(Plan::new(table, outlets)));
        let patience = next.daemon.shutdown_timeout;
        let changes = self.fleet.adopt(slots, &self.plans, Some(&before), patience);
        let changes = describe(&changes, before.table().hash() != hash);
        self.replaced.push(before);
        self.exposition.set_table(version, &hash);
        self.version = version;
        self.config = next;
        self.tidy();
        let waiting = Vec::new();
        ReloadAnswer::Applied { version, table: hash, changes, restart_needed, warnings, waiting }
    }
}

/// What a reload means for the events that wait.
pub(super) struct Outlook {
    before: Arc<Plan>,
    now: Arc<Plan>,
    log: Option<Arc<Log>>,
    waiting: Vec<Waiting>,
}

impl Outlook {
    fn new(before: Arc<Plan>, now: Arc<Plan>, log: Option<Arc<Log>>) -> Self {
        // Where the rules are the same, no event has to be looked at to say so.
        let same_rules = before.table().hash() == now.table().hash();
        let waiting = |outlet: &Arc<Outlet>| Waiting {
            destination: outlet.name().to_owned(),
            events: u64::try_from(outlet.counters().pending.load(Relaxed)).unwrap_or(0),
            refused: (same_rules || log.is_some()).then_some(0),
            complete: same_rules,
            in_flight: outlet.in_flight(),
        };
        let mut waiting: Vec<_> = before.outlets().iter().map(waiting).collect();
        waiting.retain(|waiting| {
            let stays = now.table().destination(&waiting.destination).is_some();
            stays && (waiting.events > 0 || waiting.in_flight > 0)
        });
        let log = log.filter(|_| !same_rules && !waiting.is_empty());
        Self { before, now, log, waiting }
    }

    /// Looks at what waits, for a while.
    pub(super) async fn look(self) -> Vec<Waiting> {
        let Self { before, now, log, mut waiting } = self;
        let Some(log) = log else { return waiting };
        let until = Instant::now() + LOOK_TIME_MAX;
        let plan = Arc::clone(&now);
        let looking =
            tokio::task::spawn_blocking(move || commit::review(&log, &before, &plan, until));
        let review = match looking.await {
            Ok(Ok(review)) => review,
            Ok(Err(error)) => {
                warn!("cannot look at what waits: {error}");
                Review::default()
            }
            Err(_) => Review::default(),
        };
        for waiting in &mut waiting {
            let destination = now.table().destination(&waiting.destination);
            let outlet = destination.map(|number| &now.outlets()[usize::from(number.0)]);
            let found = outlet.and_then(|outlet| review.waiting.get(&outlet.stable()?));
            waiting.refused = found.map(|found| found.refused).or(waiting.refused);
            waiting.complete = review.complete;
        }
        waiting
    }
}

/// The sources that run, with the rules that `next` has for them: which ones there are, and their
/// numbers, stay for the life of the process.
fn running_sources(running: &Config, next: &Config) -> Vec<Source> {
    let mut sources = running.sources.clone();
    for source in &mut sources {
        if let Some(now) = next.sources.iter().find(|other| other.name == source.name) {
            source.missing = now.missing;
        }
    }
    sources
}

/// The models that run, as `next` has them; of one that is gone from there, no sync starts, and what it
/// sent before goes on under its rules.
fn running_models(running: &Config, next: &Config) -> Vec<Model> {
    let now = |model: &Model| {
        let now = next.models.iter().find(|other| other.name == model.name);
        now.unwrap_or(model).clone()
    };
    running.models.iter().map(now).collect()
}

fn schedules_of(config: &Config) -> Vec<(String, Schedule)> {
    config.models.iter().map(|model| (model.name.clone(), model.schedule.clone())).collect()
}

/// What was set up at the start stays as it is, so that the next reload is compared with what runs.
fn running_daemon(running: &Config, next: &Config) -> config::Daemon {
    let config::Daemon { memory_max, shutdown_timeout, .. } = next.daemon;
    config::Daemon { memory_max, shutdown_timeout, ..running.daemon.clone() }
}

fn describe(changes: &Changes, table_changed: bool) -> Vec<String> {
    let each = |names: &[String], what: &str| {
        names.iter().map(|name| format!("destination `{name}` {what}")).collect::<Vec<_>>()
    };
    let mut sentences = each(&changes.started, "started");
    sentences.extend(each(&changes.replaced, "replaced: what waits goes to where it was going"));
    sentences.extend(each(&changes.removed, "removed: it drains"));
    if table_changed {
        sentences.push("categories or routing rules changed".to_owned());
    }
    sentences
}

/// Keys of which a change takes effect only after a restart.
fn needs_restart(running: &Config, next: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    let mut compare = |key: String, same: bool| {
        if !same {
            keys.push(key);
        }
    };
    let (a, b) = (&running.daemon, &next.daemon);
    compare("daemon.data_dir".into(), a.data_dir == b.data_dir);
    compare("daemon.workers".into(), a.workers == b.workers);
    compare("daemon.max_event_bytes".into(), a.max_event_bytes == b.max_event_bytes);
    compare("daemon.ingest_bytes_max".into(), a.ingest_bytes_max == b.ingest_bytes_max);
    compare("dead_letters".into(), running.dead_letters == next.dead_letters);
    compare("admin.listen".into(), running.admin == next.admin);
    for source in &running.sources {
        let now = next.sources.iter().find(|other| other.name == source.name);
        let same = now.is_some_and(|now| now.input == source.input);
        compare(format!("sources.{}", source.name), same);
    }
    for source in &next.sources {
        let known = running.sources.iter().any(|other| other.name == source.name);
        compare(format!("sources.{}", source.name), known);
    }
    // One that is gone is not synced any more, and one that changed is synced as it is now.
    for model in &next.models {
        let known = running.models.iter().any(|other| other.name == model.name);
        compare(format!("models.{}", model.name), known);
    }
    keys
}
