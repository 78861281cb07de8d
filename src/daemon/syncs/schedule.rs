//! When the next sync is due: pure.
//!
//! Times of `every` keep their phase, whatever a sync takes; one that is due while another goes on is
//! skipped. After a restart what was missed is made up for, once. Times of `cron` are in UTC, and what
//! was missed is not made up for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::{SignedDuration, Timestamp};

use crate::config::Schedule;

/// The schedule for people.
pub(super) fn told(schedule: &Schedule) -> String {
    match schedule {
        Schedule::ByHand => "by hand".to_owned(),
        Schedule::Every(every) => format!("every {}", in_units(*every)),
        Schedule::Cron(cron) => format!("cron {cron}"),
    }
}

fn in_units(every: Duration) -> String {
    let seconds = every.as_secs();
    match [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit) && every.subsec_nanos() == 0)
    {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{}ms", every.as_millis()),
    }
}

/// When a model is due that was due last at `last`, if ever, and has not been looked at since: the
/// daemon starts, or the schedule is another.
pub(super) fn first(
    schedule: &Schedule,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match schedule {
        Schedule::ByHand => None,
        Schedule::Every(every) => {
            let every = span(*every);
            let due = last.map_or(now, |last| last.saturating_add(every).unwrap_or(now));
            // A clock that was set back must not silence it.
            let latest = now.saturating_add(every).unwrap_or(now);
            Some(due.clamp(now, latest))
        }
        Schedule::Cron(cron) => next_of(cron, now),
    }
}

/// When a model is due next that was due at `last`; what was due meanwhile is skipped.
pub(super) fn next(schedule: &Schedule, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::ByHand => None,
        Schedule::Every(every) => {
            let every = span(*every).max(SignedDuration::from_millis(1));
            let passed = now.duration_since(last).max(SignedDuration::ZERO);
            let times = passed.as_nanos() / every.as_nanos() + 1;
            let ahead = i64::try_from(every.as_nanos().saturating_mul(times)).unwrap_or(i64::MAX);
            Some(last.min(now).saturating_add(SignedDuration::from_nanos(ahead)).unwrap_or(now))
        }
        Schedule::Cron(cron) => next_of(cron, now),
    }
}

/// The same, when the clock was set back since it was worked out: that must not silence the model.
pub(super) fn at_the_latest(schedule: &Schedule, due: Timestamp, now: Timestamp) -> Timestamp {
    next(schedule, now, now).map_or(due, |latest| due.min(latest))
}

fn next_of(cron: &str, now: Timestamp) -> Option<Timestamp> {
    let cron: Cron = CronParser::builder().seconds(Seconds::Disallowed).build().parse(cron).ok()?;
    let now = DateTime::<Utc>::from_timestamp(now.as_second(), 0)?;
    let due = cron.find_next_occurrence(&now, false).ok()?;
    Timestamp::from_second(due.timestamp()).ok()
}

fn span(every: Duration) -> SignedDuration {
    SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-03-0{text}Z").parse().unwrap()
    }

    fn every(minutes: u64) -> Schedule {
        Schedule::Every(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_after_a_start() {
        let now = at("1T12:00:00");
        for (last, due) in [
            (None, now),
            (Some(at("1T11:50:00")), at("1T12:05:00")),
            (Some(at("1T11:45:00")), now),
            (Some(at("1T01:00:00")), now),
            // The clock was set back.
            (Some(at("9T12:00:00")), at("1T12:15:00")),
        ] {
            assert_eq!(first(&every(15), last, now), Some(due), "{last:?}");
        }
        assert_eq!(first(&Schedule::ByHand, None, now), None);
    }

    #[test]
    fn the_phase_is_kept_and_what_is_due_meanwhile_is_skipped() {
        let last = at("1T12:00:00");
        for (now, due) in [
            (at("1T12:00:01"), at("1T12:15:00")),
            (at("1T12:14:59"), at("1T12:15:00")),
            (at("1T12:15:00"), at("1T12:30:00")),
            (at("1T13:01:00"), at("1T13:15:00")),
            (at("1T11:00:00"), at("1T11:15:00")),
        ] {
            assert_eq!(next(&every(15), last, now), Some(due), "{now}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_a_model() {
        let now = at("1T12:00:00");
        let cron = Schedule::Cron("0 6 * * *".to_owned());
        for (schedule, due, latest) in [
            (every(15), at("9T12:00:00"), at("1T12:15:00")),
            (every(15), at("1T12:05:00"), at("1T12:05:00")),
            (every(15), at("1T11:00:00"), at("1T11:00:00")),
            (cron.clone(), at("9T06:00:00"), at("2T06:00:00")),
            (cron, at("2T06:00:00"), at("2T06:00:00")),
        ] {
            assert_eq!(at_the_latest(&schedule, due, now), latest, "{due}");
        }
    }

    #[test]
    fn cron_is_in_utc_and_misses_what_it_missed() {
        let cron = Schedule::Cron("0 6 * * mon-fri".to_owned());
        // 2026-03-06 is a Friday.
        for (now, due) in [
            (at("5T05:59:59"), at("5T06:00:00")),
            (at("5T06:00:00"), at("6T06:00:00")),
            (at("6T06:00:01"), at("9T06:00:00")),
        ] {
            assert_eq!(next(&cron, at("1T00:00:00"), now), Some(due), "{now}");
            assert_eq!(first(&cron, Some(at("1T00:00:00")), now), Some(due), "{now}");
        }
    }

    #[test]
    fn schedules_are_told_in_units() {
        let seconds = |n| Schedule::Every(Duration::from_secs(n));
        for (schedule, text) in [
            (seconds(900), "every 15m"),
            (seconds(7200), "every 2h"),
            (seconds(90), "every 90s"),
            (Schedule::Every(Duration::from_millis(1500)), "every 1500ms"),
            (Schedule::Cron("0 6 * * *".to_owned()), "cron 0 6 * * *"),
        ] {
            assert_eq!(told(&schedule), text);
        }
    }
}
