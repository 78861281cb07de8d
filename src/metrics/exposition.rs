//! The counters in Prometheus' text format.
//!
//! Every count lives once, in the atomics of [`SourceCounters`] and [`DestinationCounters`]; a scrape
//! copies them into the exporter's registry. Only histograms are recorded where they happen.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::buckets::Buckets;
use super::counters::{
    DeadLetterCounters, DeadLetterReason, DestinationCounters, DropReason, LogCounters,
    SourceCounters,
};
use super::process;
use crate::parse::RejectReason;

/// Upper bounds of the latency histograms, in seconds.
const LATENCY_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Everything that a scrape shows.
#[derive(Debug)]
pub struct Exposition {
    handle: PrometheusHandle,
    series: Mutex<Series>,
}

#[derive(Debug, Default)]
struct Series {
    sources: Vec<SourceSeries>,
    destinations: HashMap<String, DestinationSeries>,
    log: Option<Arc<LogCounters>>,
    dead_letters: Option<Arc<DeadLetterCounters>>,
    /// Version and hash of the table in force.
    table: (u64, String),
}

/// What came in from a source since the daemon started.
#[derive(Clone, Debug)]
pub struct SourceTotals {
    /// The source.
    pub name: String,
    /// Events, the rejected ones included.
    pub received: u64,
    /// Rejected events by reason.
    pub rejected: Vec<(&'static str, u64)>,
}

/// What became of the events for a destination since the daemon started.
#[derive(Clone, Debug)]
pub struct DestinationTotals {
    /// The destination.
    pub name: String,
    /// Events it took.
    pub delivered: u64,
    /// Dropped events by reason.
    pub reasons: Vec<(&'static str, u64)>,
    /// Events that wait for it.
    pub pending: i64,
}

impl DestinationTotals {
    /// Dropped events, whatever the reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.reasons.iter().map(|(_, events)| events).sum()
    }
}

#[derive(Debug)]
struct SourceSeries {
    name: String,
    counters: Arc<SourceCounters>,
    received: Counter,
    bytes: Counter,
    unknown: Counter,
    connections: Gauge,
    rejected: Vec<(RejectReason, Counter)>,
}

#[derive(Debug)]
struct DestinationSeries {
    counters: Arc<DestinationCounters>,
    delivered: Counter,
    bytes: Counter,
    pending: Gauge,
    lag: Gauge,
    lag_bytes: Gauge,
    repeated: Counter,
    held: Gauge,
    replayed: Counter,
    dropped: Vec<(DropReason, Counter)>,
}

impl Exposition {
    /// Installs the exporter as the process' recorder of metrics.
    ///
    /// # Errors
    /// If the process has one already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_SECONDS)?
            .install_recorder()?;
        describe();
        Ok(Self { handle, series: Mutex::default() })
    }

    /// Shows a source from now on.
    pub fn add_source(&self, name: &str, counters: &Arc<SourceCounters>) {
        let source = name.to_owned();
        let rejected = RejectReason::ALL.map(|reason| {
            let series = counter!(
                "consentd_events_rejected_total", "source" => source.clone(), "reason" => reason.label()
            );
            (reason, series)
        });
        self.lock().sources.push(SourceSeries {
            name: source.clone(),
            counters: Arc::clone(counters),
            received: counter!("consentd_events_received_total", "source" => source.clone()),
            bytes: counter!("consentd_bytes_received_total", "source" => source.clone()),
            unknown: counter!("consentd_unknown_categories_total", "source" => source.clone()),
            connections: gauge!("consentd_connections", "source" => source.clone()),
            rejected: rejected.into(),
        });
    }

    /// Shows a destination from now on. One that was there before under this name goes on counting
    /// where it stopped.
    #[must_use]
    pub fn add_destination(&self, name: &str) -> Arc<DestinationCounters> {
        let mut series = self.lock();
        let known = series.destinations.entry(name.to_owned()).or_insert_with(|| {
            let destination = name.to_owned();
            let dropped = DropReason::ALL.map(|reason| {
                let series = counter!(
                    "consentd_events_dropped_total",
                    "destination" => destination.clone(),
                    "reason" => reason.label()
                );
                (reason, series)
            });
            let label = [("destination", destination)];
            DestinationSeries {
                counters: Arc::default(),
                delivered: counter!("consentd_events_delivered_total", &label),
                bytes: counter!("consentd_bytes_delivered_total", &label),
                pending: gauge!("consentd_events_pending", &label),
                lag: gauge!("consentd_destination_lag_seconds", &label),
                lag_bytes: gauge!("consentd_destination_lag_bytes", &label),
                repeated: counter!("consentd_events_repeated_total", &label),
                held: gauge!("consentd_destination_held", &label),
                replayed: counter!("consentd_dead_letters_replayed_total", &label),
                dropped: dropped.into(),
            }
        });
        Arc::clone(&known.counters)
    }

    /// Shows the log.
    pub fn add_log(&self, counters: &Arc<LogCounters>) {
        self.lock().log = Some(Arc::clone(counters));
    }

    /// Shows the dead letters.
    pub fn add_dead_letters(&self, counters: &Arc<DeadLetterCounters>) {
        self.lock().dead_letters = Some(Arc::clone(counters));
    }

    /// The table in force from now on.
    pub fn set_table(&self, version: u64, hash: &str) {
        self.lock().table = (version, hash.to_owned());
    }

    /// Counts a reload.
    pub fn count_reload(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        counter!("consentd_reloads_total", "result" => result).increment(1);
    }

    /// Tidies what the histograms collected; to be called every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The counts of every source, in config order.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceTotals> {
        let total = |source: &SourceSeries| SourceTotals {
            name: source.name.clone(),
            received: source.counters.received.load(Relaxed),
            rejected: RejectReason::ALL
                .map(|reason| (reason.label(), source.counters.rejected(reason)))
                .into(),
        };
        self.lock().sources.iter().map(total).collect()
    }

    /// The counts of the destinations with these names.
    pub fn destinations<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Vec<DestinationTotals> {
        let series = self.lock();
        let total = |name: &str| {
            let counters = &series.destinations.get(name)?.counters;
            Some(DestinationTotals {
                name: name.to_owned(),
                delivered: counters.delivered.load(Relaxed),
                reasons: DropReason::ALL
                    .map(|reason| (reason.label(), counters.dropped(reason)))
                    .into(),
                pending: counters.pending.load(Relaxed),
            })
        };
        names.into_iter().filter_map(total).collect()
    }

    /// The page of `/metrics`.
    #[must_use]
    pub fn render(&self, ingest_blocked_seconds: f64) -> String {
        for source in &self.lock().sources {
            source.publish();
        }
        for destination in self.lock().destinations.values() {
            destination.publish();
        }
        let mut page = self.handle.render();
        self.write_end_to_end(&mut page);
        let log = self.lock().log.clone();
        let dead_letters = self.lock().dead_letters.clone();
        if let Some(log) = log {
            write_log(&mut page, &log, dead_letters.as_deref());
        }
        if let Some(dead_letters) = dead_letters {
            write_dead_letters(&mut page, &dead_letters);
        }
        // The registry's counters are whole numbers; these are not.
        let _ = write!(
            page,
            "# HELP consentd_ingest_blocked_seconds_total Time that reading has waited for room, \
             all connections added up.\n\
             # TYPE consentd_ingest_blocked_seconds_total counter\n\
             consentd_ingest_blocked_seconds_total {ingest_blocked_seconds}\n\n"
        );
        // By hand, so that only the table in force is shown and not every one there was.
        let (version, hash) = self.lock().table.clone();
        let _ = write!(
            page,
            "# HELP consentd_routing_table_info 1 for the routing table in force.\n\
             # TYPE consentd_routing_table_info gauge\n\
             consentd_routing_table_info{{version=\"{version}\",hash=\"{hash}\"}} 1\n\n"
        );
        process::write(&mut page);
        page
    }

    fn write_end_to_end(&self, page: &mut String) {
        let name = "consentd_end_to_end_seconds";
        let _ = writeln!(
            page,
            "# HELP {name} From reading an event to the destination's acknowledgement.\n\
             # TYPE {name} histogram"
        );
        for (destination, series) in &self.lock().destinations {
            let destination = escape_label(destination);
            let label = format!("destination=\"{destination}\"");
            write_buckets(page, name, &label, &series.counters.end_to_end);
        }
        page.push('\n');
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceSeries {
    fn publish(&self) {
        let counters = &self.counters;
        self.received.absolute(counters.received.load(Relaxed));
        self.bytes.absolute(counters.bytes.load(Relaxed));
        self.unknown.absolute(counters.unknown_categories.load(Relaxed));
        self.connections.set(counters.connections.load(Relaxed) as f64);
        for (reason, series) in &self.rejected {
            series.absolute(counters.rejected(*reason));
        }
    }
}

impl DestinationSeries {
    fn publish(&self) {
        let counters = &self.counters;
        self.delivered.absolute(counters.delivered.load(Relaxed));
        self.bytes.absolute(counters.delivered_bytes.load(Relaxed));
        self.pending.set(counters.pending.load(Relaxed) as f64);
        self.lag.set(counters.lag(Instant::now()).as_secs_f64());
        self.lag_bytes.set(counters.lag_bytes.load(Relaxed) as f64);
        self.repeated.absolute(counters.repeated.load(Relaxed));
        self.held.set(counters.held.load(Relaxed) as f64);
        self.replayed.absolute(counters.replayed.load(Relaxed));
        for (reason, series) in &self.dropped {
            series.absolute(counters.dropped(*reason));
        }
    }
}

fn write_log(page: &mut String, log: &LogCounters, dead_letters: Option<&DeadLetterCounters>) {
    let (bytes, full) = (log.bytes.load(Relaxed), log.full.load(Relaxed));
    let in_letters = dead_letters.map_or(0, |it| it.erasures_pending.load(Relaxed));
    // Whoever is erased is so in both: the sum would count them twice.
    let erasures = log.erasures_pending.load(Relaxed).max(in_letters);
    let name = "consentd_log_commit_duration_seconds";
    let _ = writeln!(
        page,
        "# HELP consentd_log_bytes Bytes of the log on the disk.\n\
         # TYPE consentd_log_bytes gauge\n\
         consentd_log_bytes {bytes}\n\n\
         # HELP consentd_log_full 1 while the log takes no more events.\n\
         # TYPE consentd_log_full gauge\n\
         consentd_log_full {full}\n\n\
         # HELP consentd_erasures_pending IDs whose erased events, which nobody gets any more, are not \
         yet removed from the disk, in the log or in the dead letters.\n\
         # TYPE consentd_erasures_pending gauge\n\
         consentd_erasures_pending {erasures}\n\n\
         # HELP {name} How long it took to write a group of events and to make it durable.\n\
         # TYPE {name} histogram"
    );
    write_buckets(page, name, "", &log.commits);
    page.push('\n');
}

fn write_dead_letters(page: &mut String, counters: &DeadLetterCounters) {
    let name = "consentd_dead_letters_total";
    let _ = writeln!(
        page,
        "# HELP {name} Events that failed for good and were kept as dead letters.\n\
         # TYPE {name} counter"
    );
    for reason in DeadLetterReason::all() {
        let (label, kept) = (reason.label(), counters.kept(reason));
        let _ = writeln!(page, "{name}{{reason=\"{label}\"}} {kept}");
    }
    let (expired, lost) = (counters.expired.load(Relaxed), counters.lost.load(Relaxed));
    let _ = write!(
        page,
        "\n# HELP consentd_dead_letters_bytes Bytes of the dead letters on the disk.\n\
         # TYPE consentd_dead_letters_bytes gauge\n\
         consentd_dead_letters_bytes{{kind=\"delivery\"}} {}\n\
         consentd_dead_letters_bytes{{kind=\"ingest\"}} {}\n\n\
         # HELP consentd_dead_letters_expired_total Dead letters that were too old or made room.\n\
         # TYPE consentd_dead_letters_expired_total counter\n\
         consentd_dead_letters_expired_total {expired}\n\n\
         # HELP consentd_dead_letters_lost_total Rejected lines that came too fast to be kept.\n\
         # TYPE consentd_dead_letters_lost_total counter\n\
         consentd_dead_letters_lost_total {lost}\n\n",
        counters.delivery_bytes.load(Relaxed),
        counters.ingest_bytes.load(Relaxed),
    );
}

fn write_buckets(page: &mut String, name: &str, label: &str, buckets: &Buckets) {
    let comma = if label.is_empty() { "" } else { "," };
    let mut count = 0;
    for (bound, below) in buckets.cumulative() {
        let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        let _ = writeln!(page, "{name}_bucket{{{label}{comma}le=\"{le}\"}} {below}");
        count = below;
    }
    let sum = buckets.sum_seconds();
    let labels = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
    let _ = writeln!(page, "{name}_sum{labels} {sum}");
    let _ = writeln!(page, "{name}_count{labels} {count}");
}

/// As the text format wants label values: names from the config may hold anything printable.
fn escape_label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn describe() {
    describe_counter!(
        "consentd_events_received_total",
        "Events read from the source, rejected ones included."
    );
    describe_counter!(
        "consentd_bytes_received_total",
        "Bytes of these events, line ends not counted."
    );
    describe_counter!("consentd_events_rejected_total", "Lines that are not an acceptable event.");
    describe_counter!(
        "consentd_unknown_categories_total",
        "Preferences about categories that are not configured."
    );
    describe_gauge!("consentd_connections", "Open connections of the source.");
    describe_counter!("consentd_events_delivered_total", "Events that the destination took.");
    describe_counter!(
        "consentd_bytes_delivered_total",
        "Bytes of these events, line ends not counted."
    );
    describe_counter!(
        "consentd_events_dropped_total",
        "Accepted events that the destination did not get."
    );
    describe_gauge!("consentd_events_pending", "Events that wait for the destination.");
    describe_gauge!(
        "consentd_destination_lag_seconds",
        "How long ago the oldest event that waits was received."
    );
    describe_gauge!(
        "consentd_destination_lag_bytes",
        "Bytes of the log behind the destination's cursor."
    );
    describe_counter!(
        "consentd_events_repeated_total",
        "Settled events that are given to the destination again, because others stored with them were \
         not settled when it was replaced."
    );
    describe_gauge!(
        "consentd_destination_held",
        "1 while the destination answers that it takes nothing: deliveries are on hold."
    );
    describe_counter!(
        "consentd_dead_letters_replayed_total",
        "Dead letters that were put into the log for the destination once more."
    );
    describe_counter!("consentd_delivery_attempts_total", "Attempts to deliver a batch.");
    describe_histogram!("consentd_delivery_duration_seconds", "How long an attempt took.");
    describe_counter!("consentd_reloads_total", "Reloads that were asked for.");
}
