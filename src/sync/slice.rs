//! Which keys are worked on together. Pure.
//!
//! The state keeps rows in 16,384 parts by the first bits of their keys. A sync works on slices of so many of
//! them that the rows of one fit in memory, however many rows there are.

use std::ops::Range;

use super::known::Key;

/// Parts of the state,
const PARTS: u32 = 16_384;
/// and those whose keys begin with the same byte: no slice has more.
pub(super) const BYTE_PARTS: u32 = 64;

/// The part of a key.
pub(super) fn part_of(key: &Key) -> u32 {
    u32::from(key[0]) * BYTE_PARTS + u32::from(key[1] >> 2)
}

/// Parts that are worked on together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slice {
    first: u32,
    /// How many, as the power of two.
    bits: u32,
}

impl Slice {
    /// Its parts.
    pub(super) fn parts(self) -> Range<u32> {
        self.first..self.first + (1 << self.bits)
    }

    pub(super) fn contains(self, key: &Key) -> bool {
        self.parts().contains(&part_of(key))
    }

    /// The first byte of its keys.
    pub(super) fn byte(self) -> u8 {
        (self.first / BYTE_PARTS) as u8
    }

    /// Whether it has all keys that begin with the byte.
    pub(super) fn is_whole(self) -> bool {
        1 << self.bits == BYTE_PARTS
    }

    /// A number that no other slice has.
    pub(super) fn number(self) -> u32 {
        self.bits * PARTS + self.first
    }

    /// The slice with this number; `None` if there is none.
    pub(super) fn of_number(number: u32) -> Option<Self> {
        let slice = Self { first: number % PARTS, bits: number / PARTS };
        let is_one =
            slice.bits <= BYTE_PARTS.ilog2() && slice.first.is_multiple_of(1 << slice.bits);
        is_one.then_some(slice)
    }
}

/// How keys are sliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slicing {
    bits: u32,
}

impl Slicing {
    /// The smallest slices.
    pub(super) const FINEST: Self = Self { bits: 0 };

    /// The largest slices with which one of `of_byte`, the amount that belongs to one first byte, is not
    /// more than `max`.
    pub(super) fn fitting(of_byte: u64, max: u64) -> Self {
        let mut bits = BYTE_PARTS.ilog2();
        while bits > 0 && of_byte >> (BYTE_PARTS.ilog2() - bits) > max {
            bits -= 1;
        }
        Self { bits }
    }

    /// The finer of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { bits: self.bits.min(other.bits) }
    }

    /// The slice of a key.
    pub(super) fn of(self, key: &Key) -> Slice {
        Slice { first: part_of(key) >> self.bits << self.bits, bits: self.bits }
    }

    /// All slices, ascending.
    pub(super) fn all(self) -> impl Iterator<Item = Slice> {
        (0..PARTS >> self.bits).map(move |at| Slice { first: at << self.bits, bits: self.bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_slice() {
        for bits in 0..=6 {
            let slicing = Slicing { bits };
            let all: Vec<Slice> = slicing.all().collect();
            assert_eq!(all.len(), 16_384 >> bits);
            assert!(all.is_sorted());
            for (byte, second) in [(0, 0), (0, 255), (1, 3), (1, 4), (127, 128), (255, 255)] {
                let mut key = [7; 16];
                (key[0], key[1]) = (byte, second);
                let slice = slicing.of(&key);
                let having: Vec<&Slice> = all.iter().filter(|slice| slice.contains(&key)).collect();
                assert_eq!(having, [&slice]);
                assert_eq!((slice.byte(), slice.is_whole()), (byte, bits == 6));
            }
            assert!(all.iter().all(|slice| Slice::of_number(slice.number()) == Some(*slice)));
        }
        let mut numbers: Vec<u32> =
            (0..=6).flat_map(|bits| Slicing { bits }.all().map(Slice::number)).collect();
        numbers.sort_unstable();
        assert!(numbers.is_sorted_by(|one, other| one < other), "two have the same number");
        for number in [16_384 + 1, 7 * 16_384, u32::MAX] {
            assert_eq!(Slice::of_number(number), None, "{number}");
        }
    }

    #[test]
    fn slices_are_as_large_as_fits() {
        let parts = |of_byte, max| 1_u32 << Slicing::fitting(of_byte, max).bits;
        assert_eq!(parts(0, 10), 64);
        assert_eq!(parts(10, 10), 64);
        assert_eq!(parts(20, 10), 32);
        assert_eq!(parts(22, 10), 16);
        assert_eq!(parts(640, 10), 1);
        assert_eq!(parts(u64::MAX, 10), 1, "it can't be cut any finer");
        let both = Slicing::fitting(20, 10).and(Slicing::fitting(40, 10));
        assert_eq!(both, Slicing::fitting(40, 10));
    }
}
