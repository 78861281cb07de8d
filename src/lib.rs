//! consentd enforces end users' consent on streams of events.
//!
//! The modules stand in the order in which an event passes them; `ARCHITECTURE.md` walks the way.

pub mod ingest;

pub mod shard;

pub mod parse;

pub mod consent;

pub mod route;

pub mod commit;

pub mod log;

pub mod destination;

pub mod dead_letters;

pub mod warehouse;

pub mod config;

pub mod metrics;

pub mod buffer;

pub mod admin;

pub mod daemon;

pub mod cli;
