//! Names that stay valid on disk: places in the log, and destinations.

use std::fmt;

/// A place in the log: a segment's number (high 32 bits) and an offset in its file (low 32 bits).
///
/// Positions grow in the order of the log and are never given out twice, not even after a crash cut
/// off what was written: every start of the daemon writes to a segment with a new number, which is
/// durable before the first position in it is known to anybody. So a cursor that outlived the events
/// it stands behind can never hide later ones.
///
/// The difference of two positions is a number of bytes only within one segment;
/// [`Writer::bytes_after`](super::Writer::bytes_after) counts across segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before everything that was or will be stored.
    pub const START: Self = Self(0);

    /// The place `offset` bytes into the file of segment `segment`.
    #[must_use]
    pub fn new(segment: u32, offset: u32) -> Self {
        Self((u64::from(segment) << 32) | u64::from(offset))
    }

    /// The number of the segment.
    #[must_use]
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The offset in the segment's file.
    #[must_use]
    pub fn offset(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{:x}", self.segment(), self.offset())
    }
}

/// A destination as the log knows it: given out once by [`Identities`](super::Identities), never
/// meaning another destination afterwards. (The numbers of a routing table mean something in that
/// table only.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StableId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_segment_then_offset() {
        assert!(Position::new(1, u32::MAX) < Position::new(2, 0));
        assert!(Position::new(2, 7) < Position::new(2, 8));
        let position = Position::new(0x1234_5678, 0x9abc_def0);
        assert_eq!((position.segment(), position.offset()), (0x1234_5678, 0x9abc_def0));
    }
}
