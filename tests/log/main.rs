//! The durable log against models of a disk, of power cuts, and of damage.

mod damage;
mod erasure;
mod memory;
mod model;
mod sweep;
mod uses;
mod world;
