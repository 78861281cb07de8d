//! Attempts: again, later, one at a time, in halves, not any more.

use super::*;
use crate::metrics::DropReason;

fn fast() -> BatchLimits {
    limits(1 << 20, 10, Duration::from_millis(1))
}

fn retry_in(after: Option<u64>) -> Outcome {
    Outcome::Retry { after: after.map(Duration::from_secs), why: "answered 503".into() }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_tried_again_under_the_same_key_until_it_is_taken() {
    let script = Script::first(vec![retry_in(None), retry_in(None)]);
    let rig = Rig::start(Sink::Scripted(script.clone()), fast(), patience(LONG), &[]);
    rig.offer(&numbered(3));
    let (left, counters) = rig.finish(LONG).await;
    let seen = script.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|attempt| attempt.key == seen[0].key));
    assert!(seen.iter().all(|attempt| attempt.text == joined(&numbered(3))));
    assert_eq!(left, 0);
    assert_eq!(counters.delivered.load(Relaxed), 3);
    assert_eq!(counters.delivered_bytes.load(Relaxed), 21);
    assert_eq!(counters.pending.load(Relaxed), 0);
    let acknowledged = counters.end_to_end.cumulative().last().unwrap();
    assert_eq!(acknowledged.1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_time_named_by_the_destination_is_kept_to() {
    let script = Script::first(vec![retry_in(Some(30))]);
    let rig = Rig::start(Sink::Scripted(script.clone()), fast(), patience(LONG), &[]);
    rig.offer(&numbered(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = script.seen();
    let waited = seen[1].at - seen[0].at;
    assert!((30.0..30.2).contains(&waited.as_secs_f64()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_too_long_is_given_up_and_counted() {
    let script = Script::new(|_| retry_in(None));
    let patience = patience(Duration::from_secs(10));
    let rig = Rig::start(Sink::Scripted(script.clone()), fast(), patience, &[]);
    rig.offer(&numbered(4));
    tokio::time::sleep(Duration::from_millis(9900)).await;
    assert_eq!(rig.outlet.counters().pending.load(Relaxed), 4);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let counters = rig.outlet.counters();
    assert_eq!(counters.dropped(DropReason::GaveUp), 4);
    assert_eq!(counters.pending.load(Relaxed), 0);
    let seen = script.seen();
    let last = seen.last().unwrap().at - seen[0].at;
    assert_eq!(last, Duration::from_secs(10), "one last attempt at the end");
}

#[tokio::test(start_paused = true)]
async fn on_hold_one_batch_at_a_time_is_tried_until_one_gets_through() {
    let start = Instant::now();
    let repaired = Duration::from_secs(600);
    let mut script = Script::new(move |seen| {
        if seen.at - start < repaired { Outcome::hold("answered 401") } else { Outcome::Delivered }
    });
    script.lanes = 4;
    script.takes = Duration::from_millis(50);
    let rig = Rig::start(Sink::Scripted(script.clone()), fast(), patience(LONG), &[]);
    rig.offer(&numbered(80));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let counters = Arc::clone(rig.outlet.counters());
    assert_eq!(counters.held.load(Relaxed), 1);
    assert_eq!(counters.pending.load(Relaxed), 80);
    // Four were under way when the first answer came; from then on it is one.
    script.at_once.lock().unwrap().1 = 0;
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(script.at_once.lock().unwrap().1, 1);
    let probes = script.seen().len();
    assert!((250..5000).contains(&probes), "{probes} attempts in 510 s");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(counters.delivered.load(Relaxed), 80);
    assert_eq!(counters.held.load(Relaxed), 0);
    assert_eq!(counters.dropped(DropReason::GaveUp), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_its_turn_is_given_up_in_time_too() {
    let mut script = Script::new(|_| Outcome::hold("answered 403"));
    script.lanes = 3;
    let patience = patience(Duration::from_secs(20));
    let rig = Rig::start(Sink::Scripted(script.clone()), fast(), patience, &[]);
    rig.offer(&numbered(30));
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(rig.outlet.counters().dropped(DropReason::GaveUp), 30);
}

#[tokio::test(start_paused = true)]
async fn rejected_batches_are_split_down_to_the_bad_events() {
    let bad = |text: &str| text.contains("13}") || text.contains("14}") || text.contains("40}");
    let script = Script::new(move |seen| match bad(&seen.text) {
        true => Outcome::Reject { why: "answered 400".into() },
        false => Outcome::Delivered,
    });
    let limits = limits(1 << 20, 1000, Duration::from_millis(1));
    let rig = Rig::start(Sink::Scripted(script.clone()), limits, patience(LONG), &[]);
    let lines = numbered(64);
    rig.offer(&lines);
    let (left, counters) = rig.finish(LONG).await;
    assert_eq!(left, 0);
    assert_eq!(counters.dropped(DropReason::RejectedByDestination), 3);
    assert_eq!(counters.delivered.load(Relaxed), 61);
    let good: Vec<String> = lines.into_iter().filter(|line| !bad(line)).collect();
    assert_eq!(script.delivered(), joined(&good));
    let mut keys: Vec<u128> = script.seen().iter().map(|seen| seen.key).collect();
    let attempts = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), attempts, "every part has a key of its own");
}
