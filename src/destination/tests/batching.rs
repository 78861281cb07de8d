//! Parcels to batches.

use proptest::prelude::*;

use super::super::batcher::Batcher;
use super::*;

/// Takes every batch out of `batcher`: the full ones, or all of them.
fn take_all(batcher: &mut Batcher, even_open: bool, into: &mut Vec<(String, u32, usize)>) {
    while batcher.is_full() || (even_open && !batcher.is_empty()) {
        let batch = batcher.take().unwrap();
        into.push((text(&batch), batch.events(), batch.bytes()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However the lines come, cut into parcels and with some kept out, batches hold the same lines
    /// in the same order, keep to both limits, and are no smaller than they have to be.
    #[test]
    fn no_line_is_lost_moved_or_put_in_a_batch_that_is_full(
        widths in prop::collection::vec((0_usize..60, prop::bool::weighted(0.8)), 1..60),
        cuts in prop::collection::vec(1_usize..20, 1..20),
        max_bytes in 1_usize..200,
        max_events in 1_u32..12,
    ) {
        let outlet = outlet("crm");
        let plan = plan(1, "crm", &outlet, &[]);
        let lines: Vec<(String, bool)> = widths
            .iter()
            .map(|(width, kept)| (format!("{{\"a\":\"{}\"}}", "x".repeat(*width)), *kept))
            .collect();
        let mut batcher = Batcher::new(limits(max_bytes, max_events, LONG), Arc::new(Keys::new(1)));
        let mut batches = Vec::new();
        let mut rest = &lines[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            let all: Vec<String> = now.iter().map(|(line, _)| line.clone()).collect();
            let mut ranges: Vec<std::ops::Range<u32>> = Vec::new();
            let mut at = 0;
            for (line, kept) in now {
                let end = at + line.len() as u32 + 1;
                match ranges.last_mut() {
                    Some(last) if *kept && last.end == at => last.end = end,
                    _ if *kept => ranges.push(at..end),
                    _ => {}
                }
                at = end;
            }
            let events = now.iter().filter(|(_, kept)| *kept).count() as u32;
            let parcel = Parcel { chunk: chunk(&plan, &all), ranges, events, charge: None };
            take_all(&mut batcher, false, &mut batches);
            batcher.push(parcel, Instant::now());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        take_all(&mut batcher, true, &mut batches);

        let kept: Vec<String> = lines.into_iter().filter(|l| l.1).map(|l| l.0).collect();
        let all: String = batches.iter().map(|batch| batch.0.as_str()).collect();
        prop_assert_eq!(all, joined(&kept));
        for (position, (text, events, bytes)) in batches.iter().enumerate() {
            prop_assert_eq!(*bytes, text.len());
            prop_assert_eq!(*events as usize, text.lines().count());
            prop_assert!(*events <= max_events);
            prop_assert!(*bytes <= max_bytes || *events == 1);
            if let Some((next, ..)) = batches.get(position + 1) {
                let next = next.lines().next().unwrap().len() + 1;
                prop_assert!(*events == max_events || bytes + next > max_bytes);
            }
        }
    }

    /// Halving a batch again and again ends at single events, in order.
    #[test]
    fn halves_hold_all_events(count in 1_usize..40, parcels in 1_usize..6) {
        let outlet = outlet("crm");
        let plan = plan(1, "crm", &outlet, &[]);
        let lines = numbered(count);
        let pieces = lines.chunks(count.div_ceil(parcels)).flat_map(|lines| Piece::of(parcel(&plan, lines)));
        let keys = Keys::new(3);
        let mut todo = vec![Batch::new(pieces.collect(), keys.next())];
        let mut singles = String::new();
        while let Some(batch) = todo.pop() {
            let events = batch.events();
            match batch.halve(&keys) {
                (single, None) => singles += &text(&single),
                (front, Some(back)) => {
                    prop_assert_eq!(front.events(), events / 2);
                    prop_assert_eq!(front.events() + back.events(), events);
                    prop_assert_ne!(front.key(), back.key());
                    todo.extend([back, front]);
                }
            }
        }
        prop_assert_eq!(singles, joined(&lines));
    }
}

#[test]
fn runs_of_a_part_count_its_lines_only() {
    let lines = numbered(7);
    let outlet = outlet("crm");
    let mut parcel = parcel(&plan(1, "crm", &outlet, &[]), &lines);
    // Lines 2, 3 and 4: one of the first run (0 to 2), two of the second (3 to 5).
    parcel.ranges = std::iter::once(16..40).collect();
    parcel.events = 3;
    let piece = Piece::of(parcel).next().unwrap();
    assert_eq!(piece.lines(), b"{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n");
    let runs: Vec<_> = piece.runs().map(|run| (run.source.0, run.events, run.end)).collect();
    assert_eq!(runs, [(0, 1, 8), (1, 2, 24)]);
}

#[tokio::test(start_paused = true)]
async fn the_first_line_waits_no_longer_than_max_wait() {
    let script = Script::first(Vec::new());
    let limits = limits(1 << 20, 100, Duration::from_secs(1));
    let rig = Rig::start(Sink::Scripted(script.clone()), limits, patience(LONG), &[]);
    let start = Instant::now();
    rig.offer(&numbered(1));
    tokio::time::sleep(Duration::from_millis(600)).await;
    rig.offer(&numbered(2));
    tokio::time::sleep(Duration::from_millis(390)).await;
    assert!(script.seen().is_empty());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let seen = script.seen();
    assert_eq!(seen[0].text, "{\"n\":0}\n{\"n\":0}\n{\"n\":1}\n");
    assert_eq!(seen[0].at - start, Duration::from_secs(1));
    // A full batch does not wait.
    rig.offer(&numbered(100));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(script.seen().len(), 2);
}
