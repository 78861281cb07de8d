//! Short names as two machine words: compared and hashed without a loop over their bytes.

/// The first bytes of a name, zeros behind them.
///
/// Names of up to [`Words::BYTES`] bytes are equal where their words and lengths are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    first: u64,
    second: u64,
}

impl Words {
    /// Bytes that the words hold.
    pub(crate) const BYTES: usize = 16;

    /// Of the first `len` bytes of `bytes`, whatever stands behind them.
    #[inline]
    pub(crate) fn cut(bytes: &[u8; Self::BYTES], len: usize) -> Self {
        let (first, second) = bytes.split_at(8);
        let word = |half: &[u8]| half.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
        let (first_mask, second_mask) = MASKS[len.min(Self::BYTES)];
        Self { first: word(first) & first_mask, second: word(second) & second_mask }
    }

    /// Of a whole name. Byte by byte: for names that are looked at once, and for constants.
    pub(crate) const fn of(name: &[u8]) -> Self {
        let mut words = [0_u64; 2];
        let mut at = 0;
        while at < name.len() && at < Self::BYTES {
            words[at / 8] |= (name[at] as u64) << (8 * (at % 8));
            at += 1;
        }
        Self { first: words[0], second: words[1] }
    }

    /// Whether one of the bytes is `byte`, which is not zero.
    #[inline]
    pub(crate) fn contains(self, byte: u8) -> bool {
        const EACH: u64 = 0x0101_0101_0101_0101;
        let zero = |word: u64| word.wrapping_sub(EACH) & !word & (EACH << 7);
        let pattern = EACH * u64::from(byte);
        (zero(self.first ^ pattern) | zero(self.second ^ pattern)) != 0
    }

    #[inline]
    fn hash(self, len: usize) -> u64 {
        // A multiplication for each part: what differs in one of them, or only in the length, cannot
        // cancel out.
        let length = (len as u64).wrapping_mul(0x8ebc_6af0_9c88_c6e3);
        let first = fold(self.first ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93);
        fold(first.wrapping_add(length), self.second ^ 0xa076_1d64_78bd_642f)
    }
}

/// A name from outside with all that a look-up needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelled<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) words: Words,
    pub(crate) hash: u64,
}

impl<'a> Spelled<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let words = Words::of(bytes);
        Self { bytes, words, hash: hash(bytes, words) }
    }
}

/// A name to compare others with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    words: Words,
    bytes: Box<[u8]>,
}

impl Name {
    pub(crate) fn new(bytes: Box<[u8]>) -> Self {
        Self { words: Words::of(&bytes), bytes }
    }

    /// The name.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is the name `bytes`, which has these words.
    #[inline]
    pub(crate) fn is(&self, words: Words, bytes: &[u8]) -> bool {
        self.words == words
            && self.bytes.len() == bytes.len()
            && (bytes.len() <= Words::BYTES || *self.bytes == *bytes)
    }
}

/// What to keep of the two words of a name, by its length.
static MASKS: [(u64, u64); Words::BYTES + 1] = {
    let mut masks = [(0, 0); Words::BYTES + 1];
    let mut len = 1;
    while len <= Words::BYTES {
        masks[len] = if len <= 8 {
            (u64::MAX >> (64 - 8 * len), 0)
        } else {
            (u64::MAX, u64::MAX >> (128 - 8 * len))
        };
        len += 1;
    }
    masks
};

/// A hash of the name with these words, quick for short ones. No defence against chosen collisions:
/// whoever looks up by it compares with one name whatever the hash.
#[inline]
pub(crate) fn hash(name: &[u8], words: Words) -> u64 {
    let hash = words.hash(name.len());
    if name.len() <= Words::BYTES { hash } else { long(hash, name) }
}

/// Adds what stands behind the words.
fn long(mut hash: u64, name: &[u8]) -> u64 {
    let (_, rest) = name.split_at(Words::BYTES);
    let pieces = rest[..rest.len() - 1].as_chunks().0;
    // The last piece may overlap the one before.
    for piece in pieces.iter().chain(name.last_chunk()) {
        let words = Words::cut(piece, Words::BYTES);
        hash = fold(hash ^ 0xe703_7ed1_a0b4_28db, words.hash(name.len()) | 1);
    }
    hash
}

/// The two halves of a product, folded.
#[inline]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

    #[test]
    fn the_words_of_a_name_do_not_depend_on_what_stands_behind_it() {
        for len in 0..=Words::BYTES {
            let whole = Words::of(&TEXT[..len]);
            assert_eq!(Words::cut(TEXT.first_chunk().unwrap(), len), whole, "{len}");
            let mut other = [0xff; Words::BYTES];
            other[..len].copy_from_slice(&TEXT[..len]);
            assert_eq!(Words::cut(&other, len), whole, "{len}");
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        assert!(!Words::of(TEXT).contains(b'\\'));
        for at in 0..Words::BYTES {
            let mut bytes = [b'\xdc'; Words::BYTES];
            assert!(!Words::of(&bytes).contains(b'\\'));
            bytes[at] = b'\\';
            assert!(Words::of(&bytes).contains(b'\\'), "{at}");
        }
    }

    #[test]
    fn names_that_differ_anywhere_differ_in_their_hash() {
        let mut hashes = std::collections::HashSet::new();
        for len in 0..=40 {
            let name = vec![b'a'; len];
            assert!(hashes.insert(Spelled::new(&name).hash), "{len}");
            for at in 0..len {
                let mut other = name.clone();
                other[at] = b'b';
                assert!(hashes.insert(Spelled::new(&other).hash), "{len} {at}");
            }
        }
    }
}
