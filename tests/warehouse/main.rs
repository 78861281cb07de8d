//! Rows of warehouses: real databases on one side, events and decisions on the other.
//!
//! Owns one PostgreSQL server for the whole binary (`postgres.rs`), databases made for a test, and
//! configs with models (`model.rs`). What always holds: every test has a database of its own; what is
//! missing on the machine fails the tests that need it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod model;
mod sqlite;
