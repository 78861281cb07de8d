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

use crate::log::{Marks, Position};
use crate::parse;

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
        let mine = || [self.user, self.anonymous].into_iter().flatten();
        match ids_of(line) {
            Some(found) => {
                let is = |mine: Option<&[u8]>, found: &[Vec<u8>]| {
                    mine.is_some_and(|mine| found.iter().any(|id| id == mine))
                };
                is(self.user, &found.user) || is(self.anonymous, &found.anonymous)
            }
            None => {
                let plain = unescaped(line);
                mine().any(|id| {
                    memmem::find(line, id).is_some() || memmem::find(&plain, id).is_some()
                })
            }
        }
    }
}

/// Whether a letter that is stored at `position` is, or may be, of somebody whose erasure is noted: it
/// must not be shown or sent. The ID is not known any more, so what can't be read may be anybody's.
#[must_use]
pub fn is_held_back(noted: &Marks, line: &[u8], position: Position) -> bool {
    if position >= noted.highest() {
        return false;
    }
    let Some(found) = ids_of(line) else { return true };
    found.user.iter().any(|id| noted.is_erased(Some(id), None, position))
        || found.anonymous.iter().any(|id| noted.is_erased(None, Some(id), position))
}

/// The IDs in a line, in every spelling; `None` if it can't be read.
fn ids_of(line: &[u8]) -> Option<Ids> {
    let mut found: Ids = serde_json::from_slice(line).ok()?;
    // As the log compares them, too.
    let event = parse::Ids::of(line).unwrap_or_default();
    found.user.extend(event.user.into_iter().map(Cow::into_owned));
    found.anonymous.extend(event.anonymous.into_iter().map(Cow::into_owned));
    Some(found)
}

/// Every value that stands at the two keys, at the top level.
#[derive(Default)]
struct Ids {
    user: Vec<Vec<u8>>,
    anonymous: Vec<Vec<u8>>,
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
                        Value::String(id) => id.into_bytes(),
                        other => other.to_string().into_bytes(),
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
        assert!(number.may_own(br#"{"userId":17.0}"#));
        assert!(!number.may_own(br#"{"userId":"x","n":17}"#));
        let face = Subject { user: Some("\u{1F600}".as_bytes()), anonymous: None };
        assert!(face.may_own(br#"{"userId":"\ud83d\ude00"#));
    }
}
