//! Fixed-size sets of small numbers, one bit each.

/// A set of numbers below a limit that is fixed when the set is made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BitSet {
    words: Box<[u64]>,
}

impl BitSet {
    /// An empty set with room for the numbers `0..limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { words: vec![0; limit.div_ceil(64)].into_boxed_slice() }
    }

    /// Adds `bit`, which must be below the limit.
    pub fn insert(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    /// Takes `bit` out.
    pub fn remove(&mut self, bit: usize) {
        self.words[bit / 64] &= !(1 << (bit % 64));
    }

    /// Adds every number of `other`, as far as there is room.
    pub(crate) fn insert_all(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes every number of `other` out.
    pub(crate) fn remove_all(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// Whether `bit` is in the set. A number beyond the limit is not.
    #[must_use]
    pub fn contains(&self, bit: usize) -> bool {
        contains(&self.words, bit)
    }

    /// Takes every bit out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Puts the numbers `0..count` in, and nothing else.
    pub fn fill_to(&mut self, count: usize) {
        for (index, word) in self.words.iter_mut().enumerate() {
            let below = count.saturating_sub(index * 64).min(64);
            *word = if below == 64 { u64::MAX } else { (1 << below) - 1 };
        }
    }

    /// The words, least significant bit first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

/// Whether `bit` is set in `words`.
#[must_use]
pub(crate) fn contains(words: &[u64], bit: usize) -> bool {
    words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(index, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(index * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_to_sets_exactly_the_numbers_below() {
        for count in [0, 1, 63, 64, 65, 127, 128, 130] {
            let mut set = BitSet::new(130);
            set.insert(129);
            set.fill_to(count);
            assert_eq!(ones(set.words()).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn insert_remove_contains() {
        let mut set = BitSet::new(70);
        set.insert(69);
        assert!(set.contains(69) && !set.contains(68) && !set.contains(4000));
        set.remove(69);
        assert!(!set.contains(69));
    }
}
