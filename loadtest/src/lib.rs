//! Load test of consentd, from the outside: it shares no code with the daemon that it judges.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod corpus;

pub mod expect;
pub mod plan;

pub mod config;
pub mod relay;
pub mod subject;

pub mod send;
pub mod sink;

pub mod law;
pub mod measure;
pub mod round;

pub mod acknowledge;
pub mod catch_up;
pub mod dead;
pub mod report;
pub mod scenario;
pub mod troubled;

pub mod clock;
pub mod http_client;
