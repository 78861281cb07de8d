//! How deliveries end.

use super::*;
use crate::metrics::DropReason;

fn dead() -> Script {
    Script::new(|_| Outcome::retry("answered 503"))
}

fn slow_batches() -> BatchLimits {
    limits(1 << 20, 10, LONG)
}

#[tokio::test(start_paused = true)]
async fn closing_sends_everything_at_once_and_in_order() {
    let script = Script::first(Vec::new());
    let rig = Rig::start(Sink::Scripted(script.clone()), slow_batches(), patience(LONG), &[]);
    let start = Instant::now();
    let lines = numbered(95);
    for lines in lines.chunks(7) {
        rig.offer(lines);
    }
    let (left, counters) = rig.finish(LONG).await;
    assert_eq!(left, 0);
    assert_eq!(script.delivered(), joined(&lines));
    assert_eq!(counters.delivered.load(Relaxed), 95);
    assert_eq!(counters.lag(std::time::Instant::now()), Duration::ZERO);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_leaves_stays_pending_and_is_told() {
    let rig = Rig::start(Sink::Scripted(dead()), slow_batches(), patience(LONG), &[]);
    for _ in 0..5 {
        rig.offer(&numbered(9));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let (left, counters) = rig.finish(Duration::from_secs(30)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    assert_eq!(left, 45);
    assert_eq!(counters.pending.load(Relaxed), 45);
    assert!(counters.lag(std::time::Instant::now()) > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_destination_leaves_is_dropped_and_its_room_given_back() {
    let rig = Rig::start(Sink::Scripted(dead()), slow_batches(), patience(LONG), &[]);
    for _ in 0..5 {
        rig.offer(&numbered(9));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let until = Instant::now() + Duration::from_secs(5);
    rig.running.retire(Arc::clone(&rig.plan), until);
    let counters = Arc::clone(rig.outlet.counters());
    let outlet = Arc::downgrade(&rig.outlet);
    assert_eq!(rig.running.ended().await.unwrap(), 0);
    assert_eq!(counters.dropped(DropReason::Removed), 45);
    assert_eq!(counters.pending.load(Relaxed), 0);
    assert_eq!(counters.lag(std::time::Instant::now()), Duration::ZERO);
    drop((rig.outlet, rig.plan, rig.plans));
    assert!(outlet.upgrade().is_none(), "a charge is still alive");
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_a_waiting_batch_one_more_chance() {
    let start = Instant::now();
    let back = Duration::from_secs(5);
    let script = Script::new(move |seen| match seen.at - start < back {
        true => {
            Outcome::Retry { after: Some(Duration::from_secs(600)), why: "answered 503".into() }
        }
        false => Outcome::Delivered,
    });
    let limits = limits(1 << 20, 10, Duration::from_millis(1));
    let rig = Rig::start(Sink::Scripted(script), limits, patience(LONG), &[]);
    rig.offer(&numbered(5));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (left, counters) = rig.finish(Duration::from_secs(30)).await;
    assert_eq!((left, counters.delivered.load(Relaxed)), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_pins_no_more_than_its_budget() {
    let rig = Rig::start(Sink::Scripted(dead()), slow_batches(), patience(LONG), &[]);
    let mut taken = 0;
    while rig.outlet.offer(parcel(&rig.plan, &numbered(50))).is_ok() {
        taken += 50;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(taken < 5_000_000, "the outlet never filled");
    }
    assert_eq!(rig.outlet.counters().pending.load(Relaxed), taken);
}
