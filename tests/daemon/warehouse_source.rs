//! Rows of a warehouse: who may go where, who is told what, and what survives.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::Stage;
use crate::harness::warehouse::{ended, wait_for_lines};
use crate::harness::{
    Config, Daemon, Folder, HttpSink, Peer, Reply, consentd, event, events, get, ids, marked, post,
    request, run_to_end, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true), ("B", true)];
const REFUSED: &[(&str, bool)] = &[("A", false), ("B", false)];

const CONSENT: &str = "consent = { A = \"a\", B = \"b\" }";

/// `crm` needs A, `ads` needs A and B, `lake` nothing but takes what has a rule only.
fn config(folder: &Folder) -> Config {
    Config::new("allow")
        .categories(&["A", "B"])
        .log(folder, "")
        .file(folder, "crm", "categories = [\"A\"]")
        .file(folder, "ads", "categories = [\"A\", \"B\"]")
}

fn deletion(id: &str) -> String {
    format!("{{\"type\":\"delete\",\"userId\":\"u\",\"messageId\":\"{id}\"}}\n")
}

fn done() -> Value {
    json!({ "state": "done", "rows": 3, "added": 3, "sent": 3 })
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn deletions_skip_consent_and_go_to_those_that_are_named_only() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let config = config(&folder)
        .file(&folder, "off", "enabled = false")
        .file(&folder, "tracks", "types = [\"track\"]")
        .model("m", CONSENT);
    let daemon = stage.start(&folder, &config);
    let mut peer = stage.sync(&daemon, "m");
    let (crm, ads, tracks) = (peer.id("crm"), peer.id("ads"), peer.id("tracks"));
    let off = peer.welcome["destinations"].as_array().unwrap().iter().any(|it| it["name"] == "off");
    assert!(!off, "what is switched off is not told");
    let refused = event("no", REFUSED) + "\n";
    let switched_off =
        "{\"type\":\"delete\",\"messageId\":\"d4\",\"integrations\":{\"ads\":false}}\n";
    peer.send(&format!(
        "#events\n{refused}#deletions to={crm}\n{}#deletions to={crm},{ads},{tracks}\n{}{switched_off}\
         not json\n#events to={ads}\n{refused}{}\n#events\n{refused}",
        deletion("d1"),
        deletion("d2"),
        event("yes", AGREED),
    ));
    let both = [crm.min(ads), crm.max(ads)];
    // `tracks` needs no consent: it gets every track that is addressed to it.
    let said = peer.settled(8);
    assert_eq!(said[0], json!({ "stored": [tracks], "refused": both }));
    assert_eq!(said[1], json!({ "stored": [crm] }));
    assert_eq!(said[2], json!({ "stored": both }), "its type is filtered for `tracks`");
    assert_eq!(said[3], json!({ "stored": [crm] }), "integrations apply");
    assert_eq!(said[4], json!({ "rejected": "invalid_json" }));
    assert_eq!(said[5], json!({ "stored": [], "refused": both }), "to= takes no consent's place");
    assert_eq!(said[6], json!({ "stored": [ads] }));
    assert_eq!(said[7], said[0], "a section ends where the next begins");
    stage.finish(&daemon, peer, &done());
    let metrics = daemon.settled(8);
    assert_eq!(ids(&folder.delivered("crm")), ["d1", "d2", "d4"]);
    assert_eq!(ids(&folder.delivered("ads")), ["d2", "yes"]);
    assert_eq!(metrics.dropped("crm", "consent"), 3);
    assert_eq!(metrics.dropped("crm", "not_addressed"), 1, "`yes` was for `ads`");
    assert_eq!(metrics.dropped("ads", "not_addressed"), 1, "`d1` was for `crm`");
    assert_eq!(metrics.dropped("ads", "integrations"), 1);
    assert_eq!(metrics.dropped("tracks", "filtered"), 3);
}

#[test]
fn nobody_else_can_mark_a_deletion() {
    let folder = Folder::new();
    let config = config(&folder);
    let daemon = Daemon::start(&folder, &config);
    let lines = format!("#deletions to=1,2\n{}\n", event("no", REFUSED));
    daemon.send(&lines);
    post(daemon.source("http"), &lines);
    let metrics = daemon.settled(4);
    assert_eq!(metrics.rejected("invalid_json"), 2);
    assert_eq!(metrics.dropped("crm", "consent"), 2);
    assert_eq!(folder.delivered("crm"), Vec::<String>::new());
}

#[test]
fn what_is_only_judged_is_neither_stored_nor_counted() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let mut peer = stage.sync(&daemon, "m");
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(2_000_000));
    let yes = event("yes", AGREED) + "\n";
    // Before the first section lines are judged only.
    peer.send(&format!("{yes}#judge\n{yes}{}\nbad\n{long}#events\n{yes}", event("no", REFUSED)));
    let (crm, ads) = (peer.id("crm"), peer.id("ads"));
    let said = peer.settled(6);
    let stored = json!({ "stored": [crm.min(ads), crm.max(ads)] });
    assert_eq!([&said[0], &said[1], &said[5]], [&stored; 3]);
    assert_eq!(said[2]["refused"], stored["stored"]);
    assert_eq!(said[3], json!({ "rejected": "invalid_json" }));
    assert_eq!(said[4], json!({ "rejected": "too_large" }));
    stage.finish(&daemon, peer, &done());
    let metrics = daemon.settled(1);
    assert_eq!((metrics.all_rejected(), metrics.delivered("crm")), (0, 1));
}

#[test]
fn many_mixed_lines_are_answered_one_by_one_and_in_order() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let mut peer = stage.sync(&daemon, "m");
    let (crm, ads) = (peer.id("crm"), peer.id("ads"));
    let both = json!([crm.min(ads), crm.max(ads)]);
    let kinds: [(&[(&str, bool)], Value); 3] = [
        (AGREED, json!({ "stored": both })),
        (REFUSED, json!({ "stored": [], "refused": both })),
        (&[("A", true)], json!({ "stored": [crm], "refused": [ads] })),
    ];
    const LINES: usize = 20_000;
    let (mut text, mut expected) = ("#events\n".to_owned(), Vec::new());
    for n in 0..LINES {
        let choice = n * n / 7 % 5;
        if choice == 4 {
            text += "{\"a\":}\n";
            expected.push(json!({ "rejected": "invalid_json" }));
        } else if choice == 3 {
            text += &format!("#deletions to={ads}\n{}#events\n", deletion(&n.to_string()));
            expected.push(json!({ "stored": [ads] }));
        } else {
            let (preferences, outcome) = &kinds[choice];
            text += &marked(&n.to_string(), preferences, "");
            text.push('\n');
            expected.push(outcome.clone());
        }
    }
    let mut sender = peer.sender();
    let sending = thread::spawn(move || {
        // Pieces that end anywhere.
        text.as_bytes().chunks(70_001).for_each(&mut sender);
    });
    assert_eq!(peer.settled(LINES), expected);
    sending.join().unwrap();
    stage.finish(&daemon, peer, &done());
    daemon.settled(LINES);
    let numbers = |name: &str| {
        let numbers =
            ids(&folder.delivered(name)).into_iter().map(|id| id.parse::<usize>().unwrap());
        numbers.collect::<Vec<_>>()
    };
    assert!(numbers("crm").is_sorted() && numbers("ads").is_sorted(), "rows stay in order");
}

#[test]
fn what_was_answered_is_delivered_after_a_kill_and_judged_again_as_what_it_is() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let sink = HttpSink::start(|_| Reply::now(503));
    let base = Config::new("allow").categories(&["A", "B"]).log(&folder, "").model("m", CONSENT);
    let loose = base.clone().http("crm", &sink.url(), "");
    let strict = base.http("crm", &sink.url(), "categories = [\"A\"]");
    let daemon = stage.start(&folder, &loose);
    let mut peer = stage.sync(&daemon, "m");
    let crm = peer.id("crm");
    let mut text = "#events\n".to_owned();
    text += &events("agreed", 100, 10, AGREED);
    text += &events("refused", 100, 10, REFUSED);
    text += &format!("#deletions to={crm}\n");
    (0..100).for_each(|n| text += &deletion(&format!("deleted-{n}")));
    peer.send(&text);
    assert!(peer.settled(300).iter().all(|said| said == &json!({ "stored": [crm] })));
    drop(daemon);
    stage.end(1);
    sink.answer(|_| Reply::now(200));
    let daemon = stage.start(&folder, &strict);
    daemon.metrics_where("all that waited is gone", |metrics| metrics.pending("crm") == 0);
    let arrived = ids(&sink.taken());
    let count = |prefix: &str| arrived.iter().filter(|id| id.starts_with(prefix)).count();
    assert_eq!((count("agreed"), count("deleted"), count("refused")), (100, 100, 0));
    assert_eq!(daemon.metrics().dropped("crm", "consent"), 100);
}

#[test]
fn a_reload_judges_what_waits_in_memory_again_as_what_it_is() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let sink = HttpSink::start(|_| Reply::now(503));
    let base = Config::new("allow").categories(&["A", "B"]).log(&folder, "").model("m", CONSENT);
    let daemon = stage.start(&folder, &base.clone().http("crm", &sink.url(), ""));
    let mut peer = stage.sync(&daemon, "m");
    let crm = peer.id("crm");
    let (refused, deleted) = (event("refused", REFUSED), deletion("deleted"));
    peer.send(&format!("#events\n{refused}\n#deletions to={crm}\n{deleted}"));
    peer.settled(2);
    // The model goes on as a source, and the sync as well.
    daemon.apply_and_wait(&base.http("crm", &sink.url(), "categories = [\"A\"]"));
    sink.answer(|_| Reply::now(200));
    daemon.settled(2);
    assert_eq!(ids(&sink.taken()), ["deleted"]);
    stage.finish(&daemon, peer, &done());
}

#[test]
fn a_deletion_that_failed_and_is_replayed_is_still_one() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let sink = HttpSink::start(|_| Reply::now(400));
    let config = Config::new("deny").categories(&["A", "B"]).log(&folder, "");
    let config = config.http("crm", &sink.url(), "categories = [\"A\"]").model("m", CONSENT);
    let daemon = stage.start(&folder, &config);
    let mut peer = stage.sync(&daemon, "m");
    let crm = peer.id("crm");
    peer.send(&format!("#deletions to={crm}\n{}", deletion("d")));
    peer.settled(1);
    stage.finish(&daemon, peer, &done());
    daemon.settled(1);
    sink.answer(|_| Reply::now(200));
    let answer = request(daemon.admin(), "POST", "/dead-letters/replay", "", b"{}").unwrap();
    assert_eq!(answer.json()["replayed"], 1, "{}", answer.body);
    wait_until("it arrives", || ids(&sink.taken()) == ["d"]);
}

#[test]
fn who_has_no_pass_is_not_let_in() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT).model("other", CONSENT));
    let socket = folder.path("state/warehouse/sync.sock");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.clone()), 0o600);
    assert_eq!(mode(folder.path("state/warehouse")), 0o700);
    let nothing = json!({ "socket": socket, "token": "00", "model": "m", "sync": "1" });
    assert!(Peer::connect(&nothing).is_err(), "no sync goes on");
    let answer = request(daemon.admin(), "POST", "/syncs/m", "", b"").unwrap();
    assert_eq!(answer.status, 202);
    let errand = stage.errand();
    let token = errand["token"].as_str().unwrap();
    for (key, value) in [
        ("token", json!("0".repeat(64))),
        ("token", json!(&token[1..])),
        ("token", Value::Null),
        ("model", json!("other")),
        ("model", json!("nobody")),
        ("sync", json!("another")),
    ] {
        let mut wrong = errand.clone();
        wrong[key] = value;
        assert!(Peer::connect(&wrong).is_err(), "{key}");
    }
    let peer = Peer::connect(&errand).unwrap();
    assert!(Peer::connect(&errand).is_err(), "a pass is good for one connection");
    let again = request(daemon.admin(), "POST", "/syncs/m", "", b"").unwrap();
    assert_eq!(again.status, 409, "one at a time");
    stage.finish(&daemon, peer, &done());
    assert!(Peer::connect(&errand).is_err(), "the sync is over");
    let said = daemon.stderr();
    assert!(said.contains("refused") && !said.contains(token), "{said}");
    daemon.settled(0);
}

#[test]
fn what_makes_no_sense_ends_the_connection() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let too_long = format!("#progress {}\n", "x".repeat(70_000));
    for wrong in ["#deletions\n", "#unheard\n", "#events to=\n", &too_long] {
        let mut peer = stage.sync(&daemon, "m");
        peer.send(&format!("#events\n{}\n{wrong}", event("yes", AGREED)));
        peer.settled(1);
        assert!(peer.line().unwrap()["error"].is_string(), "{wrong}");
        assert_eq!(peer.line(), None);
        stage.end(1);
        assert_eq!(ended(&daemon, &peer.errand)["state"], "failed");
    }
    daemon.settled(4);
}

#[test]
fn the_rules_of_the_model_are_the_daemons_whatever_the_lines_say() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let config = config(&folder)
        .file(&folder, "lake", "")
        .model("m", format!("{CONSENT}\ndestinations = [\"crm\"]"))
        .model("n", "consent = \"none\"");
    let daemon = stage.start(&folder, &config);
    let mut peer = stage.sync(&daemon, "n");
    let (crm, ads, lake) = (peer.id("crm"), peer.id("ads"), peer.id("lake"));
    let bare = "{\"type\":\"identify\",\"messageId\":\"bare\"}\n";
    peer.send(&format!("#events\n{bare}"));
    // `consent.missing = "allow"` is the rule for a model without consent,
    assert_eq!(peer.settled(1)[0]["stored"].as_array().unwrap().len(), 3);
    stage.finish(&daemon, peer, &done());

    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(peer.welcome["destinations"].as_array().unwrap().len(), 1);
    peer.send(&format!(
        "#events\n{bare}#deletions to={ads},{lake},{crm}\n{}#deletions to={lake},99\n{}#events to={lake}\n{}\n",
        deletion("d1"),
        deletion("d2"),
        event("yes", AGREED),
    ));
    let said = peer.settled(4);
    // and refusal for one that has columns.
    assert_eq!(said[0], json!({ "stored": [], "refused": [crm] }));
    assert_eq!(said[1], json!({ "stored": [crm] }));
    assert_eq!([&said[2], &said[3]], [&json!({ "stored": [] }); 2]);
    stage.finish(&daemon, peer, &done());
    let metrics = daemon.settled(5);
    assert_eq!(ids(&folder.delivered("lake")), ["bare"]);
    assert_eq!(metrics.dropped("lake", "source"), 4);
}

#[test]
fn rejected_rows_are_told_to_the_next_sync_until_it_has_them() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let sink = HttpSink::start(|lines| {
        let is_bad = ids(lines).iter().any(|id| id.starts_with("bad"));
        Reply::now(if is_bad { 400 } else { 200 })
    });
    let config = Config::new("deny").categories(&["A", "B"]).log(&folder, "");
    let config = config.http("crm", &sink.url(), "").model("m", CONSENT);
    let daemon = stage.start(&folder, &config);
    post(daemon.source("http"), event("bad-stranger", AGREED));
    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(peer.welcome["rejections"], json!([]));
    let crm = peer.id("crm");
    peer.send("#events\n");
    for id in ["good-1", "bad-1", "good-2", "bad-2"] {
        peer.send(&(event(id, AGREED) + "\n"));
    }
    peer.settled(4);
    stage.finish(&daemon, peer, &done());
    wait_for_lines(&folder.path("state/warehouse/m.rejections"), 2);
    daemon.settled(5);
    // Cursors are saved every half second; what was not saved is delivered, and rejected, once more.
    thread::sleep(Duration::from_millis(1200));
    drop(daemon);

    let daemon = stage.start(&folder, &config);
    let told = |peer: &Peer| {
        let all = peer.welcome["rejections"].as_array().unwrap().clone();
        let name = |it: &Value| it["messageId"].as_str().unwrap().to_owned();
        assert!(all.iter().all(|it| it["destination"] == crm && it["at"].is_string()));
        all.iter().map(name).collect::<Vec<_>>()
    };
    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(told(&peer), ["bad-1", "bad-2"]);
    peer.send("#rejections-taken 1\n");
    stage.finish(&daemon, peer, &done());
    drop(daemon);
    let daemon = stage.start(&folder, &config);
    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(told(&peer), ["bad-2"]);
    peer.send("#rejections-taken 1\n");
    stage.finish(&daemon, peer, &done());
    let peer = stage.sync(&daemon, "m");
    assert_eq!(told(&peer), Vec::<String>::new());
    stage.finish(&daemon, peer, &done());
}

#[test]
fn a_child_that_dies_costs_one_sync() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let mut peer = stage.sync(&daemon, "m");
    peer.send(&format!("#events\n{}\n#progress {{\"rows\":7}}\n", event("one", AGREED)));
    peer.settled(1);
    wait_until("its progress is told", || {
        get(daemon.admin(), "/syncs/m").json()["running"]["rows"] == 7
    });
    kill(stage.pid());
    let errand = peer.errand.clone();
    drop(peer);
    let record = ended(&daemon, &errand);
    assert_eq!((&record["state"], &record["rows"]), (&json!("failed"), &json!(7)));
    assert!(record["error"].as_str().unwrap().contains("SIGKILL"), "{record}");

    // One that says nothing and ends.
    request(daemon.admin(), "POST", "/syncs/m", "", b"").unwrap();
    let errand = stage.errand();
    stage.end(3);
    let record = ended(&daemon, &errand);
    assert!(record["error"].as_str().unwrap().contains("code 3"), "{record}");

    let peer = stage.sync(&daemon, "m");
    let record = stage.finish(&daemon, peer, &done());
    assert_eq!((&record["state"], &record["added"]), (&json!("done"), &json!(3)));
    let metrics = daemon.settled(1);
    let runs =
        |result| metrics.sum("consentd_sync_runs_total", &[("model", "m"), ("result", result)]);
    assert_eq!((runs("done"), runs("failed"), runs("cancelled")), (1, 2, 0));
    let added = [("model", "m"), ("change", "added")];
    assert_eq!(metrics.sum("consentd_sync_rows_total", &added), 3);
    assert!(metrics.sum("consentd_sync_last_success_timestamp_seconds", &[("model", "m")]) > 0);
    assert!(daemon.stderr().contains("hello from the child"));
}

#[test]
fn syncs_start_on_time_and_one_at_a_time() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let model = |every: &str| config(&folder).model("m", format!("{CONSENT}\n{every}"));
    let daemon = stage.start(&folder, &model("every = \"1s\""));
    // At once, as it never ran.
    let first = stage.connect();
    thread::sleep(Duration::from_millis(1500));
    assert!(!stage.has_errand(), "one that is due while another goes on is skipped");
    stage.finish(&daemon, first, &done());
    let second = stage.connect();
    assert_eq!(get(daemon.admin(), "/syncs").json()["models"][0]["running"]["by"], "schedule");
    stage.finish(&daemon, second, &done());
    daemon.apply(&model(""));
    thread::sleep(Duration::from_millis(1300));
    let status = get(daemon.admin(), "/syncs/m").json();
    assert!(!stage.has_errand() && status["next"].is_null(), "{status}");
    daemon.apply(&model("cron = \"0 0 1 1 *\""));
    wait_until("the next one is told", || {
        let next = get(daemon.admin(), "/syncs/m").json()["next"].clone();
        next.as_str().is_some_and(|next| next.contains("-01-01T00:00:00"))
    });
    // A model that is gone is not synced; one that is new needs a restart, and says so.
    let answer = daemon.reload(config(&folder).model("n", CONSENT));
    assert_eq!(answer.json()["restart_needed"], json!(["models.n"]), "{}", answer.body);
    assert_eq!(get(daemon.admin(), "/syncs/m").status, 404);
    assert_eq!(daemon.stop().code, Some(0));

    // An interval that went by while nothing ran is made up for at once, others are waited for.
    let daemon = stage.start(&folder, &model("every = \"1h\""));
    let status = get(daemon.admin(), "/syncs/m").json();
    assert!(!stage.has_errand() && status["history"].as_array().unwrap().len() == 2, "{status}");
    drop(daemon);
    let daemon = stage.start(&folder, &model("every = \"1s\""));
    let peer = stage.connect();
    stage.finish(&daemon, peer, &done());
}

#[test]
fn a_sync_is_cancelled_when_somebody_asks_and_when_the_daemon_stops() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let cancel = || request(daemon.admin(), "POST", "/syncs/m/cancel", "", b"").unwrap();
    assert_eq!(cancel().status, 409);
    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(cancel().status, 202);
    peer.wait_for_cancel();
    // What it had on its way still counts.
    peer.send(&format!("#events\n{}\n", event("last", AGREED)));
    peer.settled(1);
    let record = stage.finish(&daemon, peer, &json!({ "state": "cancelled", "rows": 1 }));
    assert_eq!(record["state"], "cancelled");

    // One that ends as it was asked to, and is not heard any more.
    let mut peer = stage.sync(&daemon, "m");
    assert_eq!(cancel().status, 202);
    peer.wait_for_cancel();
    stage.end(1);
    let errand = peer.errand.clone();
    drop(peer);
    let record = ended(&daemon, &errand);
    assert_eq!(
        (&record["state"], &record["error"]),
        (&json!("cancelled"), &json!(null)),
        "{record}"
    );

    // A child that does not listen is killed.
    let peer = stage.sync(&daemon, "m");
    let pid = stage.pid();
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert!(!fs::exists(format!("/proc/{pid}/cmdline")).unwrap());
    drop(peer);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let status = get(daemon.admin(), "/syncs/m").json();
    assert_eq!(status["history"][0]["state"], "cancelled", "{status}");
}

#[test]
fn the_command_line_starts_a_sync_and_shows_how_it_went() {
    let folder = Folder::new();
    let stage = Stage::new(&folder);
    let daemon = stage.start(&folder, &config(&folder).model("m", CONSENT));
    let path = folder.path("consentd.toml");
    let text = fs::read_to_string(&path).unwrap();
    let asked = format!("[admin]\nlisten = \"{}\"", daemon.admin());
    fs::write(&path, text.replacen("[admin]\nlisten = \"127.0.0.1:0\"", &asked, 1)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = consentd();
        run_to_end(command.args(arguments).arg("--config").arg(&path))
    };
    let cli = thread::scope(|scope| {
        let cli = scope.spawn(|| run(&["sync", "m", "--full", "--yes", "--dry-run"]));
        let peer = stage.connect();
        let flags = (&peer.errand["full"], &peer.errand["dry_run"]);
        assert_eq!(flags, (&json!(true), &json!(true)));
        let result = json!({ "state": "done", "rows": 12, "added": 7, "samples": ["id 3: NULL"] });
        stage.finish(&daemon, peer, &result);
        cli.join().unwrap()
    });
    assert_eq!(cli.code, Some(0), "{}", cli.stderr);
    assert!(
        cli.stdout.contains("done (dry run") && cli.stdout.contains("7 added"),
        "{}",
        cli.stdout
    );
    assert!(cli.stdout.contains("id 3: NULL"), "{}", cli.stdout);
    assert_eq!(daemon.metrics().sum("consentd_sync_runs_total", &[]), 0, "dry runs are left out");

    let cli = thread::scope(|scope| {
        let cli = scope.spawn(|| run(&["sync", "m"]));
        stage.connect();
        kill(stage.pid());
        cli.join().unwrap()
    });
    assert_eq!(cli.code, Some(1), "{}", cli.stdout);
    assert!(cli.stderr.contains("SIGKILL"), "{}", cli.stderr);

    assert_eq!(run(&["sync", "m", "--full"]).code, Some(2), "nobody can be asked");
    assert_eq!(run(&["sync", "nobody"]).code, Some(1));
    assert_eq!(run(&["sync", "m", "--cancel"]).code, Some(1), "none goes on");
    let shown = run(&["syncs", "m", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["history"].as_array().unwrap().len(), 2);
    assert!(run(&["syncs"]).stdout.contains("SIGKILL"));
    drop(daemon);
    let left = run(&["syncs", "m"]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    assert!(left.stdout.contains("SIGKILL") && left.stdout.contains("12 rows"), "{}", left.stdout);
}
