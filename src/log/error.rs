//! What can go wrong, named by what the caller does about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The log, or one of its files, can't be used as asked. Never holds a payload.
#[derive(Debug)]
pub enum LogError {
    /// The system refused.
    Io {
        /// What was attempted, as in "cannot ...".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file was written by a version of consentd that this one does not understand.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u16,
    },
    /// A file that can't be rebuilt from the others is gone or damaged in both copies.
    Lost {
        /// The file.
        path: PathBuf,
        /// Why going on without it would be wrong, and what to do.
        advice: &'static str,
    },
    /// An earlier error made it impossible to know what is on the disk. Only a new start helps.
    Poisoned(String),
}

impl LogError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether the cause is a full disk or quota.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Newer { .. } | Self::Lost { .. } | Self::Poisoned(_) => false,
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())
            }
            Self::Newer { path, version } => write!(
                f,
                "{} has format version {version}, which this consentd does not know; start the \
                 version that wrote it",
                path.display()
            ),
            Self::Lost { path, advice } => {
                write!(f, "{} is missing or damaged, and so is its copy; {advice}", path.display())
            }
            Self::Poisoned(cause) => {
                write!(f, "the log takes nothing more after an earlier error: {cause}")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Newer { .. } | Self::Lost { .. } | Self::Poisoned(_) => None,
        }
    }
}

/// Why a block was not taken into the group.
#[derive(Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The group has no room for it: commit, then append again.
    GroupFull,
    /// The log is poisoned.
    Poisoned,
}

/// Why a group was not committed. In both cases nothing of it may be acknowledged.
#[derive(Debug)]
pub enum CommitError {
    /// There was no space for another segment. Nothing was written, the group is gone, and the log
    /// goes on: refuse its events and try again with later ones.
    Refused(LogError),
    /// It is not known what is on the disk. Every later call fails: end the process.
    Fatal(LogError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "not stored, nothing was written: {error}"),
            Self::Fatal(error) => write!(f, "not stored: {error}"),
        }
    }
}

impl std::error::Error for CommitError {}
