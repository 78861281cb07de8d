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
        let mut distinct: Vec<(u16, &[u8])> = Vec::with_capacity(names.len());
        let mut seen = std::collections::HashSet::with_capacity(names.len());
        for (number, name) in (0..u16::MAX).zip(names) {
            if seen.insert(name.as_ref()) {
                distinct.push((number, name.as_ref()));
            }
        }
        let names = names.iter().map(|name| name.as_ref().into()).collect();
        // At half load a random seed separates n names with a small but fixed chance; every 32
        // failed seeds double the slots, so this ends for any set of distinct names.
        let mut size = (distinct.len() * 2).next_power_of_two().max(2);
        let mut seed = 0;
        loop {
            for _ in 0..32 {
                seed += 1;
                if let Some(slots) = place(&distinct, seed, size) {
                    return Self {
                        seed,
                        mask: size as u64 - 1,
                        slots,
                        names,
                    };
                }
            }
            size *= 2;
        }
    }

    /// The number of `name`, if it is one of the index.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<u16> {
        let slot = self.slots[(hash(self.seed, name) & self.mask) as usize];
        let number = slot.checked_sub(1)?;
        (*self.names[number as usize] == *name).then_some(number)
    }
}

fn place(names: &[(u16, &[u8])], seed: u64, size: usize) -> Option<Box<[u16]>> {
    let mut slots = vec![0; size].into_boxed_slice();
    for &(number, name) in names {
        let slot = &mut slots[(hash(seed, name) & (size as u64 - 1)) as usize];
        if *slot != 0 {
            return None;
        }
        *slot = number + 1;
    }
    Some(slots)
}

/// Multiply and fold, eight bytes at a time. No defence against chosen collisions is needed: a
/// look-up compares with one name whatever the hash.
#[inline]
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for &word in words {
        state = fold(state ^ u64::from_le_bytes(word));
    }
    let mut last = 0;
    for &byte in rest {
        last = last << 8 | u64::from(byte);
    }
    fold(state ^ last)
}

#[inline]
fn fold(value: u64) -> u64 {
    let wide = u128::from(value) * 0xa076_1d64_78bd_642f;
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
        for stranger in [
            "",
            "destination-",
            "destination-4096",
            "Destination-1",
            "destination-1 ",
        ] {
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
