//! The syncs of one model, one after the other.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::history::History;
use super::run::{Asked, Means, hex};
use super::schedule;
use crate::admin::{Counts, ModelStatus, SyncAnswer, SyncRecord, SyncState};
use crate::config::Schedule;
use crate::daemon::book::fresh_key;
use crate::metrics::SyncMetrics;

/// The clock may be set: it is looked at again at least so often.
const LOOK: Duration = Duration::from_secs(20);

/// What is asked of the syncs of a model.
pub(super) enum Ask {
    Start { full: bool, dry_run: bool, answer: oneshot::Sender<SyncAnswer> },
    Cancel(oneshot::Sender<SyncAnswer>),
}

/// What everybody may see.
#[derive(Debug)]
pub(super) struct Shown {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: History,
    running: Option<SyncRecord>,
    next: Option<Timestamp>,
}

impl Shown {
    /// # Errors
    /// The history can't be read.
    pub(super) fn open(folder: &Path, model: &str) -> io::Result<Self> {
        let history = History::open(folder, model)?;
        Ok(Self { state: Mutex::new(State { history, running: None, next: None }) })
    }

    pub(super) fn status(&self, model: &str, schedule: &Schedule) -> ModelStatus {
        let state = self.lock();
        let ended = state.history.records().iter().rev();
        let ended = ended.filter(|record| record.counts.state != SyncState::Running);
        ModelStatus {
            model: model.to_owned(),
            schedule: schedule::told(schedule),
            next: state.next.map(|at| at.to_string()),
            running: state.running.clone(),
            history: ended.cloned().collect(),
        }
    }

    /// Puts a record into the history, on the disk, too. One at a time.
    async fn put(&self, record: SyncRecord) {
        let unsaved = self.lock().history.put(record);
        let putting = tokio::task::spawn_blocking(move || unsaved.save());
        if let Ok(Err(error)) = putting.await {
            warn!("the history of syncs can't be written: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the syncs of a model.
pub(super) struct Keeper {
    means: Means,
    shown: Arc<Shown>,
    asks: mpsc::Receiver<Ask>,
    schedule: watch::Receiver<Option<Schedule>>,
    metrics: SyncMetrics,
}

/// Why a sync starts.
enum Wake {
    Due(Timestamp),
    Ask(Asked, oneshot::Sender<SyncAnswer>),
    /// Something else has happened.
    Other,
    Stop,
}

impl Keeper {
    pub(super) fn new(
        means: Means,
        shown: Arc<Shown>,
        asks: mpsc::Receiver<Ask>,
        schedule: watch::Receiver<Option<Schedule>>,
    ) -> Self {
        let changes = Counts::default().by_change().map(|(change, _)| change);
        let metrics = SyncMetrics::new(&means.model, changes);
        Self { means, shown, asks, schedule, metrics }
    }

    pub(super) async fn run(mut self) {
        self.tell_last_success();
        let mut followed = self.schedule.borrow_and_update().clone();
        let mut next = self.first();
        loop {
            let schedule = self.schedule.borrow_and_update().clone();
            if schedule != followed {
                followed = schedule;
                next = self.first();
            }
            let schedule = followed.as_ref();
            let latest =
                |due| schedule.map(|it| schedule::at_the_latest(it, due, Timestamp::now()));
            next = next.and_then(latest);
            self.shown.lock().next = next;
            match self.wake(next).await {
                Wake::Stop => return,
                Wake::Other => {}
                Wake::Ask(asked, answer) => {
                    self.sync(asked, "request", Some(answer)).await;
                    if next.is_some_and(|due| due <= Timestamp::now()) {
                        next = self.after(next);
                    }
                }
                Wake::Due(due) => {
                    self.shown.lock().next = self.after(Some(due));
                    let asked = Asked { full: false, dry_run: false };
                    self.sync(asked, "schedule", None).await;
                    next = self.after(Some(due));
                }
            }
        }
    }

    /// When the first one is due.
    fn first(&self) -> Option<Timestamp> {
        let schedule = self.schedule.borrow().clone()?;
        let state = self.shown.lock();
        let real = state.history.records().iter().rfind(|record| !record.dry_run);
        let last = real.and_then(|record| record.start.parse().ok());
        schedule::first(&schedule, last, Timestamp::now())
    }

    /// When the one behind `due` is due.
    fn after(&self, due: Option<Timestamp>) -> Option<Timestamp> {
        let schedule = self.schedule.borrow().clone()?;
        let now = Timestamp::now();
        schedule::next(&schedule, due.unwrap_or(now), now)
    }

    fn tell_last_success(&self) {
        let state = self.shown.lock();
        let mut ended = state.history.records().iter().rev();
        let done = ended.find(|it| it.counts.state == SyncState::Done && !it.dry_run);
        let end = done.and_then(|record| record.end.as_ref()?.parse::<Timestamp>().ok());
        if let Some(end) = end {
            self.metrics.set_last_success(end.as_millisecond() as f64 / 1000.0);
        }
    }

    async fn wake(&mut self, next: Option<Timestamp>) -> Wake {
        let left = next.map_or(LOOK, |due| {
            Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default().min(LOOK)
        });
        let ask = tokio::select! {
            biased;
            () = self.means.around.stop.cancelled() => return Wake::Stop,
            changed = self.schedule.changed() => {
                return if changed.is_ok() { Wake::Other } else { Wake::Stop };
            }
            ask = self.asks.recv() => ask,
            () = tokio::time::sleep(left) => {
                let due = next.filter(|due| *due <= Timestamp::now());
                return due.map_or(Wake::Other, Wake::Due);
            }
        };
        match ask {
            Some(Ask::Start { full, dry_run, answer }) => {
                Wake::Ask(Asked { full, dry_run }, answer)
            }
            Some(Ask::Cancel(answer)) => {
                let _ =
                    answer.send(SyncAnswer::Conflict("no sync of this model goes on".to_owned()));
                Wake::Other
            }
            None => Wake::Stop,
        }
    }

    /// Runs one sync; who asks meanwhile is answered.
    async fn sync(&mut self, asked: Asked, by: &str, answer: Option<oneshot::Sender<SyncAnswer>>) {
        let id = match fresh_key() {
            Ok(random) => hex(&random[..8]),
            Err(error) => return warn!("a sync can't start: {error}"),
        };
        let (started, began) = (Timestamp::now(), Instant::now());
        let mut record = SyncRecord {
            sync: id.clone(),
            by: by.to_owned(),
            full: asked.full,
            dry_run: asked.dry_run,
            start: started.to_string(),
            end: None,
            counts: Counts::default(),
        };
        self.shown.lock().running = Some(record.clone());
        self.shown.put(record.clone()).await;
        if let Some(answer) = answer {
            let _ = answer.send(SyncAnswer::Accepted(id.clone()));
        }
        self.metrics.set_running(true);
        info!(model = self.means.model, sync = id, by, "sync started");
        let counts = self.attend(&id, asked).await.bounded();
        self.metrics.set_running(false);
        let end = Timestamp::now();
        if !asked.dry_run {
            self.metrics.add(counts.state.label(), began.elapsed(), &counts.by_change());
            if counts.state == SyncState::Done {
                self.metrics.set_last_success(end.as_millisecond() as f64 / 1000.0);
            }
        }
        tell(&self.means.model, &id, &counts);
        (record.end, record.counts) = (Some(end.to_string()), counts);
        self.shown.put(record).await;
        self.shown.lock().running = None;
    }

    /// Answers who asks while a sync goes on.
    async fn attend(&mut self, id: &str, asked: Asked) -> Counts {
        let Self { means, shown, asks, schedule, .. } = self;
        let cancel = CancellationToken::new();
        let progress = |counts: Counts| {
            if let Some(running) = &mut shown.lock().running {
                running.counts = counts;
            }
        };
        let mut running = std::pin::pin!(means.run(id, asked, &cancel, progress));
        let mut is_known = true;
        loop {
            let ask = tokio::select! {
                biased;
                counts = &mut running => return counts,
                gone = schedule.wait_for(Option::is_none), if is_known => {
                    // The model is gone from the config, and with it the reason for this sync.
                    drop(gone);
                    is_known = false;
                    cancel.cancel();
                    continue;
                }
                Some(ask) = asks.recv() => ask,
            };
            match ask {
                Ask::Start { answer, .. } => {
                    let why = format!("a sync of this model goes on: {id}");
                    let _ = answer.send(SyncAnswer::Conflict(why));
                }
                Ask::Cancel(answer) => {
                    cancel.cancel();
                    let _ = answer.send(SyncAnswer::Accepted(id.to_owned()));
                }
            }
        }
    }
}

fn tell(model: &str, sync: &str, counts: &Counts) {
    let Counts { state, rows, added, updated, deleted, unchanged, failed, skipped, .. } = counts;
    let result = state.label();
    match &counts.error {
        Some(error) => warn!(model, sync, result, rows, "sync ended: {error}"),
        None => info!(
            model,
            sync, result, rows, added, updated, deleted, unchanged, failed, skipped, "sync ended"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Those who ask run on the threads of everybody.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_asks_about_syncs_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let shown = Arc::new(Shown::open(folder.path(), "m").unwrap());
        // Opening it to write waits for a reader: a disk that does not answer.
        let pipe = folder.path().join("m.history.new");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let record = SyncRecord {
            sync: "1".to_owned(),
            by: "schedule".to_owned(),
            full: false,
            dry_run: false,
            start: "2026-01-01T00:00:00Z".to_owned(),
            end: None,
            counts: Counts { state: SyncState::Done, ..Counts::default() },
        };
        let its = Arc::clone(&shown);
        let putting = tokio::spawn(async move { its.put(record).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (told, ended) = std::sync::mpsc::channel();
        let asked = Arc::clone(&shown);
        std::thread::spawn(move || told.send(asked.status("m", &Schedule::ByHand).history.len()));
        let ended = ended.recv_timeout(Duration::from_secs(5));
        // What is written must go on before anything is concluded, or the test would not end.
        drop(std::fs::read(&pipe));
        putting.await.unwrap();
        assert_eq!(ended.unwrap(), 1);
    }
}
