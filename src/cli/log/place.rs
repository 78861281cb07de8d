//! Where the logs of a config are, and what its destinations are called there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::Which;
use crate::config;
use crate::dead_letters::Shelf;
use crate::log::{Disk, Folder, Identities, Kind, LogError, StableId};

/// Why a command ends early.
pub(super) enum Wrong {
    /// It was said already.
    Reported(ExitCode),
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Failed(String),
}

impl From<LogError> for Wrong {
    fn from(error: LogError) -> Self {
        let hint = match &error {
            LogError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "; it holds personal data: become the user of the daemon, or root"
            }
            _ => "",
        };
        Self::Failed(format!("{error}{hint}"))
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Whoever read the output has enough.
            io::ErrorKind::BrokenPipe => Self::Reported(ExitCode::SUCCESS),
            _ => Self::Failed(format!("cannot write the output: {error}")),
        }
    }
}

/// The folders of a config.
pub(super) struct Place {
    log: PathBuf,
    dead_letters: PathBuf,
}

impl Place {
    pub(super) fn of(file: &Path) -> Result<Self, Wrong> {
        let loaded = config::load(file).map_err(|error| Wrong::Usage(error.to_string()))?;
        let config = loaded.config;
        match (config.log, config.dead_letters) {
            (Some(log), Some(dead_letters)) => {
                Ok(Self { log: log.folder, dead_letters: dead_letters.folder })
            }
            _ => Err(Wrong::Usage(format!(
                "{}: the log is switched off ([log] enabled = false)",
                file.display()
            ))),
        }
    }

    /// The main log, or both shelves of dead letters, each with a name to tell them apart.
    pub(super) fn folders(&self, which: &Which) -> Result<Vec<(&'static str, Folder)>, Wrong> {
        if which.dead_letters {
            return self.shelves();
        }
        Ok(vec![("log", look(&self.log, Kind::Events)?)])
    }

    pub(super) fn shelves(&self) -> Result<Vec<(&'static str, Folder)>, Wrong> {
        let shelf = |shelf: Shelf| {
            let path = self.dead_letters.join(shelf.folder());
            Ok((shelf.folder(), look(&path, Kind::DeadLetters)?))
        };
        Shelf::ALL.into_iter().map(shelf).collect()
    }

    /// The main log, for its cursors.
    pub(super) fn log(&self) -> Result<Folder, Wrong> {
        look(&self.log, Kind::Events)
    }

    /// What the destinations of both logs are called.
    pub(super) fn names(&self) -> Result<Names, Wrong> {
        Ok(Names(Identities::look(&self.log()?)?))
    }
}

fn look(path: &Path, kind: Kind) -> Result<Folder, Wrong> {
    Folder::look(Arc::new(Disk), path, kind).map_err(|error| match &error {
        LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Wrong::Failed(
            format!("there is no log in {}: no daemon has run with this config", path.display()),
        ),
        _ => error.into(),
    })
}

/// The names of destinations.
pub(super) struct Names(Identities);

impl Names {
    pub(super) fn of(&self, id: StableId) -> String {
        self.0.get(id).map_or_else(|| format!("(unknown {})", id.0), |known| known.name.clone())
    }

    pub(super) fn named(&self, name: &str) -> Vec<StableId> {
        let named = self.0.all().filter(|(_, identity, _)| identity.name == name);
        named.map(|(id, ..)| id).collect()
    }

    /// The destinations that are not retired.
    pub(super) fn live(&self) -> Vec<StableId> {
        self.0.live()
    }
}
