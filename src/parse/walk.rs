//! The walk over one line, from structural character to structural character.
//!
//! simd-json's first stage has found every structural character outside strings, the opening quote
//! of every string, and the first character of every other run of non-white space; it has checked
//! that the bytes are UTF-8, that strings end, and that they hold no control characters. What is
//! left is the grammar, checked here once from front to back, while the few fields that decisions
//! need are picked up. The walk is as strict as RFC 8259: it finds `None` where a text is not valid,
//! or too deep, and leaves it to `diagnose` to say why.

use super::event::{Context, Found, Member, Node, Value};
use super::keys::{KeyBytes, KeySet};
use super::location::Step;
use super::{Locations, MAX_DEPTH, escape};
use crate::route::name_hash;

pub(crate) struct Walk<'a> {
    line: &'a [u8],
    /// Offsets of the structural characters, ascending.
    tokens: &'a [u32],
    /// The next token.
    at: usize,
    /// Whether the line has a `\` at all.
    escapes: bool,
    locations: &'a Locations,
    found: &'a mut Found,
    keys: &'a mut Keys,
}

/// Key sets for the two levels of objects in which any repeated key rejects.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    outer: KeySet,
    inner: KeySet,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        line: &'a [u8],
        tokens: &'a [u32],
        escapes: bool,
        locations: &'a Locations,
        found: &'a mut Found,
        keys: &'a mut Keys,
    ) -> Self {
        found.clear();
        Self { line, tokens, at: 0, escapes, locations, found, keys }
    }

    /// The whole line: one object and nothing else.
    pub(crate) fn event(mut self) -> Option<()> {
        self.expect(b'{')?;
        let mut seen = 0_u8;
        let mut first = true;
        while self.has_member(&mut first)? {
            let key = self.key()?;
            let field = Field::of(key.of(self.line, &self.found.unescaped));
            if let Some(field) = field {
                let bit = 1 << field as u8;
                self.found.duplicate |= seen & bit != 0;
                seen |= bit;
            }
            match field {
                Some(Field::Type) => self.found.kind = self.string_or_skip()?,
                Some(Field::Event) => self.found.name = self.string_or_skip()?,
                Some(Field::Context) => self.context()?,
                Some(Field::Integrations) => self.found.integrations = self.members(1)?,
                Some(Field::UserId | Field::AnonymousId | Field::MessageId) | None => {
                    self.skip_value(1)?;
                }
            }
        }
        (self.at == self.tokens.len()).then_some(())
    }

    fn context(&mut self) -> Option<()> {
        self.found.context = match self.peek()? {
            b'{' => Context::Object,
            b'n' => Context::Absent,
            _ => Context::NotObject,
        };
        if self.found.context != Context::Object {
            return self.skip_value(1);
        }
        self.at += 1;
        let mut seen = 0_u8;
        let mut first = true;
        while self.has_member(&mut first)? {
            let key = self.key()?;
            let Some((root, step)) = self.locations.root(key.of(self.line, &self.found.unescaped))
            else {
                self.skip_value(2)?;
                continue;
            };
            self.found.duplicate |= seen & 1 << root != 0;
            seen |= 1 << root;
            match step {
                Step::Location(location) => {
                    self.found.located[usize::from(location)] = self.members(2)?;
                }
                Step::Root => self.root(root)?,
            }
        }
        Some(())
    }

    /// An object on the way to a location, `consent` by default.
    fn root(&mut self, root: u8) -> Option<()> {
        if self.peek()? != b'{' {
            self.found.roots[usize::from(root)] = Node::NotObject;
            return self.skip_value(2);
        }
        self.at += 1;
        self.found.roots[usize::from(root)] = Node::Object { first: 0, count: 0 };
        self.keys.outer.clear();
        let mut first = true;
        while self.has_member(&mut first)? {
            let key = self.key()?;
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let name = key.of(self.line, unescaped);
            *duplicate |= self.keys.outer.insert(key, name_hash(name), self.line, unescaped);
            match self.locations.below(root, name) {
                Some(location) => {
                    self.found.located[usize::from(location)] = self.members(3)?;
                }
                None => self.skip_value(3)?,
            }
        }
        self.found.duplicate |= self.keys.outer.repeated(self.line, &self.found.unescaped);
        Some(())
    }

    /// A preferences object or `integrations`: keeps every member.
    fn members(&mut self, depth: u32) -> Option<Node> {
        if self.peek()? != b'{' {
            self.skip_value(depth)?;
            return Some(Node::NotObject);
        }
        self.at += 1;
        let start = self.found.members.len();
        self.keys.inner.clear();
        let mut first = true;
        while self.has_member(&mut first)? {
            let key = self.key()?;
            let Found { unescaped, duplicate, .. } = &mut *self.found;
            let hash = name_hash(key.of(self.line, unescaped));
            *duplicate |= self.keys.inner.insert(key, hash, self.line, unescaped);
            let value = match self.peek()? {
                b't' => Value::True,
                b'f' => Value::False,
                b'{' => Value::Object,
                _ => Value::Other,
            };
            self.skip_value(depth + 1)?;
            self.found.members.push(Member { key, hash, value });
        }
        self.found.duplicate |= self.keys.inner.repeated(self.line, &self.found.unescaped);
        let count = self.found.members.len() - start;
        Some(Node::Object { first: start as u32, count: count as u32 })
    }

    /// Whether the object that is being read has another member; takes the `,` or the `}`.
    #[inline]
    fn has_member(&mut self, first: &mut bool) -> Option<bool> {
        if *first {
            *first = false;
            let empty = self.peek()? == b'}';
            self.at += usize::from(empty);
            return Some(!empty);
        }
        match self.take()?.0 {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// A key that somebody reads, and its `:`.
    #[inline]
    fn key(&mut self) -> Option<KeyBytes> {
        let (quote, start) = self.take()?;
        let (colon, stop) = self.take()?;
        if quote != b'"' || colon != b':' {
            return None;
        }
        self.text(start, stop)
    }

    /// A string value without its escapes; another value gives nothing.
    fn string_or_skip(&mut self) -> Option<Option<KeyBytes>> {
        if self.peek()? != b'"' {
            self.skip_value(1)?;
            return Some(None);
        }
        let (_, start) = self.take()?;
        let stop = *self.tokens.get(self.at)? as usize;
        self.text(start, stop).map(Some)
    }

    /// The inside of the string that opens at `start`, the next token being at `stop`.
    #[inline]
    fn text(&mut self, start: usize, stop: usize) -> Option<KeyBytes> {
        // Between the closing quote and the next token there is only white space.
        let mut end = stop.checked_sub(1)?;
        while *self.line.get(end)? != b'"' {
            end -= 1;
        }
        let text = self.line.get(start + 1..end)?;
        if self.escapes && text.contains(&b'\\') {
            let at = self.found.unescaped.len();
            escape::unescape(text, &mut self.found.unescaped);
            return Some(KeyBytes::unescaped(at, self.found.unescaped.len() - at));
        }
        Some(KeyBytes::in_line(start + 1, text.len()))
    }

    /// Checks the value that starts at the next token; `depth` is that of the object or array around
    /// it.
    fn skip_value(&mut self, depth: u32) -> Option<()> {
        // One bit per open object (1) or array (0), the innermost lowest.
        let mut kinds = 0_u64;
        let mut open = 0;
        loop {
            let (byte, at) = self.take()?;
            match byte {
                b'"' => {}
                b'{' | b'[' => {
                    if depth + open >= MAX_DEPTH {
                        return None;
                    }
                    // `{` and `}`, `[` and `]` are two apart in ASCII.
                    if self.peek()? == byte + 2 {
                        self.at += 1;
                    } else {
                        kinds = kinds << 1 | u64::from(byte == b'{');
                        open += 1;
                        if byte == b'{' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(at, b"true")?,
                b'f' => self.literal(at, b"false")?,
                b'n' => self.literal(at, b"null")?,
                _ => self.number(at)?,
            }
            loop {
                if open == 0 {
                    return Some(());
                }
                let object = kinds & 1 == 1;
                let (byte, _) = self.take()?;
                if byte == b',' {
                    if object {
                        self.skip_key()?;
                    }
                    break;
                }
                if byte != if object { b'}' } else { b']' } {
                    return None;
                }
                kinds >>= 1;
                open -= 1;
            }
        }
    }

    /// A key that nobody reads, and its `:`.
    #[inline]
    fn skip_key(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.expect(b':')
    }

    #[inline]
    fn literal(&self, at: usize, literal: &[u8]) -> Option<()> {
        let end = at + literal.len();
        (self.line.get(at..end)? == literal && self.ends_at(end)).then_some(())
    }

    #[inline]
    fn number(&self, at: usize) -> Option<()> {
        let line = self.line;
        let digits = |mut at: usize| {
            while line.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = at + usize::from(line[at] == b'-');
        end = match line.get(end)? {
            b'0' => end + 1,
            b'1'..=b'9' => digits(end + 1),
            _ => return None,
        };
        if line.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            if end == fraction {
                return None;
            }
        }
        if matches!(line.get(end), Some(b'e' | b'E')) {
            let exponent = end + 1 + usize::from(matches!(line.get(end + 1), Some(b'+' | b'-')));
            end = digits(exponent);
            if end == exponent {
                return None;
            }
        }
        self.ends_at(end).then_some(())
    }

    /// Whether a literal or number may end here: before white space or the next token.
    #[inline]
    fn ends_at(&self, end: usize) -> bool {
        self.tokens.get(self.at).is_some_and(|&next| next as usize == end)
            || matches!(self.line.get(end), Some(b' ' | b'\t' | b'\r' | b'\n'))
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.line.get(*self.tokens.get(self.at)? as usize).copied()
    }

    #[inline]
    fn take(&mut self) -> Option<(u8, usize)> {
        let position = *self.tokens.get(self.at)? as usize;
        self.at += 1;
        Some((*self.line.get(position)?, position))
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()?.0 == byte).then_some(())
    }
}

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
