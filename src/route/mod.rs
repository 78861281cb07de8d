//! Where events may go: the routing table, immutable once compiled.
//!
//! Owns the compiled form of categories, sources and destinations, and the handle through which a
//! new table is published. It does not read config files (`config` compiles into [`TableSpec`]) and
//! does not judge events (`consent` does).
//!
//! What always holds: a [`RoutingTable`] never changes after [`RoutingTable::compile`]; destination
//! and class numbers are meaningful only together with the table that gave them out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod bits;
mod handle;
mod names;
mod spec;
mod table;
mod words;

pub use bits::BitSet;
pub(crate) use bits::{contains as bit_is_set, ones};
pub use handle::{Handle, Reader};
pub use names::NameIndex;
pub use spec::{
    CategorySpec, DestinationSpec, Match, Missing, SourceSpec, SpecError, TableSpec, Unmapped,
};
pub use table::{
    CategoryMask, Class, ClassId, Destination, DestinationId, MAX_CATEGORIES, MAX_DESTINATIONS,
    MAX_TYPES, RoutingTable, SourceId,
};
pub(crate) use words::{Name, Spelled, Words, hash as name_hash};
