//! The power goes while events come in: what was acknowledged arrives at every destination, and what
//! a file destination counted as delivered is in the file.
//!
//! The daemon's folder and its file destination are on a file system in a file. The daemon is stopped
//! where it stands, the file system is shut down without writing what it holds in memory, and mounted
//! again. Not covered is a disk that lies about having written: what reached the block device counts
//! as written.
//!
//! `CONSENTD_POWER_CUTS=1000` is the long campaign, for each file system.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, Mount, Reply, can_mount, ids, lines_of, send_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

const CUTS_BY_DEFAULT: usize = 15;

/// Cuts in a row, before all that was acknowledged must have arrived.
const CUTS_IN_A_ROW: usize = 3;

const DESTINATIONS: [&str; 3] = ["up", "down", "lake"];

/// What goes on across the cuts.
struct Machine {
    folder: Folder,
    image: PathBuf,
    config: Config,
    up: HttpSink,
    /// Takes nothing while the power is cut again and again.
    down: HttpSink,
    cut: usize,
}

impl Machine {
    fn new(kind: &str, sync: &str) -> Self {
        let folder = Folder::new();
        let image = Mount::make_image(&folder, kind);
        let up = HttpSink::start(|_| Reply::now(200));
        let down = HttpSink::start(|_| Reply::now(503));
        let lake = folder.path("state/lake.ndjson");
        let quick = "batch = { max_wait = \"1ms\" }\ncategories = [\"A\"]";
        let config = Config::new("deny")
            .categories(&["A"])
            .log(&folder, &format!("sync = \"{sync}\"\nfree_space_min = \"1MiB\""))
            .http("up", &up.url(), "categories = [\"A\"]")
            .http("down", &down.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"")
            .destination("lake", format!("type = \"file\"\npath = {lake:?}\n{quick}"));
        Self { folder, image, config, up, down, cut: 0 }
    }

    fn mount(&self) -> Mount {
        Mount::image(&self.folder.path("state"), &self.image)
    }

    /// Events come in, and the power goes. What was acknowledged.
    fn cut(&mut self) -> Vec<String> {
        self.cut += 1;
        let mount = self.mount();
        let daemon = Daemon::start(&self.folder, &self.config);
        let (to, stop) = (daemon.source("http"), AtomicBool::new(false));
        let acknowledged = thread::scope(|scope| {
            let senders: Vec<_> = (0..3)
                .map(|sender| {
                    let (prefix, stop) = (format!("c{}-{sender}", self.cut), &stop);
                    scope.spawn(move || send_until(stop, to, &prefix, AGREED))
                })
                .collect();
            sleep(Duration::from_millis(40 + self.cut as u64 * 37 % 150));
            daemon.signal(Signal::STOP);
            mount.cut_power();
            stop.store(true, Relaxed);
            // SIGKILL.
            drop(daemon);
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        drop(mount);
        acknowledged
    }

    /// Cuts in a row, then everything is delivered: what of the acknowledged is missing where.
    fn missing_after(&mut self, cuts: usize) -> Vec<(&'static str, String)> {
        self.down.answer(|_| Reply::now(503));
        let acknowledged: Vec<String> = (0..cuts).flat_map(|_| self.cut()).collect();
        assert!(acknowledged.len() >= 20 * cuts, "hardly any load: {}", acknowledged.len());
        self.down.answer(|_| Reply::now(200));
        let _mount = self.mount();
        let daemon = Daemon::start(&self.folder, &self.config);
        daemon.metrics_where("nothing is pending", |metrics| {
            DESTINATIONS.iter().all(|name| metrics.pending(name) == 0)
        });
        assert_eq!(daemon.stop().code, Some(0));
        let lake = self.folder.path("state/lake.ndjson");
        let in_lake = lines_of(&std::fs::read(&lake).unwrap());
        std::fs::remove_file(lake).unwrap();
        let arrived = [self.up.take(), self.down.take(), in_lake];
        let mut missing = Vec::new();
        for (name, lines) in DESTINATIONS.into_iter().zip(arrived) {
            let arrived: HashSet<String> = ids(&lines).into_iter().collect();
            let lost = acknowledged.iter().filter(|id| !arrived.contains(*id));
            missing.extend(lost.map(|id| (name, id.clone())));
        }
        missing
    }
}

fn nothing_is_missing_on(kind: &str) {
    if !can_mount() {
        return;
    }
    let cuts = std::env::var("CONSENTD_POWER_CUTS").ok().and_then(|text| text.parse().ok());
    let mut machine = Machine::new(kind, "commit");
    while machine.cut < cuts.unwrap_or(CUTS_BY_DEFAULT) {
        let missing = machine.missing_after(CUTS_IN_A_ROW);
        assert_eq!(missing, [], "after {} cuts", machine.cut);
    }
}

fn without_syncs_something_is_missing_on(kind: &str) {
    if !can_mount() {
        return;
    }
    let mut machine = Machine::new(kind, "off");
    let missing = machine.missing_after(CUTS_IN_A_ROW);
    assert!(!missing.is_empty(), "power was cut without a loss: this could not see one");
}

#[test]
fn a_power_cut_on_ext4_loses_nothing_that_was_acknowledged() {
    nothing_is_missing_on("ext4");
}

#[test]
fn a_power_cut_on_xfs_loses_nothing_that_was_acknowledged() {
    nothing_is_missing_on("xfs");
}

#[test]
fn without_syncs_a_power_cut_on_ext4_is_seen_to_lose_events() {
    without_syncs_something_is_missing_on("ext4");
}

#[test]
fn without_syncs_a_power_cut_on_xfs_is_seen_to_lose_events() {
    without_syncs_something_is_missing_on("xfs");
}
