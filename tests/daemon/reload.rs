//! Reloads: what changes, what does not, and what a wrong config does.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Config, Daemon, Fault, Folder, HttpSink, Reply, Tracer, event, events, get, ids, paths_of_log,
    run_command, wait_until,
};

/// Reloads that were counted.
fn reloads(daemon: &Daemon, result: &str) -> u64 {
    daemon.metrics().sum("consentd_reloads_total", &[("result", result)])
}

/// The version of the table in force.
fn table(daemon: &Daemon) -> String {
    let page = get(daemon.admin(), "/metrics").body;
    let mut shown = page.lines().filter(|line| line.starts_with("consentd_routing_table_info"));
    shown.find(|line| line.ends_with(" 1")).unwrap().to_owned()
}

#[test]
fn a_wrong_config_is_refused_with_all_reasons_and_changes_nothing() {
    let folder = Folder::new();
    let config = Config::new("allow").categories(&["Ads"]).file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let before = table(&daemon);
    let wrong = config
        .clone()
        .destination("one", "type = \"blackhole\"\ncategories = [\"Adds\"]")
        .destination("two", "type = \"tcp\"")
        .destination("three", "type = \"blackhole\"\nmatch = \"most\"");

    let answer = daemon.reload(&wrong);
    assert_eq!(answer.status, 422, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["result"], "refused");
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    for (error, word) in errors.iter().zip(["Adds", "address", "most"]) {
        assert!(error.as_str().unwrap().contains(word), "{error} should say {word}");
    }

    // The command line says the same, with an exit code.
    let ask = folder.write("ask.toml", Config::new("allow").admin(daemon.admin()));
    let ended = run_command("reload", &ask);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for word in ["Adds", "address", "most"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }

    assert_eq!(reloads(&daemon, "refused"), 2);
    assert_eq!(reloads(&daemon, "applied"), 0);
    assert_eq!(table(&daemon), before);
    daemon.send(event("e", &[]) + "\n");
    let metrics = daemon.settled(1);
    assert_eq!(metrics.destinations(), ["lake"]);
    assert_eq!(folder.delivered("lake").len(), 1);

    daemon.write_config(&config);
    let ended = run_command("reload", &ask);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(reloads(&daemon, "applied"), 1);
}

#[test]
fn a_destination_that_cannot_work_refuses_the_reload() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let not_a_folder = folder.write("occupied", "");
    let path = not_a_folder.join("x.ndjson");
    let unwritable = config.destination("stuck", format!("type = \"file\"\npath = {path:?}"));
    let answer = daemon.reload(&unwritable);
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("destinations.stuck"), "{}", answer.body);
    daemon.send(event("e", &[]) + "\n");
    assert_eq!(daemon.settled(1).destinations(), ["lake"]);
}

#[test]
fn sighup_reloads() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    daemon.write_config(config.file(&folder, "more", ""));
    daemon.signal(Signal::HUP);
    wait_until("the reload is counted", || reloads(&daemon, "applied") == 1);
    daemon.send(event("e", &[]) + "\n");
    daemon.settled(1);
    assert_eq!(folder.delivered("more").len(), 1);
}

#[test]
fn what_takes_effect_only_after_a_restart_is_named_by_key() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let elsewhere = config.clone().daemon("workers = 7").sources(
        "[sources.tcp]\ntype = \"tcp\"\nlisten = \"127.0.0.2:0\"\n\n\
         [sources.extra]\ntype = \"tcp\"\nlisten = \"127.0.0.1:0\"\n\n",
    );
    let keys = ["daemon.workers", "sources.tcp", "sources.http", "sources.extra"];
    // As often as it is asked for: a reload is compared with what runs.
    for _ in 0..2 {
        let answer = daemon.reload(&elsewhere);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["restart_needed"], serde_json::json!(keys));
    }
    // Both go on where they were.
    daemon.send(event("tcp", &[]) + "\n");
    crate::harness::post(daemon.source("http"), event("http", &[]));
    daemon.settled(2);
    assert_eq!(daemon.reload(&config).json()["restart_needed"], serde_json::json!([]));
}

#[test]
fn a_reload_says_what_changed() {
    let folder = Folder::new();
    let config = Config::new("allow").categories(&["Ads"]).file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let changes = |config: &Config| {
        let answer = daemon.reload(config);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["changes"].to_string()
    };
    assert_eq!(changes(&config), "[]");
    let more = changes(&config.clone().file(&folder, "more", ""));
    assert!(more.contains("`more` started") && !more.contains("lake"), "{more}");
    let fewer = changes(&config);
    assert!(fewer.contains("`more` removed"), "{fewer}");
    let stricter = changes(&config.consent("unmapped = \"deny\""));
    assert!(stricter.contains("rules changed") && !stricter.contains("lake"), "{stricter}");
}

#[test]
fn what_waits_is_judged_by_the_rules_in_force_when_it_leaves() {
    let sink = HttpSink::start(|_| Reply::now(503));
    let folder = Folder::new();
    let open = Config::new("allow").categories(&["Ads"]).file(&folder, "lake", "");
    let strict = open.clone().http("crm", &sink.url(), "categories = [\"Ads\"]");
    let open = open.http("crm", &sink.url(), "");
    let daemon = Daemon::start(&folder, &open);

    daemon.send(events("refused", 300, 10, &[("Ads", false)]));
    daemon.send(events("granted", 200, 10, &[("Ads", true)]));
    daemon.metrics_where("all events wait", |metrics| metrics.pending("crm") == 500);
    wait_until("some were tried", || sink.attempts() > 0);
    // The withdrawal is in force before the destination comes back.
    daemon.apply(&strict);
    let tried = sink.attempts();
    sink.answer(|_| Reply::now(200));
    let metrics = daemon.settled(500);
    assert!(sink.attempts() > tried);
    assert_eq!(metrics.delivered("crm"), 200);
    assert_eq!(metrics.drops("crm"), [("consent".to_owned(), 300)].into());
    let taken = sink.taken();
    assert!(taken.iter().all(|line| line.contains("\"Ads\":true")), "{taken:#?}");
    assert_eq!(taken.len(), 200);
    // Looser rules bring nothing back.
    daemon.apply(&open);
    assert_eq!(daemon.settled(500).delivered("crm"), 200);
}

#[test]
fn what_waits_for_a_removed_destination_still_goes_where_it_was_permitted_to_go() {
    let sink = HttpSink::start(|_| Reply::now(503));
    let folder = Folder::new();
    let lake = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &lake.clone().http("crm", &sink.url(), ""));
    daemon.send(events("e", 100, 10, &[]));
    daemon.metrics_where("all events wait", |metrics| metrics.pending("crm") == 100);
    daemon.apply(&lake);
    sink.answer(|_| Reply::now(200));
    let metrics = daemon.settled(100);
    assert_eq!(metrics.delivered("crm"), 100);
    assert_eq!(sink.taken().len(), 100);
}

#[test]
fn an_open_connection_survives_reloads_and_follows_them() {
    let folder = Folder::new();
    let open = Config::new("allow").categories(&["Ads"]);
    let strict = open.clone().file(&folder, "crm", "categories = [\"Ads\"]");
    let open = open.file(&folder, "crm", "");
    let daemon = Daemon::start(&folder, &open);
    let mut connection = daemon.connect();
    let mut expected = Vec::new();
    for round in 0..20 {
        let line = event(&format!("e-{round}"), &[("Ads", false)]) + "\n";
        // Half a line before the reload, the rest after it: the frame is read after it.
        let (start, rest) = line.split_at(40);
        connection.write_all(start.as_bytes()).unwrap();
        let permitted = round % 2 == 0;
        daemon.apply(if permitted { &open } else { &strict });
        connection.write_all(rest.as_bytes()).unwrap();
        daemon.settled(round + 1);
        if permitted {
            expected.push(format!("e-{round}"));
        }
    }
    assert_eq!(ids(&folder.delivered("crm")), expected);
    assert_eq!(daemon.metrics().dropped("crm", "consent"), 10);
    assert_eq!(daemon.metrics().sum("consentd_connections", &[("source", "tcp")]), 1);
}

/// A destination whose secret is a pipe: whoever reads it waits for a writer, as on a file system that
/// hangs.
fn hanging(config: &Config, token: &Path) -> Config {
    let http = "type = \"http\"\nurl = \"http://127.0.0.1:1/\"\n";
    let headers = format!("headers = {{ Authorization = {{ file = {token:?} }} }}");
    config.clone().destination("crm", http.to_owned() + &headers)
}

#[test]
fn a_reload_that_hangs_does_not_delay_the_stop() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let mut daemon = Daemon::start(&folder, &config);
    daemon.write_config(hanging(&config, &folder.fifo("token")));
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    daemon.send(event("e", &[]) + "\n");
    daemon.settled(1);
    assert_eq!(reloads(&daemon, "applied") + reloads(&daemon, "refused"), 0, "it does not hang");
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended(asked);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
}

#[test]
fn what_is_asked_for_during_a_reload_is_one_more_reload() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let token = folder.fifo("token");
    daemon.write_config(hanging(&config, &token));
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    daemon.write_config(config.clone().file(&folder, "more", ""));
    for _ in 0..5 {
        daemon.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(reloads(&daemon, "applied"), 0);
    std::fs::write(&token, "secret").unwrap();
    wait_until("both reloads are done", || reloads(&daemon, "applied") == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(reloads(&daemon, "applied"), 2);
    daemon.send(event("e", &[]) + "\n");
    daemon.metrics_where("the last one stands", |metrics| metrics.delivered("more") == 1);
}

#[test]
fn a_removed_destination_says_goodbye() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let lake = Config::new("allow").file(&folder, "lake", "");
    let both = lake.clone().tcp("crm", listener.local_addr().unwrap(), "");
    let daemon = Daemon::start(&folder, &both);
    let line = event("e", &[]) + "\n";
    daemon.send(&line);
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    daemon.settled(1);
    daemon.apply(&lake);
    let mut received = String::new();
    // Ends only when the daemon closes it.
    connection.read_to_string(&mut received).unwrap();
    assert_eq!(received, line);
    daemon.send(event("later", &[]) + "\n");
    assert_eq!(daemon.metrics_where("later", |m| m.delivered("lake") == 2).delivered("crm"), 1);
}

/// A config with a log and a destination that has no room for what waits.
fn logged(folder: &Folder, sink: &HttpSink, keys: &str) -> Config {
    let keys = format!("buffer = \"64KiB\"\n{keys}");
    Config::new("allow").categories(&["Ads"]).log(folder, "").http("crm", &sink.url(), keys)
}

#[test]
fn a_reload_says_how_many_waiting_events_it_touches() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let (open, strict) =
        (logged(&folder, &sink, ""), logged(&folder, &sink, "categories = [\"Ads\"]"));
    let daemon = Daemon::start(&folder, &open);
    for batch in 0..20 {
        for (kind, count, granted) in [("refused", 30, false), ("granted", 20, true)] {
            let body = events(&format!("{kind}{batch}"), count, 400, &[("Ads", granted)]);
            assert_eq!(crate::harness::post(daemon.source("http"), body).status, 200);
        }
    }
    wait_until("it was tried", || sink.attempts() > 0);
    let waiting = |answer: crate::harness::Answer| answer.json()["waiting"][0].clone();
    let same = waiting(daemon.reload(&open));
    assert_eq!((same["events"].as_u64(), same["refused"].as_u64()), (Some(1000), Some(0)));
    let answer = waiting(daemon.reload(&strict));
    assert_eq!(answer["destination"], "crm");
    assert_eq!(answer["events"], 1000, "{answer}");
    assert_eq!(answer["refused"], 600, "{answer}");
    assert_eq!(answer["complete"], true);
    // What was refused stays refused: looser rules touch nothing, and the same ones not again.
    assert_eq!(waiting(daemon.reload(&open))["refused"], 0);
    daemon.write_config(&strict);
    let ask = folder.write("ask.toml", Config::new("allow").admin(daemon.admin()));
    let ended = run_command("reload", &ask);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("destination `crm`: "), "{}", ended.stdout);
    sink.answer(|_| Reply::now(200));
    let metrics = daemon.settled(1000);
    assert_eq!(metrics.delivered("crm"), 400);
    assert_eq!(metrics.dropped("crm", "consent"), 600);
}

#[test]
fn what_was_refused_before_is_not_counted_as_touched() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let with = |keys: &str| logged(&folder, &sink, keys);
    let daemon = Daemon::start(&folder, &with(""));
    let body =
        events("refused", 3, 0, &[("Ads", false)]) + &events("granted", 2, 0, &[("Ads", true)]);
    assert_eq!(crate::harness::post(daemon.source("http"), body).status, 200);
    wait_until("it was tried", || sink.attempts() > 0);
    let refused = |keys: &str| {
        let answer = daemon.reload(with(keys));
        let waiting = &answer.json()["waiting"][0];
        assert_eq!(waiting["complete"], true, "{}", answer.body);
        waiting["refused"].as_u64()
    };
    assert_eq!(refused("categories = [\"Ads\"]"), Some(3));
    // Other rules, which refuse the same.
    assert_eq!(refused("categories = [\"Ads\"]\ntypes = [\"track\"]"), Some(0));
}

#[test]
fn what_waits_is_looked_at_for_two_seconds_and_what_was_not_seen_is_said() {
    if !Tracer::is_permitted() {
        return;
    }
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let daemon = Daemon::start(&folder, &logged(&folder, &sink, ""));
    for batch in 0..10 {
        let body = events(&format!("e{batch}"), 200, 5000, &[("Ads", false)]);
        assert_eq!(crate::harness::post(daemon.source("http"), body).status, 200);
    }
    wait_until("it was tried", || sink.attempts() > 0);
    // A disk that takes half a second for every read: ten seconds and more for what waits.
    let slow = Fault::slow("pread64", Duration::from_millis(500));
    let _tracer = Tracer::attach(&folder, &daemon, slow, &paths_of_log(&folder.path("state/log")));
    let asked = Instant::now();
    let answer = daemon.reload(logged(&folder, &sink, "categories = [\"Ads\"]"));
    let took = asked.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let waiting = &answer.json()["waiting"][0];
    assert_eq!((&waiting["events"], &waiting["complete"]), (&2000.into(), &false.into()));
    let refused = waiting["refused"].as_u64().unwrap();
    assert!((1..2000).contains(&refused), "{}", answer.body);
    assert!((2.0..6.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[test]
fn a_reload_that_waits_returns_when_nothing_is_under_way_that_older_rules_permitted() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(700) });
    let (open, strict) =
        (logged(&folder, &sink, ""), logged(&folder, &sink, "categories = [\"Ads\"]"));
    let daemon = Daemon::start(&folder, &open);
    let body = events("e", 7, 0, &[("Ads", false)]);
    assert_eq!(crate::harness::post(daemon.source("http"), body).status, 200);
    wait_until("the request is under way", || sink.attempts() == 1);
    let at_once = daemon.reload(open.clone().consent("unmapped = \"deny\""));
    let in_flight = at_once.json()["waiting"][0]["in_flight"].as_u64();
    assert_eq!(in_flight, Some(7), "{}", at_once.body);
    assert_eq!(sink.taken().len(), 0, "it does not wait unless it is asked to");
    daemon.write_config(&strict);
    let answer = crate::harness::request(daemon.admin(), "POST", "/reload?wait=1", "", b"");
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(sink.taken().len(), 7, "it returned while a request was under way");
}
