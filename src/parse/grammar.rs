//! The grammar of RFC 8259 over the structural characters of a line.
//!
//! simd-json's first stage has found every structural character outside strings, the opening quote
//! of every string, and the first character of every other run of non-white space; it has checked
//! that the bytes are UTF-8, that strings end, and that they hold no control characters. What is
//! left is checked here, in three passes that each do one thing: what each token is, in which order
//! they stand, and whether literals and numbers are right. The shape of an event can't be foreseen,
//! and a wrong guess of the processor costs more than all else that is done for a token; so the first
//! pass has no branch that depends on the text, and the second takes a member `"key":value,` at once.
//! On the way it notes where each object and array ends, so that a reader can step over a value.

use super::MAX_DEPTH;

/// What the passes over the tokens note; reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What each token is, and [`BEHIND`] more that are nothing.
    kinds: Vec<u8>,
    /// Which tokens are literals or numbers; the order of the tokens tells how many count.
    scalars: Vec<u32>,
    /// For each token that opens an object or array, the token that closes it.
    ends: Vec<u32>,
}

// What a token is. The two that are a whole value differ in the lowest bit only.
const STRING: u8 = 0;
const SCALAR: u8 = 1;
const OPEN_OBJECT: u8 = 2;
const OPEN_ARRAY: u8 = 3;
const CLOSE_OBJECT: u8 = 4;
const CLOSE_ARRAY: u8 = 5;
const COMMA: u8 = 6;
const COLON: u8 = 7;
const OTHER: u8 = 8;

/// Room behind the last kind, so that a member can be looked at as four bytes anywhere.
const BEHIND: usize = 4;

static KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [OTHER; 256];
    kinds[b'"' as usize] = STRING;
    kinds[b'{' as usize] = OPEN_OBJECT;
    kinds[b'[' as usize] = OPEN_ARRAY;
    kinds[b'}' as usize] = CLOSE_OBJECT;
    kinds[b']' as usize] = CLOSE_ARRAY;
    kinds[b',' as usize] = COMMA;
    kinds[b':' as usize] = COLON;
    let scalars = b"-0123456789tfn";
    let mut at = 0;
    while at < scalars.len() {
        kinds[scalars[at] as usize] = SCALAR;
        at += 1;
    }
    kinds
}

impl Notes {
    /// Whether `tokens`, the offsets of the structural characters of `line`, are one valid object of
    /// a depth within the limit.
    #[inline]
    pub(super) fn is_one_object(&mut self, line: &[u8], tokens: &[u32]) -> bool {
        self.classify(line, tokens);
        let count = tokens.len();
        let order = Order {
            kinds: &self.kinds[..count + BEHIND],
            scalars: &mut self.scalars[..count],
            ends: &mut self.ends[..count],
            at: 0,
            scalars_len: 0,
            objects: 0,
            depth: 0,
            open: [0; MAX_DEPTH as usize],
        };
        order.check().is_some_and(|scalars| {
            let mut scalars = self.scalars[..scalars].iter();
            scalars.all(|&token| is_scalar(line, tokens, token as usize))
        })
    }

    fn classify(&mut self, line: &[u8], tokens: &[u32]) {
        let count = tokens.len();
        if self.ends.len() < count || self.kinds.len() < count + BEHIND {
            self.kinds.resize(count * 2 + BEHIND, OTHER);
            self.scalars.resize(count * 2, 0);
            self.ends.resize(count * 2, 0);
        }
        for (kind, &position) in self.kinds.iter_mut().zip(tokens) {
            *kind = KINDS[usize::from(line[position as usize])];
        }
        self.kinds[count..count + BEHIND].fill(OTHER);
    }

    /// The keys of the object that opens at `token`, which must be part of the last line found valid.
    #[inline]
    pub(super) fn keys(&self, token: u32) -> KeyTokens {
        let end = self.ends.get(token as usize).copied().unwrap_or_default();
        KeyTokens { next: token + 1, end }
    }

    /// The token behind which the value at `token` ends.
    #[inline]
    fn value_end(&self, token: u32) -> u32 {
        let opens = self.kinds.get(token as usize).is_some_and(|kind| kind & !1 == OPEN_OBJECT);
        let end = self.ends.get(token as usize).copied().unwrap_or(u32::MAX);
        if opens { end } else { token }
    }

    /// Whether the value at `token` is an object.
    #[inline]
    pub(super) fn is_object(&self, token: u32) -> bool {
        self.kinds.get(token as usize) == Some(&OPEN_OBJECT)
    }
}

/// Walks over the keys of an object, not into their values. The token of a key is its opening quote;
/// the next one is the colon, the one after that its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyTokens {
    next: u32,
    end: u32,
}

impl KeyTokens {
    /// The next key.
    #[inline]
    pub(super) fn next(&mut self, notes: &Notes) -> Option<u32> {
        let key = self.next;
        if key >= self.end {
            return None;
        }
        // Behind the value stands a comma, or the closing bracket.
        self.next = notes.value_end(key + 2).saturating_add(2);
        Some(key)
    }
}

/// The walk over the kinds of the tokens, checking their order.
struct Order<'a> {
    kinds: &'a [u8],
    scalars: &'a mut [u32],
    ends: &'a mut [u32],
    at: usize,
    scalars_len: usize,
    /// One bit per open bracket, the innermost lowest: 1 for an object.
    objects: u64,
    depth: usize,
    /// The tokens of the open brackets.
    open: [u32; MAX_DEPTH as usize],
}

/// What must come next.
enum Next {
    Member,
    Value,
    Done,
}

impl Order<'_> {
    /// The number of literals and numbers, if the order is right.
    #[inline]
    fn check(mut self) -> Option<usize> {
        if self.kinds[0] != OPEN_OBJECT {
            return None;
        }
        let mut next = Next::Value;
        loop {
            next = match next {
                Next::Member => {
                    self.members()?;
                    self.value()?
                }
                Next::Value => self.value()?,
                // The last bracket must be the last token.
                Next::Done => {
                    return (self.at + BEHIND == self.kinds.len()).then_some(self.scalars_len);
                }
            }
        }
    }

    /// The members of an object from a key on, until one whose value is not a string or scalar, or
    /// behind which the object ends: its key and colon are taken, too.
    #[inline]
    fn members(&mut self) -> Option<()> {
        const MEMBER: u32 = u32::from_le_bytes([STRING, COLON, STRING, COMMA]);
        const ANY_LEAF: u32 = !u32::from_le_bytes([0, 0, STRING ^ SCALAR, 0]);
        const KEY: u32 = u32::from_le_bytes([STRING, COLON, 0, 0]);
        loop {
            let four = self.kinds.get(self.at..self.at + 4)?.first_chunk::<4>()?;
            let four = u32::from_le_bytes(*four);
            if four & ANY_LEAF != MEMBER {
                self.at += 2;
                return (four & 0xffff == KEY).then_some(());
            }
            self.leaf(self.at + 2, four >> 16)?;
            self.at += 4;
        }
    }

    /// Notes a string or scalar at `token`. Written whether it is a scalar or not: only the next
    /// place depends on the text, no branch.
    #[inline]
    fn leaf(&mut self, token: usize, kind: u32) -> Option<()> {
        *self.scalars.get_mut(self.scalars_len)? = token as u32;
        self.scalars_len += (kind & 1) as usize;
        Some(())
    }

    /// A value, and what it completes.
    #[inline]
    fn value(&mut self) -> Option<Next> {
        let token = self.at;
        match self.take()? {
            kind @ (STRING | SCALAR) => {
                self.leaf(token, kind.into())?;
                self.after_value()
            }
            OPEN_OBJECT => {
                self.push(token, 1)?;
                if *self.kinds.get(self.at)? != CLOSE_OBJECT {
                    return Some(Next::Member);
                }
                self.after_value()
            }
            OPEN_ARRAY => {
                self.push(token, 0)?;
                if *self.kinds.get(self.at)? != CLOSE_ARRAY {
                    return Some(Next::Value);
                }
                self.after_value()
            }
            _ => None,
        }
    }

    /// Takes closing brackets and at most one comma.
    #[inline]
    fn after_value(&mut self) -> Option<Next> {
        loop {
            if self.depth == 0 {
                return Some(Next::Done);
            }
            let token = self.at;
            let kind = self.take()?;
            let object = self.objects & 1 == 1;
            if kind == COMMA {
                return Some(if object { Next::Member } else { Next::Value });
            }
            if kind != if object { CLOSE_OBJECT } else { CLOSE_ARRAY } {
                return None;
            }
            self.objects >>= 1;
            self.depth -= 1;
            let opened = *self.open.get(self.depth)?;
            *self.ends.get_mut(opened as usize)? = token as u32;
        }
    }

    #[inline]
    fn push(&mut self, token: usize, object: u64) -> Option<()> {
        // There is room for as many as may be open.
        *self.open.get_mut(self.depth)? = token as u32;
        self.objects = self.objects << 1 | object;
        self.depth += 1;
        Some(())
    }

    #[inline]
    fn take(&mut self) -> Option<u8> {
        let kind = self.kinds.get(self.at).copied();
        self.at += 1;
        kind
    }
}

/// Whether the run of characters at `token` is a literal or a number.
#[inline]
fn is_scalar(line: &[u8], tokens: &[u32], token: usize) -> bool {
    let at = tokens[token] as usize;
    // Something follows: the object around it ends.
    let next = tokens.get(token + 1).map_or(line.len(), |&next| next as usize);
    let end = match line.get(at..at + 8).and_then(|bytes| bytes.first_chunk::<8>()) {
        Some(eight) if line[at] >= b'a' => literal(at, u64::from_le_bytes(*eight)),
        Some(eight) => short_integer(u64::from_le_bytes(*eight))
            .map(|digits| at + digits)
            .or_else(|| number(line, at)),
        // So near the end of the line that eight bytes are not there.
        None => match line[at] {
            b't' => line[at..].starts_with(b"true").then_some(at + 4),
            b'f' => line[at..].starts_with(b"false").then_some(at + 5),
            b'n' => line[at..].starts_with(b"null").then_some(at + 4),
            _ => number(line, at),
        },
    };
    // It ends at the next token or at white space; any other character behind it is wrong.
    end.is_some_and(|end| {
        end == next || matches!(line.get(end), Some(b' ' | b'\t' | b'\r' | b'\n'))
    })
}

/// The end of the literal at `at`, whose first bytes are `eight`. The three literals differ in the
/// bits that pick the one to compare with, so there is no branch on which it is.
#[inline]
fn literal(at: usize, eight: u64) -> Option<usize> {
    const fn word(literal: [u8; 8], len: u32) -> (u64, u64, usize) {
        (u64::from_le_bytes(literal), u64::MAX >> (64 - 8 * len), len as usize)
    }
    const LITERALS: [(u64, u64, usize); 4] = [
        word(*b"false\0\0\0", 5),
        word(*b"null\0\0\0\0", 4),
        word(*b"true\0\0\0\0", 4),
        word(*b"true\0\0\0\0", 4),
    ];
    let (expected, mask, len) = LITERALS[(eight >> 3 & 3) as usize];
    (eight & mask == expected).then_some(at + len)
}

/// The number of digits, if the number is an integer of one to seven digits and nothing else: the
/// usual case, without a loop over its length.
#[inline]
fn short_integer(eight: u64) -> Option<usize> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // A byte is a digit if it differs from `0` by less than ten; else its highest bit is set.
    let from_zero = eight ^ (EACH * 0x30);
    let carried = (from_zero & (EACH * 0x7f)) + EACH * 0x76;
    let others = (carried | from_zero) & (EACH * 0x80);
    let digits = (others.trailing_zeros() / 8) as usize;
    if digits == 0 || digits == 8 {
        return None;
    }
    let behind = (eight >> (8 * digits)) as u8;
    let leading_zero = digits > 1 && eight as u8 == b'0';
    (!leading_zero && !matches!(behind, b'.' | b'e' | b'E')).then_some(digits)
}

/// The end of the number at `at`.
#[inline]
fn number(line: &[u8], at: usize) -> Option<usize> {
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
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_integers_are_as_numbers_are() {
        let texts = [
            "0,",
            "7,",
            "42}",
            "1234567,",
            "12345678,",
            "01,",
            "00,",
            "0.5,",
            "1e5,",
            "1E5,",
            "-1,",
            "12a,",
            "1 ",
            "9:",
            "/,",
            "999999999,",
            "1.,",
            "5\u{80}",
        ];
        for text in texts {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(16, b' ');
            let eight = u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap());
            if let Some(digits) = short_integer(eight) {
                assert_eq!(number(&bytes, 0), Some(digits), "{text}");
            }
        }
        let eight = |text: &[u8; 8]| u64::from_le_bytes(*text);
        assert_eq!(short_integer(eight(b"42,     ")), Some(2));
        assert_eq!(short_integer(eight(b"1234567}")), Some(7));
        assert_eq!(short_integer(eight(b"01,     ")), None);
        assert_eq!(short_integer(eight(b"12345678")), None);
    }

    #[test]
    fn literals() {
        let check = |text: &[u8; 8], end: Option<usize>| {
            assert_eq!(literal(10, u64::from_le_bytes(*text)), end, "{text:?}");
        };
        check(b"true,\"a\"", Some(14));
        check(b"false}  ", Some(15));
        check(b"null]   ", Some(14));
        check(b"trUe,   ", None);
        check(b"falsy,  ", None);
        check(b"nule    ", None);
        check(b"fals    ", None);
        check(b"ture    ", None);
    }
}
