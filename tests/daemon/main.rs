//! The real daemon, from the outside: what is sent in, which bytes arrive where, what is counted.
//!
//! Owns one process per test, started by `harness` with a config in a folder of its own and ports
//! that the system chooses. Does not own rules of consent: where a test needs an expectation it is
//! written out by hand or comes from `tests/conformance`.
//! What always holds: a test waits for outcomes, never for time; the daemon's messages are shown when
//! a test fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../tools/mod.rs"]
mod tools;

mod handover;
mod harness;

mod conformance;

mod ack;
mod dead_letters;
mod durability;
mod erase;
mod faults;
mod full_disk;
mod law;
mod log_commands;
mod power_cut;
mod regressions;
mod shutdown;
mod trouble;

mod pipes;

mod reload;
mod reload_load;
mod reload_storm;

mod bad_http;
mod bad_input;
mod hostile;
mod memory;

mod admin;
mod notify;
mod preview;
mod senders;
mod start;
mod warehouse_source;
