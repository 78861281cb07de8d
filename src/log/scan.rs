//! Frame by frame through a segment, over whatever damage there is. Recovery, readers, verification
//! and erasure all walk this way.

use std::io;
use std::ops::Range;

use memchr::memmem;

use super::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, SEGMENT_HEADER_BYTES,
};
use super::fs::{LogFile, read_full};
use super::position::Position;

/// How much is read at once.
const READ_BYTES: usize = 512 * 1024;

/// Damage that was stepped over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Stretches of damaged bytes.
    pub stretches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events in them, as far as that is known.
    pub events: u64,
    /// Stretches of which it is not known how many events they held.
    pub uncounted: u64,
}

impl Damage {
    /// Whether there was none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add(&mut self, range: &Range<u64>, events: Option<u32>) {
        self.stretches += 1;
        self.bytes += range.end - range.start;
        match events {
            Some(events) => self.events += u64::from(events),
            None => self.uncounted += 1,
        }
    }
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame whose payload is this range.
    Frame { header: FrameHeader, payload: Range<u64> },
    /// Nothing sound; a sound header follows, or the limit.
    Damage { range: Range<u64>, events: Option<u32> },
    /// The limit.
    End,
}

/// Walks through the frames of one segment.
pub(super) struct Frames {
    file: Box<dyn LogFile>,
    number: u32,
    at: u64,
    /// What was read last, and where it stands in the file.
    buffer: Vec<u8>,
    filled: usize,
    start: u64,
}

impl Frames {
    pub(super) fn new(file: Box<dyn LogFile>, number: u32) -> Self {
        let at = SEGMENT_HEADER_BYTES.into();
        Self { file, number, at, buffer: Vec::new(), filled: 0, start: 0 }
    }

    pub(super) fn file(&self) -> &dyn LogFile {
        &*self.file
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// What comes next and begins before `limit`, in a file of `len` bytes. Frames and damage that end
    /// at or before `from` are passed over unseen. Nothing behind both the limit and the frame that
    /// reaches over it is read: it may not be written yet.
    pub(super) fn next(&mut self, from: u64, limit: u64, len: u64) -> io::Result<Found> {
        let limit = limit.min(len);
        loop {
            let at = self.at;
            if at >= limit {
                return Ok(Found::End);
            }
            let found = match self.header(at, limit)? {
                Some(header) => self.judge_frame(header, from, limit, len)?,
                None => {
                    let next = self.find_header(at, limit)?;
                    Found::Damage { range: at..next.unwrap_or(limit), events: None }
                }
            };
            let end = match &found {
                Found::Frame { payload, .. } => payload.end,
                Found::Damage { range, .. } => range.end,
                Found::End => limit,
            };
            self.at = end;
            if end > from {
                return Ok(found);
            }
        }
    }

    fn judge_frame(
        &mut self,
        header: FrameHeader,
        from: u64,
        limit: u64,
        len: u64,
    ) -> io::Result<Found> {
        let start = self.at;
        let end = start + header.frame_bytes();
        if end > len {
            // The length can be believed, so nothing else can follow.
            return Ok(Found::Damage { range: start..len, events: Some(header.records) });
        }
        let payload = start + FRAME_HEADER_BYTES as u64..end;
        let is_sound =
            end <= from || crc32c::crc32c(self.bytes(&payload, limit)?) == header.payload_checksum;
        Ok(if is_sound {
            Found::Frame { header, payload }
        } else {
            Found::Damage { range: start..end, events: Some(header.records) }
        })
    }

    fn header(&mut self, at: u64, limit: u64) -> io::Result<Option<FrameHeader>> {
        let range = at..limit.min(at + FRAME_HEADER_BYTES as u64);
        let position = Position::new(self.number, u32::try_from(at).unwrap_or(u32::MAX));
        Ok(FrameHeader::decode(self.bytes(&range, limit)?, position))
    }

    /// The first place behind `at` where a header stands.
    fn find_header(&mut self, at: u64, limit: u64) -> io::Result<Option<u64>> {
        let mut at = at + ALIGNMENT as u64;
        while at < limit {
            let piece = at..limit.min(at + READ_BYTES as u64);
            let bytes = self.bytes(&piece, limit)?;
            let found = memmem::find_iter(bytes, FRAME_MAGIC);
            let candidates: Vec<u64> = found
                .map(|place| at + place as u64)
                .filter(|at| at % ALIGNMENT as u64 == 0)
                .collect();
            for candidate in candidates {
                if self.header(candidate, limit)?.is_some() {
                    return Ok(Some(candidate));
                }
            }
            // A magic may stand across the end of the piece.
            at = if piece.end == limit { limit } else { piece.end - ALIGNMENT as u64 };
        }
        Ok(None)
    }

    /// The bytes of a range; fewer if the file ends earlier. Reads ahead up to `limit`.
    pub(super) fn bytes(&mut self, range: &Range<u64>, limit: u64) -> io::Result<&[u8]> {
        let len = (range.end - range.start) as usize;
        let is_here = range.start >= self.start && range.end <= self.start + self.filled as u64;
        if !is_here {
            self.read(range.start, len, limit)?;
        }
        let from = (range.start - self.start) as usize;
        let here = self.buffer.get(from..self.filled).unwrap_or_default();
        Ok(here.get(..len).unwrap_or(here))
    }

    /// Moves the buffer to `start` and fills it with `len` bytes or more.
    fn read(&mut self, start: u64, len: usize, limit: u64) -> io::Result<()> {
        let overlap = start
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip < self.filled);
        self.filled = match overlap {
            Some(skip) => {
                self.buffer.copy_within(skip..self.filled, 0);
                self.filled - skip
            }
            None => 0,
        };
        self.start = start;
        let ahead = len.max(limit.saturating_sub(start).min(READ_BYTES as u64) as usize);
        if self.buffer.len() > 4 * READ_BYTES && ahead <= READ_BYTES {
            // One large frame must not hold its memory for ever.
            self.buffer.truncate(READ_BYTES.max(self.filled));
            self.buffer.shrink_to_fit();
        }
        if self.buffer.len() < ahead {
            self.buffer.resize(ahead, 0);
        }
        // A failed read leaves what was there before it.
        let wanted = &mut self.buffer[self.filled..ahead.max(self.filled)];
        self.filled += read_full(&*self.file, wanted, start + self.filled as u64)?;
        Ok(())
    }
}
