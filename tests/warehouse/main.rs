//! Rows of warehouses: real databases on one side, events and decisions on the other.
//!
//! Owns one PostgreSQL server for the whole binary (`postgres.rs`), databases made for a test, and
//! configs with models (`model.rs`). What always holds: every test has a database of its own; what is
//! missing on the machine fails the tests that need it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, unused_imports, reason = "shared with tests that use the rest of it")]
#[path = "../daemon/harness/mod.rs"]
mod harness;
#[path = "../tools/mod.rs"]
mod tools;

mod model;
mod postgres;
mod sqlite;
mod types;
