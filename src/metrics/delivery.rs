//! What is recorded per attempt of a delivery.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The destination has the batch.
    Delivered,
    /// It will be tried again.
    Retry,
    /// It will be tried again, and nothing else meanwhile.
    Held,
    /// The destination does not take it.
    Rejected,
}

impl Attempt {
    /// Every outcome, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Retry, Self::Held, Self::Rejected];

    /// The value of the `outcome` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Held => "held",
            Self::Rejected => "rejected",
        }
    }
}

/// Handles for one destination, looked up once.
pub struct DeliveryMetrics {
    attempts: [Counter; Attempt::ALL.len()],
    duration: Histogram,
}

impl DeliveryMetrics {
    /// Registers them with the recorder that is installed; without one they do nothing.
    #[must_use]
    pub fn new(destination: &str) -> Self {
        let attempts = Attempt::ALL.map(|outcome| {
            counter!(
                "consentd_delivery_attempts_total",
                "destination" => destination.to_owned(),
                "outcome" => outcome.label(),
            )
        });
        let duration = histogram!(
            "consentd_delivery_duration_seconds",
            "destination" => destination.to_owned(),
        );
        Self { attempts, duration }
    }

    /// Counts an attempt.
    pub fn attempted(&self, outcome: Attempt, taken: Duration) {
        self.attempts[outcome as usize].increment(1);
        self.duration.record(taken);
    }
}

impl fmt::Debug for DeliveryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryMetrics").finish_non_exhaustive()
    }
}
