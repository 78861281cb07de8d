//! Reads what was committed, block by block, from a position on.

use std::io;
use std::ops::Range;

use super::error::LogError;
use super::folder::Folder;
use super::fs::{Open, uninterrupted};
use super::position::Position;
use super::scan::{Damage, Found, Frames};
use super::view::{Block, Layout};

/// A place in the log from which one destination reads, with a file descriptor of its own: a segment
/// that is removed or replaced meanwhile is read to its end all the same.
///
/// Reads are sequential and large. Damage is counted, copied to `damaged/` and stepped over.
pub struct Reader {
    folder: Folder,
    /// Blocks before this position were read or are not wanted.
    from: Position,
    current: Option<Current>,
    damage: Damage,
}

struct Current {
    frames: Frames,
    /// The frame's blocks that were not read yet.
    blocks: Range<u64>,
}

/// A block that was found in the buffer.
struct Place {
    position: Position,
    range: Range<u64>,
    layout: Layout,
}

impl Reader {
    /// A reader of the blocks at `from` and after it.
    #[must_use]
    pub fn new(folder: Folder, from: Position) -> Self {
        Self { folder, from, current: None, damage: Damage::default() }
    }

    /// The next block before `end`, which is an end that the writer reported or the position of a
    /// committed block; `None` if there is none now. Frames behind `end` are not looked at: they may be
    /// half written.
    ///
    /// # Errors
    /// [`LogError::Io`]; the next call tries again.
    pub fn next(&mut self, end: Position) -> Result<Option<Block<'_>>, LogError> {
        let Some(place) = self.find(end)? else {
            return Ok(None);
        };
        self.from = Position(place.position.0 + place.layout.block_bytes() as u64);
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        current.blocks.start = place.range.end;
        let path = self.folder.segment_path(place.position.segment());
        let bytes = current.frames.bytes(&place.range, place.range.end);
        let bytes = bytes.map_err(LogError::io("read", &path))?;
        Ok(Some(Block::new(bytes, place.layout, place.position)))
    }

    /// Where the next call goes on: blocks before it were read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.from
    }

    /// Has the next call give the block at `position` again, the one that was given last.
    pub fn again(&mut self, position: Position) {
        self.from = position;
        if let Some(current) = &mut self.current {
            current.blocks.start = position.offset().into();
        }
    }

    /// The damage that was stepped over so far.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.damage
    }

    fn find(&mut self, end: Position) -> Result<Option<Place>, LogError> {
        while self.from < end {
            let Some(current) = &mut self.current else {
                if !self.enter_segment(end)? {
                    return Ok(None);
                }
                continue;
            };
            let number = current.frames.number();
            let path = self.folder.segment_path(number);
            if !current.blocks.is_empty() {
                let position = Position::new(number, current.blocks.start as u32);
                if position >= end {
                    return Ok(None);
                }
                let blocks = current.blocks.clone();
                let bytes = current.frames.bytes(&blocks, blocks.end);
                let bytes = bytes.map_err(LogError::io("read", &path))?;
                match Layout::read(bytes) {
                    Some(layout) => {
                        let range = blocks.start..blocks.start + layout.block_bytes() as u64;
                        if position >= self.from {
                            return Ok(Some(Place { position, range, layout }));
                        }
                        current.blocks.start = range.end;
                    }
                    None => {
                        // The checksum holds, the content makes no sense: the writer had a fault.
                        current.blocks = 0..0;
                        self.damage.add(&blocks, None);
                        self.folder.keep_damaged(number, &blocks);
                    }
                }
                continue;
            }
            // A segment is not written to any more once the end is in a later one.
            let len = uninterrupted(|| current.frames.file().len());
            let len = len.map_err(LogError::io("measure", &path))?;
            let is_last = number == end.segment();
            let limit = if is_last { end.offset().into() } else { len };
            let from = if number == self.from.segment() { self.from.offset() } else { 0 };
            let found = current.frames.next(from.into(), limit, len);
            match found.map_err(LogError::io("read", &path))? {
                Found::Frame { header, payload } => {
                    current.blocks = if header.wiped { 0..0 } else { payload };
                }
                Found::Damage { range, events } => {
                    self.damage.add(&range, events);
                    self.folder.keep_damaged(number, &range);
                }
                Found::End if is_last => return Ok(None),
                Found::End => {
                    self.current = None;
                    self.from = self.from.max(Position::new(number.saturating_add(1), 0));
                }
            }
        }
        Ok(None)
    }

    /// Opens the first segment that has blocks at `from` or after it; false if none has before `end`.
    fn enter_segment(&mut self, end: Position) -> Result<bool, LogError> {
        let mut number = self.from.segment();
        loop {
            if number > end.segment() {
                return Ok(false);
            }
            match self.folder.open_segment(number, Open::Read) {
                Ok(file) => {
                    self.current =
                        Some(Current { frames: Frames::new(file, number), blocks: 0..0 });
                    return Ok(true);
                }
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let later = self.folder.numbers()?.into_iter().find(|(later, _)| *later > number);
            match later {
                Some((later, _)) => number = later,
                None => return Ok(false),
            }
        }
    }
}
