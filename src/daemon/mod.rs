//! The running daemon.
//!
//! Owns the wiring of the parts (`wire`), which destinations run (`fleet`), the syncs of models (`syncs`),
//! reloads, erasures, the drain, signals and the talk with systemd. It handles no events itself.
//!
//! What always holds: nothing is started before everything that can fail at start has succeeded; a
//! reload applies as a whole or not at all; a stop drains in the order of the data path.

mod book;
mod drain;
mod erase;
mod fleet;
mod lock;
mod notify;
mod pulse;
mod readmit;
mod reload;
mod replay;
mod signal;
mod stall;
mod syncs;
mod wire;

pub use erase::erase_stopped;
pub use signal::Signals;
pub use syncs::remembered as remembered_syncs;
pub use wire::{Daemon, StartError, run};
