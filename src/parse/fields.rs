//! The few fields that decisions are made on, picked out of a line that is known to be valid.

use super::event::{Context, Found, Member, Node, Value};
use super::grammar::{KeyTokens, Notes};
use super::keys::{Key, KeyBytes, KeySet};
use super::location::Step;
use super::{Locations, escape};
use crate::route::{Name, Words};

/// Key sets for the two levels of objects in which any repeated key rejects.
#[derive(Debug, Default)]
pub(super) struct KeySets {
    outer: KeySet,
    inner: KeySet,
}

/// Reads the fields of one line. Tokens are told by their number.
pub(super) struct Fields<'a> {
    /// The line and the scratch space behind it, so that a word can be loaded anywhere.
    pub(super) padded: &'a [u8],
    /// Offsets of the structural characters.
    pub(super) tokens: &'a [u32],
    pub(super) notes: &'a Notes,
    /// Whether the line has a `\` at all.
    pub(super) escapes: bool,
    pub(super) locations: &'a Locations,
    pub(super) found: &'a mut Found,
    pub(super) sets: &'a mut KeySets,
}

impl Fields<'_> {
    /// Fills `found`. `None` never happens for a valid line; it rejects.
    #[inline]
    pub(super) fn read(mut self) -> Option<()> {
        self.found.clear();
        let mut seen = 0_u8;
        // Which field comes when can't be foreseen, so they are first only put in their places.
        let mut places = [0; FIELDS];
        let mut keys = self.notes.keys(0);
        while let Some(token) = keys.next(self.notes) {
            let field = field_of(self.key(token)?);
            let bit = 1 << field & !NO_FIELD;
            self.found.duplicate |= seen & bit != 0;
            seen |= bit;
            places[field] = token;
        }
        let place = |field: usize| (seen & 1 << field != 0).then_some(places[field]);
        if let Some(key) = place(TYPE) {
            self.found.kind = self.string_value(key)?;
        }
        if let Some(key) = place(EVENT) {
            self.found.name = self.string_value(key)?;
        }
        if let Some(key) = place(CONTEXT) {
            self.context(key + 2)?;
        }
        if let Some(key) = place(INTEGRATIONS) {
            self.found.integrations = self.members(key + 2)?;
        }
        Some(())
    }

    /// The value of `context`.
    fn context(&mut self, value: u32) -> Option<()> {
        self.found.context = match self.first_byte(value)? {
            b'{' => Context::Object,
            b'n' => Context::Absent,
            _ => Context::NotObject,
        };
        let mut seen = 0_u8;
        let mut keys = self.keys(value);
        while let Some(token) = keys.next(self.notes) {
            let quote = *self.tokens.get(token as usize)? as usize;
            if !self.locations.may_begin(*self.padded.get(quote + 1)?) {
                continue;
            }
            let key = self.key(token)?;
            let Some((root, step)) = self.locations.root(|name| self.is(name, key)) else {
                continue;
            };
            self.found.duplicate |= seen & 1 << root != 0;
            seen |= 1 << root;
            match step {
                Step::Location(location) => {
                    self.found.located[usize::from(location)] = self.members(token + 2)?;
                }
                Step::Root => self.root(root, token + 2)?,
            }
        }
        Some(())
    }

    /// An object on the way to a location, `consent` by default.
    fn root(&mut self, root: u8, value: u32) -> Option<()> {
        if !self.notes.is_object(value) {
            self.found.roots[usize::from(root)] = Node::NotObject;
            return Some(());
        }
        self.found.roots[usize::from(root)] = Node::Object { first: 0, count: 0 };
        self.sets.outer.clear();
        let mut keys = self.keys(value);
        while let Some(token) = keys.next(self.notes) {
            let key = self.key(token)?;
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let hash = key.spelled(self.padded, unescaped).hash;
            *duplicate |= self.sets.outer.insert(key.bytes, hash, self.padded, unescaped);
            if let Some(location) = self.locations.below(root, |name| self.is(name, key)) {
                self.found.located[usize::from(location)] = self.members(token + 2)?;
            }
        }
        self.found.duplicate |= self.sets.outer.repeated(self.padded, &self.found.unescaped);
        Some(())
    }

    /// A preferences object or `integrations`: keeps every member.
    #[inline]
    fn members(&mut self, value: u32) -> Option<Node> {
        if !self.notes.is_object(value) {
            return Some(Node::NotObject);
        }
        let first = self.found.members.len();
        self.sets.inner.clear();
        let mut keys = self.keys(value);
        while let Some(token) = keys.next(self.notes) {
            let key = self.key(token)?;
            let value = VALUES[usize::from(self.first_byte(token + 2)?)];
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let hash = key.spelled(self.padded, unescaped).hash;
            *duplicate |= self.sets.inner.insert(key.bytes, hash, self.padded, unescaped);
            self.found.members.push(Member { key, hash, value });
        }
        self.found.duplicate |= self.sets.inner.repeated(self.padded, &self.found.unescaped);
        let count = self.found.members.len() - first;
        Some(Node::Object { first: first as u32, count: count as u32 })
    }

    /// The keys of the value at `token`; none where it is not an object.
    #[inline]
    fn keys(&self, token: u32) -> KeyTokens {
        if self.notes.is_object(token) { self.notes.keys(token) } else { KeyTokens::default() }
    }

    #[inline]
    fn is(&self, name: &Name, key: Key) -> bool {
        name.is(key.words, key.bytes.of(self.padded, &self.found.unescaped))
    }

    fn string_value(&mut self, key: u32) -> Option<Option<Key>> {
        if self.first_byte(key + 2)? != b'"' {
            return Some(None);
        }
        self.key(key + 2).map(Some)
    }

    #[inline]
    fn first_byte(&self, token: u32) -> Option<u8> {
        let at = *self.tokens.get(token as usize)?;
        self.padded.get(at as usize).copied()
    }

    /// The inside of the string that opens at `token`.
    #[inline(always)]
    fn key(&mut self, token: u32) -> Option<Key> {
        let start = *self.tokens.get(token as usize)? as usize + 1;
        // Between the closing quote and the next token there is only white space.
        let mut end = *self.tokens.get(token as usize + 1)? as usize - 1;
        while *self.padded.get(end)? != b'"' {
            end = end.checked_sub(1)?;
        }
        let len = end.checked_sub(start)?;
        let words = Words::cut(self.padded.get(start..)?.first_chunk()?, len);
        if self.escapes && (len > Words::BYTES || words.contains(b'\\')) {
            return self.escaped_key(start, len);
        }
        Some(Key { bytes: KeyBytes::in_line(start, len), words })
    }

    #[cold]
    fn escaped_key(&mut self, start: usize, len: usize) -> Option<Key> {
        let text = self.padded.get(start..start + len)?;
        if !text.contains(&b'\\') {
            return Some(Key { bytes: KeyBytes::in_line(start, len), words: Words::of(text) });
        }
        let unescaped = &mut self.found.unescaped;
        let at = unescaped.len();
        escape::unescape(text, unescaped);
        let name = unescaped.get(at..)?;
        Some(Key { bytes: KeyBytes::unescaped(at, name.len()), words: Words::of(name) })
    }
}

/// What a value is by its first byte. A table, because what users choose can't be foreseen: a branch
/// on it would be guessed wrong every other time.
static VALUES: [Value; 256] = {
    let mut values = [Value::Other; 256];
    values[b't' as usize] = Value::True;
    values[b'f' as usize] = Value::False;
    values[b'{' as usize] = Value::Object;
    values
};

// The keys of the top level that are read; none of them may stand twice.
const TYPE: usize = 0;
const EVENT: usize = 1;
const CONTEXT: usize = 2;
const INTEGRATIONS: usize = 3;
const USER_ID: usize = 4;
const ANONYMOUS_ID: usize = 5;
const MESSAGE_ID: usize = 6;
/// Any other key.
const OTHER: usize = 7;
const FIELDS: usize = 8;
/// The bit of what may stand any number of times.
const NO_FIELD: u8 = 1 << OTHER;

/// The fields by the length of their names, which all differ.
static BY_LENGTH: [(Words, usize); Words::BYTES + 1] = {
    let names: [(&[u8], usize); 7] = [
        (b"type", TYPE),
        (b"event", EVENT),
        (b"context", CONTEXT),
        (b"integrations", INTEGRATIONS),
        (b"userId", USER_ID),
        (b"anonymousId", ANONYMOUS_ID),
        (b"messageId", MESSAGE_ID),
    ];
    let mut fields = [(Words::of(b""), OTHER); Words::BYTES + 1];
    let mut at = 0;
    while at < names.len() {
        let (name, field) = names[at];
        fields[name.len()] = (Words::of(name), field);
        at += 1;
    }
    fields
};

#[inline]
fn field_of(key: Key) -> usize {
    let (name, field) = BY_LENGTH[key.bytes.len().min(Words::BYTES)];
    if key.words == name { field } else { OTHER }
}
