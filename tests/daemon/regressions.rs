//! One test for each thing that once went wrong, named after it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, NOBODY, Reply, event, events, get, ids, post, wait_until,
};

#[test]
fn a_client_that_never_reads_its_answers_cannot_keep_the_daemon_from_stopping() {
    let folder = Folder::new();
    let config = Config::new("allow").daemon("shutdown_timeout = \"1s\"").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let mut client = TcpStream::connect(daemon.source("http")).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Every request gets an answer of several kilobytes; soon nothing can be written any more.
    let body = format!("{{\"a\":1}}\n{}", "x\n".repeat(100));
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while client.write_all(request.repeat(100).as_bytes()).is_ok() {}
    let ended = daemon.stop();
    assert!(ended.took < Duration::from_secs(5), "{:?}\n{}", ended.took, ended.stderr);
    drop(client);
}

#[test]
fn events_acknowledged_during_a_reload_are_not_lost_to_a_destination_that_it_replaces() {
    let folder = Folder::new();
    let with_wait = |ms: u32| {
        let path = folder.path("lake.ndjson");
        let keys = format!(
            "type = \"file\"\npath = \"{}\"\nbatch = {{ max_wait = \"{ms}ms\" }}\n\
             retry = {{ initial = \"5ms\", max = \"20ms\" }}",
            path.display()
        );
        // A successor waits for the file until its predecessor has drained: that may take a while on
        // a busy machine, and is not what this is about.
        Config::new("allow").daemon("shutdown_timeout = \"300s\"").destination("lake", keys)
    };
    let daemon = Daemon::start(&folder, &with_wait(10));
    let to = daemon.source("http");
    let sender = std::thread::spawn(move || {
        for request in 0..200 {
            let answer = post(to, events(&format!("e-{request}"), 50, 10, &[]));
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    });
    wait_until("events flow", || daemon.metrics().received() > 1000);
    daemon.apply(&with_wait(11));
    sender.join().unwrap();
    let sent = 200 * 50;
    let metrics = daemon.settled(sent);
    assert_eq!(metrics.dropped("lake", "removed"), 0);
    assert_eq!(metrics.delivered("lake"), sent as u64);
    assert_eq!(folder.delivered("lake").len(), sent);
}

#[test]
fn a_stuck_destination_does_not_cost_the_others_their_events_at_a_stop() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .daemon("shutdown_timeout = \"4s\"")
        .tcp("stuck", NOBODY, "buffer = \"64KiB\"")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 20_000, 10, &[]));
    wait_until("intake stands", || daemon.metrics().pending("stuck") > 0);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(folder.delivered("lake").len(), 20_000, "{}", ended.stderr);
}

#[test]
fn a_destination_that_is_switched_off_gives_its_room_back_at_once() {
    let folder = Folder::new();
    let stuck = |enabled: bool| {
        let keys = format!(
            "type = \"tcp\"\naddress = \"{NOBODY}\"\nbuffer = \"64KiB\"\nenabled = {enabled}\nretry = {{ initial = \"1h\", max = \"1h\" }}"
        );
        Config::new("allow").destination("stuck", keys).file(&folder, "lake", "")
    };
    let daemon = Daemon::start(&folder, &stuck(true));
    daemon.send(events("e", 5000, 10, &[]));
    wait_until("intake stands", || daemon.metrics().pending("stuck") > 0);
    daemon.apply(&stuck(false));
    daemon.settled(5000);
    assert_eq!(folder.delivered("lake").len(), 5000);
}

#[test]
fn the_alarm_of_a_held_destination_ends_when_its_successor_works() {
    let refusing = HttpSink::start(|_| Reply::now(401));
    let working = HttpSink::start(|_| Reply::now(200));
    let folder = Folder::new();
    let at = |sink: &HttpSink| Config::new("allow").http("crm", &sink.url(), "");
    let held = |daemon: &Daemon| {
        daemon.metrics().sum("consentd_destination_held", &[("destination", "crm")])
    };
    let mut first = at(&refusing);
    first = first.daemon("shutdown_timeout = \"1s\"");
    let daemon = Daemon::start(&folder, &first);
    daemon.send(event("one", &[]) + "\n");
    wait_until("it is held", || held(&daemon) == 1);
    daemon.apply(&at(&working).daemon("shutdown_timeout = \"1s\""));
    daemon.send(event("two", &[]) + "\n");
    wait_until("the successor works", || ids(&working.taken()).contains(&"two".to_owned()));
    wait_until("the alarm is over", || held(&daemon) == 0);
}

#[test]
fn reloads_leave_no_series_behind() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    for _ in 0..5 {
        daemon.apply(&config);
    }
    let page = get(daemon.admin(), "/metrics").body;
    let shown = page.lines().filter(|line| line.starts_with("consentd_routing_table_info{"));
    assert_eq!(shown.count(), 1);
}

#[test]
fn adding_a_destination_does_not_replace_the_others() {
    let folder = Folder::new();
    // So many that the default room of each is a share of memory_max.
    let with = |count: u32| {
        (0..count).fold(Config::new("allow"), |config, n| {
            config.destination(&format!("d{n}"), "type = \"blackhole\"")
        })
    };
    let daemon = Daemon::start(&folder, &with(300));
    let answer = daemon.reload(with(301));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("`d300` started"), "{}", answer.body);
    assert!(!answer.body.contains("replaced"), "{}", answer.body);
}
