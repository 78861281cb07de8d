//! Lines ended by LF or CRLF, cut without copying the bulk of a read.

use super::{Cut, Cutter, LINE_END_BYTES, Run, add_to_head, empty_head, is_blank};
use crate::parse::{PADDING, blank_stray_returns};

/// A read up to this long is joined to the line that it completes: copying it is cheaper than
/// handing over a second frame.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// Cuts reads at their last LF.
#[derive(Debug)]
pub(in crate::ingest) struct LineCutter {
    /// The unfinished line.
    carry: Vec<u8>,
    /// Stands in for the carry once the line is too long.
    discarded: Option<Discarded>,
    max_event_bytes: usize,
}

#[derive(Debug)]
struct Discarded {
    bytes: u64,
    blank: bool,
    last: Option<u8>,
    head: Vec<u8>,
}

impl LineCutter {
    pub(in crate::ingest) fn new(max_event_bytes: usize) -> Self {
        Self { carry: Vec::new(), discarded: None, max_event_bytes }
    }

    fn is_between_lines(&self) -> bool {
        self.carry.is_empty() && self.discarded.is_none()
    }

    /// Adds to the unfinished line.
    fn keep(&mut self, piece: &[u8]) {
        if let Some(discarded) = &mut self.discarded {
            discarded.add(piece);
            return;
        }
        self.carry.extend_from_slice(piece);
        if self.carry.len() > self.max_event_bytes + LINE_END_BYTES {
            let head = empty_head(self.max_event_bytes);
            let mut discarded = Discarded { bytes: 0, blank: true, last: None, head };
            discarded.add(&std::mem::take(&mut self.carry));
            self.discarded = Some(discarded);
        }
    }

    /// Ends the unfinished line with the first bytes of `buffer`; returns how many.
    fn complete(&mut self, buffer: &[u8], cuts: &mut Vec<Cut>) -> Option<usize> {
        let joined = self.discarded.is_none() && buffer.len() <= JOIN_BYTES_MAX;
        let at =
            if joined { memchr::memrchr(b'\n', buffer)? } else { memchr::memchr(b'\n', buffer)? };
        match self.discarded.take() {
            Some(mut discarded) => {
                discarded.add(&buffer[..at]);
                cuts.push(discarded.into_cut());
            }
            None => {
                self.carry.reserve(at + 1 + PADDING);
                self.carry.extend_from_slice(&buffer[..=at]);
                cuts.push(run(std::mem::take(&mut self.carry), 0));
            }
        }
        Some(at + 1)
    }
}

impl Cutter for LineCutter {
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        let mut start = 0;
        if !self.is_between_lines() {
            let Some(completed) = self.complete(buffer, cuts) else {
                self.keep(buffer);
                return;
            };
            start = completed;
        }
        let last = memchr::memrchr(b'\n', &buffer[start..]);
        let stop = last.map_or(start, |n| start + n + 1);
        if stop < buffer.len() {
            self.keep(&buffer[stop..]);
        }
        if start < stop {
            buffer.truncate(stop);
            cuts.push(run(std::mem::take(buffer), start));
        }
    }

    fn finish(&mut self, cuts: &mut Vec<Cut>) {
        if let Some(discarded) = self.discarded.take() {
            cuts.push(discarded.into_cut());
        }
        if !self.carry.is_empty() {
            cuts.push(run(std::mem::take(&mut self.carry), 0));
        }
    }

    fn tail_bytes(&self) -> usize {
        self.carry.capacity() + self.discarded.as_ref().map_or(0, |it| it.head.capacity())
    }
}

impl Discarded {
    fn add(&mut self, piece: &[u8]) {
        add_to_head(&mut self.head, piece);
        self.bytes += piece.len() as u64;
        self.blank = self.blank && piece.iter().copied().all(is_blank);
        self.last = piece.last().copied().or(self.last);
    }

    fn into_cut(self) -> Cut {
        if self.blank {
            return Cut::Blank { lines: 1 };
        }
        let crlf = self.last == Some(b'\r');
        Cut::Oversized { bytes: self.bytes - u64::from(crlf), head: self.head }
    }
}

fn run(mut bytes: Vec<u8>, start: usize) -> Cut {
    blank_stray_returns(&mut bytes[start..]);
    Cut::Lines(Run { bytes, start })
}
