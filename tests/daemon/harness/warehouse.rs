//! The child of a sync, played by a test: the daemon starts a script that hands its errand over and
//! waits, and the test talks to the daemon in its place.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Config, Daemon, Folder, PATIENCE, get, request, wait_for, wait_until};

/// Where the script and the test meet.
pub(crate) struct Stage {
    folder: PathBuf,
}

/// A connection to the daemon's socket.
pub(crate) struct Peer {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub(crate) errand: Value,
    pub(crate) welcome: Value,
    /// Whether it was asked to stop.
    pub(crate) is_cancelled: bool,
    settled: Vec<Value>,
}

impl Stage {
    pub(crate) fn new(folder: &Folder) -> Self {
        let folder = folder.path("stage");
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "#!/bin/sh\ncd {folder:?}\nread -r errand\necho hello from the child >&2\necho $$ > pid\n\
             echo \"$errand\" > errand.new\nmv errand.new errand\n\
             n=0\nwhile [ ! -e end ] && [ $n -lt 3000 ]; do sleep 0.02; n=$((n+1)); done\ncode=$(cat end)\nrm end\nexit $code\n"
        );
        let path = folder.join("child");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// Starts a daemon whose children are played.
    pub(crate) fn start(&self, folder: &Folder, config: &Config) -> Daemon {
        Daemon::start_with(folder, config, |command| {
            command.env("CONSENTD_SYNC_CHILD", self.folder.join("child"));
        })
    }

    /// Waits for a child, and takes its errand.
    pub(crate) fn errand(&self) -> Value {
        let path = self.folder.join("errand");
        let text = wait_for("a child is started", || fs::read_to_string(&path).ok());
        fs::remove_file(path).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn has_errand(&self) -> bool {
        self.folder.join("errand").exists()
    }

    /// The process that waits.
    pub(crate) fn pid(&self) -> i32 {
        fs::read_to_string(self.folder.join("pid")).unwrap().trim().parse().unwrap()
    }

    /// Lets the process end.
    pub(crate) fn end(&self, code: u8) {
        fs::write(self.folder.join("end.new"), code.to_string()).unwrap();
        fs::rename(self.folder.join("end.new"), self.folder.join("end")).unwrap();
    }

    /// Asks for a sync, and connects in place of its child.
    pub(crate) fn sync(&self, daemon: &Daemon, model: &str) -> Peer {
        let answer = request(daemon.admin(), "POST", &format!("/syncs/{model}"), "", b"").unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        self.connect()
    }

    /// Connects in place of the child that waits.
    pub(crate) fn connect(&self) -> Peer {
        let errand = self.errand();
        Peer::connect(&errand).unwrap_or_else(|error| panic!("not let in: {error}"))
    }

    /// Ends a sync as a child does, and waits until the daemon has noted it.
    pub(crate) fn finish(&self, daemon: &Daemon, mut peer: Peer, result: &Value) -> Value {
        peer.send(&format!("#end {result}\n"));
        assert_eq!(peer.line(), None, "the daemon closes");
        self.end(0);
        ended(daemon, &peer.errand)
    }
}

/// The record of a sync once it has ended.
pub(crate) fn ended(daemon: &Daemon, errand: &Value) -> Value {
    let path = format!("/syncs/{}", errand["model"].as_str().unwrap());
    wait_for("the sync has ended", || {
        let status = get(daemon.admin(), &path).json();
        if !status["running"].is_null() {
            return None;
        }
        let history = status["history"].as_array().unwrap().clone();
        history.into_iter().find(|record| record["sync"] == errand["sync"])
    })
}

impl Peer {
    /// # Errors
    /// What the daemon answered instead.
    pub(crate) fn connect(errand: &Value) -> Result<Self, String> {
        let stream = UnixStream::connect(errand["socket"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut peer = Self {
            stream,
            reader,
            errand: errand.clone(),
            welcome: Value::Null,
            is_cancelled: false,
            settled: Vec::new(),
        };
        let hello = json!({
            "consentd": 1,
            "token": errand["token"],
            "model": errand["model"],
            "sync": errand["sync"],
        });
        peer.send(&format!("{hello}\n"));
        peer.welcome = peer.line().unwrap_or_default();
        if peer.welcome["ok"] == true { Ok(peer) } else { Err(peer.welcome.to_string()) }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Sends from another thread.
    pub(crate) fn sender(&self) -> impl FnMut(&[u8]) + Send + use<> {
        let mut stream = self.stream.try_clone().unwrap();
        move |bytes| stream.write_all(bytes).unwrap()
    }

    /// The next line; none at the end.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line: {error}"),
        }
    }

    /// What became of the next lines, one by one.
    pub(crate) fn settled(&mut self, lines: usize) -> Vec<Value> {
        while self.settled.len() < lines {
            let line = self.line().expect("an answer");
            if line["cancel"] == true {
                self.is_cancelled = true;
                continue;
            }
            for part in line["settled"].as_array().expect("answers") {
                let before = self.settled.len();
                for run in part["runs"].as_array().unwrap() {
                    let kind = &part["kinds"][run[0].as_u64().unwrap() as usize];
                    let times = run[1].as_u64().unwrap() as usize;
                    self.settled.extend(std::iter::repeat_n(kind.clone(), times));
                }
                assert_eq!(part["lines"], self.settled.len() - before);
            }
        }
        self.settled.drain(..lines).collect()
    }

    /// The stable ID of a destination.
    pub(crate) fn id(&self, destination: &str) -> u64 {
        let all = self.welcome["destinations"].as_array().unwrap();
        let found = all.iter().find(|it| it["name"] == destination);
        found.unwrap_or_else(|| panic!("{destination} in {}", self.welcome))["id"].as_u64().unwrap()
    }

    /// Waits until it is asked to stop.
    pub(crate) fn wait_for_cancel(&mut self) {
        while !self.is_cancelled {
            self.is_cancelled = self.line().expect("a line")["cancel"] == true;
        }
    }
}

/// Waits until a file holds so many lines.
pub(crate) fn wait_for_lines(path: &Path, lines: usize) {
    wait_until("the file has its lines", || {
        fs::read_to_string(path).is_ok_and(|text| text.lines().count() >= lines)
    });
}
