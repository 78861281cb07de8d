//! The metrics page, and the law that it must obey.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    pub(crate) fn parse(page: &str) -> Self {
        let samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { series: samples.map(sample).collect() }
    }

    /// The sum of the series of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|it| it == value))
        };
        let found = self.series.iter().filter(|(series, found, _)| series == name && has(found));
        found.map(|(_, _, value)| *value as u64).sum()
    }

    pub(crate) fn received(&self) -> u64 {
        self.sum("consentd_events_received_total", &[])
    }

    pub(crate) fn rejected(&self, reason: &str) -> u64 {
        self.sum("consentd_events_rejected_total", &[("reason", reason)])
    }

    pub(crate) fn all_rejected(&self) -> u64 {
        self.sum("consentd_events_rejected_total", &[])
    }

    pub(crate) fn delivered(&self, destination: &str) -> u64 {
        self.sum("consentd_events_delivered_total", &[("destination", destination)])
    }

    pub(crate) fn dropped(&self, destination: &str, reason: &str) -> u64 {
        let labels = [("destination", destination), ("reason", reason)];
        self.sum("consentd_events_dropped_total", &labels)
    }

    pub(crate) fn all_dropped(&self, destination: &str) -> u64 {
        self.sum("consentd_events_dropped_total", &[("destination", destination)])
    }

    pub(crate) fn pending(&self, destination: &str) -> u64 {
        self.sum("consentd_events_pending", &[("destination", destination)])
    }

    /// The drops of a destination, without the reasons that never occurred.
    pub(crate) fn drops(&self, destination: &str) -> BTreeMap<String, u64> {
        let all = self.series.iter().filter(|(name, labels, value)| {
            name == "consentd_events_dropped_total"
                && labels["destination"] == destination
                && *value > 0.0
        });
        all.map(|(_, labels, value)| (labels["reason"].clone(), *value as u64)).collect()
    }

    /// Every destination that was ever shown.
    pub(crate) fn destinations(&self) -> Vec<String> {
        let shown =
            self.series.iter().filter(|(name, _, _)| name == "consentd_events_delivered_total");
        shown.map(|(_, labels, _)| labels["destination"].clone()).collect()
    }

    /// Both sides of the conservation law for one destination.
    pub(crate) fn law(&self, destination: &str) -> (u64, u64) {
        let here =
            self.delivered(destination) + self.all_dropped(destination) + self.pending(destination);
        let labels = [("destination", destination)];
        let replayed = self.sum("consentd_dead_letters_replayed_total", &labels);
        let repeated = self.sum("consentd_events_repeated_total", &labels);
        (self.received() + replayed + repeated, self.all_rejected() + here)
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
    let value = value.parse().expect("a number");
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let labels = labels.strip_suffix('}').expect("closed labels");
    let label = |pair: &str| {
        let (label, value) = pair.split_once("=\"").expect("label=\"value\"");
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    };
    (name.to_owned(), labels.split("\",").map(label).collect(), value)
}
