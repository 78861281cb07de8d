//! Syncs of a model as users see them: the real daemon and its children, SQLite databases, and
//! destinations that keep what they get.
//!
//! Owns the world of one model (`world.rs`) and what a destination makes of what arrives
//! (`replica.rs`); processes and receivers are those of the daemon's tests. What always holds: nothing
//! here knows how a sync works, only what it says and what arrives.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, unused_imports, reason = "shared with tests that use the rest of it")]
#[path = "../daemon/harness/mod.rs"]
mod harness;
#[path = "../tools/mod.rs"]
mod tools;

mod changes;
mod consent;
mod crash;
mod elsewhere;
mod property;
mod rejected;
mod replica;
mod size;
mod trouble;
mod world;
