//! What the last sync left, on disk: an embedded key-value store, a file of its own for each model.
//!
//! Rows are kept in 16,384 parts by the first bits of their keys, ascending by key: those of one part are
//! one value with the hashes of their contents (key and hash, 16 bytes each), and one with the rest
//! (key, 4 bytes of length, and the bytes of [`Known`]). So most rows are compared by reading hashes in
//! the order of the disk, whatever the order of the query.
//!
//! What always holds: a write is whole or not there at all, whenever the process dies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    TableDefinition, WriteTransaction,
};

use super::failed::{self, Failed};
use super::group::Group;
use super::known::{Digest, Key, Known, Reader};
use super::link::Ended;
use super::save::{Beside, Saver};
use super::slice::Slice;

/// Hashes of rows by part.
const HASHES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("hashes");
/// Rows by part.
const ROWS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rows");
/// Rejected rows by key.
const FAILED: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("failed");
/// What is being sent, by the numbers of slices: `under_way.rs` knows the bytes.
const UNDER_WAY: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("under way");
/// The rest.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The generation in force.
const GENERATION: &str = "generation";
/// The categories whose grants rows keep.
const CATEGORIES: &str = "categories";
/// How many syncs began to send.
const BEGUN: &str = "begun";
/// The destinations that have heard everything until then, with the consent that they took.
const HEARD: &str = "heard";
/// The tables in the warehouse: `elsewhere.rs` knows the bytes.
const TABLES: &str = "tables";
/// How many rows there are.
const COUNT: &str = "rows";

/// What of the file is kept in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// How long the process of a sync that a daemon left behind may take to see that it is gone,
const IN_USE_TIME_MAX: Duration = Duration::from_secs(20);
/// and how often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// A hash with its key.
const HASH_BYTES: usize = 32;

/// Destinations by their stable IDs, with what names the consent that each takes.
pub(super) type Heard = BTreeMap<u32, u64>;

/// Why state can't be read or written, for people.
#[derive(Debug)]
pub(super) struct StateError(String);

impl StateError {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

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

/// The state of one model.
pub(super) struct Store {
    file: Arc<StateFile>,
    /// Rejections that are not written yet,
    failed: HashMap<Key, Vec<Failed>>,
    /// and the slices of which nothing is under way any more.
    settled: BTreeSet<Slice>,
    /// Whether who was told is not certain in this sync.
    is_unheard: bool,
    saver: Saver,
}

/// What of the state can be used from any thread.
pub(super) struct StateFile {
    path: PathBuf,
    database: Database,
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
        let until = Instant::now() + IN_USE_TIME_MAX;
        let database = loop {
            match open(&path) {
                Ok(database) => break database,
                Err(redb::Error::DatabaseAlreadyOpen) if Instant::now() < until => {
                    thread::sleep(LOOK);
                }
                Err(redb::Error::DatabaseAlreadyOpen) => return Err(in_use(&path)),
                Err(error) => return Err(failed(&error)),
            }
        };
        let file = Arc::new(StateFile { path: path.clone(), database });
        // Reading needs the tables to be there.
        file.write(|_| Ok(())).map_err(|error| failed(&error))?;
        let (failed, settled) = (HashMap::new(), BTreeSet::new());
        let saver = Saver::default();
        Ok(Self { file, failed, settled, is_unheard: false, saver })
    }

    /// The rows as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.file.snapshot()
    }

    /// For another thread.
    pub(super) fn file(&self) -> Arc<StateFile> {
        Arc::clone(&self.file)
    }

    /// All rows that were rejected, the largest keys left out beyond `max`.
    pub(super) fn failed(&self, max: usize) -> Result<HashMap<Key, Vec<Failed>>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.file.database.begin_read()?.open_table(FAILED)?;
            let mut rows = HashMap::new();
            for entry in table.iter()?.take(max) {
                let (key, list) = entry?;
                rows.insert(key.value(), failed::decode(list.value()));
            }
            Ok(rows)
        };
        read().map_err(|error| unreadable(&self.file.path, &error))
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> Result<u32, StateError> {
        Ok(self.about(GENERATION)?.map_or(0, |bytes| number(&bytes)) as u32)
    }

    /// Puts another generation in force: every row of the one before counts as changed.
    pub(super) fn begin_generation(&self, generation: u32) -> Result<(), StateError> {
        self.set_about(GENERATION, &u64::from(generation).to_le_bytes())
    }

    /// Whether the grants of rows are those of these categories.
    pub(super) fn has_categories(&self, categories: &[u8]) -> Result<bool, StateError> {
        Ok(self.about(CATEGORIES)?.is_some_and(|known| known == categories))
    }

    fn about(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.file.database.begin_read()?.open_table(ABOUT)?;
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| unreadable(&self.file.path, &error))
    }

    fn set_about(&self, name: &str, value: &[u8]) -> Result<(), StateError> {
        self.file
            .write(|writing| {
                writing.open_table(ABOUT)?.insert(name, value)?;
                Ok(())
            })
            .map_err(|error| unwritable(&self.file.path, &error))
    }

    /// How many syncs began to send.
    pub(super) fn begun(&self) -> Result<u64, StateError> {
        Ok(self.about(BEGUN)?.map_or(0, |bytes| number(&bytes)))
    }

    /// The destinations that were told of everything that is noted, under the rules that they had.
    pub(super) fn heard(&self) -> Result<Heard, StateError> {
        let bytes = self.about(HEARD)?.unwrap_or_default();
        let mut rest = Reader(&bytes);
        let mut next =
            || Some((u32::from_le_bytes(rest.array()?), u64::from_le_bytes(rest.array()?)));
        Ok(std::iter::from_fn(&mut next).collect())
    }

    /// The tables in the warehouse.
    pub(super) fn tables(&self) -> Result<Vec<u8>, StateError> {
        Ok(self.about(TABLES)?.unwrap_or_default())
    }

    /// Notes the tables in the warehouse.
    pub(super) fn set_tables(&self, tables: &[u8]) -> Result<(), StateError> {
        self.set_about(TABLES, tables)
    }

    /// Notes who has heard everything, and the categories whose grants are kept, `None` if rows differ
    /// in that.
    pub(super) fn note_heard(
        &self,
        heard: &Heard,
        categories: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let is_same = self.heard()? == *heard && self.about(CATEGORIES)?.as_deref() == categories;
        if is_same { Ok(()) } else { self.set_heard(heard, categories, None) }
    }

    /// Notes that a sync is completed, in which these were told, these categories' grants kept, and these
    /// tables left in the warehouse.
    pub(super) fn complete(
        &self,
        heard: &Heard,
        categories: &[u8],
        tables: &[u8],
    ) -> Result<(), StateError> {
        let nobody = Heard::new();
        let heard = if self.is_unheard { &nobody } else { heard };
        self.set_heard(heard, Some(categories), Some(tables))
    }

    fn set_heard(
        &self,
        heard: &Heard,
        categories: Option<&[u8]>,
        tables: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let mut bytes = Vec::with_capacity(12 * heard.len());
        for (id, consent) in heard {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&consent.to_le_bytes());
        }
        let done = self.file.write(|writing| {
            let mut about = writing.open_table(ABOUT)?;
            about.insert(HEARD, bytes.as_slice())?;
            match categories {
                Some(categories) => drop(about.insert(CATEGORIES, categories)?),
                None => drop(about.remove(CATEGORIES)?),
            }
            if let Some(tables) = tables {
                about.insert(TABLES, tables)?;
            }
            Ok(())
        });
        done.map_err(|error| unwritable(&self.file.path, &error))
    }

    /// Who was told of what is saved from now on is not certain: the next sync asks for all rows.
    pub(super) fn put_unheard(&mut self) {
        self.is_unheard = true;
    }

    /// Puts the rejections of a row among what is to be written; none are forgotten.
    pub(super) fn put_failed(&mut self, key: Key, list: Vec<Failed>) {
        self.failed.insert(key, list);
    }

    /// Puts among what is to be written that of the rows of this slice nothing is under way any more.
    pub(super) fn end_under_way(&mut self, slice: Slice) {
        self.settled.insert(slice);
    }

    /// The slices of what was being sent when the last sync died.
    pub(super) fn under_way(&self) -> Result<Vec<Slice>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.file.database.begin_read()?.open_table(UNDER_WAY)?;
            let mut slices = Vec::new();
            for entry in table.iter()? {
                slices.extend(Slice::of_number(entry?.0.value()));
            }
            Ok(slices)
        };
        read().map_err(|error| unreadable(&self.file.path, &error))
    }

    /// What was being sent of the rows of this slice.
    pub(super) fn under_way_of(&self, slice: Slice) -> Result<Vec<u8>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.file.database.begin_read()?.open_table(UNDER_WAY)?;
            let note = table.get(slice.number())?;
            Ok(note.map(|note| note.value().to_vec()).unwrap_or_default())
        };
        read().map_err(|error| unreadable(&self.file.path, &error))
    }

    /// Makes everything durable that was put, the changed rows of these groups among it.
    pub(super) fn save<'g>(
        &mut self,
        groups: impl Iterator<Item = &'g mut Group>,
    ) -> Result<(), StateError> {
        // What was to be saved later is older.
        self.saver.wait()?;
        let mut groups: Vec<&mut Group> = groups.filter(|group| group.is_changed()).collect();
        let beside = self.take_beside();
        if groups.is_empty() && beside.is_empty() {
            return Ok(());
        }
        self.file.save(&mut groups, &beside)
    }

    /// As [`Self::save`], of groups that are done, on a thread of its own: the next save waits for it.
    pub(super) fn save_later(&mut self, groups: Vec<Group>) -> Result<(), StateError> {
        let beside = self.take_beside();
        self.saver.save_later(&self.file, groups, beside)
    }

    fn take_beside(&mut self) -> Beside {
        Beside {
            failed: std::mem::take(&mut self.failed),
            settled: std::mem::take(&mut self.settled),
            is_unheard: self.is_unheard,
        }
    }
}

impl StateFile {
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

    /// Makes these groups and what goes with them durable, in one step.
    pub(super) fn save(
        &self,
        groups: &mut [&mut Group],
        beside: &Beside,
    ) -> Result<(), StateError> {
        let done = self.write(|writing| {
            let mut more = 0;
            for group in groups {
                write_group(writing, group)?;
                more += group.written();
            }
            let mut about = writing.open_table(ABOUT)?;
            let count = about.get(COUNT)?.map_or(0, |it| number(it.value()));
            let count = count.saturating_add_signed(more);
            about.insert(COUNT, count.to_le_bytes().as_slice())?;
            if beside.is_unheard {
                about.remove(HEARD)?;
            }
            let mut table = writing.open_table(FAILED)?;
            for (key, list) in &beside.failed {
                if list.is_empty() {
                    table.remove(key)?;
                } else {
                    table.insert(key, failed::encode(list).as_slice())?;
                }
            }
            let mut table = writing.open_table(UNDER_WAY)?;
            for slice in &beside.settled {
                table.remove(slice.number())?;
            }
            Ok(())
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }

    /// Makes durable what is about to be sent of the rows of these slices, and how many syncs began to send.
    pub(super) fn announce(
        &self,
        notes: &[(Slice, Vec<u8>)],
        begun: u64,
    ) -> Result<(), StateError> {
        let done = self.write(|writing| {
            let mut table = writing.open_table(UNDER_WAY)?;
            for (slice, note) in notes {
                table.insert(slice.number(), note.as_slice())?;
            }
            writing.open_table(ABOUT)?.insert(BEGUN, begun.to_le_bytes().as_slice())?;
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

fn write_group(writing: &WriteTransaction, group: &Group) -> Result<(), redb::Error> {
    let (mut hashes, mut rows) = (writing.open_table(HASHES)?, writing.open_table(ROWS)?);
    let (mut its_hashes, mut its_rows) = (Vec::new(), Vec::new());
    for part in group.changed_parts() {
        group.encode(part, &mut its_hashes, &mut its_rows);
        if its_rows.is_empty() {
            hashes.remove(part)?;
            rows.remove(part)?;
        } else {
            hashes.insert(part, its_hashes.as_slice())?;
            rows.insert(part, its_rows.as_slice())?;
        }
    }
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

    /// The rows of a slice.
    pub(super) fn group(&self, slice: Slice) -> Result<Group, StateError> {
        let mut rows = BTreeMap::new();
        for part in slice.parts() {
            rows.extend(self.rows(part)?);
        }
        Ok(Group::new(slice, rows))
    }

    /// The keys of a slice, ascending.
    pub(super) fn keys(&self, slice: Slice, mut each: impl FnMut(&Key)) -> Result<(), StateError> {
        for part in slice.parts() {
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

fn in_use(path: &Path) -> StateError {
    StateError(format!("another sync of the model has its state open: {}", path.display()))
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
    use crate::sync::slice::{Slicing, part_of};

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
        let whole = Slicing::fitting(0, 1);
        let (one, two) = (whole.of(&keys[0]), whole.of(&keys[4]));
        let mut store = Store::open(folder.path()).unwrap();
        let mut group = store.snapshot().unwrap().group(one).unwrap();
        for (id, key) in keys[..4].iter().enumerate() {
            group.put(*key, Some(row(&id.to_string())));
        }
        let mut other = store.snapshot().unwrap().group(two).unwrap();
        other.put(keys[4], Some(row("4")));
        let failed = Failed { destination: 3, tries: 1, is_due: true, since: 5 };
        store.put_failed(keys[0], vec![failed]);
        assert_eq!(store.generation().unwrap(), 0);
        store.begin_generation(1).unwrap();
        assert!(!store.has_categories(b"a").unwrap());
        let heard = Heard::from([(3, 1), (7, u64::MAX)]);
        store.complete(&heard, b"a", b"b").unwrap();
        assert_eq!(store.tables().unwrap(), b"b");
        assert!(store.has_categories(b"a").unwrap());
        assert_eq!(store.heard().unwrap(), heard);
        store.note_heard(&heard, None).unwrap();
        assert!(!store.has_categories(b"a").unwrap());
        let notes = [(one, b"one".to_vec()), (two, b"two".to_vec())];
        store.file().announce(&notes, 5).unwrap();
        store.put_unheard();
        assert_eq!(store.snapshot().unwrap().count(), 0, "not saved yet");
        assert_eq!(store.heard().unwrap(), heard);
        store.save([&mut group, &mut other].into_iter()).unwrap();
        store.complete(&heard, b"a", b"c").unwrap();
        assert_eq!(store.tables().unwrap(), b"c");
        assert_eq!(
            (store.heard().unwrap(), store.has_categories(b"a").unwrap()),
            (Heard::new(), true)
        );
        drop(store);

        let mut store = Store::open(folder.path()).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.count(), 5);
        assert_eq!((store.begun().unwrap(), store.under_way().unwrap()), (5, vec![one, two]));
        assert_eq!(store.under_way_of(two).unwrap(), b"two");
        assert_eq!(store.generation().unwrap(), 1);
        assert_eq!(store.failed(10).unwrap(), HashMap::from([(keys[0], vec![failed])]));
        let mut seen = Vec::new();
        snapshot.keys(one, |key| seen.push(*key)).unwrap();
        assert_eq!(seen, keys[..4]);
        let mut group = snapshot.group(one).unwrap();
        assert_eq!(group.get(&keys[3]), Some(&row("3")));
        let hashes = snapshot.hashes(part_of(&keys[0])).unwrap();
        assert!(hashes.pairs().eq([(&keys[0], &[9; 16]), (&keys[1], &[9; 16])]));
        for key in &keys[..2] {
            group.put(*key, None);
        }
        store.put_failed(keys[0], Vec::new());
        store.end_under_way(one);
        store.save([&mut group].into_iter()).unwrap();
        let now = store.snapshot().unwrap();
        assert_eq!((now.count(), snapshot.count()), (3, 5), "a snapshot stays as it is");
        assert!(now.rows(part_of(&keys[0])).unwrap().is_empty());
        assert!(store.failed(10).unwrap().is_empty());
        assert_eq!(store.under_way().unwrap(), vec![two]);
        // Saved once more, nothing changes.
        store.save([&mut group].into_iter()).unwrap();
        assert_eq!(store.snapshot().unwrap().count(), 3);
    }

    /// It may be in use: a daemon that was killed leaves a sync behind that needs a moment to see it.
    #[test]
    fn a_state_in_use_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| Store::open(folder.path()).map(drop));
            thread::sleep(4 * LOOK);
            drop(first);
            assert!(second.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.redb"), b"what is this").unwrap();
        let error = Store::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("move it away") && error.contains("state.redb"), "{error}");
    }
}
