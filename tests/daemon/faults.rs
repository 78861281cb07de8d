//! The N-th call of each kind that the log makes fails, for N = 1 until nothing fails any more: the
//! daemon goes on or ends, says why, and has lost nothing that it acknowledged.
//!
//! By default the first few of each kind while the daemon runs, and all during its start.
//! `CONSENTD_FAULTS=all` is the whole sweep.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::harness::{
    Config, Daemon, Ended, Fault, Folder, HttpSink, Reply, Tracer, When, events, ids, paths_of_log,
    request, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

/// The calls that change something, and the one that everything begins with.
const CALLS: &[&str] =
    &["openat", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "fallocate"];

/// Nothing has so many calls that it would not have met them all by then.
const NTH_MAX: usize = 60;

/// Of a running daemon, unless all are asked for.
const NTH_BY_DEFAULT: usize = 2;

/// How long a running daemon gets its events: two rounds of cursors and released segments.
const LOAD: Duration = Duration::from_millis(1300);

/// Rounds at a time: they wait more than they work.
const ROUNDS_AT_A_TIME: usize = 4;

/// When the fault begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Start,
    Running,
}

/// What was there before: a log with events that wait for one destination.
struct Before {
    folder: Folder,
    sink: HttpSink,
    acknowledged: Vec<String>,
}

impl Before {
    fn make() -> Self {
        let folder = Folder::new();
        let sink = HttpSink::start(|_| Reply::now(503));
        let daemon = Daemon::start(&folder, &config(&folder, &sink));
        let mut acknowledged = Vec::new();
        for batch in 0..3 {
            acknowledged.extend(send(&daemon, &format!("before-{batch}")));
        }
        assert_eq!(acknowledged.len(), 15);
        // Cursors are on the disk.
        wait_until("there are cursors", || folder.path("state/log/cursors.b").exists());
        drop(daemon);
        sink.answer(|_| Reply::now(200));
        Self { folder, sink, acknowledged }
    }

    /// A folder in which the same has happened.
    fn again(&self) -> Folder {
        let folder = Folder::new();
        let (from, to) = (self.folder.path("state"), folder.path("state"));
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        folder
    }

    fn arrived(&self) -> HashSet<String> {
        ids(&self.sink.taken()).into_iter().collect()
    }
}

/// The file is in the folder, and so is a new destination in each: the start has something to write.
fn config(folder: &Folder, sink: &HttpSink) -> Config {
    Config::new("deny")
        .daemon("shutdown_timeout = \"3s\"")
        .categories(&["A"])
        .log(folder, "")
        .http("up", &sink.url(), "categories = [\"A\"]")
        .file(folder, "lake", "categories = [\"A\"]")
}

/// Sends some events; the names of those that were acknowledged.
fn send(daemon: &Daemon, prefix: &str) -> Vec<String> {
    let body = events(prefix, 5, 100, AGREED);
    match request(daemon.source("http"), "POST", "/v1/events", "", body.as_bytes()) {
        Ok(answer) if answer.status == 200 => {
            ids(&body.lines().map(str::to_owned).collect::<Vec<_>>())
        }
        // It ends, or has no room.
        Ok(answer) => {
            assert_eq!(answer.status, 503, "{}", answer.body);
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn log_paths(folder: &Folder) -> Vec<PathBuf> {
    paths_of_log(&folder.path("state/log"))
}

/// One fault, the end that it leads to, and a start without it. Whether the fault occurred.
fn round(before: &Before, phase: Phase, fault: Fault, paths: fn(&Folder) -> Vec<PathBuf>) -> bool {
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    let prefix = format!("round-{}", ROUND.fetch_add(1, Relaxed));
    let folder = before.again();
    let config = config(&folder, &before.sink);
    let paths = paths(&folder);
    let (tracer, daemon) = match phase {
        Phase::Start => {
            let (tracer, command) = Tracer::around(&folder, fault, &paths);
            (tracer, Daemon::try_start(&folder, &config, command))
        }
        Phase::Running => {
            let daemon = Daemon::start(&folder, &config);
            (Tracer::attach(&folder, &daemon, fault, &paths), Ok(daemon))
        }
    };
    let mut acknowledged = Vec::new();
    let (served, ended) = match daemon {
        Err(ended) => (false, ended),
        Ok(mut daemon) => {
            acknowledged = load(&mut daemon, &prefix);
            let asked = Instant::now();
            if daemon.is_running() {
                daemon.signal(rustix::process::Signal::TERM);
            }
            (true, daemon.ended(asked))
        }
    };
    let has_struck = tracer.has_struck();
    let is_quiet = has_struck && fault.error != "EINTR";
    assert!(is_quiet || !acknowledged.is_empty(), "{phase:?} {fault}: nothing was tried");
    judge(fault, has_struck, served, &ended, &tracer);
    drop(tracer);

    let daemon = Daemon::start(&folder, &config);
    let all: HashSet<&String> = acknowledged.iter().chain(&before.acknowledged).collect();
    let missing = |arrived: &HashSet<String>| {
        let missing = all.iter().filter(|id| !arrived.contains(**id));
        missing.map(|id| (*id).clone()).collect::<Vec<_>>()
    };
    let what = format!("{phase:?} {fault}: all of {acknowledged:?} arrives");
    wait_until(&what, || missing(&before.arrived()).is_empty());
    let in_file = || ids(&folder.delivered("lake")).into_iter().collect::<HashSet<_>>();
    wait_until(&format!("{what} in the file"), || {
        let in_file = in_file();
        acknowledged.iter().all(|id| in_file.contains(id))
    });
    assert_eq!(daemon.stop().code, Some(0));
    has_struck
}

/// Events until the time is over or the daemon is.
fn load(daemon: &mut Daemon, prefix: &str) -> Vec<String> {
    let until = Instant::now() + LOAD;
    let mut acknowledged = Vec::new();
    let mut batch = 0;
    while Instant::now() < until && daemon.is_running() {
        acknowledged.extend(send(daemon, &format!("{prefix}-{batch}")));
        batch += 1;
        sleep(Duration::from_millis(100));
    }
    acknowledged
}

/// What the daemon did about the fault.
fn judge(fault: Fault, has_struck: bool, served: bool, ended: &Ended, tracer: &Tracer) {
    let said = &ended.stderr;
    let about = || format!("{fault}, served: {served}\n{}\n{ended:?}", tracer.calls());
    assert!(!said.contains("panicked"), "{}", about());
    if !has_struck || fault.error == "EINTR" {
        assert_eq!((served, ended.code), (true, Some(0)), "{}", about());
        return;
    }
    match (served, ended.code) {
        (true, Some(0 | 1)) | (false, Some(2)) => {}
        _ => panic!("{}", about()),
    }
    // Whoever must mend it learns what and where.
    let names = said.lines().any(|line| {
        line.contains(fault.message()) && (line.contains("/state/log") || line.contains("lake"))
    });
    let must_say = ended.code != Some(0) || !is_harmless(fault);
    assert!(names || !must_say, "{}", about());
}

/// Space that is not given back, or not reserved early, costs space and nothing else.
fn is_harmless(fault: Fault) -> bool {
    // Where the usual step does not fit, what the frame takes may.
    fault.call == "ftruncate" || fault.call == "fallocate" && fault.error == "ENOSPC"
}

/// Runs all rounds of all kinds, several at a time; how many faults occurred.
fn sweep(
    phase: Phase,
    kinds: &[(&'static str, &'static str)],
    nth_max: usize,
    paths: fn(&Folder) -> Vec<PathBuf>,
) -> usize {
    let before = Before::make();
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..ROUNDS_AT_A_TIME {
            scope.spawn(|| {
                while let Some((call, error)) = kinds.get(next.fetch_add(1, Relaxed)) {
                    for nth in 1..=nth_max {
                        let when = When::Nth(nth);
                        if !round(&before, phase, Fault { call, error, when }, paths) {
                            break;
                        }
                        struck.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let struck = struck.into_inner();
    println!("{phase:?}: {struck} faults occurred");
    struck
}

fn all_kinds(errors: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let each = |call: &&'static str| errors.iter().map(|error| (*call, *error)).collect::<Vec<_>>();
    CALLS.iter().flat_map(each).collect()
}

fn is_full_sweep() -> bool {
    std::env::var("CONSENTD_FAULTS").is_ok_and(|faults| faults == "all")
}

#[test]
fn a_call_that_fails_during_the_start_loses_nothing() {
    if !Tracer::is_permitted() {
        return;
    }
    let (kinds, nth_max) = if is_full_sweep() {
        (all_kinds(&["EIO", "ENOSPC"]), NTH_MAX)
    } else {
        (all_kinds(&["EIO"]), 3)
    };
    let struck = sweep(Phase::Start, &kinds, nth_max, log_paths);
    assert!(struck >= 15, "{struck}");
}

#[test]
fn a_call_that_fails_while_the_daemon_runs_loses_nothing() {
    if !Tracer::is_permitted() {
        return;
    }
    let nth_max = if is_full_sweep() { NTH_MAX } else { NTH_BY_DEFAULT };
    let struck = sweep(Phase::Running, &all_kinds(&["EIO", "ENOSPC"]), nth_max, log_paths);
    assert!(struck >= 20, "{struck}");
}

#[test]
fn a_call_that_is_interrupted_is_made_again() {
    if !Tracer::is_permitted() {
        return;
    }
    let before = Before::make();
    let mut struck = 0;
    for phase in [Phase::Start, Phase::Running] {
        for call in CALLS {
            let fault = Fault { call, error: "EINTR", when: When::EverySecond };
            struck += usize::from(round(&before, phase, fault, log_paths));
        }
    }
    assert!(struck > CALLS.len(), "{struck}");
}

#[test]
fn a_file_destination_that_cannot_be_written_to_gets_everything_later() {
    if !Tracer::is_permitted() {
        return;
    }
    let kinds = ["openat", "writev", "fdatasync"].map(|call| (call, "EIO"));
    let nth_max = if is_full_sweep() { NTH_MAX } else { NTH_BY_DEFAULT };
    let struck = sweep(Phase::Running, &kinds, nth_max, |folder| vec![folder.path("lake.ndjson")]);
    assert!(struck >= 3, "{struck}");
}
