//! A histogram that counts many equal samples at the cost of one.
//!
//! `metrics::Histogram` keeps every sample until the next scrape; with one per event and destination
//! that is neither bounded nor cheap.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets in seconds; above the last one is one more bucket.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Samples by duration.
#[derive(Debug, Default)]
pub struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Buckets {
    /// Adds `samples` of `duration` each.
    pub fn record(&self, duration: Duration, samples: u64) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(samples, Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us.saturating_mul(samples), Relaxed);
    }

    /// For each upper bound (the last is infinite) how many samples are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let mut below = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            below += count.load(Relaxed);
            (bound, below)
        })
    }

    /// The sum of all samples in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_in_every_bucket_from_its_own_on() {
        let buckets = Buckets::default();
        buckets.record(Duration::from_millis(1), 3);
        buckets.record(Duration::from_millis(30), 2);
        buckets.record(Duration::from_secs(10_000), 1);
        let below = |wanted: f64| {
            let mut all = buckets.cumulative();
            all.find(|(bound, _)| *bound == wanted).map(|(_, n)| n)
        };
        assert_eq!(below(0.001), Some(3));
        assert_eq!(below(0.025), Some(3));
        assert_eq!(below(0.05), Some(5));
        assert_eq!(below(600.0), Some(5));
        assert_eq!(below(f64::INFINITY), Some(6));
        assert!((buckets.sum_seconds() - 10_000.063).abs() < 1e-6);
    }
}
