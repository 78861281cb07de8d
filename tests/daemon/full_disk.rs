//! Disks that are really full, and writes that are really short.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Config, Daemon, Fault, Folder, HttpSink, Mount, Reply, Tracer, When, can_mount, events, ids,
    paths_of_log, request, wait_for, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

/// A body of a good 600 KB.
fn body(name: &str) -> String {
    events(name, 100, 6000, AGREED)
}

/// The status, and the names if it is 200; `None` where the connection broke.
fn send(daemon: &Daemon, name: &str) -> Option<(u16, Vec<String>)> {
    let body = body(name);
    let answer = request(daemon.source("http"), "POST", "/v1/events", "", body.as_bytes()).ok()?;
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    Some((answer.status, if answer.status == 200 { ids(&lines) } else { Vec::new() }))
}

fn wait_for_all(what: &str, sink: &HttpSink, acknowledged: &[String]) {
    wait_until(what, || {
        let arrived: HashSet<String> = ids(&sink.taken()).into_iter().collect();
        acknowledged.iter().all(|id| arrived.contains(id))
    });
}

#[test]
fn a_disk_that_fills_up_refuses_and_takes_again_when_it_has_room() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    // Less than two segments fit beside what somebody else has there.
    let _mount = Mount::tmpfs(&folder.path("state"), "150m");
    let ballast = folder.path("state/ballast");
    fs::write(&ballast, vec![1; 74 << 20]).unwrap();
    let sink = HttpSink::start(|_| Reply::now(200));
    let down = HttpSink::start(|_| Reply::now(503));
    let config = Config::new("deny")
        .daemon("shutdown_timeout = \"5s\"")
        .categories(&["A"])
        .log(&folder, "free_space_min = \"1KiB\"")
        // For this one the log has to keep everything.
        .http("down", &down.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"")
        .http("up", &sink.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let mut acknowledged = Vec::new();
    let mut number = 0;
    wait_for("the disk is full", || {
        number += 1;
        let (status, ids) = send(&daemon, &format!("e{number}")).expect("an answer");
        acknowledged.extend(ids);
        assert!(matches!(status, 200 | 503), "{status}");
        (status == 503).then_some(())
    });
    let asked = Instant::now();
    let refused = request(daemon.source("http"), "POST", "/v1/events", "", body("no").as_bytes());
    let refused = refused.expect("an answer");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")));
    let stored = acknowledged.len() / 100;
    assert!(stored > 115, "there is room for nearly 76 MiB: {stored}");
    // What it says comes over a pipe, and may be read later than the answers are.
    wait_until("it says why", || {
        let said = daemon.stderr();
        said.contains("the disk has no more than") || said.contains("No space left")
    });
    wait_for_all("what was acknowledged arrives all the same", &sink, &acknowledged);
    fs::remove_file(ballast).unwrap();
    wait_for("events are taken again", || {
        number += 1;
        let (status, ids) = send(&daemon, &format!("e{number}")).expect("an answer");
        acknowledged.extend(ids);
        (status == 200).then_some(())
    });
    wait_for_all("and arrive", &sink, &acknowledged);
    down.answer(|_| Reply::now(200));
    wait_for_all("and where nothing was taken, too", &down, &acknowledged);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn without_space_for_the_next_commit_nothing_is_acknowledged_and_nothing_ends() {
    if !Tracer::is_permitted() {
        return;
    }
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(200));
    let config = Config::new("deny").categories(&["A"]).log(&folder, "").http(
        "up",
        &sink.url(),
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    // The disk says that it has room, and has none: a quota, or somebody was faster.
    let full = Fault { call: "fallocate", error: "ENOSPC", when: When::Every };
    let paths = paths_of_log(&folder.path("state/log"));
    let tracer = Tracer::attach(&folder, &daemon, full, &paths);
    let asked = Instant::now();
    // Who comes first finds out, and is told to come again once that is known.
    let (status, _) = send(&daemon, "refused").expect("an answer");
    assert_eq!(status, 503, "nothing was stored");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    daemon.metrics_where("it shows", |metrics| metrics.sum("consentd_log_full", &[]) == 1);
    assert!(daemon.stderr().contains("No space left on device"), "{}", daemon.stderr());
    assert_eq!(sink.taken().len(), 0, "delivered, and not stored");
    drop(tracer);
    let mut acknowledged = Vec::new();
    wait_for("it is taken", || {
        let (status, ids) = send(&daemon, "taken").expect("an answer");
        acknowledged.extend(ids);
        (status == 200).then_some(())
    });
    wait_for_all("what was acknowledged arrives", &sink, &acknowledged);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn what_has_to_stay_free_stays_free_and_the_rest_is_used() {
    if !can_mount() {
        return;
    }
    const MIB: u64 = 1 << 20;
    let folder = Folder::new();
    let _mount = Mount::tmpfs(&folder.path("state"), "64m");
    let sink = HttpSink::start(|_| Reply::now(503));
    let config = Config::new("deny")
        .daemon("shutdown_timeout = \"1s\"")
        .categories(&["A"])
        .log(&folder, "free_space_min = \"24MiB\"")
        .http("up", &sink.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"");
    let daemon = Daemon::start(&folder, &config);
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    wait_for("it is full", || {
        number += 1;
        let (status, ids) = send(&daemon, &format!("e{number}")).expect("an answer");
        acknowledged.extend(ids);
        (status == 503).then_some(())
    });
    let disk = rustix::fs::statvfs(folder.path("state")).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    assert!((24 * MIB..26 * MIB).contains(&free), "{free} bytes are free");
    let said = daemon.stderr();
    assert!(said.contains("the disk has no more than log.free_space_min left"), "{said}");
    sink.answer(|_| Reply::now(200));
    wait_for_all("what was acknowledged arrives", &sink, &acknowledged);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_volume_smaller_than_a_segment_takes_events_for_as_long_as_they_are_delivered() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let _mount = Mount::tmpfs(&folder.path("state"), "24m");
    let sink = HttpSink::start(|_| Reply::now(200));
    let config = Config::new("deny")
        .categories(&["A"])
        .log(&folder, "free_space_min = \"1KiB\"")
        .http("up", &sink.url(), "categories = [\"A\"]");
    let mut acknowledged = Vec::new();
    // The second daemon finds what the first one left.
    for start in 0..2 {
        let daemon = Daemon::start(&folder, &config);
        for number in 0..60 {
            let mut again = 0;
            wait_for("it is taken, at once or later", || {
                again += 1;
                let name = format!("e{start}-{number}-{again}");
                let (status, ids) = send(&daemon, &name).expect("an answer");
                acknowledged.extend(ids);
                (status == 200).then_some(())
            });
        }
        wait_for_all("what was acknowledged arrives", &sink, &acknowledged);
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let arrived = ids(&sink.taken());
    assert_eq!(arrived.iter().collect::<HashSet<_>>().len(), arrived.len(), "nothing twice");
}

#[test]
fn a_write_that_stays_short_ends_the_daemon_and_costs_nothing_that_was_acknowledged() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let config = Config::new("deny")
        .daemon("shutdown_timeout = \"2s\"")
        .categories(&["A"])
        .log(&folder, "")
        .http("up", &sink.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"");
    // Nothing may be written behind 2 MB of a file: the write that meets it is short, the next fails.
    // The signal that comes with it must not end the process.
    let mut daemon = Daemon::start(&folder, &config);
    let mut acknowledged = Vec::new();
    acknowledged.extend(send(&daemon, "first").unwrap().1);
    let limit = Command::new("prlimit")
        .args(["--fsize=2000000", "--pid", &daemon.id().to_string()])
        .status();
    assert!(limit.unwrap().success());
    let asked = Instant::now();
    let mut number = 0;
    while daemon.is_running() {
        assert!(asked.elapsed() < Duration::from_secs(20), "it neither stores nor ends");
        number += 1;
        if let Some((_, ids)) = send(&daemon, &format!("e{number}")) {
            acknowledged.extend(ids);
        }
    }
    let ended = daemon.ended(asked);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("File too large"), "{}", ended.stderr);
    assert!(ended.stderr.contains("/state/log/"), "{}", ended.stderr);
    assert!((200..400).contains(&acknowledged.len()), "{}", acknowledged.len());
    sink.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    wait_for_all("what was acknowledged arrives", &sink, &acknowledged);
    assert_eq!(daemon.stop().code, Some(0));
}
