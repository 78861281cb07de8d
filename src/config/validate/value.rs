//! Single values: sizes, times, addresses, names.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use super::Check;
use crate::config::form::{self, Wrong};
use crate::config::raw::{At, Interval, SecretValue, Size, defaults};
use crate::config::structure::shown;
use crate::config::text::{Form, Secret, Text};

/// Names become labels of metrics and parts of messages.
const NAME_MAX_CHARS: usize = 128;

impl Check<'_, '_> {
    pub(super) fn wrong(&mut self, span: &Range<usize>, key: &str, wrong: Wrong) {
        self.report.error(span, key, wrong.message, wrong.help);
    }

    pub(super) fn size(
        &mut self,
        key: &str,
        given: Option<&At<Size>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(given) = given else { return default };
        let bytes = match &given.value {
            Size::Bytes(bytes) => *bytes,
            Size::Text(text) => match form::size(text) {
                Ok(bytes) => bytes,
                Err(wrong) => {
                    self.wrong(&given.span, key, wrong);
                    return default;
                }
            },
        };
        if range.contains(&bytes) {
            return bytes;
        }
        let (least, most) = (defaults::size(*range.start()), defaults::size(*range.end()));
        let (message, help) = if bytes < *range.start() {
            ("too small", format!("write \"{least}\" or more"))
        } else {
            ("too large", format!("write \"{most}\" or less"))
        };
        self.report.error(&given.span, key, message, help);
        default
    }

    pub(super) fn interval(
        &mut self,
        key: &str,
        given: Option<&At<Interval>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(given) = given else { return default };
        let duration = match form::duration(&given.value.0) {
            Ok(duration) => duration,
            Err(wrong) => {
                self.wrong(&given.span, key, wrong);
                return default;
            }
        };
        if range.contains(&duration) {
            return duration;
        }
        let (least, most) = (defaults::time(*range.start()), defaults::time(*range.end()));
        let (message, help) = if duration < *range.start() {
            ("too short", format!("write \"{least}\" or more"))
        } else {
            ("too long", format!("write \"{most}\" or less"))
        };
        self.report.error(&given.span, key, message, help);
        default
    }

    /// A value that may come from a file.
    pub(super) fn secret(
        &mut self,
        value: &At<SecretValue>,
        key: &str,
        form: Form,
    ) -> Option<Secret> {
        let secret = match &value.value {
            SecretValue::File { file: Some(file) } => {
                Ok(Secret::File { key: key.to_owned(), path: PathBuf::from(file), form })
            }
            SecretValue::File { file: None } => {
                let file = format!("{key}.file");
                let help = "write { file = \"...\" } or a string";
                self.missing(&value.span, &file, "a secret without a value", help);
                return None;
            }
            SecretValue::Inline(inline) => {
                Text::new(key.to_owned(), inline, form).map(Secret::Inline)
            }
        };
        secret.map_err(|wrong| self.wrong(&value.span, key, wrong)).ok()
    }

    /// An address to listen on, if it is one.
    pub(super) fn address(&mut self, given: &At<String>, key: &str) -> Option<SocketAddr> {
        match form::listen(given) {
            Ok(address) => Some(address),
            Err(wrong) => {
                self.wrong(&given.span, key, wrong);
                None
            }
        }
    }

    /// Takes an address; two keys can't have the same one.
    pub(super) fn listens(&mut self, address: SocketAddr, span: &Range<usize>, key: &str) {
        let taken = self.listening.iter().find(|(other, _)| collide(*other, address));
        if let Some((other, owner)) = taken {
            let message = format!("{address} is taken: {owner} listens on {other}");
            self.report.error(span, key, message, "write another port");
            return;
        }
        self.listening.push((address, key.to_owned()));
    }

    /// Checks the name of a source or destination.
    pub(super) fn name(&mut self, name: &At<String>, path: &str) {
        let length = name.chars().count();
        let (message, help) = if length == 0 || length > NAME_MAX_CHARS {
            ("a name has 1 to 128 characters", "write another name")
        } else if name.contains(char::is_control) || name.trim() != name.value {
            (
                "a name can't hold control characters, nor start or end with a space",
                "write letters, digits, `-` and `_`",
            )
        } else {
            return;
        };
        self.report.error(&name.span, path, message, help);
    }

    /// The strings of a list. Repeated ones are odd.
    pub(super) fn strings(&mut self, list: &[At<String>], key: &str) -> Vec<String> {
        let mut strings: Vec<String> = Vec::with_capacity(list.len());
        for (position, item) in list.iter().enumerate() {
            if strings.contains(&item.value) {
                let message = format!("`{}` stands here twice", shown(item));
                let key = format!("{key}[{position}]");
                self.report.warn(&item.span, &key, message, "take one out");
            }
            strings.push(item.value.clone());
        }
        strings
    }
}

/// Whether the second of two listeners could not be opened.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let every = |address: SocketAddr| address.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || same_family && (every(one) || every(other)))
}

#[cfg(test)]
mod tests {
    use super::collide;

    #[test]
    fn addresses_collide_where_the_second_could_not_be_opened() {
        let check = |one: &str, other: &str, expected: bool| {
            let collides = collide(one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(collides, expected, "{one} {other}");
        };
        check("127.0.0.1:1", "127.0.0.1:1", true);
        check("0.0.0.0:1", "127.0.0.1:1", true);
        check("127.0.0.1:1", "127.0.0.2:1", false);
        check("127.0.0.1:1", "127.0.0.1:2", false);
        check("[::1]:1", "127.0.0.1:1", false);
        check("127.0.0.1:0", "127.0.0.1:0", false);
    }
}
