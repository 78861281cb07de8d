//! What the next file is called.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::fmt::strtime;

use crate::destination::sink::SinkError;

/// A path with `strftime` conversions, and the suffix of the compression.
///
/// The first file of a path is `PATH`, the next ones `PATH.1`, `PATH.2`, ...; with compression the
/// suffix stays last: `PATH.gz`, `PATH.1.gz`.
#[derive(Debug)]
pub(super) struct Naming {
    pattern: String,
    suffix: &'static str,
}

impl Naming {
    pub(super) fn new(pattern: String, suffix: &'static str) -> Result<Self, SinkError> {
        let naming = Self { pattern, suffix };
        naming.stem(Timestamp::UNIX_EPOCH).map_err(|error| SinkError(error.to_string()))?;
        Ok(naming)
    }

    /// Whether the files hold something else than lines.
    pub(super) fn is_compressed(&self) -> bool {
        !self.suffix.is_empty()
    }

    /// The path at `now`, without number and suffix.
    pub(super) fn stem(&self, now: Timestamp) -> io::Result<String> {
        let mut stem = strtime::format(&self.pattern, now)
            .map_err(|error| io::Error::other(format!("`path`: {error}")))?;
        if let Some(bare) = stem.strip_suffix(self.suffix) {
            stem.truncate(bare.len());
        }
        if stem.is_empty() || stem.ends_with('/') {
            return Err(io::Error::other("`path` does not name a file"));
        }
        Ok(stem)
    }

    /// The path of file `number` of a stem.
    pub(super) fn path(&self, stem: &str, number: u64) -> PathBuf {
        let suffix = self.suffix;
        PathBuf::from(match number {
            0 => format!("{stem}{suffix}"),
            number => format!("{stem}.{number}{suffix}"),
        })
    }

    /// The highest number that a file of this stem has; 0 if there is none.
    pub(super) fn highest(&self, stem: &str) -> io::Result<u64> {
        let Some(name) = Path::new(stem).file_name().and_then(|name| name.to_str()) else {
            return Ok(0);
        };
        let entries = match fs::read_dir(folder_of(Path::new(stem))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut highest = 0;
        for entry in entries {
            let entry = entry?.file_name();
            let number = entry.to_str().and_then(|entry| self.number(entry, name));
            highest = highest.max(number.unwrap_or(0));
        }
        Ok(highest)
    }

    fn number(&self, entry: &str, name: &str) -> Option<u64> {
        let number = entry.strip_prefix(name)?.strip_prefix('.')?;
        let number = number.strip_suffix(self.suffix)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| number.parse().ok()).flatten()
    }
}

/// The folder that `path` is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
