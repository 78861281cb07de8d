//! The config after every check: what the rest of the program is built from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::models::{Model, ModelConsent, Warehouse};
use super::text::{Secret, Text};
use crate::route::{CategorySpec, DestinationSpec, Missing, SourceSpec, TableSpec, Unmapped};

/// A config that was read, checked and resolved against itself.
///
/// Environment variables and secret files are *not* resolved yet: `check` and `explain` must not
/// need them. See [`Text`] and [`Secret`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[daemon]`
    pub daemon: Daemon,
    /// `[log]`; `None` if it is switched off.
    pub log: Option<Log>,
    /// `[dead_letters]`; `None` if there is no log.
    pub dead_letters: Option<DeadLetters>,
    /// `[admin]`
    pub admin: Admin,
    /// `[consent]`
    pub consent: Consent,
    /// `[[categories]]`, in the order of the file.
    pub categories: Vec<CategorySpec>,
    /// `[sources.*]`, in the order of the file.
    pub sources: Vec<Source>,
    /// `[warehouses.*]`, in the order of the file.
    pub warehouses: Vec<Warehouse>,
    /// `[models.*]`, in the order of the file. They are sources, too.
    pub models: Vec<Model>,
    /// `[destinations.*]`, in the order of the file.
    pub destinations: Vec<Destination>,
    /// `[[tests]]`, in the order of the file.
    pub tests: Vec<Test>,
}

impl Config {
    /// The names of the sources by their numbers: those of `[sources.*]`, then the models.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        let sources = self.sources.iter().map(|source| source.name.as_str());
        sources.chain(self.models.iter().map(|model| model.name.as_str()))
    }

    /// What a routing table with this version is compiled from.
    #[must_use]
    pub fn table_spec(&self, version: u64) -> TableSpec {
        let source =
            |source: &Source| SourceSpec { name: source.name.clone(), missing: source.missing };
        // A row without its consent object would be a mistake of ours: it is refused.
        let model = |model: &Model| SourceSpec {
            name: model.name.clone(),
            missing: match model.consent {
                ModelConsent::Columns(_) => Some(Missing::Deny),
                ModelConsent::None => None,
            },
        };
        TableSpec {
            version,
            categories: self.categories.clone(),
            locations: self.consent.locations.clone(),
            missing: self.consent.missing,
            unmapped: self.consent.unmapped,
            sources: self.sources.iter().map(source).chain(self.models.iter().map(model)).collect(),
            destinations: self.destinations.iter().map(|d| self.rules(&d.route)).collect(),
        }
    }

    /// The rules of a destination, with the models that do not name it among the sources it refuses.
    fn rules(&self, rules: &DestinationSpec) -> DestinationSpec {
        let excluded = |source: &String| {
            let model = self.models.iter().find(|model| model.name == *source);
            let named = model.and_then(|model| model.destinations.as_ref());
            named.is_some_and(|named| !named.contains(&rules.name))
        };
        let models = || self.models.iter().map(|model| &model.name);
        if !models().any(excluded) {
            return rules.clone();
        }
        let every = || self.sources.iter().map(|source| &source.name).chain(models());
        let sources: Vec<String> = match &rules.sources {
            Some(named) => named.iter().filter(|source| !excluded(source)).cloned().collect(),
            None => every().filter(|source| !excluded(source)).cloned().collect(),
        };
        DestinationSpec { sources: Some(sources), ..rules.clone() }
    }
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// State of the daemon; locked against a second daemon while it runs.
    pub data_dir: Option<PathBuf>,
    /// Worker threads; at least one.
    pub workers: NonZeroUsize,
    /// Longest line that is an event.
    pub max_event_bytes: usize,
    /// Bound on the bytes that wait for all destinations together.
    pub memory_max: usize,
    /// Bound on the bytes read from sources and not yet judged.
    pub ingest_bytes_max: usize,
    /// How long deliveries may go on after a stop was asked for.
    pub shutdown_timeout: Duration,
}

/// A segment of the log, the unit that is released.
pub const LOG_SEGMENT_BYTES: u32 = 64 * 1024 * 1024;

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its folder.
    pub folder: PathBuf,
    /// When what was written is made durable.
    pub sync: LogSync,
    /// How long a write waits for more.
    pub window: Duration,
    /// What it may take on the disk.
    pub max_bytes: u64,
    /// What is older is dropped.
    pub max_age: Duration,
    /// Whether the oldest events make room when it is full; else reading stops.
    pub drop_oldest: bool,
    /// Below this no more events are taken.
    pub free_space_min: u64,
}

/// `log.sync`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSync {
    /// Before anybody is answered.
    Commit,
    /// So often.
    Interval(Duration),
    /// When the system likes.
    Off,
}

/// `[dead_letters]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Their folder.
    pub folder: PathBuf,
    /// Whether lines that are rejected on the way in are kept.
    pub rejected_on_ingest: bool,
    /// What they may take on the disk.
    pub max_bytes: u64,
    /// What is older goes.
    pub max_age: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Address of metrics, health, reload and erasure.
    pub listen: SocketAddr,
}

impl Admin {
    /// Where the admin address is unless the config says otherwise.
    pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9600);
}

/// `[consent]`
#[derive(Clone, Debug, PartialEq)]
pub struct Consent {
    /// For events without a consent object.
    pub missing: Missing,
    /// For destinations without an enabled category.
    pub unmapped: Unmapped,
    /// JSON pointers to the consent object.
    pub locations: Vec<String>,
}

/// `[sources.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The name.
    pub name: String,
    /// Overrides `consent.missing` for events of this source.
    pub missing: Option<Missing>,
    /// How events come in.
    pub input: Input,
}

/// The types of sources.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Newline-delimited JSON over plain TCP.
    Tcp {
        /// Address to listen on.
        listen: SocketAddr,
        /// Connections at a time; more wait to be accepted.
        max_connections: NonZeroUsize,
        /// Whether the count of settled lines is written back.
        ack: bool,
    },
    /// `POST` of newline-delimited JSON.
    Http {
        /// Address to listen on.
        listen: SocketAddr,
        /// Connections at a time; more wait to be accepted.
        max_connections: NonZeroUsize,
        /// Longest body, compressed or inflated.
        max_body_bytes: u64,
        /// How long one request may take.
        request_timeout: Duration,
    },
}

/// `[destinations.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Name and rules.
    pub route: DestinationSpec,
    /// Everything about delivery; a destination whose delivery is equal in two configs is the same
    /// running destination.
    pub delivery: Delivery,
}

/// How and where a destination's events are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Where to.
    pub output: Output,
    /// Bound on the bytes that wait for this destination.
    pub buffer: usize,
    /// What happens when they are reached.
    pub when_full: WhenFull,
    /// How lines are put together.
    pub batch: BatchLimits,
    /// When and how long failed batches are tried again.
    pub retry: Retry,
}

impl Delivery {
    /// Largest batch unless the config says otherwise, where the buffer is not smaller.
    pub const BATCH_BYTES: usize = 1024 * 1024;

    /// Whether batches have the size that they have by default.
    #[must_use]
    pub fn batch_is_as_large_as_the_buffer_allows(&self) -> bool {
        self.batch.max_bytes == self.buffer.min(Self::BATCH_BYTES)
    }
}

/// `when_full`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Intake waits.
    Block,
    /// New events for this destination are dropped and counted as `overflow`.
    DropNewest,
}

/// `batch`
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLimits {
    /// Lines are added while the sum stays at or below this; one line may be longer.
    pub max_bytes: usize,
    /// Events in a batch.
    pub max_events: NonZeroU32,
    /// How long the first line may wait for others.
    pub max_wait: Duration,
}

/// `retry`
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Upper bound of the first wait; it doubles with every failure.
    pub initial: Duration,
    /// Upper bound of any wait.
    pub max: Duration,
    /// A batch that could not be delivered for so long is dropped and counted as `gave_up`.
    pub give_up_after: Duration,
}

/// The types of destinations.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// `POST` of batches.
    Http {
        /// Where to; `http://` or `https://`.
        url: Text,
        /// Extra header fields.
        headers: Vec<(String, Secret)>,
        /// Form of the body.
        format: Format,
        /// Compression of the body.
        compression: Compression,
        /// Requests at a time.
        concurrency: NonZeroUsize,
        /// For one request, connecting included.
        timeout: Duration,
    },
    /// Newline-delimited JSON over plain TCP.
    Tcp {
        /// `host:port`
        address: Text,
        /// For connecting, and for one write.
        timeout: Duration,
    },
    /// Newline-delimited JSON, appended to files.
    File {
        /// Path with `strftime` conversions, in UTC.
        path: Text,
        /// When a new file is begun although the path is the same.
        rotate: Rotate,
        /// Compression of what is written.
        compression: Compression,
    },
    /// Newline-delimited JSON on standard output.
    Stdout,
    /// Counts and forgets.
    Blackhole,
}

/// `rotate`
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rotate {
    /// A file is not appended to once it has this many bytes.
    pub max_bytes: Option<u64>,
    /// A file is not appended to once it is this old.
    pub every: Option<Duration>,
}

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One event a line.
    Ndjson,
    /// One JSON array.
    JsonArray,
    /// `{"batch":[...],"sentAt":"..."}`
    SegmentBatch,
}

/// `compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// `[[tests]]`: one event and what must become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// What the report calls it.
    pub name: String,
    /// The event, one line of JSON.
    pub event: String,
    /// The source it comes from; without one every destination's `sources` test passes.
    pub source: Option<String>,
    /// What is expected.
    pub expect: Expect,
}

/// The expectation of a [`Test`].
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// The event goes to exactly these destinations, and not to the named ones for these reasons.
    Accepted {
        /// All destinations that receive it; `None` does not say.
        deliver: Option<Vec<String>>,
        /// Destinations and reasons.
        drop: Vec<(String, String)>,
    },
    /// The event is rejected for this reason.
    Rejected(String),
}
