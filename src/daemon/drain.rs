//! The stop, in the order of the data path: sources, workers, destinations.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use super::fleet::Fleet;
use super::notify;
use super::signal::{Asked, Signals};
use crate::shard::{Intake, Pool};
use tokio::task::JoinSet;

/// What is being stopped.
pub(super) struct Running {
    pub(super) sources: JoinSet<()>,
    pub(super) intake: Intake,
    pub(super) pool: Pool,
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
    let drained = drain_until(running, until);
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
    Drained { left: Vec::new(), failed: true }
}

async fn drain_until(running: Running, until: Instant) -> Drained {
    let Running { mut sources, intake, pool, mut fleet } = running;
    let stopped = async { while sources.join_next().await.is_some() {} };
    if timeout_at(until, stopped).await.is_err() {
        warn!("some connections did not end in time: they are cut");
        sources.shutdown().await;
    }
    drop(intake);
    let mut workers = tokio::task::spawn_blocking(move || pool.join());
    let dead = match timeout_at(until, &mut workers).await {
        Ok(dead) => dead,
        Err(_) => {
            // A worker waits for a destination that has no room. Closing ends the wait, and what it
            // held is counted as removed and reported as left.
            fleet.close();
            workers.await
        }
    };
    let failed = !matches!(dead, Ok(0));
    if failed {
        error!("a worker died; what it held is lost");
    }
    let left = fleet.finish(until).await;
    for (destination, events) in &left {
        warn!(destination, events, "not delivered before the daemon stopped");
    }
    Drained { left, failed }
}
