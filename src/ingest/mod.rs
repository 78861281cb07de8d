//! Bytes in: sockets to frames of whole lines.
//!
//! Owns listening, framing and the back-pressure contract. It does not look inside lines.
//!
//! The back-pressure contract: bytes that were read and not yet judged are bounded by one
//! [`Budget`]. Whoever wants to read takes room first, and gives back at once what the read did not
//! use; room travels with the [`Frame`] and returns when the worker is done with it. Nobody holds
//! room while waiting for a peer. So when workers wait, reading stops, and the peer's TCP feels it.
//! Lines that are not finished draw on [`Tails`] instead: when they take too much, the connections
//! that stalled longest are closed.

mod budget;
mod buffers;
mod frame;
pub mod framing;
mod http;
mod lane;
mod listen;
mod tails;
mod tcp;
#[cfg(test)]
mod testing;
mod warehouse;

pub use budget::{Budget, Room};
pub use frame::{Frame, LISTED_MAX, LineOutcome, Outcomes, Report, Section};
pub use http::{HttpLimits, HttpSource};
pub use lane::{Context, Workers};
pub use tails::{TAIL_BYTES_MAX, Tails};
pub use tcp::TcpSource;
pub use warehouse::{CONTROL_BYTES_MAX, Door, Issued, Pass, Passes, Said, TO_MAX, WarehouseSource};
