//! A JSON tree that keeps what ordinary ones do not: repeated keys, spelling of keys, invalid text.

use fastrand::Rng;

/// How one line spells its JSON.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// `\/`, as PHP does.
    pub(super) escape_slash: bool,
    /// `\u00e9` for whatever is not ASCII, as Python does.
    pub(super) escape_unicode: bool,
    /// Some letters of some keys as `\u0063`, as only an adversary does.
    pub(super) escape_keys: bool,
    /// A space after `:` and `,`.
    pub(super) spaced: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Json {
    /// Written as it is: numbers, `true`, `null`, and text that is no JSON at all.
    Literal(String),
    Text(String),
    Array(Vec<Json>),
    /// Keys are what stands between the quotes: already escaped where they need to be.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Adds a member; a key that is there already then stands twice.
    pub(super) fn push(&mut self, key: &str, value: impl Into<Json>) {
        if let Self::Object(members) = self {
            members.push((key.to_owned(), value.into()));
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        match self {
            Self::Object(members) => {
                members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Self::Object(members) = self {
            members.retain(|(name, _)| name != key);
        }
    }

    /// Shuffles the members of every object.
    pub(super) fn shuffle(&mut self, rng: &mut Rng) {
        match self {
            Self::Object(members) => {
                rng.shuffle(members);
                members.iter_mut().for_each(|(_, value)| value.shuffle(rng));
            }
            Self::Array(items) => items.iter_mut().for_each(|item| item.shuffle(rng)),
            Self::Literal(_) | Self::Text(_) => {}
        }
    }

    pub(super) fn write(&self, out: &mut String, style: Style, rng: &mut Rng) {
        match self {
            Self::Literal(text) => out.push_str(text),
            Self::Text(text) => write_text(out, text, style),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, index, style);
                    item.write(out, style, rng);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    separate(out, index, style);
                    write_key(out, key, style, rng);
                    out.push_str(if style.spaced { ": " } else { ":" });
                    value.write(out, style, rng);
                }
                out.push('}');
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Literal(value.to_string())
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Literal(value.to_string())
    }
}

fn separate(out: &mut String, index: usize, style: Style) {
    if index > 0 {
        out.push_str(if style.spaced { ", " } else { "," });
    }
}

fn write_key(out: &mut String, key: &str, style: Style, rng: &mut Rng) {
    out.push('"');
    let escapable = style.escape_keys && key.is_ascii() && !key.contains('\\');
    if escapable && rng.u8(..4) == 0 {
        let at = rng.usize(..key.len());
        let escape = format!("\\u{:04x}", key.as_bytes()[at]);
        out.extend([&key[..at], &escape, &key[at + 1..]]);
    } else {
        out.push_str(key);
    }
    out.push('"');
}

fn write_text(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '/' if style.escape_slash => out.push_str("\\/"),
            letter if style.escape_unicode && !letter.is_ascii() => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
