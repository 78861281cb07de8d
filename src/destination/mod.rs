//! Bytes out: from permitted lines to what a destination acknowledges.
//!
//! Owns the [`Chunk`]s that permitted lines are copied into, the bounded queue of each destination
//! ([`Outlet`]), and its delivery: batches, retries, and one module per type of destination. It does
//! not decide who receives what; a line gets in only with a [`crate::consent::Permit`], and it is
//! judged again before every attempt under a table that is no longer the one it was judged by.
//!
//! What always holds: what a destination pins is bounded by its `buffer`, except that one line at a
//! time in the whole process may be larger; all chunks that are pinned are bounded together
//! ([`Memory`]); whatever is not delivered is counted with a reason.

mod chunk;
mod ledger;
mod memory;
mod parcel;
mod queue;

mod batch;
mod batcher;
mod erase;
mod rejudge;

mod attempt;
mod bury;
mod deliver;
mod health;
mod retry;

mod body;
mod compress;
mod file;
mod http;
mod sink;
mod stdout;
mod tcp;
mod turns;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Piece};
pub use chunk::{CHUNK_CAPACITY, Chunk, LANE_LINE_MAX, Lane, Run};
pub use deliver::{Around, Running};
pub use erase::Erasures;
pub use file::FileCare;
pub use ledger::Span;
pub use memory::Memory;
pub use parcel::{Amount, Closed, Parcel, Refused};
pub use queue::{Outlet, OutletId};
pub use retry::{Outcome, classify, parse_retry_after};
pub use sink::{HttpSpec, Sink, SinkError, SinkSpec};
