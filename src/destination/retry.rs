//! What an answer means, and when to try again. Pure: time and randomness are arguments.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use tokio::time::Instant;

use crate::config::Retry;
use crate::metrics::Attempt;

/// How an attempt ended, named by what has to be done about it.
///
/// `why` is for people. It holds nothing of events, headers or URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has the batch.
    Delivered,
    /// It may work later.
    Retry {
        /// The earliest time, if the destination named one.
        after: Option<Duration>,
        /// The cause.
        why: String,
    },
    /// It will not work for any batch until somebody changes something, here or there.
    Hold {
        /// The cause.
        why: String,
    },
    /// The destination will never take this batch; it may take parts of it.
    Reject {
        /// The cause.
        why: String,
    },
}

impl Outcome {
    /// Something that may work later, at no known time.
    pub(super) fn retry(why: impl Into<String>) -> Self {
        Self::Retry { after: None, why: why.into() }
    }

    /// Something that will not work until it is repaired.
    pub(super) fn hold(why: impl Into<String>) -> Self {
        Self::Hold { why: why.into() }
    }

    /// What is counted.
    #[must_use]
    pub fn kind(&self) -> Attempt {
        match self {
            Self::Delivered => Attempt::Delivered,
            Self::Retry { .. } => Attempt::Retry,
            Self::Hold { .. } => Attempt::Held,
            Self::Reject { .. } => Attempt::Rejected,
        }
    }
}

/// A `Retry-After` longer than this (and than `retry.max`) is cut down to it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// No two attempts of a batch are closer, whatever the config and the dice say.
const DELAY_MIN: Duration = Duration::from_millis(10);

/// Nor are they further apart.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// What an HTTP answer means.
///
/// 2xx: delivered. 408, 425, 429 and 5xx say "later", as does 409, which is what servers that
/// understand `Idempotency-Key` answer while the same batch is still being worked on. 400, 413 and
/// 422 speak about the content: the batch is split until the bad events are found. Everything else
/// speaks about the request whatever its content, so dropping events would not help and neither
/// would haste: 401, 403, 404 and the other 4xx, and redirects, which are not followed, because
/// events must not go to an address that is not in the config.
#[must_use]
pub fn classify(status: StatusCode, retry_after: Option<Duration>) -> Outcome {
    let why = format!("answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        408 | 409 | 425 | 429 | 500..=599 => Outcome::Retry { after: retry_after, why },
        400 | 413 | 422 => Outcome::Reject { why },
        _ => Outcome::Hold { why },
    }
}

/// Reads a `Retry-After`: seconds or an HTTP date.
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// How long to wait after failure number `failures` (from 1) in a row; `random` is in `0.0..1.0`.
///
/// Full jitter: anything up to a bound that starts at `initial` and doubles up to `max`. A time that
/// the destination named is kept to instead (up to an hour, or `max` if that is longer), plus the
/// first jitter, so that not everybody comes back in the same instant.
pub(super) fn delay(
    retry: &Retry,
    failures: u32,
    after: Option<Duration>,
    random: f64,
) -> Duration {
    let random = random.clamp(0.0, 1.0);
    let max = retry.max.min(DELAY_MAX);
    let doubled = 1_u32 << failures.saturating_sub(1).min(31);
    let jittered = |bound: Duration| bound.min(max).mul_f64(random);
    let delay = match after {
        Some(after) => after.min(max.max(RETRY_AFTER_MAX)) + jittered(retry.initial),
        None => jittered(retry.initial.saturating_mul(doubled)),
    };
    delay.max(DELAY_MIN)
}

/// When a batch that was first tried at `first` is given up.
///
/// The last attempt is made at this time, whatever the wait would be.
pub(super) fn give_up_at(retry: &Retry, first: Instant) -> Option<Instant> {
    first.checked_add(retry.give_up_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(initial: u64, max: u64) -> Retry {
        Retry {
            initial: Duration::from_millis(initial),
            max: Duration::from_millis(max),
            give_up_after: Duration::from_secs(1),
        }
    }

    #[test]
    fn every_status_has_one_meaning() {
        let expect = |code: u16| match code {
            200..=299 => "delivered",
            408 | 409 | 425 | 429 => "retry",
            500..=599 => "retry",
            400 | 413 | 422 => "rejected",
            _ => "held",
        };
        for code in 200..600 {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(classify(status, None).kind().label(), expect(code), "{code}");
        }
        for code in [301, 302, 307, 401, 402, 403, 404, 405, 410, 415, 431] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(classify(status, None).kind().label(), "held", "{code}");
        }
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_are_jittered_in_full() {
        let retry = retry(200, 1000);
        let most = |failures| delay(&retry, failures, None, 1.0).as_millis();
        assert_eq!([1, 2, 3, 4, 5].map(most), [200, 400, 800, 1000, 1000]);
        assert_eq!(most(u32::MAX), 1000);
        assert_eq!(delay(&retry, 3, None, 0.5).as_millis(), 400);
        assert_eq!(delay(&retry, 3, None, 0.0), DELAY_MIN);
    }

    #[test]
    fn retry_after_is_a_minimum_up_to_an_hour() {
        let retry = retry(200, 1000);
        let wait = |seconds, random| delay(&retry, 9, Some(Duration::from_secs(seconds)), random);
        assert_eq!(wait(30, 0.0), Duration::from_secs(30));
        assert_eq!(wait(30, 1.0), Duration::from_millis(30_200));
        assert_eq!(wait(90_000, 0.0), Duration::from_secs(3600));
        assert_eq!(wait(0, 0.0), DELAY_MIN);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |value| parse_retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_patience_does_not_overflow() {
        let mut retry = retry(1, 1);
        let now = Instant::now();
        assert_eq!(give_up_at(&retry, now), Some(now + Duration::from_secs(1)));
        retry.give_up_after = Duration::MAX;
        assert_eq!(give_up_at(&retry, now), None);
    }
}
