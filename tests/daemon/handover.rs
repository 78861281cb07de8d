//! What is acknowledged while one destination takes over from another, or while it is behind.

use std::thread::{self, sleep};
use std::time::Duration;

use crate::harness::{
    Config, Daemon, Fault, Folder, HttpSink, Reply, Tracer, event, events, ids, paths_of_log, post,
    request, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

/// One destination; with other `keys` another one goes on in its place.
fn config(folder: &Folder, sink: &HttpSink, keys: &str) -> Config {
    let keys = format!("categories = [\"A\"]\n{keys}");
    Config::new("deny").categories(&["A", "B"]).log(folder, "").http("vendor", &sink.url(), keys)
}

#[test]
fn what_comes_while_a_replaced_destination_drains_is_not_lost() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_secs(1) });
    let daemon = Daemon::start(&folder, &config(&folder, &sink, ""));
    assert_eq!(post(daemon.source("http"), event("first", AGREED)).status, 200);
    wait_until("it is under way", || sink.attempts() == 1);
    daemon.apply(&config(&folder, &sink, "timeout = \"29s\""));
    assert_eq!(post(daemon.source("http"), event("second", AGREED)).status, 200);
    let metrics = daemon.settled(2);
    assert_eq!(ids(&sink.taken()), ["first", "second"]);
    assert_eq!(metrics.delivered("vendor"), 2);
}

#[test]
fn what_waits_in_the_log_survives_two_reloads_in_a_row() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let with = |timeout: &str| small(&folder, &sink, "A", timeout);
    let daemon = Daemon::start(&folder, &with("10s"));
    daemon.apply(&with("11s"));
    // More than it has room for.
    assert_eq!(post(daemon.source("http"), events("e", 300, 1000, AGREED)).status, 200);
    daemon.apply(&with("12s"));
    sink.answer(|_| Reply::now(200));
    let metrics = daemon.settled(300);
    let mut taken = ids(&sink.taken());
    assert_eq!(taken.len(), 300);
    taken.dedup();
    assert_eq!((taken.len(), metrics.delivered("vendor")), (300, 300));
    stays_settled(&daemon, 300);
}

/// Sums that were balanced by chance are so no longer after the next look at them.
fn stays_settled(daemon: &Daemon, events: usize) {
    sleep(Duration::from_millis(1200));
    let metrics = daemon.settled(events);
    let repeated = metrics.sum("consentd_events_repeated_total", &[]);
    assert_eq!((metrics.delivered("vendor"), repeated), (events as u64, 0));
}

#[test]
fn what_comes_for_one_that_is_replaced_before_it_has_begun_is_not_lost() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(1500) });
    let with = |timeout: &str| small(&folder, &sink, "A", timeout);
    let daemon = Daemon::start(&folder, &with("10s"));
    assert_eq!(post(daemon.source("http"), event("first", AGREED)).status, 200);
    wait_until("it is under way", || sink.attempts() == 1);
    // The second one waits until the first has ended, and the third comes before that.
    daemon.apply(&with("11s"));
    assert_eq!(post(daemon.source("http"), events("second", 300, 1000, AGREED)).status, 200);
    daemon.apply(&with("12s"));
    assert_eq!(post(daemon.source("http"), event("third", AGREED)).status, 200);
    sink.answer(|_| Reply::now(200));
    daemon.settled(302);
    let second = (0..300).map(|n| format!("second-{n}"));
    let expected: Vec<_> =
        ["first".to_owned()].into_iter().chain(second).chain(["third".to_owned()]).collect();
    assert_eq!(ids(&sink.taken()), expected);
    stays_settled(&daemon, 302);
}

#[test]
fn what_is_being_stored_for_one_that_is_replaced_meanwhile_goes_to_its_successor() {
    if !Tracer::is_permitted() {
        return;
    }
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(200));
    let with = |timeout: &str| small(&folder, &sink, "A", timeout);
    let daemon = Daemon::start(&folder, &with("10s"));
    assert_eq!(post(daemon.source("http"), event("first", AGREED)).status, 200);
    daemon.settled(1);
    let slow = Fault::slow("fdatasync", Duration::from_millis(1500));
    let tracer = Tracer::attach(&folder, &daemon, slow, &paths_of_log(&folder.path("state/log")));
    thread::scope(|scope| {
        let stored = scope.spawn(|| post(daemon.source("http"), event("second", AGREED)).status);
        daemon.metrics_where("it was judged", |metrics| metrics.received() == 2);
        daemon.apply(&with("11s"));
        // Nothing keeps the successor from beginning.
        sleep(Duration::from_millis(300));
        assert!(!stored.is_finished(), "it is stored already: the test tests nothing");
        assert_eq!(stored.join().unwrap(), 200);
    });
    drop(tracer);
    wait_until("it arrives", || ids(&sink.taken()) == ["first", "second"]);
    stays_settled(&daemon, 2);
}

/// One destination with little room.
fn small(folder: &Folder, sink: &HttpSink, category: &str, timeout: &str) -> Config {
    let keys = "type = \"http\"\nbuffer = \"64KiB\"\n\
                batch = { max_wait = \"1ms\", max_bytes = \"32KiB\" }\n\
                retry = { initial = \"20ms\", max = \"50ms\" }\nconcurrency = 1";
    let keys = format!(
        "{keys}\nurl = \"{}\"\ncategories = [\"{category}\"]\ntimeout = \"{timeout}\"",
        sink.url()
    );
    Config::new("deny").categories(&["A", "B"]).log(folder, "").destination("vendor", keys)
}

#[test]
fn a_dead_letter_that_is_replayed_from_the_log_is_judged_by_the_rules_in_force() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(400));
    let to = |category: &str| small(&folder, &sink, category, "10s");
    let daemon = Daemon::start(&folder, &to("A"));
    assert_eq!(post(daemon.source("http"), event("withdrawn", AGREED)).status, 200);
    daemon.settled(1);
    daemon.apply(&to("B"));
    // It is behind when the letter comes, so it gets it from the log.
    sink.answer(|_| Reply::now(503));
    let body = events("e", 300, 1000, &[("B", true)]);
    assert_eq!(post(daemon.source("http"), body).status, 200);
    let answer = request(daemon.admin(), "POST", "/dead-letters/replay", "", b"");
    assert_eq!(answer.unwrap().json()["replayed"], 1);
    sink.answer(|_| Reply::now(200));
    let metrics = daemon.settled(301);
    assert!(!ids(&sink.taken()).contains(&"withdrawn".to_owned()), "it was sent");
    assert_eq!((metrics.delivered("vendor"), metrics.dropped("vendor", "consent")), (300, 1));
}

#[test]
fn a_destination_that_comes_back_after_a_restart_without_it_is_a_new_one() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let base = Config::new("deny").categories(&["A"]).log(&folder, "");
    let keys = "categories = [\"A\"]";
    // One that is down keeps the events in the log.
    let without = base.clone().http("down", "http://127.0.0.1:1/", keys);
    let with = without.clone().file(&folder, "lake", keys).http("vendor", &sink.url(), keys);
    let daemon = Daemon::start(&folder, &with);
    assert_eq!(post(daemon.source("http"), event("before", AGREED)).status, 200);
    wait_until("the lake has it", || folder.delivered("lake").len() == 1);
    assert_eq!(daemon.stop().code, Some(0));
    let daemon = Daemon::start(&folder, &without);
    assert_eq!(daemon.stop().code, Some(0));
    sink.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &with);
    assert_eq!(post(daemon.source("http"), event("after", AGREED)).status, 200);
    wait_until("both have it", || folder.delivered("lake").len() > 1 && !sink.taken().is_empty());
    assert_eq!(ids(&folder.delivered("lake")), ["before", "after"]);
    assert_eq!(ids(&sink.taken()), ["after"]);
}
