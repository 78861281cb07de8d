//! Erased: nothing of it leaves any more, then nothing of it is left.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Answer, Config, Daemon, Ended, Fault, Folder, HttpSink, Reply, Tracer, consentd, get, ids,
    marked, paths_of_log, post, request, run_to_end, wait_until,
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
    // A copy of what was damaged may hold anybody's events.
    let damaged = folder.path("state/log/damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join("0000000100000040-64"), "secret-of-gone").unwrap();
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
            wait_until("something moves, or the test tests nothing", || {
                sink.taken().len() > taken[0] || folder.delivered("up").len() > taken[1]
            });
            sleep(Duration::from_millis(100));
            let later = [&sink.taken()[taken[0]..], &folder.delivered("up")[taken[1]..]].concat();
            let later = ids(&later);
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
fn one_that_can_not_be_noted_is_refused_and_what_waits_is_delivered() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), of_user("ann", "ann", 3)).status, 200);
    // A directory stands where it is noted for the log.
    let in_the_way = folder.path("state/log/tombstones.a.unfinished");
    fs::create_dir(&in_the_way).unwrap();
    let answer = erase(&daemon, "/erase?wait=1", "{\"user\":\"ann\"}");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("tombstones"), "{}", answer.body);
    down.answer(|_| Reply::now(200));
    let metrics = daemon.settled(3);
    assert_eq!(ids(&down.taken()), names("ann", 3));
    assert_eq!(metrics.dropped("down", "erased"), 0);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(erase(&daemon, "/erase", "{\"user\":\"ann\"}").status, 200);
}

#[test]
fn what_was_looked_at_for_one_erasure_is_looked_at_again_for_the_next() {
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    let all = ["ann", "bob", "cem"].map(|user| of_user(user, user, 2)).concat();
    assert_eq!(post(daemon.source("http"), all).status, 200);
    for user in ["ann", "bob"] {
        let before = down.attempts();
        wait_until("it is tried again", || down.attempts() > before + 1);
        let answer = erase(&daemon, "/erase?wait=1", &format!("{{\"user\":\"{user}\"}}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    down.answer(|_| Reply::now(200));
    let metrics = daemon.settled(6);
    assert_eq!(ids(&down.taken()), names("cem", 2));
    assert_eq!(metrics.dropped("down", "erased"), 4);
}

#[test]
fn what_was_read_and_is_not_stored_yet_is_erased_too() {
    if !Tracer::is_permitted() {
        return;
    }
    const ROUNDS: usize = 4;
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    // Longer than it takes to note an erasure.
    let slow = Fault::slow("fdatasync", Duration::from_millis(800));
    let tracer = Tracer::attach(&folder, &daemon, slow, &paths_of_log(&folder.path("state/log")));
    for round in 0..ROUNDS {
        // The log is busy with the first one, so that the second one waits for its turn.
        daemon.send(of_user(&format!("bob-{round}"), "bob", 1));
        sleep(Duration::from_millis(50));
        let user = format!("ann{round}");
        daemon.send(of_user(&user, &user, 1));
        daemon.metrics_where("it is read", |metrics| metrics.received() == 2 * (round as u64 + 1));
        let answer = erase(&daemon, "/erase", &format!("{{\"user\":\"{user}\"}}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    drop(tracer);
    down.answer(|_| Reply::now(200));
    let metrics = daemon.settled(2 * ROUNDS);
    let taken = ids(&down.taken());
    assert!(taken.iter().all(|id| id.starts_with("bob")), "{taken:?}");
    assert_eq!(metrics.dropped("down", "erased"), ROUNDS as u64);
}

#[test]
fn a_request_that_began_before_two_erasures_is_waited_for_by_both() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply { status: 200, after: Duration::from_millis(1500) });
    let config = config(&folder).http("slow", &sink.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), of_user("ann", "ann", 1)).status, 200);
    wait_until("it is under way", || sink.attempts() == 1);
    let other = erase(&daemon, "/erase", "{\"user\":\"bob\"}");
    assert_eq!((other.status, &other.json()["in_flight"]), (200, &true.into()));
    let answer = erase(&daemon, "/erase?wait=1", "{\"user\":\"ann\"}");
    assert_eq!((answer.status, &answer.json()["in_flight"]), (200, &false.into()));
    assert_eq!(sink.taken().len(), 1, "it was answered while the request was under way");
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

/// The names of the dead letters that `list` shows, and of what can't be read the beginning.
fn letters(folder: &Folder) -> Vec<String> {
    let mut command = consentd();
    command.args(["log", "dead-letters", "list", "--with-events", "--config"]);
    let ended = run_to_end(command.arg(folder.path("consentd.toml")));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let event = |line: &str| {
        let letter: Value = serde_json::from_str(line).unwrap();
        let event = letter["event"].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&event)
            .map_or(event, |event| event["messageId"].as_str().unwrap_or("nameless").to_owned())
    };
    ended.stdout.lines().map(event).collect()
}

fn replay(daemon: &Daemon) -> Value {
    let answer = request(daemon.admin(), "POST", "/dead-letters/replay", "", b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn wait_for_letters(daemon: &Daemon, count: u64) {
    daemon.metrics_where("they are dead letters", |metrics| {
        metrics.sum("consentd_dead_letters_total", &[]) == count
    });
}

/// What arrived, without what came again because of a kill.
fn distinct(sink: &HttpSink) -> Vec<String> {
    let mut arrived = ids(&sink.taken());
    arrived.sort_unstable();
    arrived.dedup();
    arrived
}

fn names(user: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{user}-{n}")).collect()
}

#[test]
fn dead_letters_are_gone_when_it_is_answered_even_if_it_is_killed_then() {
    let folder = Folder::new();
    let picky = HttpSink::start(|_| Reply::now(400));
    let config = config(&folder).dead_letters("rejected_on_ingest = true").http(
        "picky",
        &picky.url(),
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    let to = daemon.source("http");
    let broken = |user: &str| format!("{{\"secret-of-{user}\":1,\"userId\":\"{user}\",\n");
    for user in ["ann", "bob"] {
        assert_eq!(post(to, of_user(user, user, 5)).status, 200);
        assert_eq!(post(to, broken(user)).status, 400);
    }
    wait_for_letters(&daemon, 12);
    let kept = folder.path("state/dead-letters");
    let damaged = kept.join("delivery/damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join("0000000100000040-64"), "secret-of-ann").unwrap();
    assert!(occurs(&kept.join("delivery"), "ann") && occurs(&kept.join("ingest"), "ann"));
    // Not yet a letter, perhaps, but sent before.
    assert_eq!(post(to, broken("ann")).status, 400);
    let answer = erase(&daemon, "/erase", "{\"user\":\"ann\"}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    drop(daemon);
    assert!(!occurs(&kept, "ann"), "the dead letters still have them");
    assert!(occurs(&kept.join("delivery"), "bob") && occurs(&kept.join("ingest"), "bob"));
    let of_bob = [names("bob", 5), vec![broken("bob").trim().to_owned()]].concat();
    assert_eq!(letters(&folder), of_bob);

    picky.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    let replayed = replay(&daemon);
    assert_eq!((&replayed["replayed"], &replayed["rejected_again"]), (&5.into(), &1.into()));
    wait_until("it is carried out", || erasures_pending(&daemon) == 0);
    assert!(!occurs(&folder.path("state"), "secret-of-ann"));
    wait_until("the others arrive", || distinct(&picky) == names("bob", 5));
}

#[test]
fn what_is_rejected_after_the_erasure_is_no_dead_letter() {
    let folder = Folder::new();
    let slow = HttpSink::start(|_| Reply { status: 400, after: Duration::from_millis(800) });
    let config = config(&folder).http("slow", &slow.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    for (before, user) in (0..).zip(["bob", "ann"]) {
        assert_eq!(post(daemon.source("http"), of_user(user, user, 1)).status, 200);
        wait_until("it is under way", || slow.attempts() > before);
    }
    assert_eq!(daemon.metrics().pending("slow"), 1);
    let answer = erase(&daemon, "/erase", "{\"user\":\"ann\"}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let metrics = daemon.settled(2);
    assert_eq!(letters(&folder), ["bob-0"]);
    assert!(!occurs(&folder.path("state/dead-letters"), "ann"));
    assert_eq!(metrics.dropped("slow", "erased"), 1);
    assert_eq!(metrics.dropped("slow", "rejected_by_destination"), 1);
    assert_eq!(metrics.sum("consentd_dead_letters_total", &[]), 1);
    // Of the same user, later.
    assert_eq!(post(daemon.source("http"), of_user("later", "ann", 1)).status, 200);
    wait_for_letters(&daemon, 2);
    assert_eq!(letters(&folder), ["bob-0", "later-0"]);
}

#[test]
fn letters_that_can_not_be_removed_yet_are_held_back_and_that_is_said() {
    for is_restarted in [false, true] {
        let folder = Folder::new();
        let picky = HttpSink::start(|_| Reply::now(400));
        let config = config(&folder).http("picky", &picky.url(), "categories = [\"A\"]");
        let mut daemon = Daemon::start(&folder, &config);
        for user in ["ann", "bob"] {
            assert_eq!(post(daemon.source("http"), of_user(user, user, 3)).status, 200);
        }
        wait_for_letters(&daemon, 6);
        // A directory stands where the segment is written anew.
        let kept = folder.path("state/dead-letters/delivery");
        let mut files = fs::read_dir(&kept).unwrap().map(|file| file.unwrap().path());
        let mut segment = files.find(|path| path.extension().is_some_and(|it| it == "segment"));
        let in_the_way = segment.as_mut().unwrap();
        in_the_way.add_extension("unfinished");
        fs::create_dir(&in_the_way).unwrap();

        let asked = run_erase(&folder, &config.clone().admin(daemon.admin()), &["--user", "ann"]);
        assert_eq!(asked.code, Some(1), "{asked:?}");
        assert!(asked.stderr.contains("could not be removed from the dead"), "{}", asked.stderr);
        assert!(occurs(&kept, "secret-of-ann"), "nothing failed: the test tests nothing");
        assert_eq!(letters(&folder), names("bob", 3));
        picky.answer(|_| Reply::now(200));
        fs::remove_dir(&in_the_way).unwrap();
        if is_restarted {
            assert_eq!(daemon.stop().code, Some(0));
            daemon = Daemon::start(&folder, &config);
        } else {
            assert_eq!(replay(&daemon)["replayed"], 3);
            assert_eq!(erase(&daemon, "/erase", "{\"user\":\"ann\"}").status, 200);
        }
        assert!(!occurs(&kept, "ann"), "{is_restarted}");
        if is_restarted {
            assert_eq!(replay(&daemon)["replayed"], 3);
        }
        wait_until("the others arrive", || picky.taken().len() == 3);
        assert_eq!(ids(&picky.taken()), names("bob", 3));
    }
}

#[test]
fn while_the_daemon_does_not_run_dead_letters_are_removed_at_once() {
    let folder = Folder::new();
    let picky = HttpSink::start(|_| Reply::now(400));
    let config = config(&folder).http("picky", &picky.url(), "categories = [\"A\"]");
    let daemon = Daemon::start(&folder, &config);
    for user in ["ann", "bob"] {
        assert_eq!(post(daemon.source("http"), of_user(user, user, 3)).status, 200);
    }
    wait_for_letters(&daemon, 6);
    assert_eq!(daemon.stop().code, Some(0));
    let asked = run_erase(&folder, &config.clone().admin("127.0.0.1:1"), &["--user", "ann"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert!(!occurs(&folder.path("state/dead-letters"), "ann"));
    assert_eq!(letters(&folder), names("bob", 3));
    picky.answer(|_| Reply::now(200));
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(replay(&daemon)["replayed"], 3);
    wait_until("the others arrive", || picky.taken().len() == 3);
    assert_eq!(ids(&picky.taken()), names("bob", 3));
}
