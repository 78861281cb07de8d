//! The config: parse, validate, compile.
#![allow(missing_docs)]
mod model;
mod text;

pub use model::*;
pub use text::{Secret, Text};
