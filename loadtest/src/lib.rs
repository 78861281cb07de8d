//! Load test of consentd, from the outside: it shares no code with the daemon that it judges.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod corpus;

pub mod expect;
pub mod plan;
