//! Escape sequences of JSON strings (RFC 8259, section 7).

use super::masks::{GROUP, equal};

/// The escape that starts at the `\` at `at`: its length and the character, or `None` where it is
/// not a valid one. A lone surrogate is not valid.
pub(crate) fn decode(bytes: &[u8], at: usize) -> Option<(usize, char)> {
    let short = match bytes.get(at + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return decode_unicode(bytes, at),
        _ => return None,
    };
    Some((2, short))
}

fn decode_unicode(bytes: &[u8], at: usize) -> Option<(usize, char)> {
    let first = hex4(bytes, at + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Some((6, character));
    }
    // A surrogate: valid only as a high one with a low one behind it.
    if first >= 0xdc00 || bytes.get(at + 6) != Some(&b'\\') || bytes.get(at + 7) != Some(&b'u') {
        return None;
    }
    let second = hex4(bytes, at + 8)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let character = char::from_u32(0x1_0000 + ((first - 0xd800) << 10 | (second - 0xdc00)))?;
    Some((12, character))
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?.map(|digit| HEX[usize::from(digit)]);
    let value = digits.iter().fold(0, |value, &digit| value << 4 | u32::from(digit));
    (digits.iter().all(|digit| *digit < 16)).then_some(value)
}

/// The values of hexadecimal digits.
static HEX: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < digits.len() {
        values[digits[value] as usize] = value as u8;
        values[digits[value].to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    values
};

/// Whether every `\` of `line` starts a valid escape sequence.
///
/// In a valid text a `\` stands only in strings, which the walk makes sure of; no escape sequence
/// reaches across the end of its string, because a `"` is not part of any but `\"`.
pub(crate) fn all_valid(line: &[u8]) -> bool {
    let (groups, rest) = line.as_chunks::<GROUP>();
    let mut last = [0; GROUP];
    last[..rest.len()].copy_from_slice(rest);
    let mut next = 0;
    for (group, bytes) in groups.iter().chain([&last]).enumerate() {
        let mut found = equal(bytes, b'\\');
        while found != 0 {
            let at = group * GROUP + found.trailing_zeros() as usize;
            found &= found - 1;
            // The second of two, or part of a pair of surrogates.
            if at < next {
                continue;
            }
            let Some(length) = length(line, at) else {
                return false;
            };
            next = at + length;
        }
    }
    true
}

/// The length of the escape sequence at `at`, if it is valid.
#[inline]
fn length(line: &[u8], at: usize) -> Option<usize> {
    if *line.get(at + 1)? != b'u' {
        return b"\"\\/bfnrt".contains(&line[at + 1]).then_some(2);
    }
    match hex4(line, at + 2)? {
        0xd800..0xe000 => decode_unicode(line, at).map(|(length, _)| length),
        _ => Some(6),
    }
}

/// Appends `text`, the inside of a string with valid escapes, to `out` without them.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        match (text[at], decode(text, at)) {
            (b'\\', Some((length, character))) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at += length;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_seen_wherever_they_stand() {
        for (escape, valid) in
            [(r"\\", true), (r"\\\", false), (r"\u00e4", true), (r"\ud83d\ude00", true)]
        {
            for before in 0..3 * GROUP {
                let mut line = "x".repeat(before).into_bytes();
                line.extend_from_slice(escape.as_bytes());
                for behind in [0, 1, GROUP] {
                    line.resize(before + escape.len() + behind, b'x');
                    assert_eq!(all_valid(&line), valid, "{escape} at {before}");
                    let cut = before + escape.len() - 1;
                    assert_eq!(all_valid(&line[..cut]), !valid, "{escape} at {before}, cut");
                }
            }
        }
    }

    #[test]
    fn escapes() {
        let check = |text: &str, expected: Option<&str>| {
            let valid = all_valid(text.as_bytes());
            let mut out = Vec::new();
            unescape(text.as_bytes(), &mut out);
            let shown = valid.then(|| String::from_utf8(out).unwrap());
            assert_eq!(shown.as_deref(), expected, "{text}");
        };
        check("plain", Some("plain"));
        check(r"c\u006fnsent", Some("consent"));
        check(r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t"));
        check(r"\ud83d\ude00", Some("😀"));
        check(r"\uD83D\uDE00", Some("😀"));
        check(r"\ud83d", None);
        check(r"\ude00", None);
        check(r"\ud83dx", None);
        check(r"\ud83d\ud83d", None);
        check(r"\ud83d\u0041", None);
        check(r"\u12g4", None);
        check(r"\u+123", None);
        check(r"\u12", None);
        check(r"\x", None);
        check("\\", None);
        check(r"\\u", Some(r"\u"));
    }
}
