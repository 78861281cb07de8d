//! Judged again: what waits is subject to the rules in force.

use super::*;
use crate::metrics::DropReason;

/// Users that agreed to ads, to statistics, to both; odd white space that must survive.
fn events() -> Vec<String> {
    let event = |n: usize, ads: bool, stats: bool| {
        format!(
            "{{\"n\" :\t{n}, \"context\":{{\"consent\":{{\"categoryPreferences\":\
             {{\"Ads\":{ads},  \"Stats\":{stats}}}}}}},\"s\":\"\\u00e9 \u{e9}\"}} "
        )
    };
    (0..12).map(|n| event(n, n % 2 == 0, n % 3 == 0)).collect()
}

fn ads(event: &str) -> bool {
    event.contains("\"Ads\":true")
}

fn down() -> Script {
    Script::first(vec![Outcome::retry("answered 503")])
}

fn rig(script: &Script) -> Rig {
    let limits = limits(1 << 20, 12, Duration::from_millis(1));
    Rig::start(Sink::Scripted(script.clone()), limits, patience(LONG), &[])
}

/// Lets the first attempt fail, but not the second be made.
async fn first_attempt(script: &Script) {
    while script.seen().is_empty() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_tightens_the_rules_applies_to_what_waits() {
    let script = down();
    let rig = rig(&script);
    rig.offer(&events());
    first_attempt(&script).await;
    let _ = rig.plans.publish(plan(2, "crm", &rig.outlet, &["Ads"]));
    let (left, counters) = rig.finish(LONG).await;
    let seen = script.seen();
    assert_eq!(seen[0].text.lines().count(), 12);
    let kept: Vec<String> = events().into_iter().filter(|event| ads(event)).collect();
    let sent: Vec<u8> = joined(&kept).into_bytes();
    assert_eq!(seen[1].text, sent.iter().map(|b| *b as char).collect::<String>());
    assert_ne!(seen[0].key, seen[1].key);
    assert_eq!(left, 0);
    assert_eq!(counters.dropped(DropReason::Consent), 6);
    assert_eq!(counters.delivered.load(Relaxed), 6);
    assert_eq!(counters.pending.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_for_a_batch_keeps_its_key() {
    let script = down();
    let rig = rig(&script);
    rig.offer(&events());
    first_attempt(&script).await;
    let _ = rig.plans.publish(plan(2, "crm", &rig.outlet, &[]));
    let (left, counters) = rig.finish(LONG).await;
    let seen = script.seen();
    assert_eq!(seen[0].text, seen[1].text);
    assert_eq!(seen[0].key, seen[1].key);
    assert_eq!((left, counters.delivered.load(Relaxed)), (0, 12));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_is_left_is_not_sent() {
    let script = down();
    let rig = rig(&script);
    let none: Vec<String> = events().into_iter().filter(|event| !ads(event)).collect();
    rig.offer(&none);
    first_attempt(&script).await;
    let _ = rig.plans.publish(plan(2, "crm", &rig.outlet, &["Ads"]));
    let (left, counters) = rig.finish(LONG).await;
    assert_eq!(script.seen().len(), 1);
    assert_eq!((left, counters.dropped(DropReason::Consent)), (0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_destination_replaced_by_one_of_its_name_is_judged_by_the_new_rules() {
    let script = down();
    let rig = rig(&script);
    rig.offer(&events());
    first_attempt(&script).await;
    let next = plan(2, "crm", &outlet("crm"), &["Ads"]);
    let last = rig.plans.publish(next);
    rig.running.retire(last, Instant::now() + LONG);
    rig.running.ended().await.unwrap();
    assert_eq!(rig.outlet.counters().dropped(DropReason::Consent), 6);
    assert_eq!(rig.outlet.counters().delivered.load(Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn a_removed_destination_is_judged_by_the_last_rules_it_had() {
    let script = down();
    let rig = rig(&script);
    rig.offer(&events());
    first_attempt(&script).await;
    let _ = rig.plans.publish(plan(2, "crm", &rig.outlet, &["Ads"]));
    let last = rig.plans.publish(plan(3, "other", &outlet("other"), &[]));
    // Until it is told what they were, nothing leaves.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(script.seen().len(), 1);
    rig.running.retire(last, Instant::now() + LONG);
    rig.running.ended().await.unwrap();
    let counters = rig.outlet.counters();
    assert_eq!(counters.dropped(DropReason::Consent), 6);
    assert_eq!(counters.delivered.load(Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn without_any_rules_nothing_leaves() {
    let script = down();
    let rig = rig(&script);
    rig.offer(&events());
    first_attempt(&script).await;
    let stranger = plan(2, "other", &outlet("other"), &[]);
    let _ = rig.plans.publish(Arc::clone(&stranger));
    rig.running.retire(stranger, Instant::now() + LONG);
    rig.running.ended().await.unwrap();
    assert_eq!(script.seen().len(), 1);
    assert_eq!(rig.outlet.counters().dropped(DropReason::Removed), 12);
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_the_outlet_is_judged_again_before_the_first_attempt() {
    let script = Script::first(Vec::new());
    let rig = rig(&script);
    let _ = rig.plans.publish(plan(2, "crm", &rig.outlet, &["Ads"]));
    // Permitted under the old plan by a worker that had not seen the new one.
    rig.offer(&events());
    let (_, counters) = rig.finish(LONG).await;
    assert_eq!(script.seen().len(), 1);
    assert_eq!(counters.dropped(DropReason::Consent), 6);
    assert_eq!(counters.delivered.load(Relaxed), 6);
}
