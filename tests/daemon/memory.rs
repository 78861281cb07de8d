//! Events larger than what a destination may keep: `memory_max` and one event bound them all.

use std::io::Write;
use std::time::Duration;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, NOBODY, Reply, ids, marked, post, wait_until,
};

/// Each has a category, and so a class, of its own, and the smallest buffer there is.
const DESTINATIONS: usize = 200;

/// What the daemon may take with its default budget for reading and a `memory_max` of 16 MiB.
const RSS_BYTES_MAX: usize = 96 << 20;

fn category(number: usize) -> String {
    format!("C{number}")
}

fn config(folder: &Folder, keys: impl Fn(&str) -> String) -> Config {
    let categories: Vec<String> = (0..DESTINATIONS).map(category).collect();
    let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
    let config = Config::new("allow")
        .daemon("memory_max = \"16MiB\"\nshutdown_timeout = \"1s\"")
        .categories(&categories);
    categories.iter().fold(config.file(folder, "lake", ""), |config, id| {
        let mapped = format!("{}\nbuffer = \"64KiB\"\ncategories = [\"{id}\"]", keys(id));
        config.destination(&format!("d-{id}"), mapped)
    })
}

/// Where nobody listens.
fn dead(keys: &str) -> String {
    format!("type = \"tcp\"\naddress = \"{NOBODY}\"\n{keys}")
}

/// An event of almost 1 MiB that these destinations may have.
fn large(id: &str, granted: impl Iterator<Item = usize>) -> String {
    let granted: Vec<String> = granted.map(category).collect();
    let granted: Vec<(&str, bool)> = granted.iter().map(|id| (id.as_str(), true)).collect();
    let padding = "x".repeat((1 << 20) - 10_000);
    marked(id, &granted, &format!(",\"padding\":\"{padding}\"")) + "\n"
}

#[track_caller]
fn assert_bounded(daemon: &Daemon) {
    let peak = daemon.peak_rss_bytes();
    assert!(peak < RSS_BYTES_MAX, "{} MiB at the peak", peak >> 20);
}

#[test]
fn events_larger_than_every_buffer_reach_everybody_one_after_the_other() {
    const EVENTS: usize = 6;
    let folder = Folder::new();
    let path = |id: &str| folder.path(&format!("d-{id}.ndjson"));
    // Most of them write nothing: gigabytes of files are not what this is about.
    let config = config(&folder, |id| match id {
        id if ![category(0), category(DESTINATIONS - 1)].contains(&id.to_owned()) => {
            "type = \"blackhole\"".to_owned()
        }
        id => format!("type = \"file\"\npath = {:?}\nbatch = {{ max_wait = \"1h\" }}", path(id)),
    });
    let daemon = Daemon::start(&folder, &config);
    // Small ones between them: order holds.
    let small = |n: usize| {
        let all: Vec<String> = (0..DESTINATIONS).map(category).collect();
        let all: Vec<(&str, bool)> = all.iter().map(|id| (id.as_str(), true)).collect();
        marked(&format!("small-{n}"), &all, "") + "\n"
    };
    for number in 0..EVENTS {
        let event = large(&format!("large-{number}"), 0..DESTINATIONS);
        daemon.send(small(number) + &event + &small(number + EVENTS));
    }
    let metrics = daemon.metrics_where("everything large was delivered", |metrics| {
        (0..DESTINATIONS)
            .all(|n| metrics.delivered(&format!("d-{}", category(n))) >= 2 * EVENTS as u64)
    });
    assert_eq!(metrics.all_dropped("d-C0"), 0);
    assert_bounded(&daemon);
    assert_eq!(daemon.stop().code, Some(0));
    for number in [0, DESTINATIONS - 1] {
        let lines = folder.delivered(&format!("d-{}", category(number)));
        assert_eq!(lines.len(), 3 * EVENTS);
    }
}

#[test]
fn events_larger_than_the_buffers_of_dead_destinations_do_not_add_up() {
    let folder = Folder::new();
    let dead = format!("type = \"tcp\"\naddress = \"{NOBODY}\"");
    let daemon = Daemon::start(&folder, &config(&folder, |_| dead.clone()));
    let mut connection = daemon.connect();
    connection.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // One for each of them; back-pressure keeps most out.
    let sent = (0..DESTINATIONS)
        .take_while(|&n| connection.write_all(large("e", n..n + 1).as_bytes()).is_ok())
        .count();
    assert!(sent < DESTINATIONS, "nothing was held back");
    let pending = |n: usize| daemon.metrics().pending(&format!("d-{}", category(n)));
    wait_until("the first waits", || pending(0) == 1);
    assert_eq!(pending(5), 0);
    assert_bounded(&daemon);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(1));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

#[test]
fn events_larger_than_the_buffer_are_dropped_where_nobody_waits() {
    let folder = Folder::new();
    let dead = format!("type = \"tcp\"\naddress = \"{NOBODY}\"\nwhen_full = \"drop_newest\"");
    let daemon = Daemon::start(&folder, &config(&folder, |_| dead.clone()));
    for number in 0..40 {
        daemon.send(large("e", number..number + 1));
    }
    let metrics = daemon.settled(40);
    assert_eq!(metrics.delivered("lake"), 40);
    assert_eq!(metrics.dropped("d-C7", "overflow"), 1);
    assert_eq!(metrics.dropped("d-C7", "consent"), 39);
    assert_bounded(&daemon);
}

#[test]
fn with_the_log_dead_destinations_keep_no_other_one_from_events_larger_than_its_buffer() {
    const DEAD: usize = 30;
    const EVENTS: usize = 4;
    let folder = Folder::new();
    let (down, up) = (HttpSink::start(|_| Reply::now(503)), HttpSink::start(|_| Reply::now(200)));
    let keys = "buffer = \"64KiB\"\ncategories = [\"A\"]\n\
                retry = { initial = \"20ms\", max = \"200ms\" }";
    let http = |sink: &HttpSink| {
        format!("type = \"http\"\nurl = \"{}\"\nconcurrency = 1\n{keys}", sink.url())
    };
    let config = Config::new("deny")
        .daemon("memory_max = \"16MiB\"\nshutdown_timeout = \"1s\"")
        .categories(&["A"])
        .log(&folder, "")
        .destination("down", http(&down));
    let dead = |config: Config, n: usize| config.destination(&format!("dead-{n}"), dead(keys));
    let config = (0..DEAD).fold(config, dead).destination("up", http(&up));
    let daemon = Daemon::start(&folder, &config);
    let padding = format!(",\"padding\":\"{}\"", "x".repeat((1 << 20) - 10_000));
    for number in 0..EVENTS {
        for (id, more) in [("large", padding.as_str()), ("small", "")] {
            let event = marked(&format!("{id}-{number}"), &[("A", true)], more);
            assert_eq!(post(daemon.source("http"), event).status, 200);
        }
    }
    wait_until("the one that is up has all", || up.taken().len() == 2 * EVENTS);
    assert_bounded(&daemon);
    assert!(down.attempts() > 0);
    down.answer(|_| Reply::now(200));
    let metrics = daemon.metrics_where("the other one has all", |metrics| {
        metrics.delivered("down") == 2 * EVENTS as u64 && metrics.pending("down") == 0
    });
    assert_eq!(ids(&down.taken()), ids(&up.taken()), "in order, each once");
    assert_eq!(metrics.law("down"), (2 * EVENTS as u64, 2 * EVENTS as u64));
    assert_bounded(&daemon);
}

#[test]
fn an_event_larger_than_the_buffer_is_given_up_in_time_although_others_want_its_place() {
    let folder = Folder::new();
    let keys = "buffer = \"64KiB\"\ncategories = [\"A\"]\n\
                retry = { initial = \"20ms\", max = \"100ms\", give_up_after = \"2s\" }";
    let config =
        Config::new("deny").daemon("shutdown_timeout = \"1s\"").categories(&["A"]).log(&folder, "");
    let dead = |config: Config, n: usize| config.destination(&format!("dead-{n}"), dead(keys));
    let daemon = Daemon::start(&folder, &(0..3).fold(config, dead));
    let padding = format!(",\"padding\":\"{}\"", "x".repeat(200_000));
    let event = marked("large", &[("A", true)], &padding);
    assert_eq!(post(daemon.source("http"), event).status, 200);
    daemon.metrics_where("all gave it up", |metrics| {
        (0..3).all(|n| metrics.dropped(&format!("dead-{n}"), "gave_up") == 1)
    });
}
