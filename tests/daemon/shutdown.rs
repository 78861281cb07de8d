//! The end: SIGTERM, what is delivered before it, what is said about the rest.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, NOBODY, Reply, event, events, get, ids, post, wait_for,
    wait_until,
};

#[test]
fn a_stop_delivers_everything_that_was_read_and_exits_with_zero() {
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(20) });
    let folder = Folder::new();
    // Batches that would wait for long: a stop does not.
    let config = Config::new("allow")
        .destination("crm", format!("type = \"http\"\nurl = \"{}\"\nconcurrency = 1\nbatch = {{ max_wait = \"1h\", max_events = 100 }}", sink.url()))
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let mut open = daemon.connect();
    open.write_all(events("e", 2000, 10, &[]).as_bytes()).unwrap();
    // A last event without its newline.
    open.write_all(event("last", &[]).as_bytes()).unwrap();
    daemon.metrics_where("it is read", |metrics| metrics.received() >= 2000);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    let expected: Vec<String> =
        (0..2000).map(|n| format!("e-{n}")).chain(["last".to_owned()]).collect();
    assert_eq!(ids(&folder.delivered("lake")), expected);
    assert_eq!(ids(&sink.taken()), expected);
}

#[test]
fn a_stop_says_what_a_dead_destination_did_not_get() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .daemon("shutdown_timeout = \"1s\"")
        .tcp("dead", NOBODY, "")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 123, 10, &[]));
    daemon.metrics_where("it is judged", |metrics| metrics.pending("dead") == 123);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    assert!(
        ended.stderr.lines().any(|line| line.contains("dead") && line.contains("123")),
        "{}",
        ended.stderr
    );
    assert_eq!(folder.delivered("lake").len(), 123);
}

#[test]
fn a_stop_is_on_time_while_a_dead_destination_holds_intake_back() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .daemon("shutdown_timeout = \"1s\"\ningest_bytes_max = \"512KiB\"\nmax_event_bytes = \"128KiB\"")
        .tcp("dead", NOBODY, "buffer = \"64KiB\"");
    let daemon = Daemon::start(&folder, &config);
    let sent = events("e", 20_000, 500, &[]);
    thread::scope(|scope| {
        let mut socket = daemon.connect();
        // It will be cut off.
        let sender = scope.spawn(move || socket.write_all(sent.as_bytes()));
        let mut last = 0;
        wait_until("intake stands still", || {
            thread::sleep(Duration::from_millis(100));
            let now = daemon.metrics().received();
            let still = now > 0 && now == last;
            last = now;
            still
        });
        let ended = daemon.stop();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.took < Duration::from_secs(3), "{:?}\n{}", ended.took, ended.stderr);
        // What was read and not delivered is what is said to be left.
        let said = ended.stderr.lines().find(|line| line.contains("not everything")).unwrap();
        let left: u64 = said.rsplit_once("left=").unwrap().1.trim().parse().unwrap();
        assert!(left >= last, "{last} were received, {left} are said to be left");
        let _ = sender.join().unwrap();
    });
}

#[test]
fn a_request_that_is_being_sent_is_finished_and_new_ones_are_turned_away() {
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(800) });
    let folder = Folder::new();
    let config = Config::new("allow").http("crm", &sink.url(), "");
    let mut daemon = Daemon::start(&folder, &config);
    // The destination is busy for a while, so the drain takes a while.
    post(daemon.source("http"), event("first", &[]));
    wait_until("the destination works", || sink.attempts() > 0);

    let line = event("half-sent", &[]);
    let mut half = TcpStream::connect(daemon.source("http")).unwrap();
    let (start, rest) = line.split_at(20);
    let length = line.len();
    write!(half, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{start}").unwrap();
    thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    wait_until("not ready any more", || get(daemon.admin(), "/readyz").status == 503);
    assert_eq!(get(daemon.admin(), "/healthz").status, 200);
    half.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_until("nobody listens", || TcpStream::connect(daemon.source("http")).is_err());
    let ended = daemon.ended(asked);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ids(&sink.taken()), ["first", "half-sent"]);
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let folder = Folder::new();
    let config = Config::new("allow").daemon("shutdown_timeout = \"1h\"").tcp("dead", NOBODY, "");
    let mut daemon = Daemon::start(&folder, &config);
    daemon.send(event("e", &[]) + "\n");
    daemon.metrics_where("it waits", |metrics| metrics.pending("dead") == 1);
    daemon.signal(Signal::TERM);
    wait_for("the drain begins", || daemon.stderr().contains("stopping").then_some(()));
    thread::sleep(Duration::from_millis(100));
    assert!(daemon.is_running());
    let asked = Instant::now();
    daemon.signal(Signal::INT);
    let ended = daemon.ended(asked);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
}

#[test]
fn what_was_delivered_before_a_second_signal_does_not_come_again() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(150) });
    let url = sink.url();
    let keys = format!(
        "type = \"http\"\nurl = \"{url}\"\nconcurrency = 1\n\
         batch = {{ max_events = 1, max_wait = \"1ms\" }}"
    );
    let config = Config::new("allow")
        .daemon("shutdown_timeout = \"1h\"")
        .log(&folder, "")
        .destination("slow", keys);
    let mut daemon = Daemon::start(&folder, &config);
    for number in 0..60 {
        assert_eq!(post(daemon.source("http"), event(&format!("e-{number}"), &[])).status, 200);
    }
    daemon.signal(Signal::TERM);
    let before = sink.taken().len();
    wait_until("more is delivered while it stops", || sink.taken().len() > before + 8);
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended(asked);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    let first = sink.take();
    sink.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    wait_until("the rest arrives", || ids(&sink.taken()).last().is_some_and(|id| id == "e-59"));
    assert_eq!(daemon.stop().code, Some(0));
    let twice = first.len() + sink.taken().len() - 60;
    // One may have been under way.
    assert!(twice <= 2, "{twice} of {} came again", first.len());
}
