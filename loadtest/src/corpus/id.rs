//! The `messageId` of a generated event: fixed width, so that the sender patches it in place and a
//! sink can tell from the bytes alone which event it holds and when it was sent.

use memchr::memmem;

const PREFIX: &[u8] = b"\"lt-";
const TEMPLATE_DIGITS: usize = 6;
const SEQUENCE_DIGITS: usize = 12;
const SENT_DIGITS: usize = 16;
const TEMPLATE_AT: usize = 3;
const SEQUENCE_AT: usize = TEMPLATE_AT + TEMPLATE_DIGITS + 1;
const SENT_AT: usize = SEQUENCE_AT + SEQUENCE_DIGITS + 1;

/// Bytes of an id between its quotes: `lt-<template>-<sequence>-<sent ns>`.
pub const ID_LEN: usize = SENT_AT + SENT_DIGITS;

/// Most templates that an id can tell apart.
pub const TEMPLATES_MAX: u32 = 10u32.pow(TEMPLATE_DIGITS as u32);

/// What a generated event says about itself in its `messageId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Which line of the corpus the event is a copy of; below [`TEMPLATES_MAX`].
    pub template: u32,
    /// Unique among the events that were sent.
    pub sequence: u64,
    /// When it was sent, in nanoseconds on the clock of the sender; 0 in a corpus.
    pub sent_ns: u64,
}

impl EventId {
    /// The id as text, [`ID_LEN`] bytes.
    pub fn text(&self) -> String {
        let mut text = [b'-'; ID_LEN];
        text[..2].copy_from_slice(&PREFIX[1..3]);
        self.patch(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Overwrites the numbers of an id that stands in `at`, the [`ID_LEN`] bytes of its text.
    pub fn patch(&self, at: &mut [u8]) {
        write_digits(&mut at[TEMPLATE_AT..SEQUENCE_AT - 1], u64::from(self.template));
        write_digits(&mut at[SEQUENCE_AT..SENT_AT - 1], self.sequence);
        write_digits(&mut at[SENT_AT..ID_LEN], self.sent_ns);
    }

    /// Finds the id in a line: its position and what it says. The generator never writes the
    /// prefix anywhere else, so the first match is the id.
    pub fn find(line: &[u8]) -> Option<(usize, Self)> {
        let at = memmem::find(line, PREFIX)? + 1;
        let text = line.get(at..at + ID_LEN)?;
        let id = Self {
            template: read_digits(&text[TEMPLATE_AT..SEQUENCE_AT - 1])? as u32,
            sequence: read_digits(&text[SEQUENCE_AT..SENT_AT - 1])?,
            sent_ns: read_digits(&text[SENT_AT..ID_LEN])?,
        };
        Some((at, id))
    }
}

fn write_digits(at: &mut [u8], mut number: u64) {
    for digit in at.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Up to 16 digits, which always fit.
fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_again_after_patching() {
        let first = EventId { template: 17, sequence: 17, sent_ns: 0 };
        let mut line = format!("{{\"messageId\":\"{}\"}}", first.text()).into_bytes();
        let (at, found) = EventId::find(&line).unwrap();
        assert_eq!(found, first);

        let sent = EventId { template: 17, sequence: 999_999_999_999, sent_ns: 1_234_567_890 };
        sent.patch(&mut line[at..at + ID_LEN]);
        assert_eq!(EventId::find(&line), Some((at, sent)));
        assert!(line.ends_with(b"\"}"));
    }

    #[test]
    fn a_damaged_id_is_not_an_id() {
        assert_eq!(EventId::find(b"{\"messageId\":\"lt-12\"}"), None);
        assert_eq!(
            EventId::find(b"{\"messageId\":\"lt-000x17-000000000017-0000000000000000\"}"),
            None
        );
    }
}
