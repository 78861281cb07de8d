//! Erased: nothing of it leaves any more, then nothing of it is left.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::harness::{
    Answer, Config, Daemon, Ended, Folder, HttpSink, Reply, consentd, get, ids, marked, post,
    request, run_to_end, wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

fn config(folder: &Folder) -> Config {
    Config::new("deny").categories(&["A"]).log(folder, "")
}

/// Events `prefix-0` and on of a user, whom only the padding names otherwise.
fn of_user(prefix: &str, user: &str, count: usize) -> String {
    let padding = format!("secret-of-{user} ").repeat(20);
    let more = format!(",\"userId\":\"{user}\",\"padding\":\"{padding}\"");
    (0..count).map(|n| marked(&format!("{prefix}-{n}"), AGREED, &more) + "\n").collect()
}

fn erase(daemon: &Daemon, path: &str, body: &str) -> Answer {
    request(daemon.admin(), "POST", path, "", body.as_bytes()).unwrap()
}

/// `consentd erase`, with a config whose admin address is the daemon's.
fn run_erase(folder: &Folder, config: &Config, args: &[&str]) -> Ended {
    let path = folder.write("erase.toml", config);
    run_to_end(consentd().arg("erase").args(args).arg("--config").arg(path))
}

/// Whether any file below `dir` has `text` in it.
fn occurs(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return occurs(&path, text);
        }
        // Removed meanwhile.
        let bytes = fs::read(&path).unwrap_or_default();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    })
}

fn erasures_pending(daemon: &Daemon) -> u64 {
    daemon.metrics().sum("consentd_erasures_pending", &[])
}

#[test]
fn what_waits_for_a_dead_destination_is_never_delivered_and_the_rest_is() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder)
        // So that some wait in memory, in a batch that is tried again and again, and some in the log.
        .http("down", &down.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"")
        .file(&folder, "up", "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let to = daemon.source("http");
    for batch in 0..60 {
        for user in ["ann", "bob"] {
            assert_eq!(post(to, of_user(&format!("{user}-{batch}"), user, 5)).status, 200);
        }
    }
    wait_until("it is tried", || down.attempts() > 2);
    wait_until("the other one has all", || folder.delivered("up").len() == 600);
    let asked = run_erase(
        &folder,
        &config.clone().admin(daemon.admin()),
        &["--user", "ann", "--anonymous", "nobody", "--wait"],
    );
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert_eq!(post(to, of_user("later", "ann", 3)).status, 200);
    down.answer(|_| Reply::now(200));
    wait_until("the rest arrives", || ids(&down.taken()).last().is_some_and(|id| id == "later-2"));
    let metrics = daemon.settled(603);
    let expected: Vec<String> = (0..60)
        .flat_map(|batch| (0..5).map(move |n| format!("bob-{batch}-{n}")))
        .chain((0..3).map(|n| format!("later-{n}")))
        .collect();
    assert_eq!(ids(&down.taken()), expected, "in order, and nothing else");
    assert_eq!(metrics.dropped("down", "erased"), 300);
    assert_eq!(metrics.dropped("up", "erased"), 0);
    assert!(!daemon.stderr().contains("ann"), "the log of the daemon names the user");
}

#[test]
fn a_kill_before_the_rewriting_does_not_keep_it_from_the_disk_being_clean() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).daemon("shutdown_timeout = \"100ms\"").http(
        "down",
        &down.url(),
        "categories = [\"A\"]\nbuffer = \"64KiB\"",
    );
    let state = folder.path("state");
    for round in 0..3 {
        let daemon = Daemon::start(&folder, &config);
        let (gone, stays) = (format!("gone{round}"), format!("stays{round}"));
        for batch in 0..20 {
            for user in [&gone, &stays] {
                let body = of_user(&format!("{user}-{batch}"), user, 5);
                assert_eq!(post(daemon.source("http"), body).status, 200);
            }
        }
        assert!(occurs(&state, &gone));
        let answer = erase(&daemon, "/erase", &format!("{{\"user\":\"{gone}\"}}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        // At once, or in the middle of the rewriting.
        sleep(Duration::from_millis(round * 3));
        drop(daemon);
    }
    let daemon = Daemon::start(&folder, &config);
    wait_until("it is carried out", || erasures_pending(&daemon) == 0);
    for round in 0..3 {
        assert!(!occurs(&state, &format!("gone{round}")), "the disk still has gone{round}");
        assert!(occurs(&state, &format!("stays{round}")), "stays{round} is gone");
    }
    down.answer(|_| Reply::now(200));
    wait_until("the others arrive", || down.taken().len() >= 300);
    daemon.metrics_where("nothing is left", |metrics| metrics.pending("down") == 0);
    let arrived = ids(&down.taken());
    assert_eq!(arrived.len(), 300);
    assert!(arrived.iter().all(|id| id.starts_with("stays")));
    // What a process had counted before it was killed is not counted again.
    let erased = daemon.metrics().dropped("down", "erased");
    assert!((200..=300).contains(&erased), "{erased}");
}

#[test]
fn the_disk_is_clean_while_a_destination_is_down_and_counts_come_right() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config =
        config(&folder).http("down", &down.url(), "categories = [\"A\"]\nbuffer = \"64KiB\"");
    let daemon = Daemon::start(&folder, &config);
    for batch in 0..100 {
        for user in ["gone", "stays"] {
            let body = of_user(&format!("{user}-{batch}"), user, 5);
            assert_eq!(post(daemon.source("http"), body).status, 200);
        }
    }
    assert_eq!(erase(&daemon, "/erase", "{\"user\":\"gone\"}").status, 200);
    wait_until("it is carried out", || erasures_pending(&daemon) == 0);
    assert!(!occurs(&folder.path("state"), "secret-of-gone"));
    assert!(occurs(&folder.path("state"), "secret-of-stays"));
    down.answer(|_| Reply::now(200));
    let metrics = daemon.settled(1000);
    assert_eq!(metrics.delivered("down"), 500);
    assert_eq!(metrics.dropped("down", "erased"), 500);
    assert!(ids(&down.taken()).iter().all(|id| id.starts_with("stays")));
    assert_eq!(daemon.stop().code, Some(0));
}

/// Also where a test fails, or its senders would go on for ever.
struct StopAtTheEnd<'s>(&'s AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn under_load_nothing_acknowledged_before_arrives_after_the_answer() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(20) });
    let keys = "categories = [\"A\"]\nbuffer = \"256KiB\"";
    let config = config(&folder).http("slow", &sink.url(), keys).file(&folder, "up", keys);
    let daemon = Daemon::start(&folder, &config);
    let to = daemon.source("http");
    let (stop, sent) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for sender in 0..3 {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                for batch in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let name = format!("s{sender}-{batch}");
                    let user = if batch % 3 == 0 { "other" } else { "ann" };
                    if post(to, of_user(&name, user, 30)).status == 200 && user == "ann" {
                        sent.lock().unwrap().extend((0..30).map(|n| format!("{name}-{n}")));
                    }
                }
            });
        }
        let _stop = StopAtTheEnd(&stop);
        for _ in 0..5 {
            sleep(Duration::from_millis(150));
            let before = sent.lock().unwrap().clone();
            let answer = erase(&daemon, "/erase?wait=1", "{\"user\":\"ann\"}");
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.json()["in_flight"], false);
            let taken = [sink.taken().len(), folder.delivered("up").len()];
            sleep(Duration::from_millis(100));
            let later = [&sink.taken()[taken[0]..], &folder.delivered("up")[taken[1]..]].concat();
            let later = ids(&later);
            assert!(!later.is_empty(), "nothing moves: the test tests nothing");
            let late = later.iter().find(|id| before.contains(id));
            assert_eq!(late, None, "acknowledged before, arrived after");
        }
    });
    let received = daemon.metrics().received() as usize;
    let metrics = daemon.settled(received);
    assert!(metrics.dropped("slow", "erased") > 0, "nothing waited: the test tests nothing");
    assert!(metrics.delivered("slow") > 0);
}

#[test]
fn ids_are_compared_as_the_event_means_them() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let events = [
        ("gone-0", ",\"userId\":42"),
        ("gone-1", ",\"userId\":42.0"),
        ("gone-2", ",\"userId\":\"42\""),
        ("gone-3", ",\"userId\":\"\\u0034\\u0032\""),
        ("gone-4", ",\"user\\u0049d\":\"42\""),
        ("gone-5", ",\"userId\":\"x\",\"anonymousId\":\"a/1\""),
        ("gone-6", ",\"anonymousId\":\"a\\/1\""),
        ("stays-0", ",\"userId\":\"421\""),
        ("stays-1", ",\"anonymousId\":\"42\""),
        ("stays-2", ",\"traits\":{\"userId\":\"42\"}"),
        ("stays-3", ",\"userId\":\"a/1\""),
        ("stays-4", ""),
    ];
    let body: String = events.map(|(id, more)| marked(id, AGREED, more) + "\n").concat();
    assert_eq!(post(daemon.source("http"), body).status, 200);
    let answer = erase(&daemon, "/erase", "{\"user\":\"42\",\"anonymous\":\"a/1\"}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    down.answer(|_| Reply::now(200));
    let metrics = daemon.settled(events.len());
    assert_eq!(metrics.dropped("down", "erased"), 7);
    assert!(ids(&down.taken()).iter().all(|id| id.starts_with("stays")), "{:?}", down.taken());
}

#[test]
fn while_the_daemon_does_not_run_it_is_noted_and_honoured_by_the_next_start() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    // Nobody listens there.
    let asked_at = config.clone().admin("127.0.0.1:1");
    let none = run_erase(&folder, &asked_at, &["--user", "ann"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("there is no log"), "{}", none.stderr);
    let daemon = Daemon::start(&folder, &config);
    for user in ["ann", "bob"] {
        assert_eq!(post(daemon.source("http"), of_user(user, user, 5)).status, 200);
    }
    let running = run_erase(&folder, &asked_at, &["--user", "ann"]);
    assert_eq!(running.code, Some(1), "{running:?}");
    assert!(running.stderr.contains("nobody listens on 127.0.0.1:1"), "{}", running.stderr);
    assert!(running.stderr.contains("in use by another consentd"), "{}", running.stderr);
    drop(daemon);
    let asked = run_erase(&folder, &asked_at, &["--user", "ann"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert!(asked.stdout.contains("next start"), "{}", asked.stdout);
    assert_eq!(run_erase(&folder, &asked_at, &[]).code, Some(2), "an ID is needed");
    down.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    wait_until("the others arrive", || down.taken().len() == 5);
    wait_until("it is carried out", || erasures_pending(&daemon) == 0);
    assert!(!occurs(&folder.path("state"), "secret-of-ann"));
    daemon.metrics_where("all is settled", |metrics| metrics.pending("down") == 0);
    assert_eq!(ids(&down.taken()), ["bob-0", "bob-1", "bob-2", "bob-3", "bob-4"]);
}

#[test]
fn what_can_not_be_asked_for_is_refused_with_the_reason() {
    let folder = Folder::new();
    let with_log = Daemon::start(&folder, &config(&folder).file(&folder, "lake", ""));
    for body in ["", "{}", "{\"user\":\"\"}", "{\"user\":1}", "{\"who\":\"ann\"}", "[]"] {
        assert_eq!(erase(&with_log, "/erase", body).status, 400, "{body}");
    }
    assert_eq!(get(with_log.admin(), "/erase").status, 405);
    drop(with_log);
    let config = Config::new("deny").file(&folder, "lake", "");
    let daemon = Daemon::start(&folder, &config);
    let answer = erase(&daemon, "/erase", "{\"user\":\"ann\"}");
    assert_eq!(answer.status, 409, "{}", answer.body);
    let asked = run_erase(&folder, &config.admin(daemon.admin()), &["--user", "ann"]);
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.contains("the log is off"), "{}", asked.stderr);
}
