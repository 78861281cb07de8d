//! One daemon per data directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

/// Held for as long as the daemon runs; the system lets go of it when the process ends, however it
/// ends.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory where it is missing, and locks it.
    ///
    /// # Errors
    /// A sentence with the place, the cause and what to do.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, String> {
        let dir = data_dir.display();
        let hint = "choose another daemon.data_dir, or make it writable for the user of the daemon";
        fs::create_dir_all(data_dir)
            .map_err(|error| format!("cannot create the data directory {dir}: {error}; {hint}"))?;
        let path = data_dir.join("consentd.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(
            |error| format!("cannot write to the data directory {dir}: {error}; {hint}"),
        )?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "the data directory {dir} is in use by another consentd; stop that one, or give \
                 this one a daemon.data_dir of its own"
            )),
            Err(TryLockError::Error(error)) => {
                Err(format!("cannot lock {}: {error}; {hint}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let first = DataDirLock::acquire(&data_dir).unwrap();
        let second = DataDirLock::acquire(&data_dir).unwrap_err();
        assert!(second.contains("in use by another consentd"), "{second}");
        drop(first);
        DataDirLock::acquire(&data_dir).unwrap();
    }
}
