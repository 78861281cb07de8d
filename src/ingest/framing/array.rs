//! A body that is one JSON array: each element becomes a line.

use super::assembly::Assembly;
use super::lines::LineCutter;
use super::{Cut, Cutter, is_blank};

/// A line that is not valid JSON, nor is any that begins with it: it stands where something is
/// missing or too much, so that the sender hears of it.
const INVALID: &[u8] = b",";

/// Cuts what follows the opening bracket.
///
/// It knows strings and nesting and nothing else: whether an element is valid JSON is seen when it
/// is judged.
#[derive(Debug)]
pub(super) struct ArrayCutter {
    assembly: Assembly,
    place: Place,
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// A comma was seen, so that an element must follow.
    comma: bool,
    /// The element has begun, and whether white space was left out since.
    element: Option<Gap>,
    /// For what follows the line with the closing bracket.
    lines: LineCutter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    /// On the line of the closing bracket.
    Closed,
    /// On the lines after it.
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    No,
    Yes,
}

impl ArrayCutter {
    pub(super) fn new(max_event_bytes: usize) -> Self {
        Self {
            assembly: Assembly::new(max_event_bytes),
            place: Place::Inside,
            depth: 0,
            in_string: false,
            escaped: false,
            comma: false,
            element: None,
            lines: LineCutter::new(max_event_bytes),
        }
    }

    /// Goes on in the array; returns what follows the closing bracket.
    fn inside<'b>(&mut self, mut rest: &'b [u8], cuts: &mut Vec<Cut>) -> &'b [u8] {
        while self.place == Place::Inside && !rest.is_empty() {
            let len = self.scan(rest);
            let (piece, stop) = rest.split_at(len);
            self.add(piece);
            let Some((stop, behind)) = stop.split_first() else {
                return &[];
            };
            rest = behind;
            match stop {
                b',' => {
                    self.end_element(true, cuts);
                    self.comma = true;
                }
                b']' => {
                    self.end_element(self.comma, cuts);
                    self.place = Place::Closed;
                }
                _ => self.element = self.element.map(|_| Gap::Yes),
            }
        }
        rest
    }

    /// How far the element goes on: to a comma, the closing bracket or white space between elements.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.scan_string(&bytes[at..]);
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => self.depth -= 1,
                b',' | b']' if self.depth == 0 => return at,
                byte if self.depth == 0 && is_blank(byte) => return at,
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// How far the string goes on, its closing quote included.
    fn scan_string(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            self.escaped = false;
            at = 1;
        }
        while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return at;
            }
            if at == bytes.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        bytes.len()
    }

    /// Adds to the element. White space outside of its brackets is left out, or one space where
    /// more follows, which is then invalid; so its length does not count.
    fn add(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        if self.element == Some(Gap::Yes) {
            self.assembly.add(b" ");
        }
        self.element = Some(Gap::No);
        self.assembly.add(piece);
    }

    fn end_element(&mut self, expected: bool, cuts: &mut Vec<Cut>) {
        if self.element.take().is_none() && expected {
            self.assembly.add(INVALID);
        }
        self.assembly.end(cuts);
    }

    /// Goes on behind the closing bracket, where nothing but white space may stand.
    fn behind(&mut self, rest: &[u8], cuts: &mut Vec<Cut>) {
        let mut lines = Vec::new();
        let mut rest = rest;
        if self.place == Place::Closed {
            let blanks = |byte: &&u8| is_blank(**byte) && **byte != b'\n';
            rest = &rest[rest.iter().take_while(blanks).count()..];
            match rest.split_first() {
                None => return,
                Some((b'\n', behind)) => rest = behind,
                Some(_) => lines.extend_from_slice(INVALID),
            }
            self.place = Place::After;
        }
        lines.extend_from_slice(rest);
        self.lines.push(&mut lines, cuts);
    }
}

impl Cutter for ArrayCutter {
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        let mut rest = buffer.as_slice();
        if self.place == Place::Inside {
            self.assembly.reserve(rest.len() + INVALID.len() + 1);
            rest = self.inside(rest, cuts);
            self.assembly.flush(cuts);
        }
        if !rest.is_empty() {
            self.behind(rest, cuts);
        }
    }

    fn finish(&mut self, cuts: &mut Vec<Cut>) {
        if self.place == Place::Inside {
            self.end_element(false, cuts);
            self.assembly.add(INVALID);
            self.assembly.end(cuts);
            self.assembly.flush(cuts);
        }
        self.lines.finish(cuts);
    }

    fn tail_bytes(&self) -> usize {
        self.assembly.tail_bytes() + self.lines.tail_bytes()
    }
}
