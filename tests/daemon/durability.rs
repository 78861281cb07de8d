//! What was acknowledged arrives, whatever happens in between; nothing else does.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, Reply, events, ids, post, send_until, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

fn config(folder: &Folder) -> Config {
    Config::new("deny").categories(&["A", "B"]).log(folder, "")
}

fn unavailable() -> HttpSink {
    HttpSink::start(|_| Reply::now(503))
}

/// `CONSENTD_CYCLES=10000` is the long campaign.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let cycles =
        std::env::var("CONSENTD_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(200));
    let dead = unavailable();
    let config = config(&folder)
        .http("up", &sink.url(), "categories = [\"A\"]")
        .http("down", &dead.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"")
        .http("refused", &sink.url(), "categories = [\"B\"]")
        .file(&folder, "file", "categories = [\"A\"]");
    let mut acknowledged = Vec::new();
    for cycle in 0..cycles {
        let daemon = Daemon::start(&folder, &config);
        let to = daemon.source("http");
        let stop = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let senders: Vec<_> = (0..3)
                .map(|sender| {
                    let prefix = format!("c{cycle}-{sender}");
                    let stop = &stop;
                    scope.spawn(move || send_until(stop, to, &prefix, AGREED))
                })
                .collect();
            sleep(Duration::from_millis(5 + cycle * 7 % 60));
            // SIGKILL.
            drop(daemon);
            stop.store(true, Relaxed);
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect::<Vec<_>>()
        });
        acknowledged.extend(sent);
    }
    assert!(acknowledged.len() > 1000, "{}", acknowledged.len());
    dead.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    let all: HashSet<&String> = acknowledged.iter().collect();
    let has_all = |lines: Vec<String>| {
        let arrived: HashSet<String> = ids(&lines).into_iter().collect();
        all.iter().all(|id| arrived.contains(*id))
    };
    wait_until("everything arrives at the one that is up", || has_all(sink.taken()));
    wait_until("everything arrives at the one that was down", || has_all(dead.taken()));
    wait_until("everything arrives in the file", || has_all(folder.delivered("file")));
    daemon.metrics_where("nothing is pending", |metrics| {
        ["up", "down", "file"].iter().all(|name| metrics.pending(name) == 0)
    });
}

#[test]
fn one_that_is_down_costs_the_others_nothing_and_gets_everything_in_order_later() {
    let folder = Folder::new();
    let down = unavailable();
    let config = config(&folder)
        .http("down", &down.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"")
        .file(&folder, "up", "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let mut sent = Vec::new();
    for batch in 0..50 {
        let body = events(&format!("b{batch}"), 20, 1000, AGREED);
        assert_eq!(post(daemon.source("http"), &body).status, 200);
        sent.extend(ids(&body.lines().map(str::to_owned).collect::<Vec<_>>()));
    }
    wait_until("the other one has everything", || ids(&folder.delivered("up")) == sent);
    down.answer(|_| Reply::now(200));
    wait_until("it catches up", || down.taken().len() >= sent.len());
    assert_eq!(ids(&down.taken()), sent);
    // It is live again.
    assert_eq!(post(daemon.source("http"), events("last", 1, 0, AGREED)).status, 200);
    wait_until("it gets what comes now", || ids(&down.taken()).last().unwrap() == "last-0");
    assert_eq!(down.taken().len(), sent.len() + 1);
}

#[test]
fn a_stop_leaves_in_the_log_what_could_not_be_delivered() {
    let folder = Folder::new();
    let down = unavailable();
    let config = config(&folder)
        .daemon("shutdown_timeout = \"200ms\"")
        .http("down", &down.url(), "categories = [\"A\"]")
        .file(&folder, "up", "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), events("one", 5, 0, AGREED)).status, 200);
    wait_until("the other one has it", || folder.delivered("up").len() == 5);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    down.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    wait_until("it arrives after the start", || down.taken().len() == 5);
    // What was settled does not come again after a clean stop.
    assert_eq!(post(daemon.source("http"), events("two", 1, 0, AGREED)).status, 200);
    wait_until("the next one arrives", || folder.delivered("up").len() >= 6);
    assert_eq!(folder.delivered("up").len(), 6);
}

#[test]
fn a_stop_does_not_wait_for_one_that_is_down() {
    let folder = Folder::new();
    let first = AtomicBool::new(true);
    // It fails once, and then does not answer at all.
    let down = HttpSink::start(move |_| Reply {
        status: 503,
        after: Duration::from_secs(if first.swap(false, Relaxed) { 0 } else { 20 }),
    });
    let config = config(&folder).daemon("shutdown_timeout = \"20s\"").http(
        "down",
        &down.url(),
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), events("one", 5, 0, AGREED)).status, 200);
    wait_until("it is tried again", || down.attempts() >= 2);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    down.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    wait_until("it arrives after the start", || down.taken().len() == 5);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn what_waits_in_the_log_is_judged_by_the_rules_in_force() {
    let folder = Folder::new();
    let down = unavailable();
    let base = config(&folder).daemon("shutdown_timeout = \"100ms\"");
    let keys = |category| format!("categories = [\"{category}\"]\nbuffer = \"64KiB\"");
    let daemon = Daemon::start(&folder, &base.clone().http("d", &down.url(), keys("A")));
    for batch in 0..20 {
        let body = events(&format!("b{batch}"), 20, 1000, AGREED);
        assert_eq!(post(daemon.source("http"), body).status, 200);
    }
    drop(daemon);
    down.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &base.http("d", &down.url(), keys("B")));
    daemon.metrics_where("all of it is refused", |metrics| {
        metrics.dropped("d", "consent") == 400 && metrics.pending("d") == 0
    });
    assert_eq!(down.taken(), Vec::<String>::new());
}

#[test]
fn one_that_is_added_begins_at_the_end() {
    let folder = Folder::new();
    let down = unavailable();
    let first = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &first);
    assert_eq!(post(daemon.source("http"), events("before", 5, 0, AGREED)).status, 200);
    let second = first.file(&folder, "added", "categories = [\"A\"]");
    daemon.apply(&second);
    assert_eq!(post(daemon.source("http"), events("after", 5, 0, AGREED)).status, 200);
    wait_until("it gets what came after", || folder.delivered("added").len() == 5);
    assert!(ids(&folder.delivered("added")).iter().all(|id| id.starts_with("after")));
}

#[test]
fn half_a_line_at_the_end_of_a_file_is_cut_off_and_a_whole_one_is_not() {
    let folder = Folder::new();
    let config = config(&folder).file(&folder, "lake", "categories = [\"A\"]");
    for (found, kept) in [
        ("{\"a\":1}\n{\"b\":", vec!["{\"a\":1}"]),
        ("{\"half\":\"", vec![]),
        ("{\"a\":1}\n{\"b\":2}", vec!["{\"a\":1}", "{\"b\":2}"]),
    ] {
        folder.write("lake.ndjson", found);
        let daemon = Daemon::start(&folder, &config);
        assert_eq!(post(daemon.source("http"), events("new", 1, 0, AGREED)).status, 200);
        wait_until("the event is there", || folder.delivered("lake").len() == kept.len() + 1);
        let lines = folder.delivered("lake");
        assert_eq!(lines[..kept.len()], kept[..], "{found}");
        assert_eq!(ids(&lines[kept.len()..]), ["new-0"]);
        assert_eq!(daemon.stop().code, Some(0));
    }
}
