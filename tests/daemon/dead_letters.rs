//! What fails for good is kept with its reason, can be listed, and can be sent again, if its user still
//! agrees.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Answer, Config, Daemon, Folder, HttpSink, Reply, consentd, event, events, ids, marked, post,
    request, run_to_end, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

fn config(folder: &Folder) -> Config {
    Config::new("deny").categories(&["A", "B"]).log(folder, "")
}

/// A sink that answers 400 to every batch with an event whose name begins with `bad`.
fn picky() -> HttpSink {
    HttpSink::start(|lines| {
        let is_bad = |id: &String| id.starts_with("bad");
        Reply::now(if ids(lines).iter().any(is_bad) { 400 } else { 200 })
    })
}

/// `consentd log dead-letters ...`: the lines that it printed.
fn dead_letters(folder: &Folder, arguments: &[&str]) -> Vec<String> {
    let mut command = consentd();
    command.args(["log", "dead-letters"]).args(arguments);
    let ended = run_to_end(command.arg("--config").arg(folder.path("consentd.toml")));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(str::to_owned).collect()
}

/// The letters that these arguments choose, with their events.
fn listed(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let lines = dead_letters(folder, &[&["list", "--with-events"], arguments].concat());
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of their events.
fn names(letters: &[Value]) -> Vec<String> {
    ids(&letters
        .iter()
        .map(|letter| letter["event"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>())
}

fn replay(daemon: &Daemon, body: &str) -> Answer {
    request(daemon.admin(), "POST", "/dead-letters/replay", "", body.as_bytes()).unwrap()
}

fn replayed(daemon: &Daemon, body: &str) -> u64 {
    let answer = replay(daemon, body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["replayed"].as_u64().unwrap()
}

fn in_any_file(folder: &Path, needle: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return in_any_file(&path, needle);
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[test]
fn what_a_destination_rejects_is_kept_and_delivered_once_it_is_mended() {
    let folder = Folder::new();
    let sink = picky();
    let config = config(&folder).http("picky", &sink.url(), "categories = [\"A\"]").file(
        &folder,
        "other",
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    let body = [
        events("good", 20, 10, AGREED),
        event("bad-1", AGREED) + "\n",
        events("fine", 20, 10, AGREED),
        event("bad-2", AGREED) + "\n",
    ];
    assert_eq!(post(daemon.source("http"), body.concat()).status, 200);
    let metrics = daemon.settled(42);
    assert_eq!(metrics.dropped("picky", "rejected_by_destination"), 2);
    let kept = [("reason", "rejected_by_destination")];
    assert_eq!(metrics.sum("consentd_dead_letters_total", &kept), 2);
    assert_eq!(sink.taken().len(), 40);

    let letters = listed(&folder, &[]);
    assert_eq!(names(&letters), ["bad-1", "bad-2"]);
    for letter in &letters {
        assert_eq!(letter["reason"], "rejected_by_destination");
        assert_eq!(letter["detail"], "answered 400");
        assert_eq!((&letter["source"], &letter["destination"]), (&"http".into(), &"picky".into()));
    }
    // Events are shown to those who ask for them only.
    let shown = dead_letters(&folder, &["list"]).join("\n")
        + &dead_letters(&folder, &["list", "--json"]).join("\n");
    assert!(shown.contains("picky") && !shown.contains("bad-1"), "{shown}");
    assert!(!daemon.stderr().contains("bad-1"));

    // Still rejected: it comes back, and does not go round in circles.
    assert_eq!(replayed(&daemon, "{\"dry_run\":true}"), 2);
    assert_eq!(replayed(&daemon, "{\"limit\":1}"), 1);
    daemon.metrics_where("it was rejected again", |metrics| {
        metrics.dropped("picky", "rejected_by_destination") == 3 && metrics.pending("picky") == 0
    });
    assert_eq!(names(&listed(&folder, &[])), ["bad-2", "bad-1"]);

    sink.answer(|_| Reply::now(200));
    assert_eq!(
        dead_letters(folder_with(&folder, &daemon), &["replay", "--destination", "picky"]),
        ["2 replayed"]
    );
    wait_until("they arrive", || sink.taken().len() == 42);
    assert_eq!(ids(&sink.taken()[40..]), ["bad-2", "bad-1"]);
    assert_eq!(listed(&folder, &[]), Vec::<Value>::new());
    assert_eq!(replayed(&daemon, ""), 0, "not twice");
    // The others are not bothered, and the sums are right.
    let metrics = daemon.settled(42);
    assert_eq!((metrics.delivered("picky"), metrics.delivered("other")), (42, 42));
    assert_eq!(folder.delivered("other").len(), 42);
}

/// The config with the admin address that the system chose.
fn folder_with<'f>(folder: &'f Folder, daemon: &Daemon) -> &'f Folder {
    let path = folder.path("consentd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("[admin]\nlisten = \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    std::fs::write(&path, format!("{before}[admin]\nlisten = \"{}\"{after}", daemon.admin()))
        .unwrap();
    folder
}

#[test]
fn what_is_given_up_is_kept() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(503));
    let keys = "type = \"http\"\nurl = \"URL\"\nbatch = { max_wait = \"1ms\" }\ncategories = [\"A\"]\n\
                retry = { initial = \"20ms\", max = \"50ms\", give_up_after = \"1s\" }";
    let config = config(&folder).destination("down", keys.replace("URL", &sink.url()));
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), events("e", 30, 0, AGREED)).status, 200);
    let metrics = daemon.settled(30);
    assert_eq!(metrics.dropped("down", "gave_up"), 30);
    let letters = listed(&folder, &["--reason", "gave_up", "--destination", "down"]);
    assert_eq!(names(&letters), (0..30).map(|n| format!("e-{n}")).collect::<Vec<_>>());
    assert_eq!(letters[0]["detail"], "answered 503");
    // A clean stop and a start change nothing.
    assert_eq!(daemon.stop().code, Some(0));
    sink.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(replayed(&daemon, "{\"reason\":\"gave_up\"}"), 30);
    wait_until("they arrive in order", || sink.taken().len() == 30);
    assert_eq!(ids(&sink.taken()), names(&letters));
}

#[test]
fn who_withdrew_consent_is_not_sent_again() {
    let folder = Folder::new();
    let sink = picky();
    let base = config(&folder);
    let under = |category: &str| {
        base.clone().http("picky", &sink.url(), format!("categories = [\"{category}\"]"))
    };
    let daemon = Daemon::start(&folder, &under("A"));
    assert_eq!(post(daemon.source("http"), event("bad", AGREED)).status, 200);
    daemon.settled(1);
    sink.answer(|_| Reply::now(200));
    daemon.apply(&under("B"));
    assert_eq!(replayed(&daemon, ""), 1);
    let metrics = daemon.settled(1);
    assert_eq!(metrics.dropped("picky", "consent"), 1);
    assert_eq!(sink.taken(), Vec::<String>::new());
    assert_eq!(listed(&folder, &[]), Vec::<Value>::new());
}

#[test]
fn a_destination_that_is_gone_gets_nothing_and_its_letters_stay() {
    let folder = Folder::new();
    let (sink, next) = (picky(), HttpSink::start(|_| Reply::now(200)));
    let to = |url: &str| config(&folder).http("picky", url, "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &to(&sink.url()));
    assert_eq!(post(daemon.source("http"), event("bad", AGREED)).status, 200);
    daemon.settled(1);
    // Another address is another destination, whatever its name.
    daemon.apply(&to(&next.url()));
    let answer = replay(&daemon, "{\"destination\":\"picky\"}").json();
    assert_eq!((&answer["replayed"], &answer["without_owner"]), (&0.into(), &1.into()), "{answer}");
    assert_eq!(names(&listed(&folder, &["--destination", "picky"])), ["bad"]);
    sleep(Duration::from_millis(100));
    assert_eq!(next.attempts(), 0);
    for (wrong, status) in
        [("{\"destination\":\"nobody\"}", 422), ("{\"reason\":\"x\"}", 422), ("{\"to\":1}", 400)]
    {
        assert_eq!(replay(&daemon, wrong).status, status, "{wrong}");
    }
}

#[test]
fn what_is_rejected_on_the_way_in_is_kept_if_that_is_wanted() {
    let folder = Folder::new();
    let config = config(&folder)
        .daemon("max_event_bytes = \"100KiB\"")
        .dead_letters("rejected_on_ingest = true")
        .file(&folder, "lake", "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let twice = "{\"type\":\"a\",\"type\":\"b\"}";
    let long = marked("long", AGREED, &format!(",\"padding\":\"{}\"", "x".repeat(200_000)));
    let endless = marked("endless", AGREED, &format!(",\"padding\":\"{}\"", "x".repeat(2_000_000)));
    daemon.send([b"{\"half\":\xFF\n".as_slice(), twice.as_bytes(), b"\n{}\n"].concat());
    assert_eq!(post(daemon.source("http"), format!("{long}\n{endless}\n")).status, 400);
    daemon.settled(5);
    daemon.metrics_where("they are kept", |metrics| {
        metrics.sum("consentd_dead_letters_total", &[]) == 4
    });
    assert_eq!(daemon.metrics().sum("consentd_dead_letters_lost_total", &[]), 0);
    let of = |reason: &str| listed(&folder, &["--reason", reason]);
    let broken = &of("invalid_json")[0];
    assert_eq!((&broken["source"], &broken["destination"]), (&"tcp".into(), &Value::Null));
    assert_eq!(broken["event_is_not_utf8"], true);
    assert_eq!(of("duplicate_key")[0]["event"], twice);
    let cut = of("too_large");
    let starts = [&long, &endless].map(|line| &line[..64 * 1024]);
    let mut heads: Vec<&str> = cut.iter().map(|letter| letter["event"].as_str().unwrap()).collect();
    heads.sort_unstable_by_key(|head| !head.contains("\"long\""));
    assert!(heads == starts, "the beginnings of both");
    let details: Vec<&str> = cut.iter().map(|letter| letter["detail"].as_str().unwrap()).collect();
    assert!(details.iter().all(|it| it.starts_with("only the first 65536 of ")), "{details:?}");

    // Replayed, they are judged like anything else, and what is rejected again stays.
    let answer = replay(&daemon, "").json();
    assert_eq!(
        (&answer["replayed"], &answer["rejected_again"]),
        (&0.into(), &2.into()),
        "{answer}"
    );
    assert_eq!(answer["cut"], 2);
    assert_eq!(listed(&folder, &[]).len(), 4);
    daemon.settled(7);
}

#[test]
fn rejected_lines_are_accepted_once_the_rules_are_mended() {
    let folder = Folder::new();
    let base = config(&folder).dead_letters("rejected_on_ingest = true").file(
        &folder,
        "lake",
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(
        &folder,
        &base
            .clone()
            .consent("locations = [\"/context/consent/categoryPreferences\", \"/context/x\"]"),
    );
    // `x` stands twice where preferences may be.
    let line =
        marked("again", AGREED, "").replace("\"context\":{", "\"context\":{\"x\":1,\"x\":2,");
    assert_eq!(post(daemon.source("http"), &line).status, 400);
    assert_eq!(daemon.settled(1).rejected("duplicate_key"), 1);
    wait_until("it is kept", || listed(&folder, &[]).len() == 1);
    daemon.apply(&base);
    assert_eq!(replayed(&daemon, "{\"source\":\"http\"}"), 1);
    daemon.settled(2);
    assert_eq!(folder.delivered("lake"), [line]);
    assert_eq!(listed(&folder, &[]), Vec::<Value>::new());
}

#[test]
fn nothing_is_kept_of_rejected_lines_unless_that_is_wanted() {
    let folder = Folder::new();
    let config = config(&folder).file(&folder, "lake", "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), "{\"a\":\"secret-of-mine\"\n").status, 400);
    daemon.settled(1);
    assert_eq!(daemon.stop().code, Some(0));
    assert!(!in_any_file(&folder.path("state"), "secret-of-mine"));
}

#[test]
fn a_kill_leaves_nothing_dropped_that_is_no_dead_letter() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(400));
    let config = config(&folder).http("picky", &sink.url(), "categories = [\"A\"]");
    for cycle in 0..10 {
        let daemon = Daemon::start(&folder, &config);
        let body = events(&format!("c{cycle}"), 20, 100, AGREED);
        assert_eq!(post(daemon.source("http"), body).status, 200);
        sleep(Duration::from_millis(7 * cycle));
        let counted = daemon.metrics().dropped("picky", "rejected_by_destination");
        // SIGKILL.
        drop(daemon);
        let kept = listed(&folder, &[]);
        let of_this =
            names(&kept).iter().filter(|id| id.starts_with(&format!("c{cycle}-"))).count();
        let kept_before = kept.len() - of_this;
        assert!(kept.len() as u64 >= counted, "{counted} counted, {} kept", kept.len());
        assert!(cycle == 0 || kept_before > 0 || counted == 0);
    }
    let daemon = Daemon::start(&folder, &config);
    daemon.metrics_where("everything is settled", |metrics| metrics.pending("picky") == 0);
    let kept = names(&listed(&folder, &[]));
    for cycle in 0..10 {
        for n in 0..20 {
            let id = format!("c{cycle}-{n}");
            assert!(kept.contains(&id), "{id} is neither pending nor a dead letter");
        }
    }
}

#[test]
fn the_oldest_make_room_and_a_flood_at_the_door_pushes_out_only_its_own() {
    let folder = Folder::new();
    let sink = picky();
    let config = config(&folder)
        .daemon("max_event_bytes = \"64KiB\"")
        .dead_letters("rejected_on_ingest = true\nmax_bytes = \"16MiB\"")
        .http("picky", &sink.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), event("bad-kept", AGREED)).status, 200);
    daemon.settled(1);
    let line = format!("{{\"no\":\"{}\"\n", "x".repeat(1000));
    let sum = |name: &str| {
        let metrics = daemon.metrics();
        metrics.sum(&format!("consentd_dead_letters_{name}"), &[])
    };
    for round in 1..=8 {
        daemon.send(line.repeat(1000));
        let all = || sum("total") + sum("lost_total");
        wait_until("they are kept, or lost and counted", || all() == round * 1000 + 1);
        assert!(sum("bytes") <= 16 << 20, "{}", sum("bytes"));
    }
    let metrics = daemon.settled(8001);
    assert_eq!(metrics.all_rejected(), 8000);
    let left = listed(&folder, &["--reason", "invalid_json"]).len() as u64;
    assert_eq!(left + sum("expired_total") + sum("lost_total"), 8000);
    assert!(left > 0 && sum("expired_total") > 0);
    assert_eq!(names(&listed(&folder, &["--destination", "picky"])), ["bad-kept"]);

    // The other kind makes room for its own.
    let body = events("bad", 300, 50_000, AGREED);
    assert_eq!(post(daemon.source("http"), body).status, 200);
    daemon.settled(8301);
    let kept = names(&listed(&folder, &["--destination", "picky"]));
    assert_eq!(kept.last().unwrap(), "bad-299");
    assert!(!kept.contains(&"bad-kept".to_owned()) && kept.len() > 10, "{kept:?}");
    assert!(sum("bytes") <= 16 << 20, "{}", sum("bytes"));
}

#[test]
fn letters_that_are_too_old_are_gone_from_the_files() {
    let folder = Folder::new();
    let sink = picky();
    let config = config(&folder).dead_letters("max_age = \"1s\"").http(
        "picky",
        &sink.url(),
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), event("bad-old", AGREED)).status, 200);
    daemon.settled(1);
    let since = Instant::now();
    assert!(in_any_file(&folder.path("state/dead-letters"), "bad-old"));
    daemon.metrics_where("it expires", |metrics| {
        metrics.sum("consentd_dead_letters_expired_total", &[]) == 1
    });
    assert!(since.elapsed() > Duration::from_millis(500));
    assert!(!in_any_file(&folder.path("state/dead-letters"), "bad-old"));
}
