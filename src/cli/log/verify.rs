//! `consentd log verify`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::output::{damage, size};
use super::{Place, Which, Wrong};
use crate::log::{Folder, Progress, SegmentCheck, verify, verify_segment};

/// Arguments of `log verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    which: Which,
}

/// Progress is worth a word if it takes longer, and then so often.
const LOOK: Duration = Duration::from_secs(2);

/// A commit that is being written is there in full after so many more looks.
const UNFINISHED_LOOKS: u32 = 20;
const UNFINISHED_WAIT: Duration = Duration::from_millis(50);

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, Wrong> {
    let place = Place::of(&args.which.at.config)?;
    let mut out = io::stdout().lock();
    let mut is_sound = true;
    for (kind, folder) in place.folders(&args.which)? {
        let mut told = Instant::now();
        let mut checks = verify(&folder, |Progress { done_bytes, total_bytes }| {
            if told.elapsed() >= LOOK {
                told = Instant::now();
                eprintln!("{} of {} read", size(done_bytes), size(total_bytes));
            }
        })?;
        if let Some(newest) = checks.last_mut() {
            look_again(&folder, newest)?;
        }
        is_sound &= checks.iter().all(|check| check.damage.is_none());
        print(&mut out, kind, &folder, &checks, args.which.json)?;
    }
    out.flush()?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What looks damaged at the very end may be a commit that the daemon is writing.
fn look_again(folder: &Folder, newest: &mut SegmentCheck) -> Result<(), Wrong> {
    for _ in 0..UNFINISHED_LOOKS {
        if !newest.is_unfinished() {
            return Ok(());
        }
        std::thread::sleep(UNFINISHED_WAIT);
        let number = newest.segment.number;
        let segments = folder.segments()?;
        let Some(now) = segments.into_iter().find(|segment| segment.number == number) else {
            newest.damage = crate::log::Damage::default();
            return Ok(());
        };
        if let Some(check) = verify_segment(folder, now)? {
            *newest = check;
        }
    }
    Ok(())
}

fn print(
    out: &mut impl Write,
    kind: &str,
    folder: &Folder,
    checks: &[SegmentCheck],
    as_json: bool,
) -> Result<(), Wrong> {
    if as_json {
        for check in checks {
            let places = check.places.iter().map(|place| {
                json!({
                    "position": place.position.to_string(),
                    "bytes": place.bytes,
                    "events": place.events,
                })
            });
            let object = json!({
                "log": kind,
                "segment": check.segment.number,
                "bytes": check.segment.bytes,
                "frames": check.frames,
                "blocks": check.blocks,
                "events": check.records,
                "wiped_bytes": check.wiped_bytes,
                "damage": damage(&check.damage),
                "places": places.collect::<Vec<_>>(),
            });
            writeln!(out, "{object}")?;
        }
        return Ok(());
    }
    let events: u64 = checks.iter().map(|check| check.records).sum();
    let bytes = checks.iter().map(|check| check.segment.bytes).sum();
    let stretches: u64 = checks.iter().map(|check| check.damage.stretches).sum();
    let verdict = if stretches == 0 { "sound" } else { "DAMAGED" };
    writeln!(
        out,
        "{}: {verdict}: {} segments, {}, {events} events",
        folder.path().display(),
        checks.len(),
        size(bytes)
    )?;
    for check in checks {
        for place in &check.places {
            let events = match place.events {
                Some(events) => format!("{events} events"),
                None => "an unknown number of events".to_owned(),
            };
            writeln!(out, "  at {}: {} bytes, {events}", place.position, place.bytes)?;
        }
        let unnamed = check.damage.stretches.saturating_sub(check.places.len() as u64);
        if unnamed > 0 {
            writeln!(out, "  and {unnamed} more in segment {:x}", check.segment.number)?;
        }
    }
    if checks.last().is_some_and(SegmentCheck::is_unfinished) {
        writeln!(out, "{UNFINISHED}")?;
    }
    Ok(())
}

const UNFINISHED: &str = "  it stands at the very end: after a crash that may be a commit that was \
                          being written, which nobody was told of; the next start cuts it off";
