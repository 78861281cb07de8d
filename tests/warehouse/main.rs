//! Rows of warehouses: real databases on one side, events and decisions on the other.
//!
//! Owns one PostgreSQL server for the whole binary and a database for each test (`postgres.rs`), a way to
//! it that can be cut (`proxy.rs`), an emulator of Snowflake (`snowflake.rs`), configs with models
//! (`model.rs`), and a daemon with one (`world.rs`).
//! What a sync does with whatever rows is not tested here, but that these databases' rows get there. What
//! always holds: every test has a database of its own; what is missing on the machine fails the tests that
//! need it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, unused_imports, reason = "shared with tests that use the rest of it")]
#[path = "../daemon/harness/mod.rs"]
mod harness;
#[path = "../tools/mod.rs"]
mod tools;

mod consent;
mod drivers;
mod elsewhere;
mod model;
mod postgres;
mod proxy;
mod snowflake;
mod sqlite;
mod syncs;
mod trouble;
mod types;
mod world;
