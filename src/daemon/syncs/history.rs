//! What is remembered of the syncs of a model: NDJSON, oldest first, written anew with every change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::admin::{SyncRecord, SyncState};

/// Syncs that are remembered.
const KEPT_MAX: usize = 200;

/// What the file and the memory hold.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    records: Vec<SyncRecord>,
}

/// What was remembered at some time, and is not in the file yet.
pub(super) struct Unsaved {
    path: PathBuf,
    records: Vec<SyncRecord>,
}

fn path(folder: &Path, model: &str) -> PathBuf {
    folder.join(format!("{model}.history"))
}

/// Reads what is remembered; lines that are no records are left out.
///
/// # Errors
/// The file is there and can't be read.
pub(super) fn read(folder: &Path, model: &str) -> io::Result<Vec<SyncRecord>> {
    match fs::read(path(folder, model)) {
        // Damage costs the lines that it is in, and not the start of the daemon.
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl History {
    /// What is remembered; what went on when the last daemon ended has failed.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn open(folder: &Path, model: &str) -> io::Result<Self> {
        let mut records = read(folder, model)?;
        for record in records.iter_mut().filter(|it| it.counts.state == SyncState::Running) {
            record.counts.state = SyncState::Failed;
            record.counts.error = Some("the daemon ended while it went on".to_owned());
        }
        Ok(Self { path: path(folder, model), records })
    }

    /// Oldest first.
    pub(super) fn records(&self) -> &[SyncRecord] {
        &self.records
    }

    /// Adds a record, or puts it in the place of the one of the same sync; what is given is to be saved.
    pub(super) fn put(&mut self, record: SyncRecord) -> Unsaved {
        match self.records.iter_mut().find(|it| it.sync == record.sync) {
            Some(known) => *known = record,
            None => self.records.push(record),
        }
        let surplus = self.records.len().saturating_sub(KEPT_MAX);
        self.records.drain(..surplus);
        Unsaved { path: self.path.clone(), records: self.records.clone() }
    }
}

impl Unsaved {
    /// Writes the file, durably: who is asked about syncs must not wait for that. In the order of the
    /// changes.
    ///
    /// # Errors
    /// It can't be written; it is remembered as long as the process lives.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut text = String::new();
        for record in &self.records {
            text += &serde_json::to_string(record)?;
            text.push('\n');
        }
        let next = self.path.with_extension("history.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Counts;

    fn record(sync: &str, state: SyncState) -> SyncRecord {
        SyncRecord {
            sync: sync.to_owned(),
            by: "schedule".to_owned(),
            full: false,
            dry_run: false,
            start: "2026-01-01T00:00:00Z".to_owned(),
            end: None,
            counts: Counts { state, ..Counts::default() },
        }
    }

    #[test]
    fn the_last_syncs_are_remembered_and_one_that_was_cut_off_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path(), "m").unwrap();
        for number in 0..KEPT_MAX + 5 {
            history.put(record(&number.to_string(), SyncState::Running)).save().unwrap();
            history.put(record(&number.to_string(), SyncState::Done)).save().unwrap();
        }
        history.put(record("last", SyncState::Running)).save().unwrap();
        let history = History::open(folder.path(), "m").unwrap();
        assert_eq!(history.records().len(), KEPT_MAX);
        assert_eq!(history.records()[0].sync, "6");
        let (last, before) = history.records().split_last().unwrap();
        assert!(before.iter().all(|it| it.counts.state == SyncState::Done));
        assert_eq!((last.sync.as_str(), last.counts.state), ("last", SyncState::Failed));
    }

    #[test]
    fn half_a_history_is_better_than_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path(), "m").unwrap();
        history.put(record("1", SyncState::Done)).save().unwrap();
        let path = folder.path().join("m.history");
        let whole = fs::read(&path).unwrap();
        let damages: [&[u8]; 3] = [b"{\"sync\":\"2", b"\xFF\xFE\n", b"{\"sync\":\"\xC3"];
        for damage in damages {
            fs::write(&path, [&whole, damage].concat()).unwrap();
            assert_eq!(read(folder.path(), "m").unwrap().len(), 1);
        }
    }
}
