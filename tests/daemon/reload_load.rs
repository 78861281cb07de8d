//! Reloads while events stream in: no connection is dropped, no event is lost or doubled, and none is
//! decided by a table older than its frame.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::harness::{Config, Daemon, Folder, TcpSink, event, ids};

const CONNECTIONS: usize = 6;
const RELOADS: usize = 200;

/// Streams until `done`; every event is named after its connection and its place. Gives how many.
fn stream(mut to: TcpStream, connection: usize, done: &AtomicBool, sent: &AtomicUsize) -> usize {
    let mut number = 0;
    while !done.load(Relaxed) {
        let mut lines = String::new();
        for _ in 0..20 {
            let granted = number % 2 == 0;
            lines += &event(&format!("c{connection}-{number}"), &[("Ads", granted)]);
            lines += "\n";
            number += 1;
        }
        // Nowhere near the end of a line.
        let (start, rest) = lines.split_at(lines.len() / 3);
        to.write_all(start.as_bytes()).expect("the connection stays");
        thread::yield_now();
        to.write_all(rest.as_bytes()).expect("the connection stays");
        sent.fetch_add(20, Relaxed);
        // Enough to keep the workers busy, not so much that the disk fills.
        thread::sleep(std::time::Duration::from_millis(1));
    }
    number
}

/// Streams over `CONNECTIONS` while `work` runs; gives the number of events per connection.
fn under_load(daemon: &Daemon, work: impl FnOnce(&AtomicUsize)) -> Vec<usize> {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let streams: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let socket = daemon.connect();
                let (done, sent) = (&done, &sent);
                scope.spawn(move || {
                    let alive = socket.try_clone().unwrap();
                    let number = stream(socket, connection, done, sent);
                    // Still open: there is nothing to read, and no end.
                    alive.set_nonblocking(true).unwrap();
                    let read = (&alive).read(&mut [0]).map_err(|error| error.kind());
                    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock));
                    number
                })
            })
            .collect();
        let ended = StopAtEnd(&done);
        work(&sent);
        drop(ended);
        streams.into_iter().map(|stream| stream.join().unwrap()).collect()
    })
}

/// Ends the streams, also when the work panics: the scope waits for them.
struct StopAtEnd<'d>(&'d AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Every event of every connection exactly once, and each connection's in order.
fn assert_complete(lines: &[String], per_connection: &[usize]) {
    let mut next = vec![0; per_connection.len()];
    for id in ids(lines) {
        let (connection, number) = id[1..].split_once('-').unwrap();
        let next = &mut next[connection.parse::<usize>().unwrap()];
        assert_eq!(number.parse::<usize>().unwrap(), *next, "of connection {connection}");
        *next += 1;
    }
    assert_eq!(next, per_connection);
}

#[test]
fn nothing_is_lost_or_doubled_or_out_of_order() {
    let folder = Folder::new();
    let sink = TcpSink::start();
    let base = Config::new("allow")
        .daemon("shutdown_timeout = \"5s\"")
        .categories(&["Ads"])
        .file(&folder, "lake", "")
        .tcp("wire", sink.address, "");
    // Numbers of destinations, classes and categories all change.
    let one = base.clone().file(&folder, "crm", "categories = [\"Ads\"]");
    let other = Config::new("allow")
        .daemon("shutdown_timeout = \"5s\"")
        .categories(&["Before", "Ads", "After"])
        .file(&folder, "first", "categories = [\"Before\"]")
        .file(&folder, "crm", "categories = [\"Ads\"]\ntypes = [\"track\"]")
        .tcp("wire", sink.address, "categories = [\"After\"]\nenforce = false")
        .file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &one);
    let per_connection = under_load(&daemon, |sent| {
        for round in 0..RELOADS {
            daemon.apply(if round % 2 == 0 { &other } else { &one });
        }
        assert!(sent.load(Relaxed) > 1000, "no load: {sent:?}");
    });
    let total: usize = per_connection.iter().sum();
    let law = |name| daemon.metrics().law(name);
    let metrics = daemon.metrics_where("all accounted for", |metrics| {
        metrics.received() == total as u64
            && ["lake", "wire", "crm"].iter().all(|name| {
                metrics.pending(name) == 0 && metrics.law(name).0 == metrics.law(name).1
            })
    });
    assert_eq!(metrics.all_rejected(), 0);
    assert_eq!(metrics.delivered("lake"), total as u64, "{:?}", law("lake"));
    assert_complete(&folder.delivered("lake"), &per_connection);
    crate::harness::wait_until("the wire has everything", || sink.lines().len() == total);
    assert_complete(&sink.lines(), &per_connection);
    // Under every table that was in force, `crm` gets the half that agreed.
    let half: Vec<usize> = per_connection.iter().map(|count| count.div_ceil(2)).collect();
    assert_eq!(metrics.delivered("crm") as usize, half.iter().sum::<usize>());
    assert!(folder.delivered("crm").iter().all(|line| line.contains("\"Ads\":true")));
    // A destination that comes and goes takes what it counted, no more and no less.
    assert_eq!(folder.delivered("first").len() as u64, metrics.delivered("first"));
    assert_eq!(metrics.sum("consentd_reloads_total", &[("result", "applied")]), RELOADS as u64);
}

#[test]
fn no_event_is_decided_by_a_table_older_than_its_frame() {
    let folder = Folder::new();
    let base = Config::new("allow").categories(&["Ads"]);
    let strict = base.clone().file(&folder, "crm", "categories = [\"Ads\"]");
    let open = base.file(&folder, "crm", "");
    let daemon = Daemon::start(&folder, &open);
    let mut probe = daemon.connect();
    under_load(&daemon, |_| {
        for round in 0..100 {
            daemon.apply(&strict);
            let late = event(&format!("withdrawn-{round}"), &[("Ads", false)]) + "\n";
            probe.write_all(late.as_bytes()).unwrap();
            // It is judged before the rules change again.
            let answer = crate::harness::post(
                daemon.source("http"),
                event(&format!("withdrawn-http-{round}"), &[("Ads", false)]),
            );
            assert_eq!(answer.status, 200);
            let before = daemon.metrics().dropped("crm", "consent");
            daemon.metrics_where("it was judged", |metrics| {
                metrics.dropped("crm", "consent") > before
            });
            daemon.apply(&open);
        }
    });
    let metrics = daemon.metrics_where("all accounted for", |metrics| {
        metrics.pending("crm") == 0 && metrics.law("crm").0 == metrics.law("crm").1
    });
    assert!(metrics.delivered("crm") > 0);
    let lines = folder.delivered("crm");
    assert_eq!(lines.len() as u64, metrics.delivered("crm"));
    let late: Vec<&String> = lines.iter().filter(|line| line.contains("withdrawn-http")).collect();
    assert!(late.is_empty(), "{late:#?}");
}

#[test]
fn the_largest_table_reloads_under_load() {
    let folder = Folder::new();
    let sized = |members: usize| {
        let mut base = Config::new("allow").categories(&["Ads", "Other"]).file(
            &folder,
            "lake",
            "buffer = \"1MiB\"",
        );
        let mut text = String::new();
        for number in 0..members {
            write!(text, "[destinations.d{number}]\ntype = \"blackhole\"\n").unwrap();
            write!(text, "categories = [\"Other\"]\nbuffer = \"64KiB\"\n").unwrap();
        }
        base = base.daemon("memory_max = \"300MiB\"");
        format!("{base}\n{text}")
    };
    let (large, larger) = (sized(4094), sized(4095));
    let config = Config::new("allow").daemon("memory_max = \"300MiB\"").file(
        &folder,
        "lake",
        "buffer = \"1MiB\"",
    );
    let daemon = Daemon::start(&folder, &config);
    let per_connection = under_load(&daemon, |_| {
        for round in 0..6 {
            let answer = daemon.reload(if round % 2 == 0 { &large } else { &larger });
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    });
    let total: usize = per_connection.iter().sum();
    let metrics = daemon.metrics_where("lake has everything", |metrics| {
        metrics.received() == total as u64
            && metrics.law("lake") == (total as u64, total as u64)
            && metrics.pending("lake") == 0
    });
    assert_eq!(metrics.delivered("lake"), total as u64);
    assert_complete(&folder.delivered("lake"), &per_connection);
    // A member of the largest table counts its share.
    assert!(metrics.dropped("d4093", "consent") > 0);
}
