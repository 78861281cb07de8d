//! What is counted of the syncs of one model.

use std::time::Duration;

use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};

/// The results of a sync: the values of the label `result`.
const RESULTS: [&str; 3] = ["done", "failed", "cancelled"];

/// The series of one model.
#[derive(Debug)]
pub struct SyncMetrics {
    model: String,
    running: Gauge,
    duration: Gauge,
    last_success: Gauge,
}

impl SyncMetrics {
    /// Shows a model from now on, with these changes of rows. The recorder must be installed before.
    pub fn new(model: &str, changes: impl IntoIterator<Item = &'static str>) -> Self {
        describe();
        let label = [("model", model.to_owned())];
        for result in RESULTS {
            let model = model.to_owned();
            counter!("consentd_sync_runs_total", "model" => model, "result" => result).absolute(0);
        }
        for change in changes {
            let model = model.to_owned();
            counter!("consentd_sync_rows_total", "model" => model, "change" => change).absolute(0);
        }
        let metrics = Self {
            model: model.to_owned(),
            running: gauge!("consentd_sync_running", &label),
            duration: gauge!("consentd_sync_duration_seconds", &label),
            last_success: gauge!("consentd_sync_last_success_timestamp_seconds", &label),
        };
        metrics.running.set(0);
        metrics.duration.set(0);
        metrics.last_success.set(0);
        metrics
    }

    /// A sync goes on, or does not any more.
    pub fn set_running(&self, running: bool) {
        self.running.set(f64::from(u8::from(running)));
    }

    /// The last sync that was done, in seconds since 1970.
    pub fn set_last_success(&self, unix_seconds: f64) {
        self.last_success.set(unix_seconds);
    }

    /// Adds a sync that ended.
    pub fn add(&self, result: &'static str, took: Duration, rows: &[(&'static str, u64)]) {
        let model = || self.model.clone();
        counter!("consentd_sync_runs_total", "model" => model(), "result" => result).increment(1);
        for (change, rows) in rows {
            counter!("consentd_sync_rows_total", "model" => model(), "change" => *change)
                .increment(*rows);
        }
        self.duration.set(took.as_secs_f64());
    }
}

fn describe() {
    describe_counter!(
        "consentd_sync_runs_total",
        "Syncs of the model that ended, dry runs left out."
    );
    describe_counter!("consentd_sync_rows_total", "Rows by what these syncs found about them.");
    describe_gauge!("consentd_sync_duration_seconds", "How long the last of them took.");
    describe_gauge!("consentd_sync_running", "1 while a sync of the model goes on.");
    describe_gauge!(
        "consentd_sync_last_success_timestamp_seconds",
        "When the last sync that was done ended, in seconds since 1970; 0 before the first."
    );
}
