//! From reads to runs of event lines, each in its section, and control lines: pure.

use std::mem::take;

use memchr::{memchr, memmem};

use super::control::{self, CONTROL_BYTES_MAX, Control, Wrong};
use crate::ingest::framing::{Cut, Cutter as _, LineCutter};

/// Cuts what one child sends.
#[derive(Debug)]
pub(super) struct SectionCutter {
    lines: LineCutter,
    /// What was read and not cut yet.
    input: Vec<u8>,
    at: usize,
    /// The beginning of a control line whose end was not read yet.
    control: Option<Vec<u8>>,
    at_line_start: bool,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Lines; none, if only a part of one was there.
    Cuts,
    Control(Control),
    /// Nothing more is there.
    Nothing,
}

impl SectionCutter {
    pub(super) fn new(max_event_bytes: usize) -> Self {
        Self {
            lines: LineCutter::new(max_event_bytes),
            input: Vec::new(),
            at: 0,
            control: None,
            at_line_start: true,
        }
    }

    /// Whether everything that was read is cut.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.input.len()
    }

    /// Takes what was read; everything before is cut. Gives back the buffer of before.
    pub(super) fn push(&mut self, read: Vec<u8>) -> Vec<u8> {
        debug_assert!(self.is_empty(), "what was read before is cut");
        self.at = 0;
        std::mem::replace(&mut self.input, read)
    }

    /// Cuts up to the next control line.
    ///
    /// # Errors
    /// A sentence; what follows can't be understood.
    pub(super) fn next(&mut self, cuts: &mut Vec<Cut>) -> Result<Next, Wrong> {
        let rest = &self.input[self.at..];
        let Some(first) = rest.first() else { return Ok(Next::Nothing) };
        if self.control.is_some() || self.at_line_start && *first == b'#' {
            return self.next_control();
        }
        let end = memmem::find(rest, b"\n#").map_or(rest.len(), |at| at + 1);
        self.at_line_start = rest[end - 1] == b'\n';
        if self.at == 0 && end == rest.len() {
            self.lines.push(&mut self.input, cuts);
            self.input.clear();
        } else {
            let mut part = rest[..end].to_vec();
            self.at += end;
            self.lines.push(&mut part, cuts);
        }
        Ok(Next::Cuts)
    }

    fn next_control(&mut self) -> Result<Next, Wrong> {
        let rest = &self.input[self.at..];
        let control = self.control.get_or_insert_default();
        let end = memchr(b'\n', rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        if control.len() + part.len() > CONTROL_BYTES_MAX {
            return Err("a control line is too long");
        }
        control.extend_from_slice(part);
        self.at += end.map_or(rest.len(), |end| end + 1);
        if end.is_none() {
            return Ok(Next::Nothing);
        }
        let line = take(control);
        self.control = None;
        control::read(line.strip_suffix(b"\r").unwrap_or(&line)).map(Next::Control)
    }

    /// Memory that unfinished lines take.
    pub(super) fn tail_bytes(&self) -> usize {
        self.lines.tail_bytes() + self.control.as_ref().map_or(0, Vec::capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::frame::Section;

    /// What comes out, as text.
    fn cut(pieces: &[&[u8]]) -> Result<String, Wrong> {
        let mut cutter = SectionCutter::new(100);
        let mut told = String::new();
        let mut tell = |cuts: &mut Vec<Cut>| {
            for cut in cuts.drain(..) {
                match cut {
                    Cut::Lines(run) => {
                        for line in std::str::from_utf8(run.lines()).unwrap().split_inclusive('\n')
                        {
                            let len = line.trim_end().len();
                            // One that is too long may come as a line, if it was there at once.
                            told += &if len > 100 { format!("<{len}>\n") } else { line.to_owned() };
                        }
                    }
                    Cut::Oversized { bytes, .. } => told += &format!("<{bytes}>\n"),
                    Cut::Blank { .. } => {}
                }
            }
        };
        let mut cuts = Vec::new();
        let mut controls = String::new();
        for piece in pieces {
            cutter.push(piece.to_vec());
            loop {
                match cutter.next(&mut cuts)? {
                    Next::Nothing => break,
                    Next::Cuts => tell(&mut cuts),
                    Next::Control(Control::Section(Section::Events { .. })) => controls += "E",
                    Next::Control(_) => controls += "?",
                }
            }
        }
        Ok(told + &controls)
    }

    #[test]
    fn any_split_gives_the_same() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(200));
        let text = format!(
            "#events\n{{\"a\":1}}\n{{\"b\":\"#x\\n#y\"}}\r\n#events to=3\n#judge\n{long}\n{{}}\n#end {{}}\n"
        );
        let whole = cut(&[text.as_bytes()]).unwrap();
        assert_eq!(whole, "{\"a\":1}\n{\"b\":\"#x\\n#y\"}\r\n<208>\n{}\nEE??");
        for at in 0..text.len() {
            let (front, back) = text.as_bytes().split_at(at);
            assert_eq!(cut(&[front, back]).as_ref(), Ok(&whole), "{at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(cut(&bytes), Ok(whole));
    }

    #[test]
    fn a_hash_within_a_line_is_no_control_line() {
        assert_eq!(cut(&[b"{#\n", b" #events\n"]).unwrap(), "{#\n #events\n");
        assert_eq!(cut(&[b"{", b"#events\n"]).unwrap(), "{#events\n");
    }

    #[test]
    fn a_control_line_without_an_end_is_bounded() {
        let half = vec![b'#'; CONTROL_BYTES_MAX / 2 + 1];
        assert!(cut(&[&half, &half]).is_err());
        assert_eq!(cut(&[b"#nonsense\n"]), Err("an unknown control line"));
    }
}
