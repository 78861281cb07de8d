//! The durable log against models of a disk, of power cuts, and of damage.

mod memory;
mod model;
mod world;
