//! One open file.
//!
//! A write that fails is taken back, as far as the file system lets us. Without a log nothing else is
//! ever cut: what stands behind the last line end when a file is opened may be a line that somebody
//! else wrote without an end, or half a line from a crash, and half a line will not come again. It gets
//! the line end that it lacks with the next batch, so that the events of that batch are lines of their
//! own. With a log half a line does come again, and is cut off before the next batch; what is whole
//! JSON is a line all the same, and stays.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::net::unix::pipe;

use super::name::{Naming, folder_of};
use super::write_all;
use crate::config::Rotate;
use crate::destination::batch::Piece;
use crate::destination::turns::{Turn, turn_at};

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
    /// Whether the last line has no end yet.
    lacks_line_end: bool,
    care: FileCare,
}

/// What the log asks of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCare {
    /// What is not whole at the end of a file comes again from the log, and is cut off.
    pub cuts: bool,
    /// What is delivered is on the disk.
    pub syncs: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Regular {
        device: u64,
        inode: u64,
        created: SystemTime,
        len: u64,
    },
    /// A FIFO or a device: neither rotated nor repaired, and perhaps written to by others.
    Special(Turn),
}

impl Target {
    /// The file to append to at `now`: `current` as long as it is still the right one.
    pub(super) fn ready(
        current: Option<Self>,
        naming: &Naming,
        rotate: &Rotate,
        now: Timestamp,
        care: FileCare,
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
        let opened = Self::open(naming, &stem, number, care)?;
        if opened.is_done(rotate, now) {
            return Self::open(naming, &stem, number + 1, care);
        }
        Ok(opened)
    }

    fn open(naming: &Naming, stem: &str, number: u64, care: FileCare) -> io::Result<Self> {
        let path = naming.path(stem, number);
        let (file, kind) = in_context(open(&path), "open", &path.display())?;
        let lacks_line_end = match kind {
            Kind::Regular { len, .. } if !naming.is_compressed() => {
                in_context(lacks_line_end(&path, len), "read", &path.display())?
            }
            _ => false,
        };
        Ok(Self { stem: stem.to_owned(), number, path, file, kind, lacks_line_end, care })
    }

    /// Appends all of `payload`, or nothing that stays.
    pub(super) fn append(&mut self, payload: &Payload) -> io::Result<()> {
        if matches!(payload, Payload::Nothing) {
            return Ok(());
        }
        self.cut_half_a_line()?;
        let _alone = match &self.kind {
            Kind::Special(turn) => Some(turn.lock().unwrap_or_else(PoisonError::into_inner)),
            Kind::Regular { .. } => None,
        };
        let written = match payload {
            Payload::Nothing => return Ok(()),
            Payload::Lines(pieces) => {
                let line_end = self.lacks_line_end.then_some(&b"\n"[..]);
                write_all(&self.file, line_end.into_iter().chain(pieces.iter().map(Piece::lines)))
            }
            Payload::Whole(bytes) => write_all(&self.file, [&bytes[..]].into_iter()),
        };
        let written = match self.kind {
            Kind::Regular { .. } if self.care.syncs => written.and_then(|()| self.file.sync_data()),
            Kind::Regular { .. } | Kind::Special(_) => written,
        };
        self.lacks_line_end &= written.is_err();
        if written.is_err()
            && let Kind::Regular { len, .. } = self.kind
        {
            in_context(self.file.set_len(len), "repair", &self.path.display())?;
        }
        in_context(written, "write to", &self.path.display())
    }

    /// Cuts what is behind the last line end, if that is not a whole line.
    fn cut_half_a_line(&mut self) -> io::Result<()> {
        let Kind::Regular { len, .. } = &mut self.kind else {
            return Ok(());
        };
        if !self.lacks_line_end || !self.care.cuts {
            return Ok(());
        }
        let end = in_context(end_of_last_line(&self.path, *len), "read", &self.path.display())?;
        if let Some(end) = end {
            in_context(self.file.set_len(end), "repair", &self.path.display())?;
            tracing::warn!(file = %self.path.display(), bytes = *len - end, "half a line was cut off");
            *len = end;
            self.lacks_line_end = false;
        }
        Ok(())
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
}

fn open(path: &Path) -> io::Result<(File, Kind)> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        // Opened without waiting for a reader, who may never come.
        let sender = pipe::OpenOptions::new().open_sender(path)?;
        let file = File::from(sender.into_blocking_fd()?);
        let turn = turn_at(&file)?;
        return Ok((file, Kind::Special(turn)));
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
        Kind::Special(turn_at(&file)?)
    };
    Ok((file, kind))
}

/// Whether there is something behind the last line end.
fn lacks_line_end(path: &Path, len: u64) -> io::Result<bool> {
    let Some(last) = len.checked_sub(1) else {
        return Ok(false);
    };
    let mut byte = [0];
    // The handle for appending may not read.
    File::open(path)?.read_exact_at(&mut byte, last)?;
    if byte != *b"\n" {
        let file = path.display();
        tracing::warn!(%file, "the last line has no end; it gets one before the next event");
    }
    Ok(byte != *b"\n")
}

/// The longest piece of a line that is looked at: half a line is no longer than an event can be.
const HALF_A_LINE_MAX: u64 = 257 * 1024 * 1024;

/// Where the last line ends, if what is behind it is not one JSON value.
fn end_of_last_line(path: &Path, len: u64) -> io::Result<Option<u64>> {
    const STEP: u64 = 64 * 1024;
    let file = File::open(path)?;
    let mut start = len;
    let mut tail = Vec::new();
    while start > 0 && len - start < HALF_A_LINE_MAX {
        let from = start.saturating_sub(STEP);
        let mut step = vec![0; (start - from) as usize];
        file.read_exact_at(&mut step, from)?;
        let found = memchr::memrchr(b'\n', &step).map(|at| at + 1);
        let kept = step.split_off(found.unwrap_or(0));
        start -= kept.len() as u64;
        tail.splice(0..0, kept);
        if found.is_some() {
            break;
        }
    }
    let is_whole = serde_json::from_slice::<serde_json::Value>(&tail).is_ok();
    Ok((!is_whole).then_some(start))
}

fn in_context<T>(
    result: io::Result<T>,
    doing: &str,
    path: &dyn std::fmt::Display,
) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot {doing} {path}: {error}")))
}
