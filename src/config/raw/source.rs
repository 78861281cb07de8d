//! `[sources.NAME]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults::{self, size, time};
use super::{At, Interval, Missing, Size};

/// `[sources.NAME]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Source {
    /// How events come in.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(in crate::config) kind: Option<At<SourceType>>,
    /// IP address and port to listen on.
    #[schemars(required)]
    pub(in crate::config) listen: Option<At<String>>,
    /// Overrides `consent.missing` for events of this source.
    pub(in crate::config) missing: Option<At<Missing>>,
    /// Connections at a time; more wait to be accepted.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = defaults::MAX_CONNECTIONS))]
    pub(in crate::config) max_connections: Option<At<u64>>,
    /// Whether the count of settled lines (stored, refused by every destination, or rejected) is written
    /// back on the connection, as a number and a line end, each time it grows.
    #[schemars(extend("default" = false, "x-types" = ["tcp"]))]
    pub(in crate::config) ack: Option<At<bool>>,
    /// The longest body, as it is sent and inflated; a longer one is answered with 413.
    #[schemars(extend("default" = size(defaults::MAX_BODY_BYTES), "x-types" = ["http"]))]
    pub(in crate::config) max_body_bytes: Option<At<Size>>,
    /// How long a request may take to arrive.
    #[schemars(extend("default" = time(defaults::REQUEST_TIMEOUT), "x-types" = ["http"]))]
    pub(in crate::config) request_timeout: Option<At<Interval>>,
}

/// `type` of a source.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SourceType {
    /// Newline-delimited JSON over plain TCP.
    Tcp,
    /// `POST` of newline-delimited JSON or of a JSON array.
    Http,
}
