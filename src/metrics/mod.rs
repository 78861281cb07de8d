//! What is counted.
//!
//! Owns the counters, as plain atomics that the data path adds to once per frame or batch, and their
//! exposition in Prometheus' text format. Labels come from the config only, so there is a bounded
//! number of series. It decides nothing and is read by nobody on the data path.
//!
//! What always holds, for every destination, at rest:
//! `received + replayed + repeated = rejected + delivered + dropped + pending`.

mod buckets;
mod counters;
mod delivery;

mod exposition;
mod process;
mod sync;

pub use buckets::Buckets;
pub use counters::{
    DeadLetterCounters, DeadLetterReason, DestinationCounters, DropReason, LogCounters,
    SourceCounters,
};
pub use delivery::{Attempt, DeliveryMetrics};
pub use exposition::{DestinationTotals, Exposition, SourceTotals};
pub use sync::SyncMetrics;
