//! The admin address: metrics, health, reload, erasure and the replay of dead letters, for operators on
//! the same machine.
//!
//! Owns the HTTP form of these. It knows nothing of how they come about: what it shows and what it
//! may ask for is in [`Control`].
//!
//! What always holds: an answer holds no event and no secret.

mod erase;
mod replay;
mod server;

pub(crate) use erase::Subject;
pub use erase::{EraseAnswer, EraseRequest};
pub use replay::{Replay, ReplayAnswer, ReplayError, ReplayPlace, ReplayRequest};
pub use server::{Admin, Control, Listening, Readiness, ReloadAnswer, ReloadRequest, Waiting};
