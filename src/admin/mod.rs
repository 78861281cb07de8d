//! The admin address: metrics, health, reload, erasure, syncs and the replay of dead letters, for operators on
//! the same machine.
//!
//! Owns the HTTP form of these. It knows nothing of how they come about: what it shows and what it
//! may ask for is in [`Control`].
//!
//! What always holds: an answer holds no event and no secret.

mod erase;
mod guard;
mod replay;
mod server;
mod syncs;

pub(crate) use erase::Subject;
pub use erase::{EraseAnswer, EraseRequest};
pub use replay::{Replay, ReplayAnswer, ReplayError, ReplayPlace, ReplayRequest};
pub use server::{Admin, Control, Listening, Readiness, ReloadAnswer, ReloadRequest, Waiting};
pub(crate) use syncs::cut;
pub use syncs::{
    Counts, ERROR_BYTES_MAX, ModelStatus, SAMPLE_BYTES_MAX, SAMPLES_MAX, SyncAnswer, SyncRecord,
    SyncRequest, SyncState, Syncs,
};
