//! Whose line it is: what an erasure takes out of the dead letters.
//!
//! Some of them are no valid JSON, or say the same key twice. Wherever it can't be known whose line it
//! is, the line goes if the ID stands anywhere in it: an erasure that leaves something is worse than
//! one that takes too much of what is refuse already.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// Somebody who asked to be forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The `userId`.
    pub user: Option<&'a [u8]>,
    /// The `anonymousId`.
    pub anonymous: Option<&'a [u8]>,
}

impl Subject<'_> {
    /// Whether a line is, or may be, one of theirs.
    #[must_use]
    pub fn may_own(&self, line: &[u8]) -> bool {
        let ids = || [self.user, self.anonymous].into_iter().flatten();
        match serde_json::from_slice::<Ids>(line) {
            Ok(found) => {
                let is = |mine: Option<&[u8]>, found: &[String]| {
                    mine.is_some_and(|mine| found.iter().any(|id| id.as_bytes() == mine))
                };
                is(self.user, &found.user) || is(self.anonymous, &found.anonymous)
            }
            Err(_) => {
                let plain = unescaped(line);
                ids().any(|id| {
                    memmem::find(line, id).is_some() || memmem::find(&plain, id).is_some()
                })
            }
        }
    }
}

/// Every value that stands at the two keys, at the top level.
#[derive(Default)]
struct Ids {
    user: Vec<String>,
    anonymous: Vec<String>,
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ids, A::Error> {
                let mut ids = Ids::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let found = match key.as_ref() {
                        "userId" => &mut ids.user,
                        "anonymousId" => &mut ids.anonymous,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    found.push(match map.next_value()? {
                        Value::String(id) => id,
                        other => other.to_string(),
                    });
                }
                Ok(ids)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The bytes with every JSON escape replaced by what it stands for; what is no escape stays.
fn unescaped(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&kind, after)) = rest.split_first() else { break };
        let short = match kind {
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => {
                rest = push_unicode(after, &mut plain);
                continue;
            }
            other => other,
        };
        plain.push(short);
        rest = after;
    }
    plain.extend_from_slice(rest);
    plain
}

/// Reads what follows `\u`; returns what follows that.
fn push_unicode<'a>(rest: &'a [u8], plain: &mut Vec<u8>) -> &'a [u8] {
    let unit = |bytes: &[u8]| {
        let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(rest) else { return rest };
    let after = &rest[4..];
    let second = after.strip_prefix(b"\\u").and_then(unit);
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    let (read, rest) = match char::from_u32(first.into()) {
        Some(read) => (Some(read), after),
        None if pair.is_some() => (pair, &after[6..]),
        None => (None, after),
    };
    let read = read.unwrap_or(char::REPLACEMENT_CHARACTER);
    plain.extend_from_slice(read.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_line_it_is() {
        let subject = Subject { user: Some("zoë".as_bytes()), anonymous: Some(b"a-1") };
        for (line, own) in [
            (r#"{"userId":"zoë"}"#, true),
            (r#"{"userId":"zo\u00eb"}"#, true),
            (r#"{"\u0075serId":"zoë"}"#, true),
            (r#"{"anonymousId":"a-1"}"#, true),
            (r#"{"userId":"x","userId":"zoë"}"#, true),
            (r#"{"userId":"zoë","userId":"x"}"#, true),
            // Valid, and somebody else's.
            (r#"{"userId":"a-1","anonymousId":"zoë"}"#, false),
            (r#"{"userId":"zoe","name":"zoë"}"#, false),
            (r#"{"traits":{"userId":"zoë"}}"#, false),
            // Not valid: wherever it stands.
            (r#"{"userId":"zoë""#, true),
            (r#"{"name":"zo\u00EB","#, true),
            (r#"["a-1"]"#, true),
            (r#"{"x":"a\u002d1"} {}"#, true),
            (r#"{"userId":"zoe""#, false),
            ("\\", false),
            ("\\u12", false),
        ] {
            assert_eq!(subject.may_own(line.as_bytes()), own, "{line}");
        }
        assert!(subject.may_own(b"\xFF\"userId\":\"a-1\""));
        let number = Subject { user: Some(b"17"), anonymous: None };
        assert!(number.may_own(br#"{"userId":17}"#));
        assert!(!number.may_own(br#"{"userId":"x","n":17}"#));
        let face = Subject { user: Some("\u{1F600}".as_bytes()), anonymous: None };
        assert!(face.may_own(br#"{"userId":"\ud83d\ude00"#));
    }
}
