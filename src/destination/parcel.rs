//! What is handed over to one destination at a time, and how much of it.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Piece;
use super::chunk::Chunk;
use super::queue::Charge;

/// An amount of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Their bytes.
    pub bytes: usize,
    /// Their number.
    pub events: u32,
}

impl Amount {
    /// Whatever there is.
    pub const ANY: Self = Self { bytes: 0, events: 0 };
}

/// What one destination may have of one chunk.
#[derive(Debug)]
pub struct Parcel {
    /// The lines.
    pub chunk: Arc<Chunk>,
    /// Which of them: ranges of whole lines, ascending.
    pub ranges: Vec<Range<u32>>,
    /// How many lines that is.
    pub events: u32,
    /// Gives the room back when the last owner is done with the lines.
    pub charge: Option<Arc<Charge>>,
}

impl Parcel {
    /// Bytes of the lines, line ends included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| (range.end - range.start) as usize).sum()
    }

    /// What it makes a destination pin, roughly: the chunk, and a piece of a batch per range.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.chunk.footprint() + self.ranges.len() * RANGE_BYTES
    }
}

/// What a range takes here and in a batch.
const RANGE_BYTES: usize = size_of::<Range<u32>>() + size_of::<Piece>();

/// Why a parcel was not taken.
#[derive(Debug)]
pub enum Refused {
    /// No room, and the destination's rule is to wait.
    Full(Parcel),
    /// No room, and the destination's rule is to drop.
    Overflow(Parcel),
    /// The destination is gone.
    Closed(Parcel),
}

/// The outlet is closed and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;
