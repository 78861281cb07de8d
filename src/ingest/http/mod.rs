//! Events over HTTP/1.1: `POST /` and `POST /v1/events`, a body of lines or one JSON array.
//!
//! Owns requests and their answers. What always holds: a 200 is given after every line of the body
//! was judged, and says what became of each. Any other answer is about the request as a whole; lines
//! that were judged before it failed stay judged, so a client that sends it again sends them twice.

mod answer;
mod body;
mod server;
mod take_in;
mod tally;
#[cfg(test)]
mod tests;

pub use server::{HttpLimits, HttpSource};
