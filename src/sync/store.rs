//! What the last sync left, on disk: an embedded key-value store, a file of its own for each model.
//!
//! What always holds: a write is whole or not there at all, whenever the process dies.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition,
};

use super::failed::{self, Failed};
use super::known::{Key, Known};
use super::link::Ended;

/// Rows by key.
const ROWS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("rows");
/// Rejected rows by key.
const FAILED: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("failed");
/// The rest.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The generation in force.
const GENERATION: &str = "generation";
/// The categories whose grants rows keep.
const CATEGORIES: &str = "categories";

/// What of the file is kept in memory.
const CACHE_BYTES: usize = 48 * 1024 * 1024;

/// Writes are made durable once there are so many.
const WRITES_MAX: usize = 50_000;

/// Why state can't be read or written, for people.
#[derive(Debug)]
pub(super) struct StateError(String);

impl Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StateError> for Ended {
    fn from(error: StateError) -> Self {
        Self::Lost(error.0)
    }
}

/// The state of one model.
pub(super) struct Store {
    path: PathBuf,
    database: Database,
    /// What is not written yet: a row, or that there is none.
    rows: Vec<(Key, Option<Vec<u8>>)>,
    failed: HashMap<Key, Vec<Failed>>,
}

/// The rows as they were at one time.
pub(super) struct Snapshot {
    path: PathBuf,
    rows: ReadOnlyTable<Key, &'static [u8]>,
}

impl Store {
    /// Opens the state in `folder`, which is created where it is missing.
    ///
    /// # Errors
    /// The message says what to do.
    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join("state.redb");
        let failed = |error: &dyn Display| {
            StateError(format!(
                "the state of the last syncs can't be opened: {}: {error}; if the file is damaged, move \
                 it away: the next sync then sends every row as an added one",
                path.display()
            ))
        };
        let file = make(folder, &path).map_err(|error| failed(&error))?;
        let open = |file| -> Result<_, redb::Error> {
            let backend = FileBackend::new(file)?;
            Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
        };
        let database = open(file).map_err(|error| failed(&error))?;
        let store = Self { path: path.clone(), database, rows: Vec::new(), failed: HashMap::new() };
        // Reading needs the tables to be there.
        store.write(|_| Ok(())).map_err(|error| failed(&error))?;
        Ok(store)
    }

    /// The rows as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StateError> {
        let open =
            || -> Result<_, redb::Error> { Ok(self.database.begin_read()?.open_table(ROWS)?) };
        let rows = open().map_err(|error| unreadable(&self.path, &error))?;
        Ok(Snapshot { path: self.path.clone(), rows })
    }

    /// All rows that were rejected, the largest keys left out beyond `max`.
    pub(super) fn failed(&self, max: usize) -> Result<HashMap<Key, Vec<Failed>>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(FAILED)?;
            let mut rows = HashMap::new();
            for entry in table.iter()?.take(max) {
                let (key, list) = entry?;
                rows.insert(key.value(), failed::decode(list.value()));
            }
            Ok(rows)
        };
        read().map_err(|error| unreadable(&self.path, &error))
    }

    /// The generation in force; `begin` makes it the next one, so that every row counts as changed.
    pub(super) fn generation(&self, begin: bool) -> Result<u32, StateError> {
        let bytes = self.about(GENERATION)?;
        let now = bytes.and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        let now = now.unwrap_or_default();
        if !begin {
            return Ok(now);
        }
        let next = now.wrapping_add(1);
        self.set_about(GENERATION, &next.to_le_bytes())?;
        Ok(next)
    }

    /// Whether the grants of rows are those of these categories; if they are to be kept, they are from
    /// now on.
    pub(super) fn has_categories(&self, categories: &[u8], keep: bool) -> Result<bool, StateError> {
        let is_same = self.about(CATEGORIES)?.is_some_and(|known| known == categories);
        if keep && !is_same {
            self.set_about(CATEGORIES, categories)?;
        }
        Ok(is_same)
    }

    fn about(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(ABOUT)?;
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| unreadable(&self.path, &error))
    }

    fn set_about(&self, name: &str, value: &[u8]) -> Result<(), StateError> {
        self.write(|writing| {
            writing.open_table(ABOUT)?.insert(name, value)?;
            Ok(())
        })
        .map_err(|error| unwritable(&self.path, &error))
    }

    /// Puts a row, or its end, among what is to be written.
    pub(super) fn put(&mut self, key: Key, row: Option<&Known>) -> Result<(), StateError> {
        self.rows.push((key, row.map(Known::encode)));
        if self.rows.len() >= WRITES_MAX { self.save() } else { Ok(()) }
    }

    /// Puts the rejections of a row among what is to be written; none are forgotten.
    pub(super) fn put_failed(&mut self, key: Key, list: Vec<Failed>) {
        self.failed.insert(key, list);
    }

    /// Makes everything durable that was put.
    pub(super) fn save(&mut self) -> Result<(), StateError> {
        if self.rows.is_empty() && self.failed.is_empty() {
            return Ok(());
        }
        let (rows, failed) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.failed));
        let done = self.write(|writing| {
            let mut table = writing.open_table(ROWS)?;
            for (key, row) in &rows {
                match row {
                    Some(row) => drop(table.insert(key, row.as_slice())?),
                    None => drop(table.remove(key)?),
                }
            }
            let mut table = writing.open_table(FAILED)?;
            for (key, list) in &failed {
                if list.is_empty() {
                    table.remove(key)?;
                } else {
                    table.insert(key, failed::encode(list).as_slice())?;
                }
            }
            Ok(())
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }

    fn write(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(Durability::Immediate)?;
        for table in [ROWS, FAILED] {
            writing.open_table(table)?;
        }
        writing.open_table(ABOUT)?;
        work(&writing)?;
        Ok(writing.commit()?)
    }
}

impl Snapshot {
    /// How many rows there are.
    pub(super) fn len(&self) -> Result<u64, StateError> {
        self.rows.len().map_err(|error| unreadable(&self.path, &error))
    }

    /// Looks at the bytes of a row.
    pub(super) fn look<T>(
        &self,
        key: &Key,
        at: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StateError> {
        let row = self.rows.get(key).map_err(|error| unreadable(&self.path, &error))?;
        Ok(row.map(|row| at(row.value())))
    }

    /// A row; one whose bytes make no sense is as good as none.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Known>, StateError> {
        Ok(self.look(key, Known::decode)?.flatten())
    }

    /// The keys that begin with this byte, ascending.
    pub(super) fn keys(
        &self,
        first: u8,
        mut each: impl FnMut(Key, &[u8]),
    ) -> Result<(), StateError> {
        let (mut low, mut high) = ([0; 16], [u8::MAX; 16]);
        (low[0], high[0]) = (first, first);
        let mut read = || -> Result<(), redb::Error> {
            for entry in self.rows.range(low..=high)? {
                let (key, row) = entry?;
                each(key.value(), row.value());
            }
            Ok(())
        };
        read().map_err(|error| unreadable(&self.path, &error))
    }
}

/// The file, for its owner alone: it holds unique ids.
fn make(folder: &Path, path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn unreadable(path: &Path, error: &dyn Display) -> StateError {
    StateError(format!("the state of the last syncs can't be read: {}: {error}", path.display()))
}

fn unwritable(path: &Path, error: &dyn Display) -> StateError {
    StateError(format!("the state of the sync can't be written: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> Known {
        Known { id: id.into(), held: vec![3, 7], ..Known::default() }
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = ([1; 16], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6]);
        let mut store = Store::open(folder.path()).unwrap();
        store.put(one, Some(&row("1"))).unwrap();
        store.put(other, Some(&row("2"))).unwrap();
        store.put([9; 16], Some(&row("3"))).unwrap();
        let failed = Failed { destination: 3, tries: 1, is_due: true, since: 5 };
        store.put_failed(one, vec![failed]);
        assert_eq!(store.generation(false).unwrap(), 0);
        assert_eq!(store.generation(true).unwrap(), 1);
        assert!(
            !store.has_categories(b"a", true).unwrap() && store.has_categories(b"a", true).unwrap()
        );
        assert_eq!(store.snapshot().unwrap().len().unwrap(), 0, "not saved yet");
        store.save().unwrap();
        drop(store);

        let mut store = Store::open(folder.path()).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.get(&one).unwrap(), Some(row("1")));
        assert_eq!(store.generation(false).unwrap(), 1);
        assert_eq!(store.failed(10).unwrap(), HashMap::from([(one, vec![failed])]));
        let mut keys = Vec::new();
        snapshot.keys(1, |key, _| keys.push(key)).unwrap();
        assert_eq!(keys, [one, other]);
        store.put(one, None).unwrap();
        store.put_failed(one, Vec::new());
        store.save().unwrap();
        assert!(snapshot.get(&one).unwrap().is_some(), "a snapshot stays as it is");
        assert!(store.snapshot().unwrap().get(&one).unwrap().is_none());
        assert!(store.failed(10).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.redb"), b"what is this").unwrap();
        let error = Store::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("move it away") && error.contains("state.redb"), "{error}");
    }
}
