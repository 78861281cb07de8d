//! Names to numbers without a collision: a perfect hash, made when a table is compiled.

/// Finds the number of a name in one probe: hash, one slot, one comparison.
///
/// The names come from the config; what is looked up comes from outside and may be anything.
#[derive(Debug, Clone)]
pub struct NameIndex {
    seed: u64,
    mask: u64,
    /// Number of the name plus one; zero is an empty slot.
    slots: Box<[u16]>,
    names: Box<[Box<[u8]>]>,
}

impl NameIndex {
    /// An index that gives `names[i]` the number `i`. Repeated names keep their first number.
    #[must_use]
    pub fn new<S: AsRef<[u8]>>(names: &[S]) -> Self {
        let mut distinct: Vec<(u16, u64)> = Vec::with_capacity(names.len());
        let mut seen = std::collections::HashSet::with_capacity(names.len());
        for (number, name) in (0..u16::MAX).zip(names) {
            // Two names with the same 64-bit hash could never be separated. By chance that happens
            // once in 2^40 tables of 4,096 names; the second name is then never found, which
            // refuses where it is a category.
            if seen.insert(hash(name.as_ref())) {
                distinct.push((number, hash(name.as_ref())));
            }
        }
        let names = names.iter().map(|name| name.as_ref().into()).collect();
        // Every 32 seeds that fail to separate the names double the slots, so this ends.
        let mut size = (distinct.len() * 2).next_power_of_two().max(2);
        let mut seed = 0;
        loop {
            for _ in 0..32 {
                seed += 1;
                if let Some(slots) = place(&distinct, seed, size) {
                    return Self { seed, mask: size as u64 - 1, slots, names };
                }
            }
            size *= 2;
        }
    }

    /// The number of `name`, if it is one of the index.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<u16> {
        self.get_hashed(name, hash(name))
    }

    /// As [`NameIndex::get`], for a name whose [`hash`] is known.
    #[inline]
    pub(crate) fn get_hashed(&self, name: &[u8], hash: u64) -> Option<u16> {
        let slot = self.slots[(seeded(hash, self.seed) & self.mask) as usize];
        let number = slot.checked_sub(1)?;
        (*self.names[number as usize] == *name).then_some(number)
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

/// A hash of a short name: up to 16 bytes are two loads that may overlap, so that its cost hardly
/// depends on the length. No defence against chosen collisions: a look-up compares with one name
/// whatever the hash.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let (mut first, last) = if let (Some(first), Some(last)) =
        (bytes.first_chunk::<8>(), bytes.last_chunk::<8>())
    {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
    } else if let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) {
        (u64::from(first) << 8 | u64::from(bytes[len / 2]), last.into())
    } else {
        (0, 0)
    };
    if len > 16 {
        for word in bytes[8..len - 8].chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            first = fold(first ^ u64::from_le_bytes(padded), 0xe703_7ed1_a0b4_28db);
        }
    }
    fold(first ^ 0x9e37_79b9_7f4a_7c15, last ^ (0xa076_1d64_78bd_642f ^ len as u64))
}

#[inline]
fn seeded(hash: u64, seed: u64) -> u64 {
    fold(hash ^ 0x8ebc_6af0_9c88_c6e3, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

/// The two halves of a product, folded.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ (wide >> 64) as u64
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
    fn an_empty_index_knows_nothing() {
        assert_eq!(NameIndex::new::<&str>(&[]).get(b""), None);
    }

    #[test]
    fn a_repeated_name_keeps_its_first_number() {
        assert_eq!(NameIndex::new(&["a", "b", "a"]).get(b"a"), Some(0));
    }
}
