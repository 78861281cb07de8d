//! The rows that are worked on together. Pure.

use std::collections::BTreeMap;

use super::known::{Key, Known};
use super::slice::{BYTE_PARTS, Slice, part_of};

/// The rows of a slice; what was changed of them is written back.
#[derive(Default)]
pub(super) struct Group {
    slice: Slice,
    rows: BTreeMap<Key, Known>,
    /// The parts that were changed, and how many rows they had.
    touched: u64,
    count: usize,
}

impl Group {
    pub(super) fn new(slice: Slice, rows: BTreeMap<Key, Known>) -> Self {
        let count = rows.len();
        Self { slice, rows, touched: 0, count }
    }

    /// A row.
    pub(super) fn get(&self, key: &Key) -> Option<&Known> {
        self.rows.get(key)
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Puts a row, or takes it out.
    pub(super) fn put(&mut self, key: Key, row: Option<Known>) {
        self.touched |= 1 << (part_of(&key) % BYTE_PARTS);
        match row {
            Some(row) => drop(self.rows.insert(key, row)),
            None => drop(self.rows.remove(&key)),
        }
    }

    /// Whether something was changed.
    pub(super) fn is_changed(&self) -> bool {
        self.touched != 0
    }

    /// The parts in which something was changed.
    pub(super) fn changed_parts(&self) -> impl Iterator<Item = u32> {
        let touched = self.touched;
        self.slice.parts().filter(move |part| touched >> (part % BYTE_PARTS) & 1 == 1)
    }

    /// Its changes are written: how many rows it has more than before.
    pub(super) fn written(&mut self) -> i64 {
        let more = self.rows.len() as i64 - self.count as i64;
        self.count = self.rows.len();
        self.touched = 0;
        more
    }

    /// Both values of a part, in the place of what is there.
    pub(super) fn encode(&self, part: u32, hashes: &mut Vec<u8>, rows: &mut Vec<u8>) {
        hashes.clear();
        rows.clear();
        let (mut low, mut high) = ([0; 16], [u8::MAX; 16]);
        low[0] = (part / BYTE_PARTS) as u8;
        high[0] = low[0];
        low[1] = ((part % BYTE_PARTS) << 2) as u8;
        high[1] = low[1] | 3;
        for (key, known) in self.rows.range(low..=high) {
            hashes.extend_from_slice(key);
            hashes.extend_from_slice(&known.hash);
            rows.extend_from_slice(key);
            let start = rows.len();
            rows.extend_from_slice(&[0; 4]);
            known.encode(rows);
            let len = (rows.len() - start - 4) as u32;
            rows[start..start + 4].copy_from_slice(&len.to_le_bytes());
        }
    }
}
