//! The rules of consent written a second time: slow, obvious, and without a look at the daemon's code.
//!
//! Owns a strict JSON reader that keeps repeated keys (`json`), the decision as a loop over
//! destinations (`decide`), generators of hostile tables and events (`generate`, `events`, `noise`, `text`, `mutate`), the
//! hand-written cases (`cases`) and the one file that knows the daemon's API (`subject`).
//! Owns no test: each test binary that includes this module brings its own.
//! What always holds: nothing here but `subject` imports the daemon, so that a mistake there cannot
//! be repeated here.
#![allow(dead_code, reason = "every test binary uses its own part of the oracle")]

pub(crate) mod cases;
pub(crate) mod decide;
pub(crate) mod events;
pub(crate) mod generate;
pub(crate) mod json;
pub(crate) mod model;
pub(crate) mod mutate;
pub(crate) mod noise;
pub(crate) mod subject;
pub(crate) mod text;
