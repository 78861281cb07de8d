//! Lines that are put together from pieces: the forms whose lines do not lie in the input as such.

use super::{Cut, LINE_END_BYTES, add_to_head, empty_head};
use crate::parse::{PADDING, blank_line_breaks};

/// Finished lines, and one unfinished line behind them.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Where the unfinished line begins.
    start: usize,
    /// Length and beginning of the unfinished line, once it is not kept.
    discarded: Option<(u64, Vec<u8>)>,
    max_event_bytes: usize,
}

impl Assembly {
    pub(super) fn new(max_event_bytes: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, discarded: None, max_event_bytes }
    }

    /// Makes room, so that what follows is copied once.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes + PADDING);
    }

    /// Adds to the unfinished line.
    pub(super) fn add(&mut self, piece: &[u8]) {
        match &mut self.discarded {
            Some((bytes, head)) => {
                *bytes += piece.len() as u64;
                add_to_head(head, piece);
            }
            None => self.bytes.extend_from_slice(piece),
        }
    }

    /// The unfinished line, as far as it is kept.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Forgets the unfinished line.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    /// Keeps nothing of the unfinished line but its length and its beginning.
    pub(super) fn discard(&mut self) {
        if self.discarded.is_none() {
            let mut head = empty_head(self.max_event_bytes);
            add_to_head(&mut head, self.unfinished());
            self.discarded = Some((self.unfinished().len() as u64, head));
        }
        self.bytes.truncate(self.start);
    }

    /// Removes one LF or CRLF from the end of the unfinished line.
    pub(super) fn trim_line_end(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.unfinished().last() == Some(&end) {
                self.bytes.pop();
            }
        }
    }

    /// Finishes the line. An empty one leaves nothing behind.
    pub(super) fn end(&mut self, cuts: &mut Vec<Cut>) {
        if let Some((bytes, head)) = self.discarded.take() {
            cuts.push(Cut::Oversized { bytes, head });
            return;
        }
        let line = &mut self.bytes[self.start..];
        if line.is_empty() {
            return;
        }
        if memchr::memchr2(b'\n', b'\r', line).is_some() {
            blank_line_breaks(line);
        }
        self.bytes.push(b'\n');
        self.start = self.bytes.len();
    }

    /// Gives away the finished lines, and discards an unfinished one that is too long.
    ///
    /// The length is not looked at before, so that a line is not cut out of the middle of a run.
    pub(super) fn flush(&mut self, cuts: &mut Vec<Cut>) {
        if self.start > 0 {
            let unfinished = self.unfinished().to_vec();
            self.bytes.truncate(self.start);
            cuts.push(Cut::Lines(std::mem::replace(&mut self.bytes, unfinished).into()));
            self.start = 0;
        }
        if self.bytes.len() > self.max_event_bytes + LINE_END_BYTES {
            self.discard();
        }
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Memory that the unfinished line takes.
    pub(super) fn tail_bytes(&self) -> usize {
        self.bytes.capacity() + self.discarded.as_ref().map_or(0, |(_, head)| head.capacity())
    }
}
