//! One model, its database, and a daemon.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{Config, Daemon, Folder, PATIENCE, get, request};

/// Most tests' model.
pub(crate) const PEOPLE: &str = r#"
query = "select * from people"
unique_id = "id"
consent = { Ads = "ads", Stats = "stats" }
send = ["added", "updated", "deleted"]
on_withdrawal = "delete"
event = { type = "identify", userId = "$id", traits = { plan = "$plan" } }
"#;

/// Snowflake's driver asks the networks of clouds where it runs, unless it is told not to.
pub(crate) const NO_PLATFORM_DETECTION: (&str, &str) =
    ("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true");

/// A daemon with the model `people`, and the destinations `ads` and `stats`, files that need the category
/// of their name.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) daemon: Daemon,
    seen: BTreeMap<String, usize>,
}

impl World {
    /// `warehouse` is the body of `[warehouses.main]`, `model` that of `[models.people]`; more tables may
    /// follow there.
    pub(crate) fn new(warehouse: &str, model: impl Display) -> Self {
        let folder = Folder::new();
        let config = Self::config(&folder, warehouse, model);
        let daemon = Daemon::start_with(&folder, &config, |command| {
            command.env_remove("CONSENTD_SYNC_CHILD");
            command.env(NO_PLATFORM_DETECTION.0, NO_PLATFORM_DETECTION.1);
        });
        Self { folder, daemon, seen: BTreeMap::new() }
    }

    pub(crate) fn config(folder: &Folder, warehouse: &str, model: impl Display) -> Config {
        let model = format!(
            "[warehouses.main]\n{warehouse}\n\n[models.people]\nwarehouse = \"main\"\n{model}\n\n"
        );
        Config::new("deny")
            .categories(&["Ads", "Stats"])
            .log(folder, "")
            .sources(model)
            .file(folder, "ads", "categories = [\"Ads\"]")
            .file(folder, "stats", "categories = [\"Stats\"]")
    }

    /// Takes another model into force.
    #[track_caller]
    pub(crate) fn apply(&self, warehouse: &str, model: impl Display) {
        self.daemon.apply_and_wait(&Self::config(&self.folder, warehouse, model));
    }

    pub(crate) fn status(&self, model: &str) -> Value {
        get(self.daemon.admin(), &format!("/syncs/{model}")).json()
    }

    /// Starts a sync; its ID.
    #[track_caller]
    pub(crate) fn begin(&self, model: &str) -> String {
        let path = format!("/syncs/{model}");
        let answer = request(self.daemon.admin(), "POST", &path, "", b"").unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["sync"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a sync, and until all that it sent has arrived; how it ended.
    #[track_caller]
    pub(crate) fn ended(&self, model: &str, sync: &str) -> Value {
        let started = Instant::now();
        let record = loop {
            let status = self.status(model);
            let ended = status["history"].as_array().unwrap().iter().find(|it| it["sync"] == sync);
            if let Some(ended) = ended.filter(|_| status["running"].is_null()) {
                break ended.clone();
            }
            assert!(started.elapsed() < PATIENCE, "the sync does not end: {status}");
            sleep(Duration::from_millis(10));
        };
        self.daemon.metrics_where("everything has arrived", |metrics| {
            metrics.destinations().iter().all(|name| metrics.pending(name) == 0)
        });
        record
    }

    /// A sync of `people` that ends with these counts (`rows=3 added=3 sent=3`), and no others.
    #[track_caller]
    pub(crate) fn sync(&self, expected: &str) -> Value {
        self.sync_of("people", expected)
    }

    /// As [`Self::sync`], of another model.
    #[track_caller]
    pub(crate) fn sync_of(&self, model: &str, expected: &str) -> Value {
        let record = self.ended(model, &self.begin(model));
        assert_eq!(record["state"], "done", "{record}");
        assert_eq!(counts(&record), expected, "{record}");
        record
    }

    /// A sync of `people` that fails; its error.
    #[track_caller]
    pub(crate) fn fails(&self) -> String {
        let record = self.ended("people", &self.begin("people"));
        assert_eq!(record["state"], "failed", "{record}");
        record["error"].as_str().unwrap().to_owned()
    }

    /// What arrived at a destination since the last time, in short: `1 2 -3` for two rows and a deletion,
    /// in the order of their ids.
    #[track_caller]
    pub(crate) fn took(&mut self, destination: &str) -> String {
        let all = self.folder.delivered(destination);
        let seen = self.seen.entry(destination.to_owned()).or_default();
        let new = &all[*seen..];
        *seen = all.len();
        let mut ids: Vec<(String, &str)> = new.iter().map(|line| short(line)).collect();
        ids.sort();
        let ids: Vec<String> = ids.into_iter().map(|(id, mark)| format!("{mark}{id}")).collect();
        ids.join(" ")
    }
}

fn short(line: &str) -> (String, &'static str) {
    let event: Value = serde_json::from_str(line).unwrap();
    let mark = if event["type"] == "delete" { "-" } else { "" };
    (event["userId"].to_string(), mark)
}

/// The counts that are not zero.
pub(crate) fn counts(record: &Value) -> String {
    const ALL: [&str; 10] = [
        "rows",
        "added",
        "updated",
        "deleted",
        "unchanged",
        "withdrawn",
        "refused",
        "failed",
        "skipped",
        "sent",
    ];
    let counted = ALL.iter().filter(|name| record[**name] != 0);
    let counted: Vec<String> = counted.map(|name| format!("{name}={}", record[*name])).collect();
    counted.join(" ")
}

/// Kills the children of a process; how many there were.
pub(crate) fn kill_children(of: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = ids.filter(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&of.to_string())
    });
    children
        .filter(|id| Command::new("kill").args(["-9", &id.to_string()]).status().unwrap().success())
        .count()
}
