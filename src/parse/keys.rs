//! Keys, and whether one stands twice in its object.

use crate::route::{Spelled, Words, name_hash};

/// Where the bytes of a key are: in the line, or unescaped beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyBytes {
    start: u32,
    /// The length; the highest bit says that the key is not in the line but unescaped.
    len: u32,
}

const UNESCAPED: u32 = 1 << 31;

impl KeyBytes {
    #[inline]
    pub(crate) fn in_line(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 & !UNESCAPED }
    }

    pub(crate) fn unescaped(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 | UNESCAPED }
    }

    /// The length in bytes.
    #[inline]
    pub(crate) fn len(self) -> usize {
        (self.len & !UNESCAPED) as usize
    }

    #[inline]
    pub(crate) fn of<'a>(self, line: &'a [u8], unescaped: &'a [u8]) -> &'a [u8] {
        let bytes = if self.len & UNESCAPED == 0 { line } else { unescaped };
        let (start, len) = (self.start as usize, self.len());
        bytes.get(start..start + len).unwrap_or_default()
    }
}

/// A key as it was read: what is compared with the names that matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) bytes: KeyBytes,
    pub(crate) words: Words,
}

impl Key {
    /// Ready to be looked up; the two slices are those of [`KeyBytes::of`].
    #[inline]
    pub(crate) fn spelled<'a>(self, line: &'a [u8], unescaped: &'a [u8]) -> Spelled<'a> {
        let bytes = self.bytes.of(line, unescaped);
        Spelled { bytes, words: self.words, hash: name_hash(bytes, self.words) }
    }
}

/// Up to this many keys an object is searched as it is read; beyond, it is sorted once at its end,
/// so that an object with very many keys costs n log n.
const SEARCHED: usize = 48;

/// The keys of the object that is being read.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<KeyBytes>,
    /// One bit per seen hash: most keys are new, and most of those are known to be new from this.
    seen: [u64; 4],
}

impl KeySet {
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.seen = [0; 4];
    }

    /// Adds a key; says whether it is known to be a repetition. Beyond [`SEARCHED`] keys the answer
    /// comes from [`KeySet::repeated`].
    #[inline]
    pub(crate) fn insert(
        &mut self,
        key: KeyBytes,
        hash: u64,
        line: &[u8],
        unescaped: &[u8],
    ) -> bool {
        let (word, bit) = ((hash >> 6 & 3) as usize, 1 << (hash & 63));
        let maybe = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        let repeated = maybe
            && self.keys.len() <= SEARCHED
            && self.is_there(key.of(line, unescaped), line, unescaped);
        self.keys.push(key);
        repeated
    }

    #[cold]
    fn is_there(&self, key: &[u8], line: &[u8], unescaped: &[u8]) -> bool {
        self.keys.iter().any(|other| other.of(line, unescaped) == key)
    }

    /// Whether an object of more than [`SEARCHED`] keys repeats one. To be asked at its end.
    pub(crate) fn repeated(&mut self, line: &[u8], unescaped: &[u8]) -> bool {
        if self.keys.len() <= SEARCHED {
            return false;
        }
        self.keys.sort_unstable_by(|a, b| a.of(line, unescaped).cmp(b.of(line, unescaped)));
        self.keys.windows(2).any(|pair| pair[0].of(line, unescaped) == pair[1].of(line, unescaped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(keys: &[String]) -> bool {
        let line: Vec<u8> = keys.concat().into_bytes();
        let mut set = KeySet::default();
        let mut start = 0;
        let mut found = false;
        for key in keys {
            let bytes = KeyBytes::in_line(start, key.len());
            found |= set.insert(bytes, Spelled::new(key.as_bytes()).hash, &line, &[]);
            start += key.len();
        }
        found || set.repeated(&line, &[])
    }

    #[test]
    fn a_repetition_is_found_whatever_the_number_of_keys_and_its_place() {
        for count in [1_usize, 2, 10, SEARCHED - 1, SEARCHED, SEARCHED + 1, SEARCHED + 2, 500] {
            let keys: Vec<String> = (0..count).map(|n| format!("key{n}")).collect();
            assert!(!repeats(&keys), "{count} distinct keys");
            for copied in [0, count / 2, count - 1] {
                for place in [0, count / 2, count] {
                    let mut with_copy = keys.clone();
                    with_copy.insert(place, keys[copied].clone());
                    assert!(repeats(&with_copy), "{count} keys, {copied} again at {place}");
                }
            }
        }
    }
}
