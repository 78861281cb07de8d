//! The few fields that decisions are made on, picked out of a line that is known to be valid.

use super::event::{Context, Found, Member, Node, Value};
use super::grammar::KeyToken;
use super::keys::{KeyBytes, KeySet};
use super::location::Step;
use super::{Locations, escape};
use crate::route::name_hash;

/// Key sets for the two levels of objects in which any repeated key rejects.
#[derive(Debug, Default)]
pub(super) struct Keys {
    outer: KeySet,
    inner: KeySet,
}

/// Reads the fields of one line.
pub(super) struct Fields<'a> {
    pub(super) line: &'a [u8],
    /// Offsets of the structural characters.
    pub(super) tokens: &'a [u32],
    /// Keys in the order of the text; each tells where the next one of its object is.
    pub(super) keys: &'a [KeyToken],
    /// Whether the line has a `\` at all.
    pub(super) escapes: bool,
    pub(super) locations: &'a Locations,
    pub(super) found: &'a mut Found,
    pub(super) sets: &'a mut Keys,
}

impl Fields<'_> {
    /// Fills `found`. `None` never happens for a valid line; it rejects.
    #[inline]
    pub(super) fn read(mut self) -> Option<()> {
        self.found.clear();
        let mut seen = 0_u8;
        let mut next = 0;
        while let Some(&key) = self.keys.get(next) {
            let at = next;
            next = key.next as usize;
            let name = self.name(key)?;
            let Some(field) = Field::of(name.of(self.line, &self.found.unescaped)) else {
                continue;
            };
            let bit = 1 << field as u8;
            self.found.duplicate |= seen & bit != 0;
            seen |= bit;
            match field {
                Field::Type => self.found.kind = self.string_value(key)?,
                Field::Event => self.found.name = self.string_value(key)?,
                Field::Context => self.context(at)?,
                Field::Integrations => self.found.integrations = self.members(at)?,
                Field::UserId | Field::AnonymousId | Field::MessageId => {}
            }
        }
        Some(())
    }

    /// The value of the key at `at`, which is `context`.
    fn context(&mut self, at: usize) -> Option<()> {
        self.found.context = match self.value_byte(self.keys[at])? {
            b'{' => Context::Object,
            b'n' => Context::Absent,
            _ => Context::NotObject,
        };
        if self.found.context != Context::Object {
            return Some(());
        }
        let mut seen = 0_u8;
        let (mut next, end) = self.inside(at);
        while next < end {
            let (child, key) = (next, self.keys[next]);
            next = key.next as usize;
            let name = self.name(key)?;
            let Some((root, step)) = self.locations.root(name.of(self.line, &self.found.unescaped))
            else {
                continue;
            };
            self.found.duplicate |= seen & 1 << root != 0;
            seen |= 1 << root;
            match step {
                Step::Location(location) => {
                    self.found.located[usize::from(location)] = self.members(child)?;
                }
                Step::Root => self.root(root, child)?,
            }
        }
        Some(())
    }

    /// An object on the way to a location, `consent` by default.
    fn root(&mut self, root: u8, at: usize) -> Option<()> {
        if self.value_byte(self.keys[at])? != b'{' {
            self.found.roots[usize::from(root)] = Node::NotObject;
            return Some(());
        }
        self.found.roots[usize::from(root)] = Node::Object { first: 0, count: 0 };
        self.sets.outer.clear();
        let (mut next, end) = self.inside(at);
        while next < end {
            let (child, key) = (next, self.keys[next]);
            next = key.next as usize;
            let bytes = self.name(key)?;
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let name = bytes.of(self.line, unescaped);
            *duplicate |= self.sets.outer.insert(bytes, name_hash(name), self.line, unescaped);
            if let Some(location) = self.locations.below(root, name) {
                self.found.located[usize::from(location)] = self.members(child)?;
            }
        }
        self.found.duplicate |= self.sets.outer.repeated(self.line, &self.found.unescaped);
        Some(())
    }

    /// A preferences object or `integrations`: keeps every member.
    #[inline]
    fn members(&mut self, at: usize) -> Option<Node> {
        if self.value_byte(self.keys[at])? != b'{' {
            return Some(Node::NotObject);
        }
        let first = self.found.members.len();
        self.sets.inner.clear();
        let (mut next, end) = self.inside(at);
        while next < end {
            let key = self.keys[next];
            next = key.next as usize;
            let bytes = self.name(key)?;
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let hash = name_hash(bytes.of(self.line, unescaped));
            *duplicate |= self.sets.inner.insert(bytes, hash, self.line, unescaped);
            let value = VALUES[usize::from(self.value_byte(key)?)];
            self.found.members.push(Member { key: bytes, hash, value });
        }
        self.found.duplicate |= self.sets.inner.repeated(self.line, &self.found.unescaped);
        let count = self.found.members.len() - first;
        Some(Node::Object { first: first as u32, count: count as u32 })
    }

    /// Where the keys of the object that is the value of the key at `at` begin and end.
    #[inline]
    fn inside(&self, at: usize) -> (usize, usize) {
        (at + 1, self.keys[at].next as usize)
    }

    #[inline]
    fn name(&mut self, key: KeyToken) -> Option<KeyBytes> {
        self.text(key.token)
    }

    fn string_value(&mut self, key: KeyToken) -> Option<Option<KeyBytes>> {
        if self.value_byte(key)? != b'"' {
            return Some(None);
        }
        self.text(key.token + 2).map(Some)
    }

    /// The first byte of a key's value.
    #[inline]
    fn value_byte(&self, key: KeyToken) -> Option<u8> {
        let at = *self.tokens.get(key.token as usize + 2)?;
        self.line.get(at as usize).copied()
    }

    /// The inside of the string that opens at `token`.
    #[inline]
    fn text(&mut self, token: u32) -> Option<KeyBytes> {
        let start = *self.tokens.get(token as usize)? as usize + 1;
        // Between the closing quote and the next token there is only white space.
        let mut end = *self.tokens.get(token as usize + 1)? as usize - 1;
        while *self.line.get(end)? != b'"' {
            end = end.checked_sub(1)?;
        }
        let text = self.line.get(start..end)?;
        if self.escapes && text.contains(&b'\\') {
            let at = self.found.unescaped.len();
            escape::unescape(text, &mut self.found.unescaped);
            return Some(KeyBytes::unescaped(at, self.found.unescaped.len() - at));
        }
        Some(KeyBytes::in_line(start, text.len()))
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

/// The keys of the top level that are read; none of them may stand twice.
#[derive(Clone, Copy)]
enum Field {
    Type,
    Event,
    UserId,
    AnonymousId,
    MessageId,
    Context,
    Integrations,
}

impl Field {
    #[inline]
    fn of(key: &[u8]) -> Option<Self> {
        // The names differ in length, so at most one comparison is made.
        match key {
            b"type" => Some(Self::Type),
            b"event" => Some(Self::Event),
            b"userId" => Some(Self::UserId),
            b"context" => Some(Self::Context),
            b"messageId" => Some(Self::MessageId),
            b"anonymousId" => Some(Self::AnonymousId),
            b"integrations" => Some(Self::Integrations),
            _ => None,
        }
    }
}
