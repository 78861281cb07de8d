//! The values of keys that are not given, and how they are written in a config.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

pub(in crate::config) const MAX_EVENT_BYTES: u64 = MIB;
pub(in crate::config) const MEMORY_MAX: u64 = 256 * MIB;
pub(in crate::config) const INGEST_BYTES_MAX: u64 = 16 * MIB;
pub(in crate::config) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
pub(in crate::config) const LOCATIONS: [&str; 2] =
    ["/context/consent/categoryPreferences", "/context/consentCategories"];

pub(in crate::config) const MAX_CONNECTIONS: u64 = 4096;
pub(in crate::config) const MAX_BODY_BYTES: u64 = 32 * MIB;
pub(in crate::config) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest default of `buffer`.
pub(in crate::config) const BUFFER: u64 = 8 * MIB;
pub(in crate::config) const BUFFER_MIN: u64 = 64 * KIB;
pub(in crate::config) const BATCH_MAX_BYTES: u64 = MIB;
pub(in crate::config) const BATCH_MAX_EVENTS: u64 = 5000;
pub(in crate::config) const BATCH_MAX_WAIT: Duration = Duration::from_secs(1);
pub(in crate::config) const RETRY_INITIAL: Duration = Duration::from_millis(200);
pub(in crate::config) const RETRY_MAX: Duration = Duration::from_secs(60);
pub(in crate::config) const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
pub(in crate::config) const CONCURRENCY: u64 = 4;
pub(in crate::config) const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
pub(in crate::config) const TCP_TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::config) const LOG_SYNC_EVERY: Duration = Duration::from_secs(1);
pub(in crate::config) const LOG_WINDOW: Duration = Duration::from_millis(1);
pub(in crate::config) const LOG_MAX_BYTES: u64 = 10 << 30;
pub(in crate::config) const LOG_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
pub(in crate::config) const DEAD_LETTERS_MAX_BYTES: u64 = 1 << 30;
pub(in crate::config) const DEAD_LETTERS_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
pub(in crate::config) const LOG_FREE_SPACE_MIN: u64 = 256 << 20;

pub(in crate::config) const RETRY_SYNCS: u64 = 5;
pub(in crate::config) const RETRY_FOR: Duration = Duration::from_secs(14 * 24 * 3600);
pub(in crate::config) const QUERY_CHARS: u64 = 65_535;
pub(in crate::config) const COLUMNS: u64 = 512;
pub(in crate::config) const ROW_BYTES: u64 = 512 * KIB;
pub(in crate::config) const ROWS: u64 = 150_000_000;

/// A size as a config says it: `1MiB`, `1500B`.
pub(in crate::config) fn size(bytes: u64) -> String {
    let units = [("GiB", KIB * MIB), ("MiB", MIB), ("KiB", KIB)];
    let unit = units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A duration as a config says it: `200ms`, `1s`, `24h`.
pub(in crate::config) fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    match (millis % 1000, millis / 1000) {
        (0, seconds) if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_a_config_says_them() {
        let sizes = [0, 1, 1024, 1536, MIB, 3 * MIB + KIB, 2 * KIB * MIB].map(size);
        assert_eq!(sizes, ["0B", "1B", "1KiB", "1536B", "1MiB", "3073KiB", "2GiB"]);
        let times = [200, 1000, 60_000, 86_400_000, 1500].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(times, ["200ms", "1s", "60s", "24h", "1500ms"]);
    }
}
