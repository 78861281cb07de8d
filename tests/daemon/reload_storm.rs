//! Rules that change again and again while events stream through the log: nothing is lost, and nothing
//! goes out under rules that are not in force.
//!
//! What is promised to somebody who withdraws a category: once `reload?wait=1` has answered, no request
//! and no write with such an event is going on or begins, whether the event came in before or after,
//! until other rules are asked for; and what came in under the strict rules never goes out at all.
//!
//! `CONSENTD_RELOADS=1000` is the long campaign.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, Reply, event, ids, post, request, wait_until,
};

const RELOADS_BY_DEFAULT: usize = 60;
const SENDERS: usize = 3;

/// How long a receiver takes for a batch.
const TAKES: Duration = Duration::from_millis(4);

/// In the name of an event that only the loose rules allow.
const FORBIDDEN: &str = "no-";

/// Whether the strict rules are in force, and what was seen to break them.
#[derive(Default)]
struct Watch {
    strict: AtomicBool,
    broken: AtomicUsize,
}

impl Watch {
    fn look_at(&self, lines: &[String]) {
        if self.strict.load(SeqCst) && lines.iter().any(|line| line.contains(FORBIDDEN)) {
            self.broken.fetch_add(1, SeqCst);
        }
    }

    /// A receiver that looks at every batch, also at those that it does not take.
    fn sink(self: &Arc<Self>, refuses: fn(usize) -> bool) -> HttpSink {
        let (watch, number) = (Arc::clone(self), AtomicUsize::new(0));
        HttpSink::start(move |lines| {
            watch.look_at(lines);
            // Long enough to be met by a change of the rules.
            sleep(TAKES);
            watch.look_at(lines);
            Reply::now(if refuses(number.fetch_add(1, SeqCst)) { 503 } else { 200 })
        })
    }
}

/// Sends as long as it may; the names that were acknowledged.
fn stream(to: SocketAddr, sender: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let padding = "x".repeat(300);
    for batch in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let names: Vec<(String, bool)> = (0..20)
            .map(|number| {
                let agrees = number % 2 == 0;
                let kind = if agrees { "yes-" } else { FORBIDDEN };
                (format!("{kind}{sender}-{batch}-{number}-{padding}"), agrees)
            })
            .collect();
        let body: String =
            names.iter().map(|(name, agrees)| event(name, &[("Ads", *agrees)]) + "\n").collect();
        let answer = request(to, "POST", "/v1/events", "", body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        acknowledged.extend(names.into_iter().map(|(name, _)| name));
    }
    acknowledged
}

/// What is appended to a file, piece by piece.
struct Tail {
    file: File,
    at: u64,
}

impl Tail {
    fn forbidden_since(&mut self) -> usize {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(self.at)).unwrap();
        self.at += self.file.read_to_string(&mut text).unwrap() as u64;
        text.matches(FORBIDDEN).count()
    }
}

/// How many reloads that must succeed there were.
fn reloads(daemon: &Daemon) -> u64 {
    daemon.metrics().sum("consentd_reloads_total", &[("result", "applied")])
}

/// By signal: nobody answers, so it is waited for.
fn loosen(daemon: &Daemon, loose: &Config) {
    let before = reloads(daemon);
    daemon.write_config(loose);
    daemon.signal(Signal::HUP);
    wait_until("the reload is counted", || reloads(daemon) > before);
}

#[test]
fn rules_that_change_all_the_time_lose_nothing_and_let_nothing_slip_through() {
    let rounds = std::env::var("CONSENTD_RELOADS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(RELOADS_BY_DEFAULT) / 2;
    let folder = Folder::new();
    let watch = Arc::new(Watch::default());
    let (live, lagging) = (watch.sink(|_| false), watch.sink(|number| number % 4 != 0));
    let base = Config::new("deny").categories(&["Ads"]).log(&folder, "").file(&folder, "all", "");
    let with = |keys: &str| {
        base.clone()
            .http("live", &live.url(), keys)
            .http("lagging", &lagging.url(), format!("{keys}\nbuffer = \"64KiB\""))
            .file(&folder, "file", keys)
    };
    let (loose, strict) = (with(""), with("categories = [\"Ads\"]"));
    let daemon = Daemon::start(&folder, &loose);
    let to = daemon.source("http");
    // It is there once something was written.
    assert_eq!(post(to, event("yes-first", &[("Ads", true)])).status, 200);
    wait_until("there is a file", || !folder.delivered("file").is_empty());
    let mut tail = Tail { file: File::open(folder.path("file.ndjson")).unwrap(), at: 0 };

    let stop = AtomicBool::new(false);
    let mut seen_in_file = 0;
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let stop = &stop;
                scope.spawn(move || stream(to, sender, stop))
            })
            .collect();
        // The scope waits for the senders, also when something fails here.
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                daemon.apply_and_wait(&strict);
                watch.strict.store(true, SeqCst);
                seen_in_file += tail.forbidden_since();
                let withdrawn = event(&format!("withdrawn-{FORBIDDEN}{round}"), &[("Ads", false)]);
                assert_eq!(post(to, withdrawn).status, 200);
                sleep(Duration::from_millis(round as u64 % 20));
                assert_eq!(tail.forbidden_since(), 0, "written under strict rules");
                watch.strict.store(false, SeqCst);
                loosen(&daemon, &loose);
                sleep(Duration::from_millis(round as u64 % 7));
            }
        }));
        stop.store(true, SeqCst);
        let acknowledged = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        work.unwrap();
        acknowledged
    });
    assert_eq!(watch.broken.load(SeqCst), 0, "sent under strict rules");
    assert!(seen_in_file > 0, "the loose rules let nothing through, so nothing was tested");
    lagging.answer(|_| Reply::now(200));
    let sent = acknowledged.len() + rounds + 1;
    let metrics = daemon.settled(sent);
    println!("{} reloads, {sent} events", 2 * rounds);
    assert!(metrics.dropped("lagging", "consent") > 0);
    assert_eq!(metrics.delivered("all"), sent as u64);
    assert!(daemon.stderr().contains("caught up"), "nothing lagged, so that was not tested");
    let complete = |what: &str, lines: Vec<String>, needs: &dyn Fn(&str) -> bool| {
        let names = ids(&lines);
        let arrived: HashSet<&String> = names.iter().collect();
        assert_eq!(arrived.len(), names.len(), "{what}: nothing comes twice");
        let missing = acknowledged.iter().find(|id| needs(id) && !arrived.contains(id));
        assert_eq!(missing, None, "{what}: acknowledged and lost");
        let withdrawn = names.iter().find(|id| id.starts_with("withdrawn"));
        assert!(what == "all" || withdrawn.is_none(), "{what}: {withdrawn:?}");
    };
    let agreed = |id: &str| id.starts_with("yes-");
    complete("all", folder.delivered("all"), &|_| true);
    complete("live", live.taken(), &agreed);
    complete("lagging", lagging.taken(), &agreed);
    complete("file", folder.delivered("file"), &agreed);
}
