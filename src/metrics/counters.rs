//! The counters of one source and of one destination.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Buckets;
use crate::consent::Refusal;
use crate::parse::RejectReason;

/// Why an accepted event was not delivered to a destination: the reasons of
/// `consentd_events_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The user did not agree.
    Consent,
    /// The event's `integrations` switches the destination off.
    Integrations,
    /// The destination does not take this event type.
    Filtered,
    /// The destination does not take events from this source.
    Source,
    /// The destination is switched off.
    Disabled,
    /// The warehouse source sent it to others only: a row that is tried again, or its deletion.
    NotAddressed,
    /// The destination answered that it will never take this event.
    RejectedByDestination,
    /// It could not be delivered for as long as `retry.give_up_after`.
    GaveUp,
    /// The destination's buffer was full, and `when_full = "drop_newest"`.
    Overflow,
    /// The destination was removed, and did not drain in time.
    Removed,
    /// It waited in the log for longer than `log.max_age`, or made room for newer events.
    Expired,
    /// Somebody asked for the erasure of everything about its user.
    Erased,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Consent,
        Self::Integrations,
        Self::Filtered,
        Self::Source,
        Self::Disabled,
        Self::NotAddressed,
        Self::RejectedByDestination,
        Self::GaveUp,
        Self::Overflow,
        Self::Removed,
        Self::Expired,
        Self::Erased,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Integrations => "integrations",
            Self::Filtered => "filtered",
            Self::Source => "source",
            Self::Disabled => "disabled",
            Self::NotAddressed => "not_addressed",
            Self::RejectedByDestination => "rejected_by_destination",
            Self::GaveUp => "gave_up",
            Self::Overflow => "overflow",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::Erased => "erased",
        }
    }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Disabled => Self::Disabled,
            Refusal::Source => Self::Source,
            Refusal::Consent => Self::Consent,
            Refusal::Integrations => Self::Integrations,
            Refusal::Filtered => Self::Filtered,
            Refusal::NotAddressed => Self::NotAddressed,
        }
    }
}

/// What came in from one source.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Events, the rejected ones included.
    pub received: AtomicU64,
    /// Bytes of these events, line ends not counted.
    pub bytes: AtomicU64,
    /// Preferences about categories that the config does not have.
    pub unknown_categories: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicI64,
    rejected: [AtomicU64; RejectReason::ALL.len()],
}

impl SourceCounters {
    /// Adds rejected events; they must be in `received` too.
    pub fn add_rejected(&self, reason: RejectReason, events: u64) {
        self.rejected[reason as usize].fetch_add(events, Relaxed);
    }

    /// How many events were rejected for `reason`.
    #[must_use]
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected[reason as usize].load(Relaxed)
    }
}

/// What the log takes and how quick it is.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Bytes of its segments.
    pub bytes: AtomicU64,
    /// 1 while it takes nothing more.
    pub full: AtomicI64,
    /// IDs whose erased events are not yet removed from its files.
    pub erasures_pending: AtomicU64,
    /// From the first write of a group until it is durable.
    pub commits: Buckets,
}

/// Why an event is a dead letter: the reasons of `consentd_dead_letters_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterReason {
    /// The destination answered that it will never take this event.
    RejectedByDestination,
    /// It could not be delivered for as long as `retry.give_up_after`.
    GaveUp,
    /// A deletion of a warehouse that the rules in force refused when it was to leave.
    Refused(Refusal),
    /// It was rejected on the way in.
    Rejected(RejectReason),
}

impl DeadLetterReason {
    const COUNT: usize = RejectReason::ALL.len() + Refusal::ALL.len() + 2;

    /// Every reason.
    pub fn all() -> impl Iterator<Item = Self> {
        let delivery = [Self::RejectedByDestination, Self::GaveUp];
        let refused = Refusal::ALL.map(Self::Refused);
        delivery.into_iter().chain(refused).chain(RejectReason::ALL.map(Self::Rejected))
    }

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RejectedByDestination => DropReason::RejectedByDestination.label(),
            Self::GaveUp => DropReason::GaveUp.label(),
            Self::Refused(refusal) => DropReason::from(refusal).label(),
            Self::Rejected(reason) => reason.label(),
        }
    }

    fn index(self) -> usize {
        match self {
            Self::RejectedByDestination => 0,
            Self::GaveUp => 1,
            Self::Refused(refusal) => 2 + refusal as usize,
            Self::Rejected(reason) => 2 + Refusal::ALL.len() + reason as usize,
        }
    }
}

/// What the dead letters are.
#[derive(Debug, Default)]
pub struct DeadLetterCounters {
    kept: [AtomicU64; DeadLetterReason::COUNT],
    /// IDs whose erased letters are not yet removed from the files.
    pub erasures_pending: AtomicU64,
    /// Letters that made room for others or were too old.
    pub expired: AtomicU64,
    /// Rejected lines that could not be kept, because there were too many of them at a time.
    pub lost: AtomicU64,
    /// Bytes of what destinations did not take.
    pub delivery_bytes: AtomicU64,
    /// Bytes of what was rejected on the way in.
    pub ingest_bytes: AtomicU64,
}

impl DeadLetterCounters {
    /// Adds letters that were stored.
    pub fn add_kept(&self, reason: DeadLetterReason, letters: u64) {
        self.kept[reason.index()].fetch_add(letters, Relaxed);
    }

    /// How many letters were stored for `reason`.
    #[must_use]
    pub fn kept(&self, reason: DeadLetterReason) -> u64 {
        self.kept[reason.index()].load(Relaxed)
    }
}

/// What became of the events for one destination.
#[derive(Debug, Default)]
pub struct DestinationCounters {
    /// Events that the destination took.
    pub delivered: AtomicU64,
    /// Bytes of these events, line ends not counted.
    pub delivered_bytes: AtomicU64,
    /// Dead letters that were put into the log for it once more.
    pub replayed: AtomicU64,
    /// Events that were handed over and neither delivered nor dropped yet.
    pub pending: AtomicI64,
    /// Events that were settled and had to be read from the log again, with others of their block.
    pub repeated: AtomicU64,
    /// From being received to being acknowledged by the destination.
    pub end_to_end: Buckets,
    /// Bytes of the log that it is not done with.
    pub lag_bytes: AtomicU64,
    /// Whether deliveries are on hold: the destination answers that it will not take anything.
    pub held: AtomicI64,
    /// When the oldest pending event was received. Written and read a few times per batch at most.
    oldest_pending: Mutex<Option<Instant>>,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl DestinationCounters {
    /// Adds events that were never pending.
    pub fn add_dropped(&self, reason: DropReason, events: u64) {
        self.dropped[reason as usize].fetch_add(events, Relaxed);
    }

    /// Moves events from pending to dropped.
    pub fn drop_pending(&self, reason: DropReason, events: u32) {
        self.add_dropped(reason, events.into());
        self.pending.fetch_sub(events.into(), Relaxed);
    }

    /// As [`Self::drop_pending`], for events that were not in memory.
    pub fn drop_pending_many(&self, reason: DropReason, events: u64) {
        self.add_dropped(reason, events);
        self.pending.fetch_sub(i64::try_from(events).unwrap_or(i64::MAX), Relaxed);
    }

    /// Makes settled events pending once more.
    pub fn add_repeated(&self, events: u64) {
        self.repeated.fetch_add(events, Relaxed);
        self.pending.fetch_add(i64::try_from(events).unwrap_or(i64::MAX), Relaxed);
    }

    /// Tells when the oldest event that is pending was received.
    pub fn set_oldest_pending(&self, received_at: Option<Instant>) {
        *self.oldest_pending() = received_at;
    }

    /// The age of the oldest pending event; zero if there is none.
    #[must_use]
    pub fn lag(&self, now: Instant) -> Duration {
        let oldest = *self.oldest_pending();
        oldest.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    fn oldest_pending(&self) -> MutexGuard<'_, Option<Instant>> {
        self.oldest_pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves events from pending to delivered.
    pub fn deliver_pending(&self, events: u32, bytes: usize) {
        self.delivered.fetch_add(events.into(), Relaxed);
        self.delivered_bytes.fetch_add(bytes as u64, Relaxed);
        self.pending.fetch_sub(events.into(), Relaxed);
    }

    /// How many events were dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }
}
