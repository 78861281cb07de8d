//! What a table is compiled from: plain values that `config` has already checked one by one.

use std::fmt;

/// What an event without a consent object may do (`consent.missing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// It flows to every destination.
    Allow,
    /// It flows only where no consent is needed.
    Deny,
}

/// What a destination without an enabled category gets (`consent.unmapped`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmapped {
    /// Every event.
    Allow,
    /// Nothing.
    Deny,
}

/// How many of a destination's categories must be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Every one.
    All,
    /// At least one.
    Any,
}

/// One consent category.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CategorySpec {
    /// The ID that events use; case sensitive.
    pub id: String,
    /// The name that people read.
    pub name: String,
    /// A category that is off asks for no consent.
    pub enabled: bool,
}

/// One source, as far as decisions are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceSpec {
    /// The name in the config.
    pub name: String,
    /// Overrides [`TableSpec::missing`] for this source.
    pub missing: Option<Missing>,
}

/// One destination, as far as decisions are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DestinationSpec {
    /// The name in the config.
    pub name: String,
    /// A destination that is off receives nothing.
    pub enabled: bool,
    /// Names of the only sources it takes events from.
    pub sources: Option<Vec<String>>,
    /// Whether consent applies to it at all.
    pub enforce: bool,
    /// IDs of the categories it needs.
    pub categories: Vec<String>,
    /// How many of them.
    pub match_mode: Match,
    /// Its name in events' `integrations`.
    pub integration: String,
    /// Whether it gets `Segment Consent Preference Updated` whatever the user chose.
    pub receives_preferences: bool,
    /// The only event types it takes.
    pub types: Option<Vec<String>>,
}

/// Everything a routing table is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableSpec {
    /// Counts up with every table of a running daemon.
    pub version: u64,
    /// In config order.
    pub categories: Vec<CategorySpec>,
    /// JSON pointers to the consent object, `/context/<a>` or `/context/<a>/<b>`, tried in order.
    pub locations: Vec<String>,
    /// For events without a consent object.
    pub missing: Missing,
    /// For destinations without an enabled category.
    pub unmapped: Unmapped,
    /// In config order: the position is the [`super::SourceId`].
    pub sources: Vec<SourceSpec>,
    /// In config order: the position is the [`super::DestinationId`].
    pub destinations: Vec<DestinationSpec>,
}

/// Why a table can't be compiled. `config` reports these with their place in the file before it
/// gets this far; here they are a last guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// More than [`super::MAX_CATEGORIES`].
    TooManyCategories(usize),
    /// More than [`super::MAX_DESTINATIONS`].
    TooManyDestinations(usize),
    /// More than [`super::MAX_TYPES`].
    TooManyTypes(usize),
    /// A destination names a category that does not exist.
    UnknownCategory {
        /// The destination's name.
        destination: String,
        /// The category's ID.
        category: String,
    },
    /// A destination names a source that does not exist.
    UnknownSource {
        /// The destination's name.
        destination: String,
        /// The source's name.
        source: String,
    },
    /// A consent location that can't be used, and why.
    Location(crate::parse::LocationError),
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyCategories(n) => {
                write!(f, "{n} categories, the limit is {}", super::MAX_CATEGORIES)
            }
            Self::TooManyDestinations(n) => {
                write!(f, "{n} destinations, the limit is {}", super::MAX_DESTINATIONS)
            }
            Self::TooManyTypes(n) => {
                write!(f, "{n} different event types, the limit is {}", super::MAX_TYPES)
            }
            Self::UnknownCategory { destination, category } => {
                write!(f, "destination `{destination}` needs the unknown category `{category}`")
            }
            Self::UnknownSource { destination, source } => {
                write!(f, "destination `{destination}` names the unknown source `{source}`")
            }
            Self::Location(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpecError {}

impl TableSpec {
    /// Names what an event has to say to be understood: the categories, and where the consent object is.
    #[must_use]
    pub fn words(&self) -> String {
        let mut ids: Vec<&str> = self.categories.iter().map(|it| it.id.as_str()).collect();
        ids.sort_unstable();
        let digest = blake3::hash(format!("{ids:?} {:?}", self.locations).as_bytes());
        digest.to_hex().chars().take(16).collect()
    }
}
