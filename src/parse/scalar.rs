//! Literals and numbers (RFC 8259, sections 3 and 6).

/// Whether the run of characters at `token` is a literal or a number.
#[inline]
pub(super) fn is_scalar(line: &[u8], tokens: &[u32], token: usize) -> bool {
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
