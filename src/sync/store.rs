//! What the last sync left, on disk: an embedded key-value store, a file of its own for each model.
//!
//! Rows are kept in 16,384 parts by the first bits of their keys, ascending by key: those of one part are
//! one value with the hashes of their contents (key and hash, 16 bytes each), and one with the rest
//! (key, 4 bytes of length, and the bytes of [`Known`]). So most rows are compared by reading hashes in
//! the order of the disk, whatever the order of the query.
//!
//! What always holds: a write is whole or not there at all, whenever the process dies.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    TableDefinition, WriteTransaction,
};

use super::failed::{self, Failed};
use super::known::{Digest, Key, Known, Reader};
use super::link::Ended;

/// Hashes of rows by part.
const HASHES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("hashes");
/// Rows by part.
const ROWS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rows");
/// Rejected rows by key.
const FAILED: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("failed");
/// What is being sent, by the first byte of its keys: `under_way.rs` knows the bytes.
const UNDER_WAY: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("under way");
/// The rest.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The generation in force.
const GENERATION: &str = "generation";
/// The categories whose grants rows keep.
const CATEGORIES: &str = "categories";
/// How many syncs began to send.
const BEGUN: &str = "begun";
/// The destinations that were on then.
const ON: &str = "on";
/// How many rows there are.
const COUNT: &str = "rows";

/// What of the file is kept in memory.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Parts of a group, which is all rows whose keys begin with the same byte.
const GROUP_PARTS: u32 = 64;

/// A hash with its key.
const HASH_BYTES: usize = 32;

/// Why state can't be read or written, for people.
#[derive(Debug)]
pub(super) struct StateError(String);

impl Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StateError> for Ended {
    fn from(error: StateError) -> Self {
        Self::Lost(error.0)
    }
}

/// The part of a key.
pub(super) fn part_of(key: &Key) -> u32 {
    u32::from(key[0]) * GROUP_PARTS + u32::from(key[1] >> 2)
}

/// The rows whose keys begin with one byte; what was changed of them is written back.
#[derive(Default)]
pub(super) struct Group {
    first: u8,
    rows: BTreeMap<Key, Known>,
    /// The parts that were changed, and how many rows they had.
    touched: u64,
    count: usize,
}

impl Group {
    /// A row.
    pub(super) fn get(&self, key: &Key) -> Option<&Known> {
        self.rows.get(key)
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Puts a row, or takes it out.
    pub(super) fn put(&mut self, key: Key, row: Option<Known>) {
        self.touched |= 1 << (part_of(&key) % GROUP_PARTS);
        match row {
            Some(row) => drop(self.rows.insert(key, row)),
            None => drop(self.rows.remove(&key)),
        }
    }

    /// Both values of a part.
    fn encode(&self, part: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut hashes, mut rows) = (Vec::new(), Vec::new());
        let (mut low, mut high) = ([0; 16], [u8::MAX; 16]);
        (low[0], high[0]) = (self.first, self.first);
        low[1] = ((part % GROUP_PARTS) << 2) as u8;
        high[1] = low[1] | 3;
        for (key, known) in self.rows.range(low..=high) {
            hashes.extend_from_slice(key);
            hashes.extend_from_slice(&known.hash);
            let bytes = known.encode();
            rows.extend_from_slice(key);
            rows.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            rows.extend_from_slice(&bytes);
        }
        (hashes, rows)
    }
}

/// The state of one model.
pub(super) struct Store {
    path: PathBuf,
    database: Database,
    /// Rejections that are not written yet,
    failed: HashMap<Key, Vec<Failed>>,
    /// and what is under way, `None` for what is not any more.
    under_way: BTreeMap<u8, Option<Vec<u8>>>,
    /// How many syncs began to send, if it is to be written.
    begun: Option<u64>,
}

/// The rows as they were at one time.
pub(super) struct Snapshot {
    path: PathBuf,
    hashes: ReadOnlyTable<u32, &'static [u8]>,
    rows: ReadOnlyTable<u32, &'static [u8]>,
    count: u64,
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
        let open = |path: &Path| -> Result<_, redb::Error> {
            let backend = FileBackend::new(make(path)?)?;
            Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
        };
        begin(folder, &path, open).map_err(|error| failed(&error))?;
        let database = open(&path).map_err(|error| failed(&error))?;
        let store = Self {
            path: path.clone(),
            database,
            failed: HashMap::new(),
            under_way: BTreeMap::new(),
            begun: None,
        };
        // Reading needs the tables to be there.
        store.write(|_| Ok(())).map_err(|error| failed(&error))?;
        Ok(store)
    }

    /// The rows as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StateError> {
        let open = || -> Result<_, redb::Error> {
            let reading = self.database.begin_read()?;
            let count = reading.open_table(ABOUT)?.get(COUNT)?.map(|it| number(it.value()));
            Ok((reading.open_table(HASHES)?, reading.open_table(ROWS)?, count.unwrap_or(0)))
        };
        let opened = open().map_err(|error| unreadable(&self.path, &error));
        opened.map(|(hashes, rows, count)| Snapshot {
            path: self.path.clone(),
            hashes,
            rows,
            count,
        })
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
        let now = bytes.map_or(0, |bytes| number(&bytes)) as u32;
        if !begin {
            return Ok(now);
        }
        let next = now.wrapping_add(1);
        self.set_about(GENERATION, &u64::from(next).to_le_bytes())?;
        Ok(next)
    }

    /// Whether the grants of rows are those of these categories.
    pub(super) fn has_categories(&self, categories: &[u8]) -> Result<bool, StateError> {
        Ok(self.about(CATEGORIES)?.is_some_and(|known| known == categories))
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

    /// How many syncs began to send.
    pub(super) fn begun(&self) -> Result<u64, StateError> {
        Ok(self.about(BEGUN)?.map_or(0, |bytes| number(&bytes)))
    }

    /// The destinations that were on in the last sync that was completed, by stable ID.
    pub(super) fn were_on(&self) -> Result<Vec<u32>, StateError> {
        let bytes = self.about(ON)?.unwrap_or_default();
        Ok(bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    /// Makes these the ones that were on: whatever becomes of this sync, the others are told later of what
    /// it could not tell them.
    pub(super) fn leave_on(&self, on: &[u32]) -> Result<(), StateError> {
        let on: Vec<u8> = on.iter().flat_map(|id| id.to_le_bytes()).collect();
        let done = self.write(|writing| {
            writing.open_table(ABOUT)?.insert(ON, on.as_slice())?;
            Ok(())
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }

    /// Notes that a sync is completed, with these destinations on and these categories' grants kept.
    pub(super) fn complete(&self, on: &[u32], categories: &[u8]) -> Result<(), StateError> {
        let on: Vec<u8> = on.iter().flat_map(|id| id.to_le_bytes()).collect();
        let done = self.write(|writing| {
            let mut about = writing.open_table(ABOUT)?;
            about.insert(ON, on.as_slice())?;
            about.insert(CATEGORIES, categories)?;
            Ok(())
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }

    /// Puts the rejections of a row among what is to be written; none are forgotten.
    pub(super) fn put_failed(&mut self, key: Key, list: Vec<Failed>) {
        self.failed.insert(key, list);
    }

    /// Puts how many syncs began to send among what is to be written.
    pub(super) fn put_begun(&mut self, begun: u64) {
        self.begun = Some(begun);
    }

    /// Puts what is being sent of the rows whose keys begin with this byte among what is to be written;
    /// `None` when it is all noted.
    pub(super) fn put_under_way(&mut self, first: u8, what: Option<Vec<u8>>) {
        self.under_way.insert(first, what);
    }

    /// What was being sent when the last sync died, by the first byte of its keys.
    pub(super) fn under_way(&self) -> Result<Vec<u8>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(UNDER_WAY)?;
            table.iter()?.map(|entry| Ok(entry?.0.value())).collect()
        };
        read().map_err(|error| unreadable(&self.path, &error))
    }

    /// What was being sent of the rows whose keys begin with this byte.
    pub(super) fn under_way_of(&self, first: u8) -> Result<Vec<u8>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(UNDER_WAY)?;
            Ok(table.get(first)?.map(|value| value.value().to_vec()).unwrap_or_default())
        };
        read().map_err(|error| unreadable(&self.path, &error))
    }

    /// Makes everything durable that was put, the changed rows of these groups among it.
    pub(super) fn save<'g>(
        &mut self,
        groups: impl Iterator<Item = &'g mut Group>,
    ) -> Result<(), StateError> {
        let mut groups: Vec<&mut Group> = groups.filter(|group| group.touched != 0).collect();
        let is_idle = self.failed.is_empty() && self.under_way.is_empty() && self.begun.is_none();
        if groups.is_empty() && is_idle {
            return Ok(());
        }
        let failed = std::mem::take(&mut self.failed);
        let under_way = std::mem::take(&mut self.under_way);
        let begun = self.begun.take();
        let done = self.write(|writing| {
            let mut change = 0;
            for group in &mut groups {
                write_group(writing, group)?;
                change += group.rows.len() as i64 - group.count as i64;
                group.count = group.rows.len();
            }
            let mut about = writing.open_table(ABOUT)?;
            let count = about.get(COUNT)?.map_or(0, |it| number(it.value()));
            let count = count.saturating_add_signed(change);
            about.insert(COUNT, count.to_le_bytes().as_slice())?;
            if let Some(begun) = begun {
                about.insert(BEGUN, begun.to_le_bytes().as_slice())?;
            }
            let mut table = writing.open_table(FAILED)?;
            for (key, list) in &failed {
                if list.is_empty() {
                    table.remove(key)?;
                } else {
                    table.insert(key, failed::encode(list).as_slice())?;
                }
            }
            let mut table = writing.open_table(UNDER_WAY)?;
            for (first, what) in &under_way {
                match what {
                    Some(bytes) => drop(table.insert(first, bytes.as_slice())?),
                    None => drop(table.remove(first)?),
                }
            }
            Ok(())
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }

    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(Durability::Immediate)?;
        for table in [HASHES, ROWS] {
            writing.open_table(table)?;
        }
        writing.open_table(FAILED)?;
        writing.open_table(UNDER_WAY)?;
        writing.open_table(ABOUT)?;
        work(&writing)?;
        Ok(writing.commit()?)
    }
}

fn write_group(writing: &WriteTransaction, group: &mut Group) -> Result<(), redb::Error> {
    let (mut hashes, mut rows) = (writing.open_table(HASHES)?, writing.open_table(ROWS)?);
    let first = u32::from(group.first) * GROUP_PARTS;
    for part in
        (first..first + GROUP_PARTS).filter(|part| group.touched >> (part % GROUP_PARTS) & 1 == 1)
    {
        let (its_hashes, its_rows) = group.encode(part);
        if its_rows.is_empty() {
            hashes.remove(part)?;
            rows.remove(part)?;
        } else {
            hashes.insert(part, its_hashes.as_slice())?;
            rows.insert(part, its_rows.as_slice())?;
        }
    }
    group.touched = 0;
    Ok(())
}

impl Snapshot {
    /// How many rows there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The hashes of a part.
    pub(super) fn hashes(&self, part: u32) -> Result<Hashes, StateError> {
        let value = self.hashes.get(part).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Hashes(value))
    }

    /// The rows of a part, ascending by key.
    pub(super) fn rows(&self, part: u32) -> Result<Vec<(Key, Known)>, StateError> {
        let value = self.rows.get(part).map_err(|error| unreadable(&self.path, &error))?;
        let Some(value) = value else { return Ok(Vec::new()) };
        let mut rest = Reader(value.value());
        let next = || {
            let key = rest.array()?;
            Some((key, Known::decode(rest.bytes()?)?))
        };
        Ok(std::iter::from_fn(next).collect())
    }

    /// The rows whose keys begin with this byte.
    pub(super) fn group(&self, first: u8) -> Result<Group, StateError> {
        let mut rows = BTreeMap::new();
        let part = u32::from(first) * GROUP_PARTS;
        for part in part..part + GROUP_PARTS {
            rows.extend(self.rows(part)?);
        }
        let count = rows.len();
        Ok(Group { first, rows, touched: 0, count })
    }

    /// The keys that begin with this byte, ascending.
    pub(super) fn keys(&self, first: u8, mut each: impl FnMut(&Key)) -> Result<(), StateError> {
        let part = u32::from(first) * GROUP_PARTS;
        for part in part..part + GROUP_PARTS {
            self.hashes(part)?.pairs().for_each(|(key, _)| each(key));
        }
        Ok(())
    }
}

/// The hashes of the rows of a part.
pub(super) struct Hashes(Option<AccessGuard<'static, &'static [u8]>>);

impl Hashes {
    /// Ascending by key.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Key, &Digest)> {
        let bytes = self.0.as_ref().map_or(&[][..], AccessGuard::value);
        bytes.as_chunks::<HASH_BYTES>().0.iter().filter_map(|pair| {
            let (key, hash) = pair.split_first_chunk::<16>()?;
            Some((key, hash.first_chunk::<16>()?))
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Makes the file where it is missing: whole before it has its name, so that nobody finds half of one.
fn begin(
    folder: &Path,
    path: &Path,
    open: impl Fn(&Path) -> Result<Database, redb::Error>,
) -> Result<(), redb::Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if path.exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_file(&unfinished)?;
    }
    drop(open(&unfinished)?);
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    Ok(File::open(folder)?.sync_all()?)
}

/// A file for its owner alone: it holds unique ids.
fn make(path: &Path) -> std::io::Result<File> {
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
        Known { id: id.into(), held: vec![3, 7], hash: [9; 16], ..Known::default() }
    }

    fn key(first: u8, second: u8, last: u8) -> Key {
        let mut key = [0; 16];
        (key[0], key[1], key[15]) = (first, second, last);
        key
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [key(1, 0, 0), key(1, 3, 255), key(1, 4, 0), key(1, 255, 1), key(2, 0, 0)];
        let mut store = Store::open(folder.path()).unwrap();
        let mut group = store.snapshot().unwrap().group(1).unwrap();
        for (id, key) in keys[..4].iter().enumerate() {
            group.put(*key, Some(row(&id.to_string())));
        }
        let mut other = store.snapshot().unwrap().group(2).unwrap();
        other.put(keys[4], Some(row("4")));
        let failed = Failed { destination: 3, tries: 1, is_due: true, since: 5 };
        store.put_failed(keys[0], vec![failed]);
        assert_eq!(store.generation(false).unwrap(), 0);
        assert_eq!(store.generation(true).unwrap(), 1);
        assert!(!store.has_categories(b"a").unwrap());
        store.complete(&[3, 7], b"a").unwrap();
        assert!(store.has_categories(b"a").unwrap());
        assert_eq!(store.were_on().unwrap(), vec![3, 7]);
        store.put_under_way(1, Some(b"one".to_vec()));
        store.put_under_way(2, Some(b"two".to_vec()));
        store.put_begun(5);
        assert_eq!(store.snapshot().unwrap().count(), 0, "not saved yet");
        store.save([&mut group, &mut other].into_iter()).unwrap();
        drop(store);

        let mut store = Store::open(folder.path()).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.count(), 5);
        assert_eq!((store.begun().unwrap(), store.under_way().unwrap()), (5, vec![1, 2]));
        assert_eq!(store.under_way_of(2).unwrap(), b"two");
        assert_eq!(store.generation(false).unwrap(), 1);
        assert_eq!(store.failed(10).unwrap(), HashMap::from([(keys[0], vec![failed])]));
        let mut seen = Vec::new();
        snapshot.keys(1, |key| seen.push(*key)).unwrap();
        assert_eq!(seen, keys[..4]);
        let mut group = snapshot.group(1).unwrap();
        assert_eq!(group.get(&keys[3]), Some(&row("3")));
        let hashes = snapshot.hashes(part_of(&keys[0])).unwrap();
        assert!(hashes.pairs().eq([(&keys[0], &[9; 16]), (&keys[1], &[9; 16])]));
        for key in &keys[..2] {
            group.put(*key, None);
        }
        store.put_failed(keys[0], Vec::new());
        store.put_under_way(1, None);
        store.save([&mut group].into_iter()).unwrap();
        let now = store.snapshot().unwrap();
        assert_eq!((now.count(), snapshot.count()), (3, 5), "a snapshot stays as it is");
        assert!(now.rows(part_of(&keys[0])).unwrap().is_empty());
        assert!(store.failed(10).unwrap().is_empty());
        assert_eq!(store.under_way().unwrap(), vec![2]);
        // Saved once more, nothing changes.
        store.save([&mut group].into_iter()).unwrap();
        assert_eq!(store.snapshot().unwrap().count(), 3);
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.redb"), b"what is this").unwrap();
        let error = Store::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("move it away") && error.contains("state.redb"), "{error}");
    }
}
