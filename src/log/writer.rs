//! Appends groups of blocks, one frame and one write each, and makes them durable.

use std::io;

use super::block::EncodedBlock;
use super::error::{AppendError, CommitError, LogError};
use super::folder::{Folder, SegmentInfo};
use super::format::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::fs::{LogFile, Open, uninterrupted, write_all};
use super::position::Position;
use super::recovery::{Progress, RecoveryReport, recover};
use super::retention::Segments;

/// The largest segment: offsets in it, one frame of the largest size included, fit 32 bits.
const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// Space is reserved in steps of so many bytes, and at least what the next frame takes.
const RESERVED_BYTES: u64 = 16 * 1024 * 1024;

/// What the next segment takes before anything is in it, with what file systems round up: room is kept for
/// it, or a full volume could not leave its newest segment, and would stay full for ever.
const NEXT_SEGMENT_BYTES: u64 = 64 * 1024;

/// When a commit is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before [`Writer::commit`] returns.
    Commit,
    /// When the caller calls [`Writer::sync`].
    Interval,
    /// When the operating system likes; only whole segments are synced.
    Off,
}

/// Limits and habits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A new segment is begun once one has so many bytes; a multiple of it should fit `max_bytes`,
    /// since a segment is the unit that is released. At most 1 GiB counts.
    pub segment_bytes: u32,
    /// What all segments together may take.
    pub max_bytes: u64,
    /// What must stay free on the file system.
    pub free_floor_bytes: u64,
    /// When a commit is made durable.
    pub sync: SyncMode,
}

/// Whether more can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Enough,
    /// The log would exceed `max_bytes`.
    LogFull,
    /// The file system would be down to less than `free_floor_bytes`.
    DiskFull,
}

/// A group that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first block's position or less.
    pub first: Position,
    /// Behind the last block: readers may read up to here.
    pub end: Position,
    /// Records in it.
    pub records: u32,
    /// Bytes that were written.
    pub bytes: u64,
}

/// The one writer of a log.
///
/// An error of a write or of a sync poisons it for good, for then it is not known what is on the disk,
/// and a second sync on the same descriptor would claim success for pages that the kernel has dropped.
/// The exception is a lack of space that shows before a frame is begun, for space is reserved first:
/// the log is as it was.
pub struct Writer {
    folder: Folder,
    options: Options,
    pub(super) segments: Segments,
    file: Option<Box<dyn LogFile>>,
    /// How far the file's space is reserved.
    reserved: u64,
    /// The frame that is being filled: room for its header, then blocks.
    group: Vec<u8>,
    group_records: u32,
    /// Where that frame will stand.
    group_at: Position,
    end: Position,
    durable_end: Position,
    next_number: u32,
    roll: bool,
    poisoned: Option<String>,
}

impl Writer {
    /// Opens a log: recovers what is there and goes on behind it. `known` is the highest position that
    /// the caller's durable state (cursors) names: new positions are higher in any case. The segment
    /// itself is created by the first commit, so that a full disk does not keep a daemon from starting
    /// and delivering.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(
        folder: Folder,
        options: Options,
        known: Position,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, RecoveryReport), LogError> {
        let (segments, report) = recover(&folder, progress)?;
        let newest = segments.last().copied();
        let highest = newest.map_or(0, |segment| segment.number).max(known.segment());
        let end = newest.map_or(Position::START, |segment| segment.end());
        let writer = Self {
            options,
            segments: Segments::new(segments),
            file: None,
            reserved: 0,
            group: vec![0; FRAME_HEADER_BYTES],
            group_records: 0,
            group_at: end,
            end,
            durable_end: end,
            next_number: highest.checked_add(1).ok_or_else(too_many)?,
            roll: false,
            poisoned: None,
            folder,
        };
        Ok((writer, report))
    }

    /// Adds a block to the group, in memory; returns the position that it has once it is committed.
    ///
    /// # Errors
    /// [`AppendError`]. A block is always taken into an empty group.
    pub fn append(&mut self, block: &EncodedBlock) -> Result<Position, AppendError> {
        if self.poisoned.is_some() {
            return Err(AppendError::Poisoned);
        }
        if self.is_empty() {
            self.group_at = match self.segments.newest() {
                Some(active) if self.file.is_some() && !self.is_done(active.bytes) => active.end(),
                _ => Position::new(self.next_number, SEGMENT_HEADER_BYTES),
            };
        } else if self.group.len() + block.bytes().len()
            > FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX
        {
            return Err(AppendError::GroupFull);
        }
        let position = Position(self.group_at.0 + self.group.len() as u64);
        self.group.extend_from_slice(block.bytes());
        self.group_records += block.records();
        Ok(position)
    }

    fn is_done(&self, bytes: u64) -> bool {
        self.roll || bytes >= u64::from(self.options.segment_bytes.min(SEGMENT_BYTES_MAX))
    }

    /// Writes the group as one frame and, with [`SyncMode::Commit`], makes it durable. `None` if nothing
    /// was appended. `now_unix_ms` is noted in the header if a segment is begun.
    ///
    /// # Errors
    /// [`CommitError`]; nothing of the group may be acknowledged then.
    pub fn commit(&mut self, now_unix_ms: u64) -> Result<Option<Committed>, CommitError> {
        self.check().map_err(CommitError::Fatal)?;
        if self.is_empty() {
            return Ok(None);
        }
        let written = self.write_group(now_unix_ms);
        self.group.clear();
        self.group.resize(FRAME_HEADER_BYTES, 0);
        // A burst must not hold its memory for ever.
        self.group.shrink_to(16 * 1024 * 1024);
        self.group_records = 0;
        if let Err(CommitError::Fatal(error)) = &written {
            self.poisoned = Some(error.to_string());
        }
        written.map(Some)
    }

    fn write_group(&mut self, now_unix_ms: u64) -> Result<Committed, CommitError> {
        let first = self.group_at;
        if self.segments.newest().is_none_or(|newest| newest.number < first.segment()) {
            self.begin_segment(first.segment(), now_unix_ms)?;
        }
        self.reserve(first.segment(), u64::from(first.offset()) + self.group.len() as u64)?;
        let payload = &self.group[FRAME_HEADER_BYTES..];
        let header = FrameHeader {
            position: first,
            payload_bytes: payload.len() as u32,
            records: self.group_records,
            wiped: false,
            payload_checksum: crc32c::crc32c(payload),
        };
        self.group[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        let path = self.folder.segment_path(first.segment());
        let file = self.file.as_deref().ok_or_else(|| CommitError::Fatal(not_open()))?;
        write_all(file, &self.group, first.offset().into())
            .map_err(LogError::io("write to", &path))
            .map_err(CommitError::Fatal)?;
        let bytes = self.group.len() as u64;
        let end = Position(first.0 + bytes);
        if self.options.sync == SyncMode::Commit {
            self.sync_file(first.segment()).map_err(CommitError::Fatal)?;
            self.durable_end = end;
        }
        self.segments.grow(bytes);
        self.end = end;
        Ok(Committed { first, end, records: self.group_records, bytes })
    }

    /// Reserves the space up to `end`, and more where there is more than has to stay free: space that is
    /// reserved now can't be lacking in the middle of a write.
    fn reserve(&mut self, number: u32, end: u64) -> Result<(), CommitError> {
        if end <= self.reserved {
            return Ok(());
        }
        let file = self.file.as_deref().ok_or_else(|| CommitError::Fatal(not_open()))?;
        let ample = end.next_multiple_of(RESERVED_BYTES);
        let free = uninterrupted(|| self.folder.fs.free_bytes(&self.folder.path)).unwrap_or(0);
        let more = (ample - self.reserved).saturating_add(self.floor_bytes());
        let wanted = if more <= free { ample } else { end };
        let reserved = uninterrupted(|| file.reserve(wanted)).map(|()| wanted);
        let reserved = match reserved {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                uninterrupted(|| file.reserve(end)).map(|()| end)
            }
            reserved => reserved,
        };
        let path = self.folder.segment_path(number);
        match reserved.map_err(LogError::io("reserve space for", &path)) {
            Ok(reserved) => {
                self.reserved = reserved;
                Ok(())
            }
            Err(error) if error.is_no_space() => Err(CommitError::Refused(error)),
            Err(error) => Err(CommitError::Fatal(error)),
        }
    }

    /// Makes everything that was committed durable, and returns how far that is.
    ///
    /// # Errors
    /// [`LogError`]; the writer is poisoned then.
    pub fn sync(&mut self) -> Result<Position, LogError> {
        self.check()?;
        if self.durable_end < self.end {
            let synced = self.sync_file(self.end.segment());
            if let Err(error) = &synced {
                self.poisoned = Some(error.to_string());
            }
            synced?;
            self.durable_end = self.end;
        }
        Ok(self.durable_end)
    }

    fn sync_file(&self, number: u32) -> Result<(), LogError> {
        let path = self.folder.segment_path(number);
        let file = self.file.as_deref().ok_or_else(not_open)?;
        uninterrupted(|| file.sync_data()).map_err(LogError::io("sync", &path))
    }

    /// Closes the segment that is written to, so that it can be expired or rewritten; the next group
    /// begins another. A group that is being filled still goes to it.
    ///
    /// # Errors
    /// [`LogError`]; the writer is poisoned then.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.check()?;
        self.roll = true;
        if self.is_empty() {
            self.close_segment()?;
        }
        Ok(())
    }

    /// Begins another segment although the newest is not full, so that the newest can be released once
    /// every durable cursor is behind it: what makes room where there is none for both. False if there is
    /// nothing to leave, or no space for even an empty segment.
    ///
    /// # Errors
    /// [`LogError`]; the writer is poisoned then.
    pub fn leave_segment(&mut self, now_unix_ms: u64) -> Result<bool, LogError> {
        self.check()?;
        if !self.is_empty() || self.segments.newest().is_none_or(SegmentInfo::is_empty) {
            return Ok(false);
        }
        match self.begin_segment(self.next_number, now_unix_ms) {
            Ok(()) => Ok(true),
            Err(CommitError::Refused(_)) => Ok(false),
            Err(CommitError::Fatal(error)) => {
                self.poisoned = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn close_segment(&mut self) -> Result<(), LogError> {
        // In every mode: so only the newest segment can hold less than was written to it.
        self.sync()?;
        if let (Some(file), Some(active)) = (self.file.take(), self.segments.newest()) {
            // Gives back what was reserved and not needed. A failure costs space for a while.
            let _ = uninterrupted(|| file.truncate(active.bytes));
        }
        Ok(())
    }

    fn begin_segment(&mut self, number: u32, now_unix_ms: u64) -> Result<(), CommitError> {
        self.close_segment().map_err(CommitError::Fatal)?;
        self.next_number =
            number.checked_add(1).ok_or_else(too_many).map_err(CommitError::Fatal)?;
        match self.create_segment(number, now_unix_ms) {
            Ok(file) => {
                self.file = Some(file);
                self.reserved = 0;
            }
            Err(error) if error.is_no_space() => {
                // If its name stays, it is an empty segment, which the next start finds and releases.
                let _ = self.folder.unlink(&self.folder.segment_path(number));
                return Err(CommitError::Refused(error));
            }
            Err(error) => return Err(CommitError::Fatal(error)),
        }
        self.segments.begin(SegmentInfo {
            number,
            bytes: SEGMENT_HEADER_BYTES.into(),
            created_unix_ms: Some(now_unix_ms),
        });
        self.roll = false;
        Ok(())
    }

    /// Creates a segment whose header and name are durable.
    fn create_segment(
        &self,
        number: u32,
        created_unix_ms: u64,
    ) -> Result<Box<dyn LogFile>, LogError> {
        let path = self.folder.segment_path(number);
        let file = self.folder.open_segment(number, Open::CreateNew)?;
        let header = SegmentHeader { kind: self.folder.kind, number, created_unix_ms };
        write_all(&*file, &header.encode(), 0).map_err(LogError::io("write to", &path))?;
        uninterrupted(|| file.sync_data()).map_err(LogError::io("sync", &path))?;
        self.folder.sync_dir()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), LogError> {
        self.poisoned.as_ref().map_or(Ok(()), |cause| Err(LogError::Poisoned(cause.clone())))
    }

    /// Whether the group holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.len() == FRAME_HEADER_BYTES
    }

    /// Bytes of the group.
    #[must_use]
    pub fn group_bytes(&self) -> usize {
        self.group.len() - FRAME_HEADER_BYTES
    }

    /// Whether `more` bytes may be appended: to be asked before events are accepted.
    ///
    /// # Errors
    /// [`LogError`] if the file system does not say how much is free.
    pub fn room(&self, more: u64) -> Result<Room, LogError> {
        self.check()?;
        let wanted = self.group.len() as u64 + more;
        if self.size_bytes() + wanted > self.options.max_bytes {
            return Ok(Room::LogFull);
        }
        let free = uninterrupted(|| self.folder.fs.free_bytes(&self.folder.path))
            .map_err(LogError::io("ask for the free space of", &self.folder.path))?;
        let is_low = free < self.floor_bytes().saturating_add(wanted);
        Ok(if is_low { Room::DiskFull } else { Room::Enough })
    }

    /// What has to stay free.
    fn floor_bytes(&self) -> u64 {
        self.options.free_floor_bytes.saturating_add(NEXT_SEGMENT_BYTES)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Behind everything that was committed: how far readers may read.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Behind everything that is known to be durable.
    #[must_use]
    pub fn durable_end(&self) -> Position {
        self.durable_end
    }

    /// The log's directory.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Why the writer takes nothing more, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Whether the newest segment is being written to.
    pub(super) fn is_writing(&self) -> bool {
        self.file.is_some()
    }
}

fn not_open() -> LogError {
    LogError::Poisoned("no segment is open".to_owned())
}

fn too_many() -> LogError {
    LogError::Poisoned("there are no more numbers for segments".to_owned())
}
