//! Text as JSON strings, and text that is JSON.

use serde::de::IgnoredAny;

/// What stands behind the backslash; 0 where a byte is itself, `u` where it has no short form.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends UTF-8 text as a JSON string.
#[inline]
pub(in crate::warehouse) fn write_string(text: &[u8], into: &mut Vec<u8>) {
    into.reserve(text.len() + 2);
    into.push(b'"');
    let mut rest = text;
    loop {
        let clean = clean_prefix(rest);
        into.extend_from_slice(&rest[..clean]);
        let Some(&byte) = rest.get(clean) else { break };
        match ESCAPES[usize::from(byte)] {
            b'u' => {
                let hex = b"0123456789abcdef";
                let (high, low) = (hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]);
                into.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            short => into.extend_from_slice(&[b'\\', short]),
        }
        rest = &rest[clean + 1..];
    }
    into.push(b'"');
}

/// How many bytes at the start need no escape; eight at a time.
#[inline]
fn clean_prefix(text: &[u8]) -> usize {
    let mut clean = 0;
    for word in text.as_chunks::<8>().0 {
        let dirty = to_escape(u64::from_le_bytes(*word));
        if dirty != 0 {
            return clean + dirty.trailing_zeros() as usize / 8;
        }
        clean += 8;
    }
    // What is left is looked at together with bytes that are known.
    if let Some(last) = text.last_chunk::<8>() {
        let dirty = to_escape(u64::from_le_bytes(*last));
        return if dirty == 0 {
            text.len()
        } else {
            text.len() - 8 + dirty.trailing_zeros() as usize / 8
        };
    }
    text.iter().position(|&byte| ESCAPES[usize::from(byte)] != 0).unwrap_or(text.len())
}

/// The high bits of the bytes that need an escape: the lowest of them is right, others may be too many.
#[inline]
fn to_escape(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let quotes = is_zero(word ^ (ONES * u64::from(b'"')));
    let slashes = is_zero(word ^ (ONES * u64::from(b'\\')));
    controls | quotes | slashes
}

/// Appends text that should be JSON: as it is without the space between tokens, so that it is one
/// line; as a string where it is no JSON.
pub(super) fn write_json_text(text: &[u8], into: &mut Vec<u8>) {
    if !is_json(text) {
        write_string(text, into);
        return;
    }
    let mut in_string = false;
    let mut escaped = false;
    for &byte in text {
        if in_string {
            into.push(byte);
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
        } else if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            into.push(byte);
            in_string = byte == b'"';
        }
    }
}

fn is_json(text: &[u8]) -> bool {
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return false;
    }
    // Half a surrogate pair shows only when the strings are read.
    let escapes = memchr::memmem::find(text, b"\\u").is_some();
    !escapes || serde_json::from_slice::<serde_json::Value>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_back() {
        let mut texts: Vec<String> =
            (0..=0x7f_u8).map(|byte| format!("ab{}", byte as char)).collect();
        texts.extend((0..20).map(|len| format!("{}\"é\\\n", "x".repeat(len))));
        texts.extend((0..20).map(|len| format!("{}\u{1f}\u{20}\u{7f}\u{2028}😀", "é".repeat(len))));
        texts.push(String::new());
        // Each of these at every place of texts of every length around the eight bytes that are looked at
        // together.
        for special in ["\"", "\\", "\u{1f}", "!", "#", "[", "]", "\u{80}", "\u{a2}"] {
            for len in 0..20 {
                texts.extend(
                    (0..=len)
                        .map(|at| format!("{}{special}{}", "y".repeat(at), "\"".repeat(len - at))),
                );
            }
        }
        for text in texts {
            let mut json = Vec::new();
            write_string(text.as_bytes(), &mut json);
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
            assert!(!json.contains(&b'\n'));
        }
    }

    #[test]
    fn json_is_kept_and_what_is_none_becomes_a_string() {
        let check = |text: &str, expected: &str| {
            let mut json = Vec::new();
            write_json_text(text.as_bytes(), &mut json);
            assert_eq!(String::from_utf8(json).unwrap(), expected);
        };
        check("{\"a\" : [1,\n 2.50, \"x \\\" y\\\\\"] }", r#"{"a":[1,2.50,"x \" y\\"]}"#);
        check("12345678901234567890.10", "12345678901234567890.10");
        check(" null ", "null");
        check("\"\\u00e9\"", "\"\\u00e9\"");
        check("\"\\ud800\"", r#""\"\\ud800\"""#);
        check("{a:1}", r#""{a:1}""#);
        check("", r#""""#);
        check("1 2", r#""1 2""#);
    }
}
