//! Masks of sixty-four bytes: which of them are something, one bit each.

use wide::u8x16;

/// Bytes that are looked at together.
pub(super) const GROUP: usize = 64;

/// One bit per token of a group, the first one lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) string: u64,
    pub(super) scalar: u64,
    pub(super) open_object: u64,
    pub(super) open_array: u64,
    pub(super) close_object: u64,
    pub(super) close_array: u64,
    pub(super) comma: u64,
    pub(super) colon: u64,
}

impl Masks {
    /// The masks of a group of kinds, each of which is one bit or none.
    #[inline]
    pub(super) fn of(kinds: &[u8; GROUP]) -> Self {
        let [string, scalar, open_object, open_array, close_object, close_array, comma, colon] =
            transpose(kinds);
        Self { string, scalar, open_object, open_array, close_object, close_array, comma, colon }
    }

    #[inline]
    pub(super) fn brackets(&self) -> u64 {
        self.open_object | self.open_array | self.close_object | self.close_array
    }
}

/// Which of the bytes are `byte`.
#[inline]
pub(super) fn equal(bytes: &[u8; GROUP], byte: u8) -> u64 {
    let quarters = bytes.as_chunks::<16>().0.iter().enumerate();
    quarters.fold(0, |mask, (quarter, sixteen)| {
        let same = u8x16::new(*sixteen).simd_eq(u8x16::splat(byte));
        mask | u64::from(same.to_bitmask()) << (16 * quarter)
    })
}

/// Bit `b` of byte `n` becomes bit `n` of word `b`.
#[inline]
fn transpose(bytes: &[u8; GROUP]) -> [u64; 8] {
    let mut words = [0; 8];
    for (quarter, sixteen) in bytes.as_chunks::<16>().0.iter().enumerate() {
        let mut lanes = u8x16::new(*sixteen);
        for word in words.iter_mut().rev() {
            *word |= u64::from(lanes.to_bitmask()) << (16 * quarter);
            // The next lower bit of each byte becomes its highest, which makes the mask.
            lanes += lanes;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_of_a_byte_becomes_the_bit_of_a_token() {
        let mut random = 1_u64;
        let mut bytes = [0; GROUP];
        for round in 0..1000 {
            for byte in &mut bytes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
                *byte = (random >> 56) as u8;
            }
            let words = transpose(&bytes);
            for (token, byte) in bytes.iter().enumerate() {
                for (bit, word) in words.iter().enumerate() {
                    assert_eq!(word >> token & 1, u64::from(byte >> bit & 1), "{token} {bit}");
                }
            }
        }
    }
}
