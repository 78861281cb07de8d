//! Large buffers, used again.
//!
//! Owns the spare buffers for reads and chunks. Memory of this size goes back to the system when it
//! is freed, and fetching it again costs a page fault and a cleared page for every 4 KiB, which is
//! more than judging the lines that are written to it.
//!
//! What always holds: a pool keeps a bounded number of buffers of a bounded size.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// Spare buffers of about one size; cheap to clone.
#[derive(Clone, Debug)]
pub struct Buffers {
    spare: Arc<ArrayQueue<Vec<u8>>>,
    capacity: usize,
}

impl Buffers {
    /// A pool that keeps at most `spare_max` buffers of at least `capacity` bytes.
    #[must_use]
    pub fn new(spare_max: usize, capacity: usize) -> Self {
        Self { spare: Arc::new(ArrayQueue::new(spare_max.max(1))), capacity }
    }

    /// An empty buffer of at least the pool's capacity.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Keeps a buffer for the next one who needs it, if it has the right size and there is room.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        if (self.capacity..=self.capacity * 2).contains(&buffer.capacity()) {
            buffer.clear();
            // A full pool has enough; the buffer is freed.
            let _ = self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_no_more() {
        let pool = Buffers::new(2, 100);
        for capacity in [100, 99, 200, 201, 150] {
            pool.give_back(Vec::with_capacity(capacity));
        }
        let mut kept: Vec<usize> = (0..2).map(|_| pool.take().capacity()).collect();
        kept.sort_unstable();
        assert_eq!(kept, [100, 200]);
        assert_eq!(pool.take().capacity(), 100, "an empty pool makes a new one");
    }
}
