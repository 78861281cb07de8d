//! The law of conservation, read off the daemon's metrics: for every destination
//! `received = rejected + delivered + dropped + pending`.

use std::collections::BTreeMap;

/// The counts that the law speaks of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Over all sources.
    pub received: u64,
    /// Over all sources and reasons.
    pub rejected: u64,
    /// By name.
    pub destinations: BTreeMap<String, Account>,
}

/// Of one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Acknowledged.
    pub delivered: u64,
    /// Over all reasons.
    pub dropped: u64,
    /// Of these, because its buffer was full.
    pub overflow: u64,
    /// Neither yet.
    pub pending: u64,
}

impl Counts {
    /// Reads the Prometheus text format; what is not spoken of stays 0.
    pub fn of(exposition: &str) -> Self {
        let mut counts = Self::default();
        for line in exposition.lines().filter(|line| !line.starts_with('#')) {
            if let Some(sample) = Sample::of(line) {
                counts.add(&sample);
            }
        }
        counts
    }

    fn add(&mut self, sample: &Sample<'_>) {
        match sample.name {
            "consentd_events_received_total" => self.received += sample.value,
            "consentd_events_rejected_total" => self.rejected += sample.value,
            "consentd_events_delivered_total" => self.account(sample).delivered += sample.value,
            "consentd_events_pending" => self.account(sample).pending += sample.value,
            "consentd_events_dropped_total" => {
                let is_overflow = sample.label("reason") == Some("overflow");
                let account = self.account(sample);
                account.dropped += sample.value;
                account.overflow += if is_overflow { sample.value } else { 0 };
            }
            _ => {}
        }
    }

    fn account(&mut self, sample: &Sample<'_>) -> &mut Account {
        let name = sample.label("destination").unwrap_or_default();
        self.destinations.entry(name.to_owned()).or_default()
    }

    /// Events that wait somewhere.
    pub fn pending(&self) -> u64 {
        self.destinations.values().map(|account| account.pending).sum()
    }

    /// Every destination for which the law does not hold, in words.
    pub fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for (name, account) in &self.destinations {
            let Account { delivered, dropped, pending, .. } = *account;
            let accounted = self.rejected + delivered + dropped + pending;
            if accounted != self.received {
                breaches.push(format!(
                    "{name}: received {} is not rejected {} + delivered {delivered} + dropped \
                     {dropped} + pending {pending} = {accounted}",
                    self.received, self.rejected,
                ));
            }
        }
        breaches
    }
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: u64,
}

impl<'a> Sample<'a> {
    /// `name{label="value",...} number`; all that is asked for are whole numbers.
    fn of(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let value = value.parse::<f64>().ok()?;
        Some(Self { name, labels: labels.trim_end_matches('}'), value: value as u64 })
    }

    /// The values that are asked for hold no commas and no quotes.
    fn label(&self, name: &str) -> Option<&'a str> {
        let value = |pair: &'a str| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"');
        self.labels.split(',').find_map(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSITION: &str = r#"# TYPE consentd_events_received_total counter
consentd_events_received_total{source="tcp"} 70
consentd_events_received_total{source="http"} 30
consentd_events_rejected_total{source="tcp",reason="invalid_json"} 2
consentd_events_delivered_total{destination="a"} 90
consentd_events_dropped_total{destination="a",reason="consent"} 5
consentd_events_dropped_total{reason="overflow",destination="a"} 2
consentd_events_pending{destination="a"} 1
consentd_events_delivered_total{destination="b"} 97
consentd_connections 3
"#;

    #[test]
    fn counts_are_read_and_breaches_named() {
        let counts = Counts::of(EXPOSITION);
        assert_eq!((counts.received, counts.rejected, counts.pending()), (100, 2, 1));
        let a = Account { delivered: 90, dropped: 7, overflow: 2, pending: 1 };
        assert_eq!(counts.destinations["a"], a);
        let breaches = counts.breaches();
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].starts_with("b: received 100"), "{breaches:?}");
    }
}
