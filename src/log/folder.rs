//! A log's directory: names of files, what is in it, what is kept aside.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LogError;
use super::format::{HeaderRead, Kind, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::fs::{FileSystem, LogFile, Open, read_full, uninterrupted, write_all};
use super::position::Position;

const SUFFIX: &str = ".segment";
/// Of files that are written and then renamed; one that is found at a start was left by a crash.
pub(super) const UNFINISHED: &str = ".unfinished";
/// The directory for copies of what is damaged.
const DAMAGED: &str = "damaged";

/// Copies of damaged bytes stop once they take so much: they are evidence, not a second log.
const DAMAGED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A log's directory; cheap to clone.
#[derive(Clone)]
pub struct Folder {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) path: Arc<Path>,
    pub(super) kind: Kind,
    /// Whoever only looks changes nothing: no copies of what is damaged, nothing mended.
    pub(super) only_looks: bool,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folder").field(&self.path).finish()
    }
}

/// A segment as far as it is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number; numbers grow and are not used again, but may have gaps.
    pub number: u32,
    /// Length of its file.
    pub bytes: u64,
    /// When it was created, in milliseconds since 1970; `None` if its header is damaged.
    pub created_unix_ms: Option<u64>,
}

impl SegmentInfo {
    /// Its first position.
    #[must_use]
    pub fn first(&self) -> Position {
        Position::new(self.number, 0)
    }

    /// Behind its last byte.
    #[must_use]
    pub fn end(&self) -> Position {
        Position::new(self.number, u32::try_from(self.bytes).unwrap_or(u32::MAX))
    }

    /// Whether it holds no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes <= u64::from(SEGMENT_HEADER_BYTES)
    }
}

impl Folder {
    /// The log in the directory `path`, which is created where it is missing.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn open(fs: Arc<dyn FileSystem>, path: &Path, kind: Kind) -> Result<Self, LogError> {
        uninterrupted(|| fs.create_dir(path)).map_err(LogError::io("create", path))?;
        if let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            uninterrupted(|| fs.sync_dir(parent)).map_err(LogError::io("sync", parent))?;
        }
        Ok(Self { fs, path: path.into(), kind, only_looks: false })
    }

    /// The log in the directory `path`, for looking only: nothing is created, copied or mended, so it may
    /// be looked at beside its writer.
    ///
    /// # Errors
    /// [`LogError::Io`] if it is not there or can't be read.
    pub fn look(fs: Arc<dyn FileSystem>, path: &Path, kind: Kind) -> Result<Self, LogError> {
        let folder = Self { fs, path: path.into(), kind, only_looks: true };
        folder.numbers()?;
        Ok(folder)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segments, oldest first.
    ///
    /// # Errors
    /// [`LogError::Io`], and [`LogError::Newer`] for a segment that a later version wrote.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, LogError> {
        let mut segments = Vec::new();
        for (number, bytes) in self.numbers()? {
            let path = self.segment_path(number);
            let created_unix_ms = match self.header(number) {
                Ok(HeaderRead::Sound(header)) => Some(header.created_unix_ms),
                Ok(HeaderRead::Damaged) => None,
                Ok(HeaderRead::Newer(version)) => return Err(LogError::Newer { path, version }),
                // Released by the daemon while somebody else looks at the log.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            segments.push(SegmentInfo { number, bytes, created_unix_ms });
        }
        Ok(segments)
    }

    /// Behind everything that the files hold: for tools that look at a log without its writer.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn end_on_disk(&self) -> Result<Position, LogError> {
        let last = self.numbers()?.pop();
        Ok(last.map_or(Position::START, |(number, bytes)| {
            SegmentInfo { number, bytes, created_unix_ms: None }.end()
        }))
    }

    fn header(&self, number: u32) -> Result<HeaderRead, LogError> {
        let file = self.open_segment(number, Open::Read)?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let path = self.segment_path(number);
        let read = read_full(&*file, &mut bytes, 0).map_err(LogError::io("read", &path))?;
        Ok(SegmentHeader::decode(&bytes[..read], number))
    }

    /// Numbers and lengths of the segments, ascending.
    pub(super) fn numbers(&self) -> Result<Vec<(u32, u64)>, LogError> {
        let entries = uninterrupted(|| self.fs.list(&self.path));
        let entries = entries.map_err(LogError::io("list", &self.path))?;
        let mut numbers: Vec<(u32, u64)> =
            entries.iter().filter_map(|entry| Some((number_of(&entry.name)?, entry.len))).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn segment_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("{:016x}{SUFFIX}", Position::new(number, 0).0))
    }

    pub(super) fn open_segment(
        &self,
        number: u32,
        how: Open,
    ) -> Result<Box<dyn LogFile>, LogError> {
        self.open_file(&self.segment_path(number), how)
    }

    pub(super) fn open_file(&self, path: &Path, how: Open) -> Result<Box<dyn LogFile>, LogError> {
        uninterrupted(|| self.fs.open(path, how)).map_err(LogError::io("open", path))
    }

    pub(super) fn unlink(&self, path: &Path) -> Result<(), LogError> {
        match uninterrupted(|| self.fs.unlink(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer.map_err(LogError::io("remove", path)),
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), LogError> {
        uninterrupted(|| self.fs.rename(from, to)).map_err(LogError::io("rename", from))
    }

    pub(super) fn sync_dir(&self) -> Result<(), LogError> {
        uninterrupted(|| self.fs.sync_dir(&self.path)).map_err(LogError::io("sync", &self.path))
    }

    /// Removes the files of segments that are no part of the log any more, `step_bytes` at a time,
    /// and calls `pause` after each step. File systems give space back when they next commit what was changed, and on
    /// one that tells its disk of it (`discard`) 64 MiB at once hold every sync up for 20 ms.
    ///
    /// # Errors
    /// [`LogError::Io`]; what is left stays until the next start.
    pub fn remove_segments(
        &self,
        retired: &[SegmentInfo],
        step_bytes: u64,
        pause: &mut dyn FnMut(),
    ) -> Result<(), LogError> {
        for segment in retired {
            let path = self.segment_path(segment.number);
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(UNFINISHED);
            let unfinished = PathBuf::from(unfinished);
            self.rename(&path, &unfinished)?;
            // Before it is cut: a segment that came back after a crash would look damaged.
            self.sync_dir()?;
            let file = self.open_file(&unfinished, Open::Write)?;
            let mut left = segment.bytes;
            while left > step_bytes {
                left -= step_bytes;
                uninterrupted(|| file.truncate(left))
                    .map_err(LogError::io("truncate", &unfinished))?;
                pause();
            }
            self.unlink(&unfinished)?;
        }
        self.sync_dir()
    }

    /// Removes what a crash left half written.
    pub(super) fn remove_unfinished(&self) -> Result<(), LogError> {
        let entries = uninterrupted(|| self.fs.list(&self.path));
        for entry in entries.map_err(LogError::io("list", &self.path))? {
            if entry.name.ends_with(UNFINISHED) {
                self.unlink(&self.path.join(entry.name))?;
            }
        }
        Ok(())
    }

    /// Copies a damaged range of a segment to `damaged/`, once. Evidence for an investigation: if the
    /// copy fails, the log goes on without it.
    pub(super) fn keep_damaged(&self, number: u32, range: &Range<u64>) {
        if !self.only_looks {
            let _ = self.copy_damaged(number, range);
        }
    }

    fn copy_damaged(&self, number: u32, range: &Range<u64>) -> Result<(), LogError> {
        let dir = self.path.join(DAMAGED);
        uninterrupted(|| self.fs.create_dir(&dir)).map_err(LogError::io("create", &dir))?;
        let entries = uninterrupted(|| self.fs.list(&dir)).map_err(LogError::io("list", &dir))?;
        let first = Position::new(number, u32::try_from(range.start).unwrap_or(u32::MAX));
        let name = format!("{:016x}-{}", first.0, range.end - range.start);
        let kept: u64 = entries.iter().map(|entry| entry.len).sum();
        let is_kept = entries.iter().any(|entry| entry.name == name);
        if is_kept || kept + (range.end - range.start) > DAMAGED_BYTES_MAX {
            return Ok(());
        }
        let from = self.open_segment(number, Open::Read)?;
        let path = dir.join(name);
        let to = self.open_file(&path, Open::CreateNew)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut at = range.start;
        while at < range.end {
            let want = buffer.len().min((range.end - at) as usize);
            let read = read_full(&*from, &mut buffer[..want], at);
            let read = read.map_err(LogError::io("read", &path))?;
            if read == 0 {
                break;
            }
            let place = at - range.start;
            write_all(&*to, &buffer[..read], place).map_err(LogError::io("write", &path))?;
            at += read as u64;
        }
        uninterrupted(|| to.sync_data()).map_err(LogError::io("sync", &path))
    }

    /// Removes every copy of damaged bytes: nobody can tell whose events are in them.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn remove_damaged(&self) -> Result<(), LogError> {
        let dir = self.path.join(DAMAGED);
        let entries = match uninterrupted(|| self.fs.list(&dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => answer.map_err(LogError::io("list", &dir))?,
        };
        for entry in entries {
            self.unlink(&dir.join(entry.name))?;
        }
        uninterrupted(|| self.fs.sync_dir(&dir)).map_err(LogError::io("sync", &dir))
    }
}

fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_ours =
        digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let first = Position(u64::from_str_radix(digits, 16).ok()?);
    (is_ours && first.offset() == 0).then_some(first.segment())
}
