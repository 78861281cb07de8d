//! Owned threads between sockets and destinations.
//!
//! Owns the bounded hand-over of frames to one thread per shard, and what that thread does: judge
//! every line, copy it once per class of destinations, count. It reads no sockets and delivers
//! nothing.
//!
//! What always holds: a frame is judged by the table in force when the worker takes it up, which is
//! never older than the one in force when the frame was read; the frames of one connection stay in
//! order; the steady state allocates nothing per event, locks nothing and asks no clock.

mod outputs;
mod plan;
mod pool;
mod rejected;
mod stored;
mod tally;
mod worker;

pub use plan::Plan;
pub use pool::{Intake, Pool, WorkerPath};
