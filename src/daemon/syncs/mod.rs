//! The syncs of the models: when they start, the process that each of them is, what is remembered.
//!
//! Owns schedules, one child process a sync, its errand, its history, and the answers to those who ask.
//! Does not touch a row: the child sends them to the warehouse source (`ingest/warehouse`) with the pass
//! that it gets from here, and the worker judges them.
//!
//! What always holds: of one model one sync goes on at a time; a child that dies, hangs or says nonsense
//! costs its own sync and nothing else; a stop of the daemon ends every child; what is remembered of a
//! sync is bounded and written before the next one starts.

mod child;
mod history;
mod keeper;
mod office;
mod run;
mod schedule;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::keeper::{Ask, Keeper, Shown};
use self::office::Desk;
pub(super) use self::office::{Office, open};
use self::run::Means;
use crate::admin::{ModelStatus, SyncAnswer, SyncRequest};
use crate::config::{Config, Model, Schedule};
use crate::dead_letters::Rejections;
use crate::ingest::{Door, Passes};
use crate::route::Handle;
use crate::shard::Plan;

/// Requests to one model that wait.
const ASKS_MAX: usize = 16;

/// What all syncs need.
pub(super) struct Around {
    /// The config file, which the child reads again.
    pub(super) config: PathBuf,
    /// Where the socket, the states and the histories are.
    pub(super) folder: PathBuf,
    pub(super) passes: Arc<Passes>,
    pub(super) plans: Handle<Plan>,
    pub(super) rejections: Arc<Rejections>,
    pub(super) max_event_bytes: usize,
    /// Cancelled when the daemon stops.
    pub(super) stop: CancellationToken,
}

/// The models whose syncs are kept.
#[derive(Default)]
pub(super) struct Syncs {
    models: Vec<Known>,
}

struct Known {
    name: String,
    asks: mpsc::Sender<Ask>,
    shown: Arc<Shown>,
    /// `None` once the model is gone from the config.
    schedule: watch::Sender<Option<Schedule>>,
}

/// The folder of everything about syncs.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("warehouse")
}

/// The socket in it.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("sync.sock")
}

impl Syncs {
    /// Starts to keep the syncs of the models, and gives the socket through which their rows come. What
    /// is started here ends with `around.stop`.
    pub(super) fn start(office: Office, around: Around, tasks: &mut JoinSet<()>) -> (Self, Door) {
        let around = Arc::new(around);
        let Office { door, desks } = office;
        let mut known = Vec::new();
        for Desk { source, model, shown } in desks {
            let means = Means::new(&model.name, source, Arc::clone(&around));
            let (asks, asked) = mpsc::channel(ASKS_MAX);
            let (schedule, scheduled) = watch::channel(Some(model.schedule.clone()));
            let keeper = Keeper::new(means, Arc::clone(&shown), asked, scheduled);
            tasks.spawn(keeper.run());
            known.push(Known { name: model.name, asks, shown, schedule });
        }
        (Self { models: known }, door)
    }

    /// Follows a reload: models may have another schedule, or be gone. Others can't come to life.
    pub(super) fn reschedule(&self, next: &[(String, Schedule)]) {
        for known in &self.models {
            let schedule = next.iter().find(|(name, _)| *name == known.name);
            let schedule = schedule.map(|(_, schedule)| schedule.clone());
            known.schedule.send_if_modified(|before| {
                let is_other = *before != schedule;
                *before = schedule;
                is_other
            });
        }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, asked: SyncRequest) -> SyncAnswer {
        match asked {
            SyncRequest::List => {
                let short = |known: &Known| {
                    let mut status = known.status();
                    status.history.truncate(1);
                    status
                };
                SyncAnswer::Models(self.live().map(short).collect())
            }
            SyncRequest::Show(model) => match self.named(&model) {
                Some(known) => SyncAnswer::Models(vec![known.status()]),
                None => SyncAnswer::Unknown,
            },
            SyncRequest::Start { model, full, dry_run } => {
                self.ask(&model, |answer| Ask::Start { full, dry_run, answer }).await
            }
            SyncRequest::Cancel(model) => self.ask(&model, Ask::Cancel).await,
        }
    }

    async fn ask(
        &self,
        model: &str,
        ask: impl FnOnce(oneshot::Sender<SyncAnswer>) -> Ask,
    ) -> SyncAnswer {
        let Some(known) = self.named(model) else { return SyncAnswer::Unknown };
        let (answer, answered) = oneshot::channel();
        if known.asks.send(ask(answer)).await.is_err() {
            return SyncAnswer::Stopping;
        }
        answered.await.unwrap_or(SyncAnswer::Stopping)
    }

    fn live(&self) -> impl Iterator<Item = &Known> {
        self.models.iter().filter(|known| known.schedule.borrow().is_some())
    }

    fn named(&self, model: &str) -> Option<&Known> {
        self.live().find(|known| known.name == model)
    }
}

impl Known {
    fn status(&self) -> ModelStatus {
        let schedule = self.schedule.borrow().clone().unwrap_or(Schedule::ByHand);
        self.shown.status(&self.name, &schedule)
    }
}

/// What is remembered of the models of a config whose daemon does not run.
///
/// # Errors
/// A history can't be read.
pub fn remembered(config: &Config) -> io::Result<Vec<ModelStatus>> {
    let Some(data_dir) = &config.daemon.data_dir else { return Ok(Vec::new()) };
    let folder = folder(data_dir);
    let one = |model: &Model| {
        let history = history::read(&folder, &model.name)?;
        Ok(ModelStatus {
            model: model.name.clone(),
            schedule: schedule::told(&model.schedule),
            next: None,
            running: None,
            history: history.into_iter().rev().collect(),
        })
    };
    config.models.iter().map(one).collect()
}
