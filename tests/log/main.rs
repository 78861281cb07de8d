//! The durable log against models of a disk, of power cuts, and of damage.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damage;
mod erasure;
mod memory;
mod model;
mod sweep;
mod uses;
mod world;
