//! How a destination is doing: the circuit that holds deliveries, and what the log says of it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::DestinationCounters;

/// Changes of state are logged at most this often per destination, so that one that answers now
/// this, now that does not fill the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shared by all batches in flight of one destination.
#[derive(Debug)]
pub(super) struct Health {
    name: String,
    counters: Arc<DestinationCounters>,
    /// Held by the one batch that may try while the circuit is open.
    pub(super) probe: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// For those who wait for trouble.
    worsened: Notify,
}

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    since: Option<Instant>,
    /// Whether the log knows of the condition.
    told: bool,
    told_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    #[default]
    Working,
    Failing,
    Held,
}

impl Health {
    pub(super) fn new(name: String, counters: Arc<DestinationCounters>) -> Self {
        Self {
            name,
            counters,
            probe: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
            worsened: Notify::new(),
        }
    }

    /// Whether the circuit is open: one batch at a time may be tried.
    pub(super) fn is_held(&self) -> bool {
        self.lock().condition == Condition::Held
    }

    /// Waits until the last attempt has failed.
    pub(super) async fn in_trouble(&self) {
        loop {
            let worsened = self.worsened.notified();
            if self.lock().condition != Condition::Working {
                return;
            }
            worsened.await;
        }
    }

    /// The destination answered something that is about a batch.
    pub(super) fn works(&self, now: Instant) {
        let mut state = self.lock();
        if state.condition == Condition::Working {
            return;
        }
        let down = state.since.map_or(Duration::ZERO, |since| now - since);
        if state.told {
            tracing::info!(
                destination = self.name,
                seconds = down.as_secs_f64(),
                "destination works again"
            );
        }
        *state = State { told_at: state.told_at, ..State::default() };
        self.counters.held.store(0, Relaxed);
    }

    /// An attempt failed and will be repeated.
    pub(super) fn fails(&self, why: &str, now: Instant) {
        if self.worsen(Condition::Failing, now) {
            tracing::warn!(destination = self.name, why, "destination fails, trying again");
        }
    }

    /// The destination takes nothing at all: opens the circuit.
    pub(super) fn holds(&self, why: &str, now: Instant) {
        let tell = self.worsen(Condition::Held, now);
        self.counters.held.store(1, Relaxed);
        if tell {
            tracing::error!(
                destination = self.name,
                why,
                "destination on hold until it takes a batch again: check its config and permissions"
            );
        }
    }

    /// A batch was dropped because it failed for too long.
    pub(super) fn gave_up(&self, events: u32, why: &str) {
        tracing::error!(
            destination = self.name,
            events,
            why,
            "gave up a batch: it failed for longer than retry.give_up_after"
        );
    }

    /// Whether the log should be told.
    fn worsen(&self, condition: Condition, now: Instant) -> bool {
        let mut state = self.lock();
        // A failing probe does not close the circuit.
        if condition < state.condition || (condition == state.condition && state.told) {
            return false;
        }
        if state.condition != condition {
            state.condition = condition;
            state.since = state.since.or(Some(now));
            state.told = false;
            self.worsened.notify_waiters();
        }
        let tell = state.told_at.is_none_or(|at| now - at >= LOG_EVERY);
        if tell {
            state.told = true;
            state.told_at = Some(now);
        }
        tell
    }

    fn lock_mut(&mut self) -> &mut State {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Health {
    /// The counters outlive a destination that is replaced by one of the same name.
    fn drop(&mut self) {
        if self.lock_mut().condition == Condition::Held {
            self.counters.held.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_probe_leaves_the_circuit_open_and_an_answer_closes_it() {
        let counters = Arc::new(DestinationCounters::default());
        let health = Health::new("crm".into(), Arc::clone(&counters));
        let now = Instant::now();
        health.fails("answered 503", now);
        assert!(!health.is_held());
        health.holds("answered 401", now);
        assert!(health.is_held());
        assert_eq!(counters.held.load(Relaxed), 1);
        health.fails("answered 503", now);
        assert!(health.is_held());
        health.works(now);
        assert!(!health.is_held());
        assert_eq!(counters.held.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flapping_destination_is_told_of_every_ten_seconds() {
        let health = Health::new("crm".into(), Arc::default());
        let start = Instant::now();
        let mut told = 0;
        for step in 0..200 {
            let now = start + Duration::from_millis(100 * step);
            told += usize::from(health.worsen(Condition::Failing, now));
            health.works(now);
        }
        assert_eq!(told, 2);
    }
}
