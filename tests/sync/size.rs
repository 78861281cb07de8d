//! A million rows.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::world::{Model, PEOPLE, World, children, counts};

const ROWS: u64 = 1_000_000;

/// Of the process of a sync.
const RSS_KIB_MAX: u64 = 256 * 1024;

/// A change that is not one of the database.
const REJECTED: &str = "rejections";

const TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn a_million_rows_take_little_memory_and_little_time() {
    let mut world = World::new(PEOPLE, Model::new(), |_, config| {
        config
            .destination("ads", "type = \"blackhole\"\ncategories = [\"Ads\"]")
            .destination("stats", "type = \"blackhole\"\ncategories = [\"Stats\"]")
    });
    world.sql(&format!(
        "insert into people with recursive n (i) as (select 1 union all select i + 1 from n where i < {ROWS})
         select i, 'plan ' || (i * 7919 % 100), i % 3 > 0, i % 5 > 0 from n"
    ));
    for (change, expected) in [
        ("", "rows=1000000 added=1000000 refused=466667 sent=933334"),
        ("", "rows=1000000 unchanged=1000000"),
        (REJECTED, "rows=1000000 unchanged=1000000"),
        (
            "delete from people where id % 10 = 9",
            "rows=900000 deleted=100000 unchanged=900000 sent=100000",
        ),
    ] {
        if change == REJECTED {
            reject_all_over(&mut world);
        } else {
            world.sql(change);
        }
        let (peak, is_over) = (&AtomicU64::new(0), &AtomicBool::new(false));
        let (daemon, started) = (world.daemon().id(), Instant::now());
        let record = scope(|scope| {
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    peak.fetch_max(peak_kib(daemon), Relaxed);
                    sleep(Duration::from_millis(10));
                }
            });
            let record = world.run_patiently("", TIME_MAX);
            is_over.store(true, Relaxed);
            record
        });
        let (took, peak) = (started.elapsed(), peak.load(Relaxed));
        println!("{expected}: {took:?}, {} MiB", peak / 1024);
        assert_eq!(
            (record["state"].as_str(), counts(&record)),
            (Some("done"), expected.to_owned())
        );
        assert!(peak > 1024 && peak < RSS_KIB_MAX, "{peak} KiB");
        assert!(took < TIME_MAX, "{took:?}");
    }
}

/// Notes that rows of all parts of the state were rejected, in versions that nobody knows any more.
fn reject_all_over(world: &mut World) {
    world.kill();
    let lines = (0..=u8::MAX).map(|first| {
        let message = format!("{first:02x}{:030x}-{:032x}", 0, 0);
        format!("{{\"messageId\":\"{message}\",\"destination\":1}}\n")
    });
    world.folder.write("state/warehouse/people.rejections", lines.collect::<String>());
    world.start();
}

fn peak_kib(daemon: u32) -> u64 {
    let peak = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    children(daemon).into_iter().filter_map(peak).max().unwrap_or(0)
}
