//! Configs, and the folder that a test works in.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder that goes away with the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A pipe with a name. Whoever opens it waits for the other end.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    pub(crate) fn write(&self, name: &str, text: impl Display) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// The lines that a destination made by [`Config::file`] wrote.
    pub(crate) fn delivered(&self, destination: &str) -> Vec<String> {
        file_lines(&self.path(&format!("{destination}.ndjson")))
    }
}

/// The whole lines of a file; none if there is no file. Behind them may be one that is being written.
fn file_lines(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    lines_of(&bytes[..whole])
}

/// The lines of what was received. They end where an LF is and nowhere else.
pub(crate) fn lines_of(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("only UTF-8 is delivered");
    text.split_inclusive('\n')
        .map(|line| line.strip_suffix('\n').expect("only whole lines are delivered").to_owned())
        .collect()
}

/// A config: a TCP source `tcp` and an HTTP source `http` on ports that the system chooses, quick
/// batches, and what a test adds.
#[derive(Clone)]
pub(crate) struct Config {
    admin: String,
    daemon: String,
    log: String,
    consent: String,
    categories: String,
    sources: String,
    destinations: String,
}

impl Config {
    /// `missing` is the rule for events that hold no consent object.
    pub(crate) fn new(missing: &str) -> Self {
        let source = |kind: &str| {
            format!("[sources.{kind}]\ntype = \"{kind}\"\nlisten = \"127.0.0.1:0\"\n\n")
        };
        Self {
            admin: "127.0.0.1:0".to_owned(),
            daemon: String::new(),
            log: "enabled = false\n".to_owned(),
            consent: format!("missing = \"{missing}\"\n"),
            categories: String::new(),
            sources: source("tcp") + &source("http"),
            destinations: String::new(),
        }
    }

    /// Adds keys to `[daemon]`.
    pub(crate) fn daemon(mut self, keys: &str) -> Self {
        self.daemon += &format!("{keys}\n");
        self
    }

    /// Switches the log on, in the folder, with these keys of `[log]`.
    pub(crate) fn log(mut self, folder: &Folder, keys: &str) -> Self {
        self.daemon += &format!("data_dir = {:?}\n", folder.path("state"));
        self.log = format!("{keys}\n");
        self
    }

    /// Adds `[dead_letters]` with these keys; the log comes first.
    pub(crate) fn dead_letters(mut self, keys: &str) -> Self {
        self.log += &format!("[dead_letters]\n{keys}\n");
        self
    }

    /// Adds keys to `[consent]`.
    pub(crate) fn consent(mut self, keys: &str) -> Self {
        self.consent += &format!("{keys}\n");
        self
    }

    pub(crate) fn admin(mut self, address: impl Display) -> Self {
        self.admin = address.to_string();
        self
    }

    pub(crate) fn categories(mut self, ids: &[&str]) -> Self {
        for id in ids {
            self.categories += &format!("[[categories]]\nid = \"{id}\"\n\n");
        }
        self
    }

    /// Replaces the two sources.
    pub(crate) fn sources(mut self, tables: impl Display) -> Self {
        self.sources = tables.to_string();
        self
    }

    /// Adds a destination.
    pub(crate) fn destination(mut self, name: &str, keys: impl Display) -> Self {
        self.destinations += &format!("[destinations.\"{name}\"]\n{keys}\n\n");
        self
    }

    /// Adds `[models.NAME]` that asks a warehouse which nobody needs: a test plays its child.
    pub(crate) fn model(mut self, name: &str, keys: impl Display) -> Self {
        let warehouse = "[warehouses.main]\ndriver = \"sqlite\"\nuri = \"none.db\"\n\n";
        if !self.destinations.contains(warehouse) {
            self.destinations += warehouse;
        }
        self.destinations += &format!(
            "[models.{name}]\nwarehouse = \"main\"\nquery = \"select 1\"\nunique_id = \"id\"\n\
             event = {{ type = \"identify\", userId = \"$id\" }}\n{keys}\n\n"
        );
        self
    }

    /// Adds a file destination; see [`Folder::delivered`].
    pub(crate) fn file(self, folder: &Folder, name: &str, keys: impl Display) -> Self {
        let path = folder.path(&format!("{name}.ndjson"));
        let quick = "batch = { max_wait = \"1ms\" }";
        self.destination(name, format!("type = \"file\"\npath = {path:?}\n{quick}\n{keys}"))
    }

    /// Adds an HTTP destination that batches and tries again quickly, one request at a time.
    pub(crate) fn http(self, name: &str, url: &str, keys: impl Display) -> Self {
        let quick = "batch = { max_wait = \"1ms\" }\n\
                     retry = { initial = \"20ms\", max = \"50ms\" }\nconcurrency = 1";
        self.destination(name, format!("type = \"http\"\nurl = \"{url}\"\n{quick}\n{keys}"))
    }

    /// Adds a TCP destination that batches and tries again quickly.
    pub(crate) fn tcp(self, name: &str, address: impl Display, keys: impl Display) -> Self {
        let quick =
            "batch = { max_wait = \"1ms\" }\nretry = { initial = \"20ms\", max = \"50ms\" }";
        self.destination(name, format!("type = \"tcp\"\naddress = \"{address}\"\n{quick}\n{keys}"))
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { admin, daemon, log, consent, categories, sources, destinations } = self;
        write!(
            f,
            "[daemon]\n{daemon}\n[log]\n{log}\n[admin]\nlisten = \"{admin}\"\n\n[consent]\n{consent}\n\
             {categories}{sources}{destinations}"
        )
    }
}
