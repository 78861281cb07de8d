//! The config as the file has it. These types are also the source of the reference and of the JSON
//! Schema: a doc comment here is what an operator reads.
//!
//! Everything is optional, because what is wrong is taken out of the document before it gets here
//! (see [`super::structure`]); what must be there is checked by [`super::validate`].
//!
//! Extensions of the schema: `x-kind` names a form of value (`size`, `duration`, `text`, `secret`,
//! `event`, `mapping`, `consent`), `x-types` the types of source or destination that a key belongs to, and `x-required` says
//! that those types need it.

pub(super) mod defaults;
mod destination;
mod scalar;
mod source;
mod template;
mod warehouse;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

pub(super) use destination::{Batch, Destination, DestinationType, Retry, Rotate};
pub(super) use destination::{Compression, Format, Match, WhenFull};
pub(super) use scalar::{At, Event, Interval, Named, SecretValue, Size};
pub(super) use source::{Source, SourceType};
pub(super) use template::{ConsentColumns, Template};
pub(super) use warehouse::Warehouse;
pub(super) use warehouse::{Change, ConsentCast, Limits, Model, NullValues, OnWithdrawal, StateIn};

use super::model;
use defaults::size;

/// The whole file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "consentd config")]
pub(super) struct File {
    /// The process as a whole.
    pub(super) daemon: Option<At<Daemon>>,
    /// The address of metrics, health, reload and erasure.
    pub(super) admin: Option<At<Admin>>,
    /// The durable log: what was acknowledged is in it until every destination has it.
    pub(super) log: Option<At<Log>>,
    /// Events that failed for good, kept with the reason wherever there is a log: what a destination
    /// rejected, what was given up, and if wanted what was rejected on the way in. `consentd log
    /// dead-letters` lists and replays them.
    pub(super) dead_letters: Option<At<DeadLetters>>,
    /// What holds for events and destinations that say nothing themselves.
    #[schemars(required)]
    pub(super) consent: Option<At<Consent>>,
    /// The purposes that users consent to: one `[[categories]]` each, at most 256. Their order is the
    /// order in which `explain` shows them.
    pub(super) categories: Option<At<Vec<At<Category>>>>,
    /// Where events come in: one `[sources.NAME]` each.
    pub(super) sources: Option<At<Named<Source>>>,
    /// Databases that models ask: one `[warehouses.NAME]` each.
    pub(super) warehouses: Option<At<Named<Warehouse>>>,
    /// Queries whose rows become events: one `[models.NAME]` each. A model is a source of that name. It
    /// needs the log.
    pub(super) models: Option<At<Named<Model>>>,
    /// Where events go: one `[destinations.NAME]` each, at most 4096.
    pub(super) destinations: Option<At<Named<Destination>>>,
    /// Events and what must become of them, one `[[tests]]` each: `consentd test` runs them.
    pub(super) tests: Option<At<Vec<At<Test>>>>,
}

impl File {
    /// The document, which was checked against the schema of this type.
    pub(super) fn read(document: Spanned<DeTable<'_>>) -> Result<Self, toml::de::Error> {
        Self::deserialize(toml::de::Deserializer::from(document))
    }
}

/// `[daemon]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Daemon {
    /// Folder for the daemon's state. When given, a running daemon locks it, so that a second one
    /// with the same config does not start.
    pub(super) data_dir: Option<At<String>>,
    /// Threads that judge events; 0 is one per core.
    #[schemars(range(max = 256), extend("default" = 0))]
    pub(super) workers: Option<At<u64>>,
    /// A longer line is rejected as `too_large`.
    #[schemars(extend("default" = size(defaults::MAX_EVENT_BYTES)))]
    pub(super) max_event_bytes: Option<At<Size>>,
    /// Bound on the memory that events take which wait for destinations: the sum of all `buffer` may
    /// not be more. Beyond it, one event at a time may wait that is larger than the `buffer` of its
    /// destination. Destinations that a reload removed count while they drain.
    #[schemars(extend("default" = size(defaults::MEMORY_MAX)))]
    pub(super) memory_max: Option<At<Size>>,
    /// Bound on the bytes that were read from sources and are not yet judged; at least four times
    /// `max_event_bytes`.
    #[schemars(extend("default" = size(defaults::INGEST_BYTES_MAX)))]
    pub(super) ingest_bytes_max: Option<At<Size>>,
    /// How long a stopping daemon, or a destination that a reload removed, goes on delivering.
    #[schemars(extend("default" = defaults::time(defaults::SHUTDOWN_TIMEOUT)))]
    pub(super) shutdown_timeout: Option<At<Interval>>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// Whether there is one, in the folder `log` of `daemon.data_dir`. Without it events wait in memory
    /// only, and are lost with the process.
    #[schemars(extend("default" = true))]
    pub(super) enabled: Option<At<bool>>,
    /// When what was written is made durable.
    #[schemars(extend("default" = "commit"))]
    pub(super) sync: Option<At<SyncMode>>,
    /// How often, with `sync = "interval"`.
    #[schemars(extend("default" = defaults::time(defaults::LOG_SYNC_EVERY)))]
    pub(super) sync_every: Option<At<Interval>>,
    /// How long a write waits for more events to share it, after the first one.
    #[schemars(extend("default" = defaults::time(defaults::LOG_WINDOW)))]
    pub(super) window: Option<At<Interval>>,
    /// What the log may take on the disk.
    #[schemars(extend("default" = size(defaults::LOG_MAX_BYTES)))]
    pub(super) max_bytes: Option<At<Size>>,
    /// Events that no destination took for so long are dropped as `expired`.
    #[schemars(extend("default" = defaults::time(defaults::LOG_MAX_AGE)))]
    pub(super) max_age: Option<At<Interval>>,
    /// What happens when `max_bytes` is reached.
    #[schemars(extend("default" = "block"))]
    pub(super) when_full: Option<At<LogWhenFull>>,
    /// Below this much free space on the disk no more events are taken.
    #[schemars(extend("default" = size(defaults::LOG_FREE_SPACE_MIN)))]
    pub(super) free_space_min: Option<At<Size>>,
}

/// `sync`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SyncMode {
    /// Before anybody is answered: what was acknowledged survives a power cut.
    Commit,
    /// Every `sync_every`: a power cut costs what came since.
    Interval,
    /// When the system likes. A crash of the daemon costs nothing, a power cut what the system had not
    /// written.
    Off,
}

/// `when_full`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogWhenFull {
    /// Reading stops until there is room; requests are answered 503.
    Block,
    /// The oldest events are dropped as `expired`.
    DropOldest,
}

/// `[dead_letters]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetters {
    /// Whether lines that are rejected on the way in are kept, too: of one that is longer than 1 MiB, or
    /// rejected as `too_large`, the first 64 KiB. They have a quarter of `max_bytes` to themselves; what
    /// comes faster than it can be written is counted in `consentd_dead_letters_lost_total`.
    #[schemars(extend("default" = false))]
    pub(super) rejected_on_ingest: Option<At<bool>>,
    /// What dead letters may take on the disk, at least four times `daemon.max_event_bytes`. When they are
    /// full the oldest expire.
    #[schemars(extend("default" = size(defaults::DEAD_LETTERS_MAX_BYTES)))]
    pub(super) max_bytes: Option<At<Size>>,
    /// Letters expire when they are so old, give or take an eighth.
    #[schemars(extend("default" = defaults::time(defaults::DEAD_LETTERS_MAX_AGE)))]
    pub(super) max_age: Option<At<Interval>>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// IP address and port. Whoever reaches it can read metrics and ask for reloads and erasures.
    #[schemars(extend("default" = model::Admin::DEFAULT))]
    pub(super) listen: Option<At<String>>,
}

/// `[consent]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Consent {
    /// What happens to an event that has no consent object. There is no default: whether silence
    /// means yes depends on the law that applies to you.
    #[schemars(required)]
    pub(super) missing: Option<At<Missing>>,
    /// What a destination gets that has no enabled category.
    #[schemars(extend("default" = "allow"))]
    pub(super) unmapped: Option<At<Unmapped>>,
    /// Where the consent object is looked for: 1 to 4 JSON pointers `/context/KEY` or
    /// `/context/KEY/KEY`, tried in this order.
    #[schemars(extend("default" = defaults::LOCATIONS))]
    pub(super) locations: Option<At<Vec<At<String>>>>,
}

/// `missing`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Missing {
    /// It goes to every destination, as if its user had agreed.
    Allow,
    /// It goes only where no consent is needed.
    Deny,
}

/// `unmapped`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unmapped {
    /// Every event.
    Allow,
    /// None.
    Deny,
}

/// `[[categories]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Category {
    /// The ID that events use: 1 to 34 characters, not starting with a digit; case sensitive.
    #[schemars(required)]
    pub(super) id: Option<At<String>>,
    /// The name that people read; without one, the ID.
    pub(super) name: Option<At<String>>,
    /// A category that is off asks for no consent: destinations are treated as if they did not name
    /// it.
    #[schemars(extend("default" = true))]
    pub(super) enabled: Option<At<bool>>,
}

/// `[[tests]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// What the report calls it.
    #[schemars(required)]
    pub(super) name: Option<At<String>>,
    /// The event: a table, which becomes a JSON object, or a string that holds one line as it would
    /// arrive.
    #[schemars(required)]
    pub(super) event: Option<At<Event>>,
    /// The source that the event comes from; without one every destination's `sources` test passes
    /// and the global `missing` applies.
    pub(super) source: Option<At<String>>,
    /// All destinations that must receive the event, and no other may.
    pub(super) deliver: Option<At<Vec<At<String>>>>,
    /// Destinations that must not receive it, and the reason of each: `disabled`, `source`, `consent`,
    /// `integrations` or `filtered`.
    pub(super) drop: Option<At<Named<At<DropReason>>>>,
    /// The event must be rejected for this reason; instead of `deliver` and `drop`.
    pub(super) rejected: Option<At<RejectReason>>,
}

/// The reasons of `consentd_events_dropped_total` that a decision gives.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DropReason {
    Disabled,
    Source,
    Consent,
    Integrations,
    Filtered,
}

/// The reasons of `consentd_events_rejected_total`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RejectReason {
    InvalidJson,
    TooDeep,
    TooLarge,
    DuplicateKey,
    PreferencesMissing,
    PreferencesInvalid,
}
