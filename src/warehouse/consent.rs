//! Which categories a row grants. Pure.

use super::cell::Column;
use crate::config::ConsentCast;

/// The categories that a row grants, by their position in `consent` of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted([u64; 4]);

impl Granted {
    /// Whether the category at this position is granted.
    #[must_use]
    pub fn has(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// The bits, the first category lowest.
    #[must_use]
    pub fn words(&self) -> [u64; 4] {
        self.0
    }

    /// From such bits.
    #[must_use]
    pub fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    pub(super) fn grant(&mut self, position: usize) {
        if let Some(word) = self.0.get_mut(position / 64) {
            *word |= 1 << (position % 64);
        }
    }
}

/// Whether the value of a consent column grants. NULL and all that is not listed here refuses.
pub(super) fn grants(column: &Column, row: usize, cast: ConsentCast) -> bool {
    match cast {
        ConsentCast::Strict => column.is_true(row),
        ConsentCast::Lenient => {
            // A JSON value is no text, even where the driver gives it as one.
            let says_yes = || column.text(row).is_some_and(is_yes) && !column.is_json(row);
            column.is_true(row) || says_yes() || column.is_number_one(row)
        }
    }
}

/// Exactly these words; spaces around them are another text.
fn is_yes(text: &[u8]) -> bool {
    let yes: [&[u8]; 3] = [b"true", b"t", b"1"];
    yes.iter().any(|yes| text.eq_ignore_ascii_case(yes))
}
