//! What a rewrite takes out of a shelf.

use std::collections::HashMap;

use crate::log::{Block, Position};

/// Letters that are to be taken out: per block, which lines, by their hash, and how often.
#[derive(Debug, Default)]
pub struct Taken(HashMap<Position, HashMap<blake3::Hash, u32>>);

impl Taken {
    /// Adds a letter.
    pub fn add(&mut self, position: Position, line: &[u8]) {
        *self.0.entry(position).or_default().entry(blake3::hash(line)).or_default() += 1;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, block: &Block<'_>, line: &[u8]) -> bool {
        let Some(lines) = self.0.get_mut(&block.position()) else { return false };
        let Some(times) = lines.get_mut(&blake3::hash(line)) else { return false };
        let is_one = *times > 0;
        *times = times.saturating_sub(1);
        is_one
    }
}
