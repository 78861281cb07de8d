//! The cases of `tests/conformance`: through `explain`, and through the real daemon over TCP and over
//! HTTP, by what the destinations received and by what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::harness::{Config, Daemon, Folder, consentd, post, run_to_end};

const MATRIX: &str = include_str!("../conformance/consent_matrix.jsonl");

pub(crate) struct Case {
    name: String,
    categories: Map<String, Value>,
    unmapped: Vec<String>,
    event: Value,
    deliver: Vec<String>,
    drop: BTreeMap<String, String>,
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = MATRIX.lines().enumerate().map(|(n, line)| case(n, line)).collect();
    assert!(cases.len() >= 23, "{} cases", cases.len());
    cases
}

fn case(number: usize, line: &str) -> Case {
    let case: Value = serde_json::from_str(line).unwrap();
    let mut event = case["event"].clone();
    // So that what arrives can be told from the events of other cases.
    event["case"] = number.into();
    let drop = case["drop"].as_object().unwrap();
    Case {
        name: case["name"].as_str().unwrap().to_owned(),
        categories: case["categories"].as_object().unwrap().clone(),
        unmapped: strings(&case["unmapped"]),
        event,
        deliver: strings(&case["deliver"]),
        drop: drop.iter().map(|(d, r)| (d.clone(), r.as_str().unwrap().to_owned())).collect(),
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

impl Case {
    fn destinations(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for name in self.categories.values().flat_map(strings).chain(self.unmapped.clone()) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    fn config(&self, folder: &Folder) -> Config {
        let categories: Vec<&str> = self.categories.keys().map(String::as_str).collect();
        let mut config = Config::new("allow").categories(&categories);
        for destination in self.destinations() {
            let mut own = String::new();
            for (category, members) in &self.categories {
                if strings(members).contains(&destination) {
                    write!(own, "\"{category}\",").unwrap();
                }
            }
            config = config.file(folder, &destination, format!("categories = [{own}]"));
        }
        config
    }

    /// What a destination must count for this case: delivered, and drops by reason.
    fn expected(&self, destination: &String) -> (u64, BTreeMap<String, u64>) {
        let drop = self.drop.get(destination).map(|reason| (reason.clone(), 1));
        (u64::from(self.deliver.contains(destination)), drop.into_iter().collect())
    }
}

/// Each case on a table of its own, put in force by a reload, and each destination's count and file.
fn through_the_daemon(send: impl Fn(&Daemon, &str)) {
    let folder = Folder::new();
    let cases = cases();
    let daemon = Daemon::start(&folder, &cases[0].config(&folder));
    for (number, case) in cases.iter().enumerate() {
        daemon.apply(&case.config(&folder));
        let before = daemon.metrics();
        let event = case.event.to_string();
        send(&daemon, &event);
        let received = number as u64 + 1;
        let after = daemon.metrics_where(&case.name, |after| {
            let settled = |destination: &String| {
                after.pending(destination) == 0
                    && after.delivered(destination) + after.all_dropped(destination)
                        > before.delivered(destination) + before.all_dropped(destination)
            };
            after.received() == received && case.destinations().iter().all(settled)
        });
        assert_eq!(after.all_rejected(), 0, "{}", case.name);
        for destination in case.destinations() {
            let mut drops = after.drops(&destination);
            for (reason, events) in before.drops(&destination) {
                *drops.get_mut(&reason).unwrap() -= events;
            }
            drops.retain(|_, events| *events > 0);
            let delivered = after.delivered(&destination) - before.delivered(&destination);
            let place = format!("{}: {destination}", case.name);
            assert_eq!((delivered, drops), case.expected(&destination), "{place}");
            let lines = folder.delivered(&destination);
            let arrived = lines.iter().filter(|line| **line == event).count();
            assert_eq!(arrived as u64, delivered, "{place}: {lines:#?}");
        }
    }
}

/// What `consentd explain` prints for the case alone.
#[test]
fn through_explain() {
    let folder = Folder::new();
    for case in cases() {
        let config = folder.write("consentd.toml", case.config(&folder));
        let event = folder.write("event.ndjson", format!("{}\n", case.event));
        let ended = run_to_end(consentd().args(["explain", "--config"]).arg(config).arg(event));
        assert_eq!(ended.code, Some(0), "{}: {}", case.name, ended.stderr);
        let explained: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(explained["accepted"], true, "{}", case.name);
        let found = |list: Vec<String>| list.into_iter().collect::<BTreeSet<_>>();
        let expected = found(case.deliver.clone());
        assert_eq!(found(strings(&explained["deliver"])), expected, "{}", case.name);
        assert_eq!(explained["drop"], serde_json::json!(case.drop), "{}", case.name);
        // In the order of the config.
        let delivered: Vec<String> = case.destinations();
        let delivered = delivered.into_iter().filter(|name| expected.contains(name));
        assert_eq!(strings(&explained["deliver"]), delivered.collect::<Vec<_>>(), "{}", case.name);
    }
}

#[test]
fn over_tcp() {
    through_the_daemon(|daemon, event| daemon.send(format!("{event}\n")));
}

#[test]
fn over_http() {
    through_the_daemon(|daemon, event| {
        let answer = post(daemon.source("http"), event);
        assert_eq!(answer.body, r#"{"accepted":1,"rejected":[]}"#, "{event}");
        assert_eq!(answer.status, 200);
    });
}
