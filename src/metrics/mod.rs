//! What is counted.
//!
//! Owns the counters, as plain atomics that the data path adds to once per frame or batch, and their
//! exposition in Prometheus' text format. Labels come from the config only, so there is a bounded
//! number of series. It decides nothing and is read by nobody on the data path.
//!
//! What always holds, for every destination, at rest:
//! `received = rejected + delivered + dropped + pending`.

mod counters;

pub use counters::{DestinationCounters, DropReason, SourceCounters};
