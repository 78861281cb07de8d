//! Between the workers and the destinations, where what was accepted becomes durable.
//!
//! Owns the thread that writes the log and the readers that bring lagging destinations up to date. It
//! does not decide (what it gets was judged, what it reads is judged again before it goes out) and it
//! does not deliver.
//!
//! The way of an event: a worker sends a [`Portion`]: blocks for the log, the parcels that go with
//! them, and whom to answer. The [`Committer`] writes what has come together as one group, makes it
//! durable, and only then answers, and offers the parcels to their destinations in the order of the
//! log. A destination without room is left behind; its reader (`catch_up`) gives it what it missed,
//! until it has caught up.
//!
//! What always holds: nothing is answered or handed over that the log does not hold; a destination's
//! cursor is written only up to what it has settled; no destination keeps another one, or the intake,
//! waiting; no attempt begins with an event that was erased before.

mod again;
mod catch_up;
mod committer;
mod erase;
mod portion;
mod remover;
mod review;
mod state;
#[cfg(test)]
mod tests;

pub use again::Again;
pub use catch_up::CatchUp;
pub use committer::{Committer, Keeper, Limits};
pub use portion::{Answer, Intake, Portion};
pub use review::{Review, Waiting, review};
pub use state::Log;
