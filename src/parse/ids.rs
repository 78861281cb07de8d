//! Whom an event is about: for erasure, and for no decision, so it is not read on the way of an event.

use std::borrow::Cow;

use super::escape;

/// The largest number up to which every whole one is a number of the usual implementations.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The values of `userId` and `anonymousId` at the top of an event, as text. A number has several
/// spellings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ids<'l> {
    /// Spellings of `userId`.
    pub user: Vec<Cow<'l, [u8]>>,
    /// Spellings of `anonymousId`.
    pub anonymous: Vec<Cow<'l, [u8]>>,
}

impl<'l> Ids<'l> {
    /// The IDs in `line`, a valid event; `None` if it can't be one.
    #[must_use]
    pub fn of(line: &'l [u8]) -> Option<Self> {
        let mut ids = Self::default();
        let mut rest = skip_blanks(line).strip_prefix(b"{")?;
        loop {
            rest = skip_blanks(rest);
            if rest.first() == Some(&b'}') {
                return Some(ids);
            }
            let (key, behind) = string(rest)?;
            rest = skip_blanks(skip_blanks(behind).strip_prefix(b":")?);
            let (value, behind) = value(rest)?;
            match unescaped(key).as_ref() {
                b"userId" => ids.user = spellings(value),
                b"anonymousId" => ids.anonymous = spellings(value),
                _ => {}
            }
            rest = skip_blanks(behind);
            if let Some(next) = rest.strip_prefix(b",") {
                rest = next;
            }
        }
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    &text[blanks.count()..]
}

/// The inside of the string at the front, and what follows it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', inside.get(at..)?)?;
        if inside[at] == b'"' {
            return Some((&inside[..at], &inside[at + 1..]));
        }
        at += 2;
    }
}

/// The value at the front, and what follows it.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        match rest.first()? {
            b'"' => rest = string(rest)?.1,
            b'{' | b'[' => {
                depth += 1;
                rest = &rest[1..];
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                rest = &rest[1..];
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'"' | b'{' | b'[');
                let end = rest.iter().position(ends)?;
                // Within brackets a comma is one of many bytes that do not matter.
                let stop = if depth > 0 && rest[end] == b',' { end + 1 } else { end };
                rest = &rest[stop..];
            }
        }
        if depth == 0 {
            let len = text.len() - rest.len();
            return (len > 0).then(|| (text[..len].trim_ascii_end(), rest));
        }
    }
}

fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::new();
    escape::unescape(text, &mut bytes);
    Cow::Owned(bytes)
}

/// What a value may be compared with: a string unescaped, any other scalar as it stands, a whole number
/// also without point and exponent.
fn spellings(value: &[u8]) -> Vec<Cow<'_, [u8]>> {
    match value.first() {
        Some(b'"') => string(value).map(|(inside, _)| unescaped(inside)).into_iter().collect(),
        None | Some(b'{' | b'[' | b'n') => Vec::new(),
        Some(_) => {
            let number: Option<f64> = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            let whole = number
                .filter(|number| number.fract() == 0.0 && number.abs() <= WHOLE_MAX)
                .map(|number| format!("{}", number as i64).into_bytes())
                .filter(|text| text != value);
            std::iter::once(Cow::Borrowed(value)).chain(whole.map(Cow::Owned)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, user: &[&str], anonymous: &[&str]) {
        let ids = Ids::of(line.as_bytes()).unwrap_or_else(|| panic!("no event: {line}"));
        let text = |list: &[Cow<'_, [u8]>]| -> Vec<String> {
            list.iter().map(|id| String::from_utf8(id.to_vec()).unwrap()).collect()
        };
        assert_eq!(text(&ids.user), user, "{line}");
        assert_eq!(text(&ids.anonymous), anonymous, "{line}");
    }

    #[test]
    fn ids_stand_at_the_top() {
        check("{}", &[], &[]);
        check(r#"{"userId":"u"}"#, &["u"], &[]);
        check(
            r#" { "a" : [1, {"userId":"x"}, "]"] , "userId" : "u" , "anonymousId":"a" } "#,
            &["u"],
            &["a"],
        );
        check(r#"{"a":{"b":{"userId":"x"},"c":"\"}"},"anonymousId":"a","z":1}"#, &[], &["a"]);
        check(r#"{"a":[[],{},[{}]],"b":true,"c":null,"d":-1.5e3,"userId":"u"}"#, &["u"], &[]);
        check(r#"{"context":{"userId":"x"},"traits":["userId","y"]}"#, &[], &[]);
    }

    #[test]
    fn strings_are_compared_unescaped() {
        check(r#"{"user\u0049d":"\u00fc\"\\x"}"#, &["ü\"\\x"], &[]);
        check(r#"{"\u0061nonymousId":"\ud83d\ude00"}"#, &[], &["😀"]);
    }

    #[test]
    fn numbers_are_compared_as_text_and_as_whole_numbers() {
        check(r#"{"userId":42}"#, &["42"], &[]);
        check(r#"{"userId":42.0 }"#, &["42.0", "42"], &[]);
        check(r#"{"anonymousId":4.2e1}"#, &[], &["4.2e1", "42"]);
        check(r#"{"userId":123456789012345678901}"#, &["123456789012345678901"], &[]);
        check(r#"{"userId":1.5,"anonymousId":true}"#, &["1.5"], &["true"]);
        check(r#"{"userId":null,"anonymousId":["a"]}"#, &[], &[]);
    }

    #[test]
    fn what_ends_early_is_no_event() {
        let line = br#"{"a":[1,{"b":"\"x"}],"userId":"u","n":12}"#;
        for len in 0..line.len() {
            assert_eq!(Ids::of(&line[..len]), None, "{len}");
        }
        assert!(Ids::of(line).is_some());
    }
}
