//! One open file: kept valid by cutting off whatever is not whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::net::unix::pipe;

use super::name::{Naming, folder_of};
use super::write_all;
use crate::config::Rotate;
use crate::destination::batch::Piece;

/// A last line longer than this without its end is taken for a file that is not ours.
const TORN_LINE_MAX: u64 = 64 * 1024 * 1024;

/// What is appended.
pub(super) enum Payload {
    /// Nothing: the file is only opened.
    Nothing,
    /// Lines as they are.
    Lines(Vec<Piece>),
    /// A complete gzip member or zstd frame.
    Whole(Vec<u8>),
}

/// The file that is appended to.
#[derive(Debug)]
pub(super) struct Target {
    stem: String,
    number: u64,
    path: PathBuf,
    file: File,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular {
        device: u64,
        inode: u64,
        created: SystemTime,
        len: u64,
    },
    /// A FIFO or a device: neither cut nor rotated.
    Special,
}

impl Target {
    /// The file to append to at `now`: `current` as long as it is still the right one.
    pub(super) fn ready(
        current: Option<Self>,
        naming: &Naming,
        rotate: &Rotate,
        now: Timestamp,
    ) -> io::Result<Self> {
        let stem = naming.stem(now)?;
        let mut number = None;
        if let Some(mut current) = current.filter(|current| current.stem == stem)
            && current.is_still_there()
        {
            if !current.is_done(rotate, now) {
                return Ok(current);
            }
            number = Some(current.number + 1);
        }
        let numbered = *rotate != Rotate::default();
        let number = match number {
            Some(number) => number,
            None if numbered => in_context(naming.highest(&stem), "look into", &stem)?,
            None => 0,
        };
        let opened = Self::open(naming, &stem, number)?;
        if opened.is_done(rotate, now) {
            return Self::open(naming, &stem, number + 1);
        }
        Ok(opened)
    }

    fn open(naming: &Naming, stem: &str, number: u64) -> io::Result<Self> {
        let path = naming.path(stem, number);
        let (file, kind) = in_context(open(&path), "open", &path.display())?;
        let mut target = Self { stem: stem.to_owned(), number, path, file, kind };
        if !naming.is_compressed() {
            target.cut_torn_line()?;
        }
        Ok(target)
    }

    /// Appends all of `payload`, or nothing that stays.
    pub(super) fn append(&mut self, payload: &Payload) -> io::Result<()> {
        let written = match payload {
            Payload::Nothing => return Ok(()),
            Payload::Lines(pieces) => write_all(&self.file, pieces.iter().map(Piece::lines)),
            Payload::Whole(bytes) => write_all(&self.file, [&bytes[..]].into_iter()),
        };
        if written.is_err()
            && let Kind::Regular { len, .. } = self.kind
        {
            in_context(self.file.set_len(len), "repair", &self.path.display())?;
        }
        in_context(written, "write to", &self.path.display())
    }

    /// Whether the path still leads to the open file; takes note of its length.
    ///
    /// Whoever moves or removes a file (`logrotate`) gets a new one.
    fn is_still_there(&mut self) -> bool {
        let Kind::Regular { device, inode, len, .. } = &mut self.kind else {
            return true;
        };
        let Ok(found) = fs::metadata(&self.path) else {
            return false;
        };
        *len = found.len();
        (found.dev(), found.ino()) == (*device, *inode)
    }

    /// Whether the rules of rotation want another file.
    fn is_done(&self, rotate: &Rotate, now: Timestamp) -> bool {
        let Kind::Regular { created, len, .. } = self.kind else {
            return false;
        };
        let age = SystemTime::try_from(now).map(|now| now.duration_since(created));
        let age = age.map_or(Duration::ZERO, Result::unwrap_or_default);
        len > 0
            && (rotate.max_bytes.is_some_and(|max| len >= max)
                || rotate.every.is_some_and(|every| age >= every))
    }

    /// Cuts off what a crash left of a line; a line with its end always stays.
    fn cut_torn_line(&mut self) -> io::Result<()> {
        let path = self.path.display();
        let Kind::Regular { len, .. } = &mut self.kind else {
            return Ok(());
        };
        // The handle for appending may not read.
        let reader = in_context(File::open(&self.path), "read", &path)?;
        let whole = in_context(end_of_last_line(&reader, *len), "repair", &path)?;
        if whole < *len {
            tracing::warn!(file = %path, bytes = *len - whole, "cut off a torn last line");
            in_context(self.file.set_len(whole), "repair", &path)?;
            *len = whole;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, Kind)> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        // Opened without waiting for a reader, who may never come.
        let sender = pipe::OpenOptions::new().open_sender(path)?;
        return Ok((sender.into_blocking_fd()?.into(), Kind::Special));
    }
    let folder = folder_of(path);
    in_context(fs::create_dir_all(folder), "create the folder", &folder.display())?;
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let found = file.metadata()?;
    let kind = if found.file_type().is_file() {
        // Cutting and appending do not go together with another writer, such as the predecessor of
        // this destination that is still draining. Where there are no locks, there is no check.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "another destination or process is writing to it";
            return Err(io::Error::new(ErrorKind::ResourceBusy, what));
        }
        Kind::Regular {
            device: found.dev(),
            inode: found.ino(),
            created: found.created().unwrap_or_else(|_| SystemTime::now()),
            len: found.len(),
        }
    } else {
        Kind::Special
    };
    Ok((file, kind))
}

/// Offset behind the last LF among the first `len` bytes.
fn end_of_last_line(file: &File, len: u64) -> io::Result<u64> {
    let mut block = vec![0; 64 * 1024];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let read = &mut block[..(end - start) as usize];
        file.read_exact_at(read, start)?;
        if let Some(at) = memchr::memrchr(b'\n', read) {
            return Ok(start + at as u64 + 1);
        }
        if len - start > TORN_LINE_MAX {
            let what = "its last line is too long to be one of ours";
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        end = start;
    }
    Ok(0)
}

fn in_context<T>(
    result: io::Result<T>,
    doing: &str,
    path: &dyn std::fmt::Display,
) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot {doing} {path}: {error}")))
}
