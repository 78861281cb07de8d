//! From bytes to the few fields that matter; pure.
//!
//! Owns the grammar (RFC 8259, one object a line), the limits on it and the borrowed [`Event`] view
//! that decisions are made on. It does not know categories or destinations.
//!
//! What always holds: a line gives an [`Event`] if and only if it is exactly one valid JSON object
//! in valid UTF-8, at most [`MAX_DEPTH`] deep, without a repeated key where keys are read. The bytes
//! of the line are never changed.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod diagnose;
mod escape;
mod event;
mod fields;
mod grammar;
mod ids;
mod json;
mod keys;
mod lines;
mod location;
mod masks;
mod reject;
mod scalar;

pub use event::{Context, Event, Member, Node, Value};
pub use ids::Ids;
pub use json::Parser;
pub use lines::{Line, Lines, blank_line_breaks, blank_stray_returns};
pub use location::{LocationError, Locations, MAX_LOCATIONS};
pub use reject::{RejectReason, Rejection};

/// Bytes that must follow a line in its buffer, with any content: the vectorised scan reads ahead.
pub const PADDING: usize = simd_json::INPUT_PADDING;

/// How deep an event may nest; the top-level object is depth 1.
pub const MAX_DEPTH: u32 = 64;
