//! Names to numbers without a collision: a perfect hash, made when a table is compiled.

use std::collections::HashSet;

use super::words::{Name, Spelled, fold};

/// Finds the number of a name in one probe: hash, one slot, one comparison.
///
/// The names come from the config; what is looked up comes from outside and may be anything.
#[derive(Debug, Clone)]
pub struct NameIndex {
    seed: u64,
    mask: u64,
    /// Number of the name plus one; zero is an empty slot.
    slots: Box<[u16]>,
    names: Box<[Name]>,
    /// Numbers of names whose hash is that of an earlier name: no seed separates these. There are
    /// none but by an accident that nobody is likely to see.
    alike: Box<[u16]>,
}

impl NameIndex {
    /// An index that gives `names[i]` the number `i`. Repeated names keep their first number.
    #[must_use]
    pub fn new<S: AsRef<[u8]>>(names: &[S]) -> Self {
        let mut seen = HashSet::with_capacity(names.len());
        let mut hashes = HashSet::with_capacity(names.len());
        let mut distinct: Vec<(u16, u64)> = Vec::with_capacity(names.len());
        let mut alike = Vec::new();
        for (number, name) in (0..u16::MAX).zip(names) {
            if !seen.insert(name.as_ref()) {
                continue;
            }
            let hash = Spelled::new(name.as_ref()).hash;
            if hashes.insert(hash) {
                distinct.push((number, hash));
            } else {
                alike.push(number);
            }
        }
        let names = names.iter().map(|name| Name::new(name.as_ref().into())).collect();
        // Every 32 seeds that fail to separate the names double the slots, so this ends.
        let mut size = (distinct.len() * 2).next_power_of_two().max(2);
        let mut seed = 0;
        loop {
            for _ in 0..32 {
                seed += 1;
                if let Some(slots) = place(&distinct, seed, size) {
                    let alike = alike.into();
                    return Self { seed, mask: size as u64 - 1, slots, names, alike };
                }
            }
            size *= 2;
        }
    }

    /// The number of `name`, if it is one of the index.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<u16> {
        self.find(&Spelled::new(name))
    }

    /// As [`NameIndex::get`].
    #[inline]
    pub(crate) fn find(&self, name: &Spelled<'_>) -> Option<u16> {
        let slot = self.slots[(seeded(name.hash, self.seed) & self.mask) as usize];
        let number = slot.checked_sub(1)?;
        if self.names[usize::from(number)].is(name.words, name.bytes) {
            return Some(number);
        }
        // An earlier name with the same hash stands in the slot.
        let mut alike = self.alike.iter().copied();
        alike.find(|&number| self.names[usize::from(number)].is(name.words, name.bytes))
    }
}

fn place(names: &[(u16, u64)], seed: u64, size: usize) -> Option<Box<[u16]>> {
    let mut slots = vec![0; size].into_boxed_slice();
    for &(number, hash) in names {
        let slot = &mut slots[(seeded(hash, seed) & (size as u64 - 1)) as usize];
        if *slot != 0 {
            return None;
        }
        *slot = number + 1;
    }
    Some(slots)
}

#[inline]
fn seeded(hash: u64, seed: u64) -> u64 {
    fold(hash ^ 0x8ebc_6af0_9c88_c6e3, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_number_and_nothing_else_has_one() {
        let names: Vec<String> = (0..4096).map(|n| format!("destination-{n}")).collect();
        let index = NameIndex::new(&names);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(index.get(name.as_bytes()), Some(number as u16));
        }
        for stranger in ["", "destination-", "destination-4096", "Destination-1", "destination-1 "]
        {
            assert_eq!(index.get(stranger.as_bytes()), None, "{stranger}");
        }
    }

    #[test]
    fn short_names_that_differ_in_length_and_last_byte_are_told_apart() {
        let index = NameIndex::new(&["C1", "C10", "d1", "d10", "ab", "abc", "s3", "s32", "a", ""]);
        let names = ["C1", "C10", "d1", "d10", "ab", "abc", "s3", "s32", "a", ""];
        for (number, name) in names.iter().enumerate() {
            assert_eq!(index.get(name.as_bytes()), Some(number as u16), "{name}");
        }
        assert!(index.alike.is_empty());
    }

    #[test]
    fn names_with_the_same_hash_are_still_found() {
        let mut index = NameIndex::new(&["first", "second"]);
        // As if both had hashed alike: only the first has a slot.
        let slot = index.slots.iter().position(|&slot| slot == 2).unwrap();
        index.slots[slot] = 1;
        index.alike = [1].into();
        assert_eq!(index.get(b"second"), Some(1));
    }

    #[test]
    fn an_empty_index_knows_nothing() {
        assert_eq!(NameIndex::new::<&str>(&[]).get(b""), None);
    }

    #[test]
    fn a_repeated_name_keeps_its_first_number() {
        assert_eq!(NameIndex::new(&["a", "b", "a"]).get(b"a"), Some(0));
    }
}
