//! Destinations that are slow, dead, full, or say no: every event is accounted for, and only those
//! who have to wait do.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Config, Daemon, Folder, HttpSink, NOBODY, Reply, events, ids, marked, wait_until,
};

#[test]
fn a_slow_destination_gets_everything() {
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(5) });
    let folder = Folder::new();
    let config = Config::new("allow")
        .http("slow", &sink.url(), "buffer = \"64KiB\"")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 5000, 500, &[]));
    let metrics = daemon.settled(5000);
    assert_eq!(metrics.delivered("slow"), 5000);
    assert_eq!(ids(&sink.taken()), ids(&folder.delivered("lake")));
    let expected: Vec<String> = (0..5000).map(|n| format!("e-{n}")).collect();
    assert_eq!(ids(&sink.taken()), expected);
}

#[test]
fn a_dead_destination_that_drops_slows_nobody_and_counts_what_it_lost() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .tcp("dead", NOBODY, "buffer = \"128KiB\"\nwhen_full = \"drop_newest\"")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    // Many times its buffer.
    daemon.send(events("e", 10_000, 500, &[]));
    let metrics = daemon.metrics_where("lake has everything", |metrics| {
        metrics.delivered("lake") == 10_000 && metrics.law("dead").0 == metrics.law("dead").1
    });
    assert_eq!(folder.delivered("lake").len(), 10_000);
    let (pending, lost) = (metrics.pending("dead"), metrics.dropped("dead", "overflow"));
    assert_eq!((metrics.delivered("dead"), pending + lost), (0, 10_000));
    // Its buffer is full of what came first, and holds no more than it may.
    assert!((1..=128 * 1024 / 500).contains(&pending), "{pending} pending");
    assert_eq!(metrics.all_dropped("dead"), lost);
    let lag = metrics.sum("consentd_destination_lag_seconds", &[("destination", "lake")]);
    assert_eq!(lag, 0);
}

#[test]
fn a_dead_destination_that_blocks_holds_intake_back_and_loses_nothing() {
    let sink = HttpSink::start(|_| Reply::now(503));
    let folder = Folder::new();
    let config = Config::new("allow")
        .daemon("ingest_bytes_max = \"512KiB\"\nmax_event_bytes = \"128KiB\"\nworkers = 1")
        .http("down", &sink.url(), "buffer = \"64KiB\"")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let sent = events("e", 40_000, 500, &[]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| daemon.send(&sent));
        daemon.metrics_where("reading has waited for room", |metrics| {
            metrics.sum("consentd_events_pending", &[("destination", "down")]) > 0
        });
        wait_until("intake is called stalled", || {
            crate::harness::get(daemon.admin(), "/readyz").status == 503
        });
        assert!(!sender.is_finished(), "the sender must feel it");
        assert!(daemon.metrics().received() < 20_000);
        sink.answer(|_| Reply::now(200));
    });
    let metrics = daemon.settled(40_000);
    assert_eq!(metrics.delivered("down"), 40_000);
    assert_eq!(metrics.delivered("lake"), 40_000);
    let expected: Vec<String> = (0..40_000).map(|n| format!("e-{n}")).collect();
    assert!(ids(&sink.taken()) == expected, "every event once, in order");
    wait_until("ready again", || crate::harness::get(daemon.admin(), "/readyz").status == 200);
}

#[test]
fn only_the_events_that_a_destination_refuses_are_dropped() {
    let bad = |line: &String| line.contains("\"bad\":true");
    let sink =
        HttpSink::start(move |lines| Reply::now(if lines.iter().any(bad) { 400 } else { 200 }));
    let folder = Folder::new();
    let config = Config::new("allow").http("picky", &sink.url(), "").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let all: String = (0..3000)
        .map(|n| {
            let more = if n % 500 == 7 { ",\"bad\":true" } else { "" };
            marked(&format!("e-{n}"), &[], more) + "\n"
        })
        .collect();
    daemon.send(&all);
    let metrics = daemon.settled(3000);
    assert_eq!(metrics.dropped("picky", "rejected_by_destination"), 6);
    assert_eq!(metrics.all_dropped("picky"), 6);
    assert_eq!(metrics.delivered("lake"), 3000);
    let good: Vec<String> = (0..3000).filter(|n| n % 500 != 7).map(|n| format!("e-{n}")).collect();
    assert_eq!(ids(&sink.taken()), good);
}

#[test]
fn errors_that_pass_cost_nothing() {
    // 404 holds deliveries, 500 and 429 repeat them; each batch meets them all.
    let statuses = [404, 500, 404, 429, 503, 200];
    let sink = HttpSink::start(|_| Reply::now(404));
    let folder = Folder::new();
    let config = Config::new("allow").http("moody", &sink.url(), "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 500, 10, &[]));
    daemon.metrics_where("held", |metrics| {
        metrics.sum("consentd_destination_held", &[("destination", "moody")]) == 1
    });
    assert_eq!(daemon.metrics().all_dropped("moody"), 0);
    let turn = std::sync::atomic::AtomicUsize::new(0);
    sink.answer(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::now(statuses[turn % statuses.len()])
    });
    daemon.send(events("f", 500, 10, &[]));
    let metrics = daemon.settled(1000);
    assert_eq!(metrics.delivered("moody"), 1000);
    assert_eq!(metrics.sum("consentd_destination_held", &[]), 0);
    let attempts =
        |outcome: &str| metrics.sum("consentd_delivery_attempts_total", &[("outcome", outcome)]);
    assert!(attempts("held") > 0 && attempts("retry") > 0 && attempts("delivered") > 0);
    let all: u64 = ["held", "retry", "delivered", "rejected"].map(attempts).iter().sum();
    assert_eq!(all, sink.attempts());
    let expected: Vec<String> =
        ["e", "f"].iter().flat_map(|p| (0..500).map(move |n| format!("{p}-{n}"))).collect();
    assert_eq!(ids(&sink.taken()), expected);
}

#[test]
fn what_cannot_be_delivered_for_too_long_is_given_up_and_counted() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .destination(
            "dead",
            format!(
                "type = \"tcp\"\naddress = \"{NOBODY}\"\nbatch = {{ max_wait = \"1ms\" }}\n\
                 retry = {{ initial = \"10ms\", max = \"20ms\", give_up_after = \"100ms\" }}"
            ),
        )
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 100, 10, &[]));
    let metrics = daemon.settled(100);
    assert_eq!(metrics.dropped("dead", "gave_up"), 100);
    assert_eq!(metrics.delivered("lake"), 100);
}

#[test]
fn removing_a_dead_destination_frees_intake_and_counts_what_it_held() {
    let folder = Folder::new();
    let limits = "ingest_bytes_max = \"512KiB\"\nmax_event_bytes = \"128KiB\"\n\
                  shutdown_timeout = \"300ms\"";
    let lake = Config::new("allow").daemon(limits).file(&folder, "lake", "");
    let with_dead = lake.clone().tcp("dead", NOBODY, "buffer = \"64KiB\"");
    let daemon = Daemon::start(&folder, &with_dead);
    let sent = events("e", 20_000, 500, &[]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| daemon.send(&sent));
        daemon.metrics_where("something is pending", |metrics| metrics.pending("dead") > 0);
        thread::sleep(Duration::from_millis(300));
        assert!(!sender.is_finished(), "intake must wait for the dead destination");
        let asked = Instant::now();
        daemon.apply(&lake);
        sender.join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
    let metrics = daemon.metrics_where("lake has everything, dead has nothing", |metrics| {
        metrics.delivered("lake") == 20_000 && metrics.pending("dead") == 0
    });
    assert_eq!(metrics.law("lake"), (20_000, 20_000));
    let removed = metrics.dropped("dead", "removed");
    // What it held, and no event that was judged after it was gone.
    assert!((1..20_000).contains(&removed), "{removed}");
    assert_eq!((metrics.delivered("dead"), metrics.all_dropped("dead")), (0, removed));
}
