//! One line of JSON to an [`Event`]: simd-json finds the structure, `grammar` checks it, `fields`
//! reads it.

use simd_json::{Buffers, ErrorType, Tape, fill_tape_padded};

use super::diagnose::diagnose;
use super::event::{Event, Found};
use super::fields::{Fields, KeySets};
use super::grammar::Notes;
use super::{Locations, PADDING, RejectReason, Rejection, escape};

/// What the parser needs grows to several times the length of a line. After one longer than this it is
/// given back.
const LARGE_LINE_BYTES: usize = 2 * 1024 * 1024;

/// A parser with its buffers, reused from line to line: it allocates only to grow.
pub struct Parser {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
    last_was_large: bool,
    notes: Notes,
    found: Found,
    sets: KeySets,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").finish_non_exhaustive()
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // Depth 0 ends simd-json's second stage at the first `{`: it would unescape every string
            // and parse every number, which no decision needs. Its first stage, the vectorised scan
            // for structure, quotes and valid UTF-8, is what is used here.
            buffers: Buffers::with_max_depth(4096, 0),
            tape: Some(Tape::null()),
            last_was_large: false,
            notes: Notes::default(),
            found: Found::default(),
            sets: KeySets::default(),
        }
    }

    /// Parses `buffer[..len]`, one line without its line end.
    ///
    /// The bytes after the line are scratch space of at least [`PADDING`] bytes; they have the same
    /// content afterwards, and so has the line.
    ///
    /// # Errors
    /// [`Rejection`] where the line is not exactly one valid event.
    #[inline]
    pub fn parse<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
        len: usize,
        locations: &'a Locations,
    ) -> Result<Event<'a>, Rejection> {
        debug_assert!(buffer.len() >= len + PADDING, "a line needs padding behind it");
        if std::mem::replace(&mut self.last_was_large, len > LARGE_LINE_BYTES) {
            *self = Self::new();
        }
        let structural = self.scan(buffer, len);
        let line = &buffer[..len];
        let escapes = memchr::memchr(b'\\', line).is_some();
        let tokens = self.buffers.structural_indexes();
        let valid = structural
            && self.notes.is_one_object(line, tokens)
            && (!escapes || escape::all_valid(line));
        if !valid {
            return Err(diagnose(line));
        }
        let fields = Fields {
            padded: buffer,
            tokens,
            notes: &self.notes,
            escapes,
            locations,
            found: &mut self.found,
            sets: &mut self.sets,
        };
        if fields.read().is_none() {
            return Err(diagnose(line));
        }
        if self.found.duplicate {
            let detail = "a key that is read stands twice in its object";
            return Err(Rejection::new(RejectReason::DuplicateKey, detail));
        }
        Ok(Event { line, found: &self.found, locations })
    }

    /// Runs simd-json's first stage; whether the line is valid as far as that stage can tell.
    #[inline]
    fn scan(&mut self, buffer: &mut [u8], len: usize) -> bool {
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let result = fill_tape_padded(buffer, len, &mut self.buffers, &mut tape);
        self.tape = Some(tape.reset());
        // With depth 0 an object always ends in this error; any other result is an error of the
        // first stage, or no object.
        matches!(result, Err(error) if *error.error() == ErrorType::DepthLimitExceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_event(parser: &mut Parser, line: &[u8]) -> bool {
        let locations = Locations::new(&["/context/consent"]).unwrap();
        let mut buffer = [line, &[0; PADDING]].concat();
        parser.parse(&mut buffer, line.len(), &locations).is_ok()
    }

    fn is_object(line: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|value| value.is_object())
    }

    /// Tokens are looked at in groups: whatever is wrong must be seen on both sides of every border.
    #[test]
    fn one_wrong_byte_is_seen_wherever_it_stands() {
        let mut parser = Parser::new();
        for padding in 0..20 {
            let members = r#""k":1,"#.repeat(padding);
            let line = format!(
                r#"{{{members}"a":{{"b":[1,true,"x",{{}},[]],"c":null}},"d":[[{{"e":-1}}],2],"f":{{}}}}"#
            );
            assert!(is_event(&mut parser, line.as_bytes()), "{line}");
            for at in 0..line.len() {
                for byte in *b"{}[],:\"1tn x\\" {
                    let mut replaced = line.clone().into_bytes();
                    replaced[at] = byte;
                    let mut inserted = line.clone().into_bytes();
                    inserted.insert(at, byte);
                    for text in [replaced, inserted] {
                        let expected = is_object(&text);
                        let text = String::from_utf8(text).unwrap();
                        assert_eq!(is_event(&mut parser, text.as_bytes()), expected, "{text}");
                    }
                }
                let mut removed = line.clone().into_bytes();
                removed.remove(at);
                let text = String::from_utf8(removed).unwrap();
                assert_eq!(
                    is_event(&mut parser, text.as_bytes()),
                    is_object(text.as_bytes()),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_does_not_end_is_no_event() {
        let mut parser = Parser::new();
        for line in [
            "",
            " ",
            "{",
            "{{",
            "[",
            "}",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":[]",
        ] {
            assert!(!is_event(&mut parser, line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn brackets_that_do_not_nest_are_refused_in_any_number() {
        let mut parser = Parser::new();
        for count in 0..200 {
            for (opening, closing) in [("[", "]"), ("{\"a\":", "}"), ("[", "}"), ("{\"a\":", "]")] {
                for more in [-1_i32, 0, 1, 64, 128] {
                    let closings = (count + more).max(0) as usize;
                    let line = format!(
                        "{{\"x\":{}1{}}}",
                        opening.repeat(count as usize),
                        closing.repeat(closings)
                    );
                    // The outer object is one level.
                    let expected = is_object(line.as_bytes()) && count < 64;
                    assert_eq!(is_event(&mut parser, line.as_bytes()), expected, "{line}");
                    for tail in ["]", "}", "{}", ",", "]]]]"] {
                        let line = format!("{{}}{}", tail.repeat(closings.max(1)));
                        assert!(!is_event(&mut parser, line.as_bytes()), "{line}");
                    }
                }
            }
        }
    }
}
