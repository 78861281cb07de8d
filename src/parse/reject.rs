//! Why a line is not an event.

use std::fmt;

/// The reasons of `consentd_events_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// Not exactly one valid JSON object in valid UTF-8.
    InvalidJson,
    /// Nested deeper than [`super::MAX_DEPTH`].
    TooDeep,
    /// Longer than `max_event_bytes`.
    TooLarge,
    /// A key that is read stands twice in its object.
    DuplicateKey,
    /// A preference update without a preferences object.
    PreferencesMissing,
    /// A preference update whose preferences are not an object of booleans.
    PreferencesInvalid,
}

impl RejectReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::InvalidJson,
        Self::TooDeep,
        Self::TooLarge,
        Self::DuplicateKey,
        Self::PreferencesMissing,
        Self::PreferencesInvalid,
    ];

    /// The name in metrics, answers and `explain`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::DuplicateKey => "duplicate_key",
            Self::PreferencesMissing => "preferences_missing",
            Self::PreferencesInvalid => "preferences_invalid",
        }
    }
}

/// A rejected line: the reason, and a detail for people that holds nothing of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What is counted.
    pub reason: RejectReason,
    /// What is wrong.
    pub detail: &'static str,
    /// Byte offset in the line, where it is known.
    pub at: Option<u32>,
}

impl Rejection {
    pub(crate) fn new(reason: RejectReason, detail: &'static str) -> Self {
        Self { reason, detail, at: None }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} at byte {at}", self.detail),
            None => f.write_str(self.detail),
        }
    }
}
