//! The stop, in the order of the data path: sources, workers, destinations.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};

use super::fleet::Fleet;
use super::notify;
use super::signal::{Asked, Signals};
use crate::commit::{Committer, Keeper};
use crate::dead_letters::DeadLetters;
use crate::shard::{Intake, Pool};
use tokio::task::JoinSet;

/// How often it is looked which destinations workers wait for, once half of the time is gone.
const CLOSE_EVERY: Duration = Duration::from_millis(100);
/// How long workers have after every destination was closed: nothing is left that they could wait for.
const WORKERS_LAST: Duration = Duration::from_secs(5);

/// How long the last save may take once nobody waits any longer.
const SAVE_LAST: Duration = Duration::from_secs(1);

/// Whoever takes it out closes the log: it is in here while destinations deliver for the last time.
type ToClose = Arc<Mutex<Option<Keeper>>>;

/// What is being stopped.
pub(super) struct Running {
    pub(super) sources: JoinSet<()>,
    pub(super) intake: Intake,
    pub(super) pool: Pool,
    pub(super) committer: Option<Committer>,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) fleet: Fleet,
}

/// How the drain ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Events that were not delivered, per destination.
    pub(super) left: Vec<(String, u64)>,
    /// Whether a worker died.
    pub(super) failed: bool,
}

/// Drains within `patience`; a second signal ends the patience. Every source was told to stop.
pub(super) async fn drain(running: Running, patience: Duration, signals: &mut Signals) -> Drained {
    notify::stopping("draining");
    info!(?patience, "stopping: no new connections; what was read is delivered");
    let until = Instant::now() + patience;
    let to_close = ToClose::default();
    let drained = drain_until(running, until, &to_close);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            drained = &mut drained => return drained,
            asked = signals.next() => if asked == Asked::Stop {
                warn!("asked a second time to stop: not waiting any longer");
                break;
            }
        }
    }
    // Before this, cursors are saved every now and then.
    if let Some(keeper) = take(&to_close)
        && timeout(SAVE_LAST, close_log(keeper)).await.is_err()
    {
        warn!("the log was not closed in time; some events may be delivered again");
    }
    Drained { left: Vec::new(), failed: true }
}

async fn drain_until(running: Running, until: Instant, to_close: &ToClose) -> Drained {
    let Running { mut sources, intake, pool, committer, dead_letters, mut fleet } = running;
    let stopped = async { while sources.join_next().await.is_some() {} };
    if timeout_at(until, stopped).await.is_err() {
        warn!("some connections did not end in time: they are cut");
        sources.shutdown().await;
    }
    drop(intake);
    if let Some(committer) = &committer {
        // A log that is full at the end stays full.
        let log = Arc::clone(committer.log());
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            log.stop();
        });
    }
    let dead = finish_workers(pool, &mut fleet, until).await;
    let failed = dead != Some(0);
    if failed {
        error!("a worker died; what it held is lost");
    }
    if let Some(committer) = committer {
        let (left, sound) = finish_log(committer, fleet, until, to_close).await;
        let buried = match dead_letters {
            Some(letters) => finish_dead_letters(letters).await,
            None => true,
        };
        let sound = sound && buried;
        if left > 0 {
            info!(events = left, "waiting in the log for the next start");
        }
        return Drained { left: Vec::new(), failed: failed || !sound };
    }
    let left = fleet.finish(until).await;
    for (destination, events) in &left {
        warn!(destination, events, "not delivered before the daemon stopped");
    }
    Drained { left, failed }
}

/// Stores the last events, delivers until `until`, and notes what was delivered. What is left is in the
/// log: how many events, and whether the log is sound.
async fn finish_log(
    committer: Committer,
    fleet: Fleet,
    until: Instant,
    to_close: &ToClose,
) -> (u64, bool) {
    let log = Arc::clone(committer.log());
    let keeper = tokio::task::spawn_blocking(move || committer.join()).await.ok().flatten();
    *to_close.lock().unwrap_or_else(PoisonError::into_inner) =
        keeper.filter(|_| log.failure().is_none());
    let left = fleet.finish(until).await;
    let sound = match take(to_close) {
        Some(keeper) => close_log(keeper).await,
        None => false,
    };
    (left.iter().map(|(_, events)| events).sum(), sound)
}

fn take(to_close: &ToClose) -> Option<Keeper> {
    to_close.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Notes what was delivered; whether that is durable.
async fn close_log(keeper: Keeper) -> bool {
    match tokio::task::spawn_blocking(move || keeper.finish()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            warn!("{error}; some events may be delivered again");
            false
        }
        Err(_) => false,
    }
}

/// Makes the last dead letters durable; whether all of them are.
async fn finish_dead_letters(letters: Arc<DeadLetters>) -> bool {
    let finished = tokio::task::spawn_blocking(move || {
        letters.finish();
        letters.failure().is_none()
    });
    finished.await.unwrap_or(false)
}

/// Lets the workers finish what was read; how many of them died, if they ended at all.
///
/// A destination without room that a worker waits for gets half of the time; then it takes no more,
/// so that one that is stuck does not cost the others their events.
async fn finish_workers(pool: Pool, fleet: &mut Fleet, until: Instant) -> Option<usize> {
    let mut workers = tokio::task::spawn_blocking(move || pool.join());
    let half = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
    let mut dead = timeout_at(half, &mut workers).await;
    while dead.is_err() && Instant::now() < until {
        fleet.close_waited_for();
        dead = timeout(CLOSE_EVERY, &mut workers).await;
    }
    if dead.is_err() {
        fleet.close();
        dead = timeout(WORKERS_LAST, &mut workers).await;
    }
    dead.ok()?.ok()
}
