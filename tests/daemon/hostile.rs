//! Senders that mean harm: other events go on, and memory stays within its bounds.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Config, Daemon, Folder, event, events, ids, wait_until};

/// What the daemon may take with its default budgets, whatever comes in.
const RSS_BYTES_MAX: usize = 128 << 20;

#[track_caller]
fn assert_bounded(daemon: &Daemon) {
    let peak = daemon.peak_rss_bytes();
    assert!(peak < RSS_BYTES_MAX, "{peak} bytes at the peak");
}

#[test]
fn a_line_without_end_is_counted_once_and_costs_no_memory() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &Config::new("allow").file(&folder, "lake", ""));
    let mut endless = daemon.connect();
    let piece = vec![b'x'; 1 << 20];
    endless.write_all(b"{\"a\":\"").unwrap();
    for number in 0..200 {
        endless.write_all(&piece).unwrap();
        if number % 50 == 0 {
            daemon.send(event(&format!("other-{number}"), &[]) + "\n");
        }
    }
    daemon.metrics_where("others go on", |metrics| metrics.delivered("lake") == 4);
    endless.write_all(b"\"}\n").unwrap();
    endless.write_all((event("after", &[]) + "\n").as_bytes()).unwrap();
    let metrics = daemon.settled(6);
    assert_eq!(metrics.rejected("too_large"), 1);
    assert_eq!(ids(&folder.delivered("lake")).last().unwrap(), "after");
    assert_bounded(&daemon);
}

#[test]
fn thousands_of_unfinished_lines_are_bounded_and_others_go_on() {
    const CONNECTIONS: usize = 1500;
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &Config::new("allow").file(&folder, "lake", ""));
    // 75 MB in all, which is more than unfinished lines may take.
    let tail = format!("{{\"a\":\"{}", "x".repeat(50_000));
    let half_open: Vec<TcpStream> = (0..CONNECTIONS)
        .filter_map(|_| {
            let mut stream = daemon.connect();
            // Those that are cut off may notice it here.
            stream.write_all(tail.as_bytes()).ok().map(|()| stream)
        })
        .collect();
    daemon.metrics_where("some were cut off", |metrics| {
        metrics.sum("consentd_connections", &[("source", "tcp")]) < half_open.len() as u64
    });
    daemon.send(events("e", 1000, 100, &[]));
    let metrics = daemon.metrics_where("others go on", |m| m.delivered("lake") == 1000);
    // Whose line was cut off had it counted, as what it is.
    let cut = metrics.rejected("invalid_json");
    assert_eq!((metrics.received(), metrics.all_rejected()), (1000 + cut, cut));
    assert!((1..CONNECTIONS as u64).contains(&cut), "{cut}");
    assert_bounded(&daemon);
    drop(half_open);
    // Every one that went away in the middle of a line is an event that nobody will see.
    daemon.settled(1000 + CONNECTIONS);
    wait_until("all are gone", || {
        daemon.metrics().sum("consentd_connections", &[("source", "tcp")]) == 0
    });
    assert_bounded(&daemon);
}

#[test]
fn a_sender_of_single_bytes_delays_nobody() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &Config::new("allow").file(&folder, "lake", ""));
    let line = event("drop-by-drop", &[]) + "\n";
    let mut slow = daemon.connect();
    for (number, byte) in line.bytes().enumerate() {
        slow.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
        if number % 20 == 0 {
            daemon.send(event(&format!("e-{number}"), &[]) + "\n");
        }
    }
    let others = line.len().div_ceil(20);
    daemon.settled(others + 1);
    let lines = folder.delivered("lake");
    assert_eq!(ids(&lines).iter().filter(|id| *id == "drop-by-drop").count(), 1);
}

#[test]
fn a_flood_into_a_dead_destination_stays_within_the_budgets() {
    let folder = Folder::new();
    let config =
        Config::new("allow").tcp("dead", crate::harness::NOBODY, "").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let flood = events("e", 2000, 2000, &[]);
    let mut connections: Vec<TcpStream> = (0..20).map(|_| daemon.connect()).collect();
    for connection in &mut connections {
        connection.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // Back-pressure: sooner or later nothing is taken any more.
        while connection.write_all(flood.as_bytes()).is_ok() {}
    }
    assert!(daemon.metrics().pending("dead") > 0);
    assert_bounded(&daemon);
}
