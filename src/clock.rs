//! The time as it is stored and shown: milliseconds since 1970.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now.
#[must_use]
pub fn unix_ms() -> u64 {
    as_ms(since_1970())
}

/// When `at` was.
#[must_use]
pub fn unix_ms_of(at: Instant) -> u64 {
    as_ms(since_1970().saturating_sub(at.elapsed()))
}

/// The other way; now, if it lies before what an [`Instant`] can name.
#[must_use]
pub fn instant_of(unix_ms: u64) -> Instant {
    let age = since_1970().saturating_sub(Duration::from_millis(unix_ms));
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

/// A clock that is before 1970 is taken to be there.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn as_ms(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
