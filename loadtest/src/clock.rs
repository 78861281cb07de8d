//! The one clock of sender and sink, which therefore run in one process.

use std::time::Instant;

/// Nanoseconds since it was made; copies agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// 16 digits hold 115 days of it.
    pub fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
