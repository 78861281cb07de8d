//! The daemon as a process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Answer, Config, Folder, Metrics, PATIENCE, get, request, wait_for, wait_until};

/// The binary under test.
pub(crate) fn consentd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_consentd"))
}

/// A running daemon; killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    config: PathBuf,
    stderr: PathBuf,
    addresses: BTreeMap<String, SocketAddr>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(folder: &Folder, config: &Config) -> Self {
        Self::start_with(folder, config, |_| {})
    }

    /// As [`Self::start`]; `set` may change the command.
    pub(crate) fn start_with(
        folder: &Folder,
        config: &Config,
        set: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = consentd();
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        command.stdout(File::create(folder.path("stdout")).unwrap());
        set(&mut command);
        Self::try_start(folder, config, command)
            .unwrap_or_else(|ended| panic!("the daemon ended:\n{}", ended.stderr))
    }

    /// Starts what `command` starts, which gets the daemon's arguments, and waits until it is ready.
    ///
    /// # Errors
    /// How it ended instead.
    pub(crate) fn try_start(
        folder: &Folder,
        config: &Config,
        mut command: Command,
    ) -> Result<Self, Ended> {
        let path = folder.write("consentd.toml", config);
        let stderr = folder.path("stderr");
        command.args(["run", "--config"]).arg(&path);
        command.stdin(Stdio::null()).stderr(File::create(&stderr).unwrap());
        let started = Instant::now();
        let child = command.spawn().unwrap();
        let mut daemon = Self { child, config: path, stderr, addresses: BTreeMap::new() };
        let found = wait_for("the daemon listens, or ends", || {
            let runs = daemon.is_running();
            let said = daemon.stderr();
            let listens = said.contains("serving ").then(|| addresses(&said));
            listens.or_else(|| (!runs).then(BTreeMap::new))
        });
        daemon.addresses = found;
        if daemon.addresses.is_empty() {
            return Err(daemon.ended(started));
        }
        wait_until("the daemon is ready", || get(daemon.admin(), "/readyz").status == 200);
        Ok(daemon)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where a source listens.
    pub(crate) fn source(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.addresses["admin"]
    }

    /// Connects to the source `tcp`. A daemon that takes nothing any more fails the test, and does
    /// not hang it.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.source("tcp")).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes over a TCP connection of their own.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.connect().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&get(self.admin(), "/metrics").body)
    }

    /// Waits until the metrics are as they should be.
    #[track_caller]
    pub(crate) fn metrics_where(
        &self,
        what: &str,
        mut done: impl FnMut(&Metrics) -> bool,
    ) -> Metrics {
        let mut last = None;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let metrics = self.metrics();
            if done(&metrics) {
                return metrics;
            }
            last = Some(metrics);
            sleep(Duration::from_millis(5));
        }
        panic!("not within {PATIENCE:?}: {what}; the metrics are {last:#?}");
    }

    /// Waits until `sent` events were received, nothing is pending, and the conservation law holds
    /// for every destination.
    #[track_caller]
    pub(crate) fn settled(&self, sent: usize) -> Metrics {
        let what = format!("{sent} events received and accounted for");
        let metrics = self.metrics_where(&what, |metrics| {
            let settled = |destination: &String| {
                let (received, accounted) = metrics.law(destination);
                // More than was received will never come right: no need to wait for it.
                accounted >= received && metrics.pending(destination) == 0
            };
            metrics.received() >= sent as u64 && metrics.destinations().iter().all(settled)
        });
        assert_eq!(metrics.received(), sent as u64, "events received");
        for destination in metrics.destinations() {
            let (received, accounted) = metrics.law(&destination);
            assert_eq!(received, accounted, "the law for {destination}: {metrics:#?}");
        }
        metrics
    }

    /// Writes another config into the file that the daemon reads.
    pub(crate) fn write_config(&self, config: impl ToString) {
        // Never half a file for a reload that is going on.
        let next = self.config.with_extension("next");
        std::fs::write(&next, config.to_string()).unwrap();
        std::fs::rename(&next, &self.config).unwrap();
    }

    /// Asks for a reload.
    pub(crate) fn reload(&self, config: impl ToString) -> Answer {
        self.write_config(config);
        request(self.admin(), "POST", "/reload", "", b"").unwrap()
    }

    /// Asks for a reload that must succeed, and waits until nothing goes on under the rules before.
    #[track_caller]
    pub(crate) fn apply_and_wait(&self, config: &Config) {
        self.write_config(config);
        let answer = request(self.admin(), "POST", "/reload?wait=1", "", b"").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Asks for a reload that must succeed.
    #[track_caller]
    pub(crate) fn apply(&self, config: &Config) {
        let answer = self.reload(config);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; waits for the end.
    pub(crate) fn stop(mut self) -> Ended {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        self.ended(asked)
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self, since: Instant) -> Ended {
        let code = wait_for("the daemon ends", || self.child.try_wait().unwrap()).code();
        Ended { code, stdout: String::new(), stderr: self.stderr(), took: since.elapsed() }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The most memory it ever had.
    pub(crate) fn peak_rss_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the daemon said:\n{}---", self.stderr());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From `... listening name="tcp" address=127.0.0.1:4711`.
fn addresses(said: &str) -> BTreeMap<String, SocketAddr> {
    let listening = said.lines().filter_map(|line| line.split_once("listening name=\""));
    let address = |(_, rest): (_, &str)| {
        let (name, address) = rest.split_once("\" address=").unwrap();
        (name.to_owned(), address.trim().parse().unwrap())
    };
    listening.map(address).collect()
}

/// Runs a command that ends by itself.
pub(crate) fn run_to_end(command: &mut Command) -> Ended {
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = String::new();
            from.read_to_string(&mut text).map(|_| text).unwrap()
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    while child.try_wait().unwrap().is_none() && started.elapsed() < PATIENCE {
        sleep(Duration::from_millis(5));
    }
    // Ended, or it must be.
    let _ = child.kill();
    Ended {
        code: child.wait().unwrap().code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
        took: started.elapsed(),
    }
}

/// `consentd COMMAND --config FILE`, to its end.
pub(crate) fn run_command(command: &str, config: &Path) -> Ended {
    run_to_end(consentd().arg(command).arg("--config").arg(config))
}
