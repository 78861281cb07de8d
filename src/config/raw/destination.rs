//! `[destinations.NAME]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults::{self, size, time};
use super::{At, Interval, Named, SecretValue, Size};

/// `[destinations.NAME]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Destination {
    /// How events go out.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(in crate::config) kind: Option<At<DestinationType>>,
    /// A destination that is off receives nothing.
    #[schemars(extend("default" = true))]
    pub(in crate::config) enabled: Option<At<bool>>,
    /// Names of the only sources that it takes events from; without the key, all.
    pub(in crate::config) sources: Option<At<Vec<At<String>>>>,
    /// Whether consent applies to it; `false` is for storage of record.
    #[schemars(extend("default" = true))]
    pub(in crate::config) enforce: Option<At<bool>>,
    /// IDs of the categories that a user must have granted.
    #[schemars(extend("default" = []))]
    pub(in crate::config) categories: Option<At<Vec<At<String>>>>,
    /// How many of them.
    #[schemars(extend("default" = "all"))]
    #[serde(rename = "match")]
    pub(in crate::config) match_mode: Option<At<Match>>,
    /// Its name in the `integrations` of events; without one, the name of the destination.
    pub(in crate::config) integration: Option<At<String>>,
    /// Whether it gets the track event `Segment Consent Preference Updated` whatever the user chose.
    #[schemars(extend("default" = false))]
    pub(in crate::config) receives_preferences: Option<At<bool>>,
    /// The only event types (`type`) that it takes, at most 64; without the key, all.
    pub(in crate::config) types: Option<At<Vec<At<String>>>>,
    /// Bound on the bytes that wait for it. The default is `daemon.memory_max` divided by the number
    /// of destinations, but not more than 8MiB and not less than 64KiB. An event that is larger than
    /// this waits until nothing else does and no other destination has such an event; with
    /// `when_full = "drop_newest"` it is dropped.
    pub(in crate::config) buffer: Option<At<Size>>,
    /// What happens when `buffer` is full.
    #[schemars(extend("default" = "block"))]
    pub(in crate::config) when_full: Option<At<WhenFull>>,
    /// How events are put together.
    pub(in crate::config) batch: Option<At<Batch>>,
    /// How failed batches are tried again.
    pub(in crate::config) retry: Option<At<Retry>>,

    /// Where to `POST`; `http://` or `https://`.
    #[schemars(extend("x-kind" = "text", "x-types" = ["http"], "x-required" = true))]
    pub(in crate::config) url: Option<At<String>>,
    /// More header fields, by name; the values are secrets.
    #[schemars(extend("x-types" = ["http"]))]
    pub(in crate::config) headers: Option<At<Named<At<SecretValue>>>>,
    /// Form of the body.
    #[schemars(extend("default" = "ndjson", "x-types" = ["http"]))]
    pub(in crate::config) format: Option<At<Format>>,
    /// Compression of bodies and files.
    #[schemars(extend("default" = "none", "x-types" = ["http", "file"]))]
    pub(in crate::config) compression: Option<At<Compression>>,
    /// Requests at a time. With 1 the events of a connection arrive in their order.
    #[schemars(
        range(min = 1, max = 1024),
        extend("default" = defaults::CONCURRENCY, "x-types" = ["http"])
    )]
    pub(in crate::config) concurrency: Option<At<u64>>,
    /// For one request, connecting included (`http`, by default 30s); for connecting, and for one
    /// write (`tcp`, by default 10s).
    #[schemars(extend("x-types" = ["http", "tcp"]))]
    pub(in crate::config) timeout: Option<At<Interval>>,
    /// `host:port`
    #[schemars(extend("x-kind" = "text", "x-types" = ["tcp"], "x-required" = true))]
    pub(in crate::config) address: Option<At<String>>,
    /// The file that is appended to. `strftime` conversions such as `%Y%m%d-%H` are replaced with
    /// the time in UTC; folders are created. What stands in it is never cut: a last line without an
    /// end, whoever wrote it, gets one before the first event. A FIFO or a device is written to in
    /// whole batches, however many destinations use it; other processes can come between.
    #[schemars(extend("x-kind" = "text", "x-types" = ["file"], "x-required" = true))]
    pub(in crate::config) path: Option<At<String>>,
    /// When a new file is begun although `path` is the same.
    #[schemars(extend("x-types" = ["file"]))]
    pub(in crate::config) rotate: Option<At<Rotate>>,
}

/// `type` of a destination.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DestinationType {
    /// `POST` of batches.
    Http,
    /// Newline-delimited JSON over plain TCP.
    Tcp,
    /// Newline-delimited JSON, appended to files.
    File,
    /// Newline-delimited JSON on standard output.
    Stdout,
    /// Counts and forgets.
    Blackhole,
}

/// `match`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Match {
    /// Every category must be granted.
    All,
    /// One is enough.
    Any,
}

/// `when_full`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum WhenFull {
    /// Intake waits, and with it the senders.
    Block,
    /// New events for it are dropped and counted as `overflow`.
    DropNewest,
}

/// `format`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Format {
    /// One event a line.
    Ndjson,
    /// One JSON array.
    JsonArray,
    /// `{"batch":[...],"sentAt":"..."}`, as the Segment tracking API takes it.
    SegmentBatch,
}

/// `compression`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// `batch`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Batch {
    /// Events are added while the sum stays at or below this; one event may be longer. Not more than
    /// `buffer`, to which the default gives way.
    #[schemars(extend("default" = size(defaults::BATCH_MAX_BYTES)))]
    pub(in crate::config) max_bytes: Option<At<Size>>,
    /// Events in a batch.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = defaults::BATCH_MAX_EVENTS))]
    pub(in crate::config) max_events: Option<At<u64>>,
    /// How long the first event may wait for others.
    #[schemars(extend("default" = time(defaults::BATCH_MAX_WAIT)))]
    pub(in crate::config) max_wait: Option<At<Interval>>,
}

/// `retry`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// Upper bound of the first wait; it doubles with every failure.
    #[schemars(extend("default" = time(defaults::RETRY_INITIAL)))]
    pub(in crate::config) initial: Option<At<Interval>>,
    /// Upper bound of any wait.
    #[schemars(extend("default" = time(defaults::RETRY_MAX)))]
    pub(in crate::config) max: Option<At<Interval>>,
    /// A batch that could not be delivered for so long is dropped and counted as `gave_up`.
    #[schemars(extend("default" = time(defaults::GIVE_UP_AFTER)))]
    pub(in crate::config) give_up_after: Option<At<Interval>>,
}

/// `rotate`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rotate {
    /// A file is not appended to once it has this many bytes.
    pub(in crate::config) max_bytes: Option<At<Size>>,
    /// A file is not appended to once it is this old.
    pub(in crate::config) every: Option<At<Interval>>,
}
