//! Which segments there are, and how they go: released, expired, or replaced by a copy without what
//! was erased.

use std::collections::VecDeque;

use super::cursor::Cursors;
use super::error::LogError;
use super::folder::SegmentInfo;
use super::position::Position;
use super::rewrite::Rewritten;
use super::writer::Writer;

/// The segments of a log, oldest first. The newest is never removed: its number is what keeps
/// positions from being given out again.
#[derive(Debug)]
pub(super) struct Segments {
    list: VecDeque<SegmentInfo>,
}

impl Segments {
    pub(super) fn new(list: Vec<SegmentInfo>) -> Self {
        Self { list: list.into() }
    }

    pub(super) fn newest(&self) -> Option<&SegmentInfo> {
        self.list.back()
    }

    pub(super) fn begin(&mut self, segment: SegmentInfo) {
        self.list.push_back(segment);
    }

    pub(super) fn grow(&mut self, bytes: u64) {
        if let Some(newest) = self.list.back_mut() {
            newest.bytes += bytes;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    /// The oldest, if there is a newer one.
    fn oldest_but_newest(&self) -> Option<&SegmentInfo> {
        self.list.front().filter(|_| self.list.len() > 1)
    }
}

/// Segments that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Writer {
    /// Removes the segments that every destination is done with. Cursors count as far as they are
    /// durable, whatever they say in memory.
    ///
    /// # Errors
    /// [`LogError`]; the segments that are left are tried again by the next call.
    pub fn release(&mut self, cursors: &Cursors) -> Result<Removed, LogError> {
        self.remove_before(cursors.durable_low_water())
    }

    /// The oldest segment that can be given up to make room: not the newest one.
    #[must_use]
    pub fn oldest_segment(&self) -> Option<SegmentInfo> {
        self.segments.oldest_but_newest().copied()
    }

    /// Removes the segments that end at or before `position`, delivered or not. The caller counts what
    /// destinations lose ([`count_pending`](super::count_pending)) and moves their cursors first.
    ///
    /// # Errors
    /// [`LogError`]; the segments that are left are tried again by the next call.
    pub fn expire_before(&mut self, position: Position) -> Result<Removed, LogError> {
        self.remove_before(position)
    }

    fn remove_before(&mut self, low: Position) -> Result<Removed, LogError> {
        let mut removed = Removed::default();
        while let Some(oldest) = self.oldest_before(low) {
            self.folder().unlink(&self.folder().segment_path(oldest.number))?;
            removed.segments += 1;
            removed.bytes += oldest.bytes;
            self.segments.list.pop_front();
        }
        if removed.segments > 0 {
            self.folder().sync_dir()?;
        }
        Ok(removed)
    }

    fn oldest_before(&self, low: Position) -> Option<SegmentInfo> {
        let is_behind = |oldest: &SegmentInfo| oldest.end() <= low || oldest.is_empty();
        self.oldest_segment().filter(is_behind)
    }

    /// As [`Self::release`], but leaves the files to [`Folder::remove_segments`](super::Folder::remove_segments) on another thread: to
    /// give back a large file takes long. Should that not come about, the next start finds them, behind
    /// every cursor.
    pub fn retire(&mut self, cursors: &Cursors) -> Vec<SegmentInfo> {
        let low = cursors.durable_low_water();
        let mut retired = Vec::new();
        while let Some(oldest) = self.oldest_before(low) {
            self.segments.list.pop_front();
            retired.push(oldest);
        }
        retired
    }

    /// Puts a rewritten segment in the place of the original, durably. Does nothing if the original is
    /// gone by now.
    ///
    /// # Errors
    /// [`LogError`]; the original or the copy is there, whole, in any case.
    pub fn adopt(&mut self, rewritten: &Rewritten) -> Result<(), LogError> {
        let number = rewritten.number();
        let is_here = self.segments().any(|segment| segment.number == number);
        let is_closed = !self.is_writing()
            || self.segments.newest().is_none_or(|newest| newest.number != number);
        if is_here && is_closed {
            self.folder().rename(rewritten.path(), &self.folder().segment_path(number))?;
            self.folder().sync_dir()
        } else {
            self.folder().unlink(rewritten.path())
        }
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.segments.list.iter().copied()
    }

    /// The segments that are not written to any more, oldest first: those that can be rewritten.
    pub fn closed_segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        let open = usize::from(self.is_writing());
        self.segments().take(self.segments.list.len().saturating_sub(open))
    }

    /// Before everything that is stored.
    #[must_use]
    pub fn first_position(&self) -> Position {
        self.segments.list.front().map_or(self.end(), SegmentInfo::first)
    }

    /// How many bytes are stored from `position` on: the lag of a cursor that stands there.
    #[must_use]
    pub fn bytes_after(&self, position: Position) -> u64 {
        let after = |segment: &SegmentInfo| match position {
            _ if segment.is_empty() => 0,
            _ if position <= segment.first() => segment.bytes,
            _ if position < segment.end() => segment.end().0 - position.0,
            _ => 0,
        };
        self.segments.list.iter().map(after).sum()
    }
}
