//! Octet-counted messages (RFC 6587, section 3.4.1): `LEN SP MSG`, as rsyslog sends them.

use super::assembly::Assembly;
use super::{Cut, Cutter, LINE_END_BYTES, is_blank};

/// A longer run of digits is not a length but the beginning of a line.
const LENGTH_DIGITS_MAX: usize = 10;

/// Cuts messages; what does not begin with a length is read up to its LF.
#[derive(Debug)]
pub(super) struct CountedCutter {
    assembly: Assembly,
    state: State,
    max_event_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between two messages, where line ends and blanks may stand.
    Between,
    /// Among the digits of a length, which are kept as if they were a line.
    Length,
    /// In a message of which so many octets are missing.
    Message(u64),
    /// In a line without a length.
    Line,
}

impl CountedCutter {
    pub(super) fn new(max_event_bytes: usize) -> Self {
        Self { assembly: Assembly::new(max_event_bytes), state: State::Between, max_event_bytes }
    }

    /// Goes on through `rest`; returns how many bytes were used, which is not zero unless the state
    /// changed.
    fn step(&mut self, rest: &[u8], cuts: &mut Vec<Cut>) -> usize {
        match self.state {
            State::Between => self.begin(rest),
            State::Length => self.length(rest),
            State::Message(missing) => {
                let used = rest.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
                self.assembly.add(&rest[..used]);
                self.state = State::Message(missing - used as u64);
                if used as u64 == missing {
                    self.end(cuts);
                }
                used
            }
            State::Line => match memchr::memchr(b'\n', rest) {
                Some(at) => {
                    self.assembly.add(&rest[..at]);
                    self.end(cuts);
                    at + 1
                }
                None => {
                    self.assembly.add(rest);
                    rest.len()
                }
            },
        }
    }

    fn begin(&mut self, rest: &[u8]) -> usize {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        if let Some(first) = rest.get(blanks) {
            self.state = match first {
                b'1'..=b'9' => State::Length,
                _ => State::Line,
            };
        }
        blanks
    }

    fn length(&mut self, rest: &[u8]) -> usize {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let room = LENGTH_DIGITS_MAX - self.assembly.unfinished().len();
        if digits > room {
            self.state = State::Line;
            return 0;
        }
        self.assembly.add(&rest[..digits]);
        match rest.get(digits) {
            None => digits,
            Some(b' ') => {
                self.begin_message();
                digits + 1
            }
            Some(_) => {
                self.state = State::Line;
                digits
            }
        }
    }

    fn begin_message(&mut self) {
        let digits = self.assembly.unfinished().iter();
        let octets = digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        self.assembly.clear();
        if octets > (self.max_event_bytes + LINE_END_BYTES) as u64 {
            self.assembly.discard();
        }
        self.state = State::Message(octets);
    }

    fn end(&mut self, cuts: &mut Vec<Cut>) {
        self.assembly.trim_line_end();
        self.assembly.end(cuts);
        self.state = State::Between;
    }
}

impl Cutter for CountedCutter {
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        self.assembly.reserve(buffer.len() + 1);
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            rest = &rest[self.step(rest, cuts)..];
        }
        self.assembly.flush(cuts);
    }

    fn finish(&mut self, cuts: &mut Vec<Cut>) {
        self.end(cuts);
        self.assembly.flush(cuts);
    }

    fn tail_bytes(&self) -> usize {
        self.assembly.tail_bytes()
    }
}
