//! A strict RFC 8259 reader, one character at a time, that keeps every repeated key.
//!
//! Not serde_json: that refuses `1e400`, stops at its own depth, and would have to be told apart
//! from the reader under test in a third way. Numbers are checked for grammar and then forgotten.

use std::iter::Peekable;
use std::str::Chars;

/// Objects and arrays may nest this deep, the top-level object being 1.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number,
    String(String),
    Array(Vec<Value>),
    Object(Members),
}

/// The members of an object in the order of the text, repeated keys included.
pub(crate) type Members = Vec<(String, Value)>;

/// Why a line is not an event; the names are those that users see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Refusal {
    InvalidJson,
    TooDeep,
}

use Refusal::{InvalidJson, TooDeep};

/// Reads one line as one object. Bad UTF-8 anywhere outranks all else; after that the first
/// mistake from the left is the one reported.
pub(crate) fn read_event(line: &[u8]) -> Result<Members, Refusal> {
    let text = std::str::from_utf8(line).map_err(|_| InvalidJson)?;
    let mut reader = Reader { chars: text.chars().peekable() };
    reader.skip_whitespace();
    if reader.peek() != Some('{') {
        return Err(InvalidJson);
    }
    let members = reader.object(1)?;
    reader.skip_whitespace();
    match reader.peek() {
        None => Ok(members),
        Some(_) => Err(InvalidJson),
    }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn take(&mut self) -> Result<char, Refusal> {
        self.chars.next().ok_or(InvalidJson)
    }

    fn expect(&mut self, wanted: &str) -> Result<(), Refusal> {
        for c in wanted.chars() {
            if self.take()? != c {
                return Err(InvalidJson);
            }
        }
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.chars.next();
        }
    }

    /// `depth` is that of the object or array which holds this value.
    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        match self.peek().ok_or(InvalidJson)? {
            '{' if depth < DEPTH_MAX => self.object(depth + 1).map(Value::Object),
            '[' if depth < DEPTH_MAX => self.array(depth + 1).map(Value::Array),
            '{' | '[' => Err(TooDeep),
            '"' => self.string().map(Value::String),
            't' => self.expect("true").map(|()| Value::Bool(true)),
            'f' => self.expect("false").map(|()| Value::Bool(false)),
            'n' => self.expect("null").map(|()| Value::Null),
            _ => self.number().map(|()| Value::Number),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Members, Refusal> {
        let mut members = Members::new();
        self.expect("{")?;
        self.skip_whitespace();
        if self.peek() == Some('}') {
            self.take()?;
            return Ok(members);
        }
        loop {
            self.skip_whitespace();
            let key = self.string()?;
            self.skip_whitespace();
            self.expect(":")?;
            self.skip_whitespace();
            let value = self.value(depth)?;
            members.push((key, value));
            self.skip_whitespace();
            match self.take()? {
                ',' => {}
                '}' => return Ok(members),
                _ => return Err(InvalidJson),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, Refusal> {
        let mut elements = Vec::new();
        self.expect("[")?;
        self.skip_whitespace();
        if self.peek() == Some(']') {
            self.take()?;
            return Ok(elements);
        }
        loop {
            self.skip_whitespace();
            elements.push(self.value(depth)?);
            self.skip_whitespace();
            match self.take()? {
                ',' => {}
                ']' => return Ok(elements),
                _ => return Err(InvalidJson),
            }
        }
    }

    fn string(&mut self) -> Result<String, Refusal> {
        let mut text = String::new();
        self.expect("\"")?;
        loop {
            match self.take()? {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                c if c < ' ' => return Err(InvalidJson),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Refusal> {
        match self.take()? {
            c @ ('"' | '\\' | '/') => Ok(c),
            'b' => Ok('\u{8}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'u' => self.unicode_escape(),
            _ => Err(InvalidJson),
        }
    }

    fn unicode_escape(&mut self) -> Result<char, Refusal> {
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            // A lone low surrogate is no character and ends here.
            return char::from_u32(first).ok_or(InvalidJson);
        }
        self.expect("\\u")?;
        let second = self.hex4()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(InvalidJson);
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(InvalidJson)
    }

    fn hex4(&mut self) -> Result<u32, Refusal> {
        let mut number = 0;
        for _ in 0..4 {
            number = number * 16 + self.take()?.to_digit(16).ok_or(InvalidJson)?;
        }
        Ok(number)
    }

    /// `-`? then `0` or digits without a leading zero, a fraction, an exponent; of any size.
    fn number(&mut self) -> Result<(), Refusal> {
        if self.peek() == Some('-') {
            self.take()?;
        }
        if self.peek() == Some('0') {
            self.take()?;
        } else {
            self.digits()?;
        }
        if self.peek() == Some('.') {
            self.take()?;
            self.digits()?;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.take()?;
            if matches!(self.peek(), Some('+' | '-')) {
                self.take()?;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refusal> {
        if !self.take()?.is_ascii_digit() {
            return Err(InvalidJson);
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.take()?;
        }
        Ok(())
    }
}
