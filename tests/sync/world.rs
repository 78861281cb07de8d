//! One model, its database, and a daemon.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Answer, Config, Daemon, Ended, Folder, PATIENCE, get, request};

/// `[models.people]`: by default everything is sent, and withdrawal is told. `CONSENTD_STATE=warehouse`
/// lets all tests keep their state there that do not say where.
#[derive(Clone)]
pub(crate) struct Model(BTreeMap<String, String>);

impl Model {
    pub(crate) fn new() -> Self {
        let state = std::env::var("CONSENTD_STATE").unwrap_or("local".to_owned());
        let model = Self(BTreeMap::new());
        model
            .set("state", format!("{state:?}"))
            .set("query", "\"select * from people\"")
            .set("unique_id", "\"id\"")
            .set("consent", "{ Ads = \"ads\", Stats = \"stats\" }")
            .set("send", "[\"added\", \"updated\", \"deleted\"]")
            .set("on_withdrawal", "\"delete\"")
            .set(
                "event",
                "{ type = \"identify\", userId = \"$id\", traits = { plan = \"$plan\" } }",
            )
    }

    /// Sets a key to TOML.
    pub(crate) fn set(mut self, key: &str, toml: impl Display) -> Self {
        self.0.insert(key.to_owned(), toml.to_string());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }
}

impl Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[models.people]\nwarehouse = \"main\"")?;
        self.0.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

/// Most tests' table.
pub(crate) const PEOPLE: &str =
    "create table people (id integer, plan text, ads boolean, stats boolean)";

/// What is wanted in addition to the model.
type Finish = Box<dyn Fn(&Folder, Config) -> Config>;

/// A database, a config and a daemon that runs with them.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) model: Model,
    finish: Finish,
    child: Option<PathBuf>,
    daemon: Option<Daemon>,
    seen: BTreeMap<String, usize>,
}

impl World {
    /// Runs a daemon with this model; `sql` makes the database, `finish` adds destinations to the config.
    pub(crate) fn new(
        sql: &str,
        model: Model,
        finish: impl Fn(&Folder, Config) -> Config + 'static,
    ) -> Self {
        let folder = Folder::new();
        let mut world = Self {
            folder,
            model,
            finish: Box::new(finish),
            child: None,
            daemon: None,
            seen: BTreeMap::new(),
        };
        Connection::open(world.folder.path("people.db")).unwrap();
        world.sql(sql);
        world.start();
        world
    }

    /// As [`Self::new`], with the destinations `ads` and `stats`, files that need the category of their
    /// name.
    pub(crate) fn simple(sql: &str, model: Model) -> Self {
        Self::new(sql, model, |folder, config| {
            config.file(folder, "ads", "categories = [\"Ads\"]").file(
                folder,
                "stats",
                "categories = [\"Stats\"]",
            )
        })
    }

    fn config(&self) -> Config {
        let warehouse = format!(
            "[warehouses.main]\ndriver = \"sqlite\"\nuri = {:?}\n\n",
            self.folder.path("people.db")
        );
        // A model is a source, too.
        let config = Config::new("deny")
            .categories(&["Ads", "Stats"])
            .log(&self.folder, "")
            .sources(format!("{warehouse}{}\n", self.model));
        (self.finish)(&self.folder, config)
    }

    /// Starts the daemon, if none runs.
    pub(crate) fn start(&mut self) {
        if self.daemon.is_none() {
            let child = self.child.clone();
            self.daemon = Some(Daemon::start_with(&self.folder, &self.config(), |command| {
                command.env_remove("CONSENTD_SYNC_CHILD");
                child.map(|child| command.env("CONSENTD_SYNC_CHILD", child));
            }));
        }
    }

    /// The daemon is started again, and runs this in the place of its children.
    pub(crate) fn run_as_child(&mut self, program: PathBuf) {
        self.child = Some(program);
        self.kill();
        self.start();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> Ended {
        self.daemon.take().unwrap().stop()
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Takes another model into force.
    #[track_caller]
    pub(crate) fn become_model(&mut self, model: Model) {
        self.model = model;
        self.daemon().apply_and_wait(&self.config());
    }

    /// Writes a config with another model and other destinations, and leaves the daemon with the old one.
    pub(crate) fn write_config(
        &mut self,
        model: Model,
        finish: impl Fn(&Folder, Config) -> Config + 'static,
    ) {
        self.model = model;
        self.finish = Box::new(finish);
        self.daemon().write_config(self.config());
    }

    /// Takes other destinations into force.
    #[track_caller]
    pub(crate) fn finish_with(&mut self, finish: impl Fn(&Folder, Config) -> Config + 'static) {
        self.finish = Box::new(finish);
        self.daemon().apply_and_wait(&self.config());
    }

    /// Changes the database.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::open(self.folder.path("people.db")).unwrap()
    }

    /// Starts a sync; the answer.
    pub(crate) fn ask(&self, flags: &str) -> Answer {
        let path = format!("/syncs/people{flags}");
        request(self.daemon().admin(), "POST", &path, "", b"").unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        get(self.daemon().admin(), "/syncs/people").json()
    }

    /// Starts a sync that must start; its ID.
    #[track_caller]
    pub(crate) fn begin(&self, flags: &str) -> String {
        let answer = self.ask(flags);
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["sync"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a sync, and until all that it sent has arrived; how it ended.
    #[track_caller]
    pub(crate) fn ended(&self, sync: &str) -> Value {
        self.ended_within(sync, PATIENCE)
    }

    #[track_caller]
    fn ended_within(&self, sync: &str, patience: Duration) -> Value {
        let started = Instant::now();
        let record = loop {
            let status = self.status();
            let ended = status["history"].as_array().unwrap().iter().find(|it| it["sync"] == sync);
            if let Some(ended) = ended.filter(|_| status["running"].is_null()) {
                break ended.clone();
            }
            assert!(started.elapsed() < patience, "the sync does not end: {status}");
            sleep(Duration::from_millis(10));
        };
        self.arrive();
        record
    }

    /// Waits until nothing is on the way to any destination.
    #[track_caller]
    pub(crate) fn arrive(&self) {
        self.daemon().metrics_where("everything has arrived", |metrics| {
            metrics.destinations().iter().all(|name| metrics.pending(name) == 0)
        });
    }

    #[track_caller]
    pub(crate) fn run(&self, flags: &str) -> Value {
        self.ended(&self.begin(flags))
    }

    /// As [`Self::run`], for one that may take so long.
    #[track_caller]
    pub(crate) fn run_patiently(&self, flags: &str, patience: Duration) -> Value {
        self.ended_within(&self.begin(flags), patience)
    }

    /// A sync that ends with these counts (`rows=3 added=3 sent=3`), and no others.
    #[track_caller]
    pub(crate) fn sync(&self, expected: &str) -> Value {
        self.sync_with("", expected)
    }

    /// As [`Self::sync`], with `?full=1` or `?dry_run=1`.
    #[track_caller]
    pub(crate) fn sync_with(&self, flags: &str, expected: &str) -> Value {
        let record = self.run(flags);
        assert_eq!(record["state"], "done", "{record}");
        assert_eq!(counts(&record), expected, "{record}");
        record
    }

    /// A sync that fails; its error.
    #[track_caller]
    pub(crate) fn fails(&self) -> String {
        let record = self.run("");
        assert_eq!(record["state"], "failed", "{record}");
        record["error"].as_str().unwrap().to_owned()
    }

    /// What arrived at a file destination since the last time.
    #[track_caller]
    pub(crate) fn take(&mut self, destination: &str) -> Vec<String> {
        let all = self.folder.delivered(destination);
        let seen = self.seen.entry(destination.to_owned()).or_default();
        let new = all[*seen..].to_vec();
        *seen = all.len();
        new
    }

    /// The same in short: `1 2 -3` for two rows and a deletion, in the order of their ids.
    #[track_caller]
    pub(crate) fn took(&mut self, destination: &str) -> String {
        short(&self.take(destination))
    }
}

/// See [`World::took`].
pub(crate) fn short(lines: &[String]) -> String {
    let mut ids: Vec<(String, &str)> = lines
        .iter()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let mark = if event["type"] == "delete" { "-" } else { "" };
            (event["userId"].to_string(), mark)
        })
        .collect();
    ids.sort();
    let ids: Vec<String> = ids.into_iter().map(|(id, mark)| format!("{mark}{id}")).collect();
    ids.join(" ")
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

pub(crate) fn samples(record: &Value) -> String {
    let samples = record["samples"].as_array().unwrap().iter();
    samples.map(|it| it.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The processes of syncs of a daemon.
pub(crate) fn children(daemon: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&daemon.to_string())
    })
    .collect()
}

/// Kills a process.
pub(crate) fn kill(id: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &id.to_string()]).output();
}
