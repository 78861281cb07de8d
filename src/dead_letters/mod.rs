//! Dead letters: events that failed for good, kept with the reason, so that nothing that is dropped
//! for a fault is gone without a trace.
//!
//! Owns two logs of kind [`Kind::DeadLetters`](crate::log::Kind) in one folder, a *shelf* each with a
//! thread of its own: `delivery` for events that a destination rejected or that were given up, and
//! `ingest` for lines that were rejected on the way in. It does not decide what fails, delivers
//! nothing, and judges nothing: a letter that is replayed goes the way of every other event.
//!
//! Two shelves, because whoever can send can fill the second one. Each has its share of
//! `dead_letters.max_bytes` ([`INGEST_SHARE`]), so that no flood of rejected lines pushes out what
//! destinations rejected, and its own queue, so that none delays it. When a shelf is full its oldest
//! letters expire.
//!
//! Beside them, `rejections`: which rows of a warehouse failed for good.
//!
//! What always holds: when [`DeadLetters::keep`] returns, the letters are as durable as `log.sync`
//! asks for; [`DeadLetters::offer`] never waits, what finds no room is counted as lost; letters on their
//! way take a bounded amount of memory; letters never appear in messages; what is erased is held back
//! from the moment that it is noted, and gone from the files once it is carried out.

mod erase;
mod filter;
mod keep;
mod letters;
mod open;
mod rejections;
mod shelf;
mod subject;
mod taken;
#[cfg(test)]
mod tests;

pub use erase::{Noted, noted_in};
pub use filter::{Filter, Letter, letters_of};
pub use keep::{DeadLetters, INGEST_SHARE, Settings, Shelf, Turn};
pub use letters::{Letters, LettersWriter, Reason};
pub use rejections::{ModelRejections, Oldest, Rejections, noted as rejection};
pub use subject::{Subject, is_held_back};
pub use taken::Taken;
