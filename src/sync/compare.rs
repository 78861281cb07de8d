//! Rows of the query against those of the last sync.
//!
//! Rows are compared a window at a time, in the order of their keys, so that what is known is read in
//! the order of the disk; on a thread of its own, while the next window is fetched and hashed.
//!
//! What always holds: nothing is sent before the query has ended well, for only then is known which ids
//! stand twice, and which rows are gone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::thread;

use super::aside::{Changed, Desk, Row, digest, message, put_aside};
use super::change::{Change, MessageId, What};
use super::failed::{Failed, Patience};
use super::known::{Digest, Key, Known};
use super::link::Ended;
use super::scatter::{PARTS, Scatter};
use super::slice::{Slice, part_of};
use super::store::Snapshot;
use super::told::Told;
use crate::config::{Model, OnWithdrawal};
use crate::warehouse::BoundBatch;

/// Memory that the keys of one part take before they are written out.
const KEYS_BYTES: usize = 16 * 1024;

/// Rows of a window: the larger, the fewer times is the whole state read,
const WINDOW_ROWS: usize = 512 * 1024;
/// and bytes of their batches and of what is noted of them. Two are in memory: one that is compared, and
/// the next.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// So many changed rows of a window are put aside by two threads.
const CHANGED_APART: usize = 4096;

/// Longest unique id, as JSON.
pub const ID_BYTES_MAX: usize = 4096;

/// Compares the rows of one query.
pub(super) struct Comparison<'m> {
    model: &'m Model,
    generation: u32,
    rows_key: [u8; 32],
    /// The keys of all rows.
    keys: Scatter,
    /// Whether only rows come that may differ; then,
    is_partial: bool,
    /// the keys of rows that are not there any more.
    gone: Scatter,
    /// Reused from row to row.
    id: Vec<u8>,
    content: Vec<u8>,
    difference: Difference<'m>,
}

/// What differs from the last sync.
pub(super) struct Difference<'m> {
    snapshot: Snapshot,
    basis: Basis<'m>,
    /// Rows that are to be sent or noted.
    desks: [Desk; 2],
    rows: u64,
    found: u64,
    seen: Seen,
    /// Whether the decision on each of them depends on what the row grants alone.
    is_decided_by_grants: bool,
}

/// Which rows of the last sync have come, by their part and their place in it.
#[derive(Default)]
struct Seen {
    /// One bit for each.
    bits: Vec<Vec<u64>>,
    is_any_twice: bool,
}

impl Seen {
    fn add(&mut self, part: u32, at: usize) {
        let part = part as usize;
        if self.bits.len() <= part {
            self.bits.resize_with(part + 1, Vec::new);
        }
        let bits = &mut self.bits[part];
        if bits.len() <= at / 64 {
            bits.resize(at / 64 + 1, 0);
        }
        let bit = 1 << (at % 64);
        self.is_any_twice |= bits[at / 64] & bit != 0;
        bits[at / 64] |= bit;
    }
}

/// What rows are compared with beside their last content.
pub(super) struct Basis<'m> {
    pub(super) model: &'m Model,
    pub(super) generation: u32,
    /// Whether the grants that are known are of the same categories.
    pub(super) same_categories: bool,
    pub(super) failed: &'m HashMap<Key, Vec<Failed>>,
    pub(super) patience: Patience,
    pub(super) now: u64,
    /// The destinations that rows can reach now.
    pub(super) on: &'m HashSet<u32>,
    pub(super) max_event_bytes: usize,
    /// How many syncs began to send.
    pub(super) begun: u64,
    /// Destinations that were off in the last one, or take another consent than then: what happened
    /// meanwhile they were not told.
    pub(super) newly_on: Vec<u32>,
}

/// Rows that wait to be compared.
#[derive(Default)]
pub(super) struct Window<'s> {
    batches: Vec<BoundBatch<'s>>,
    bytes: usize,
    rows: Vec<Row>,
}

impl Window<'_> {
    /// Whether the rows are to be compared before more come.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= WINDOW_ROWS || self.bytes >= WINDOW_BYTES
    }
}

impl<'m> Comparison<'m> {
    pub(super) fn new(snapshot: Snapshot, basis: Basis<'m>, folder: &Path) -> Self {
        let model = basis.model;
        Self {
            model,
            generation: basis.generation,
            rows_key: rows_key(model),
            keys: Scatter::new(folder, KEYS_BYTES),
            is_partial: false,
            gone: Scatter::new(folder, KEYS_BYTES),
            id: Vec::new(),
            content: Vec::new(),
            difference: Difference {
                snapshot,
                basis,
                desks: [Desk::new(folder), Desk::new(folder)],
                rows: 0,
                found: 0,
                seen: Seen::default(),
                is_decided_by_grants: true,
            },
        }
    }

    /// What hashes rows, and what compares them: two threads' work.
    pub(super) fn split(&mut self) -> (Hashing<'_>, &mut Difference<'m>) {
        let Self { model, generation, rows_key, keys, id, content, difference, .. } = self;
        (Hashing { model, generation: *generation, rows_key, keys, id, content }, difference)
    }

    /// Adds rows of the last sync that are not there any more.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn take_gone(&mut self, batch: &BoundBatch<'_>) -> Result<(), Ended> {
        for row in 0..batch.rows() {
            self.id.clear();
            if batch.id(row, &mut self.id) {
                let key = digest(blake3::keyed_hash(&self.rows_key, &self.id));
                let gone = self.gone.push(key[0], |into| into.extend_from_slice(&key));
                gone.map_err(put_aside)?;
            }
        }
        Ok(())
    }

    /// Only rows will come that may differ from those of the last sync; all that are gone were told.
    pub(super) fn be_partial(&mut self) {
        self.is_partial = true;
    }

    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The keys of a slice that are gone, ascending, if the rows are not all that there are.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn gone(&self, slice: Slice) -> Result<Vec<Key>, Ended> {
        let mut keys = keys_of(&self.gone, slice)?;
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Rows that the last sync knew, those that stand twice counted twice.
    pub(super) fn found(&self) -> u64 {
        self.difference.found
    }

    /// Whether the decision on each event depends on what its row grants alone.
    pub(super) fn is_decided_by_grants(&self) -> bool {
        self.difference.is_decided_by_grants
    }

    /// Whether an id stands more than once. Two threads look: they are all that there is to do.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn has_repeated_ids(&self) -> Result<bool, Ended> {
        let Difference { rows, found, seen, .. } = &self.difference;
        if rows == found {
            return Ok(seen.is_any_twice);
        }
        let look = |mut bytes: Range<usize>| {
            bytes.try_fold(false, |found, byte| {
                let keys = self.keys.read(byte).map_err(put_aside)?;
                let keys = keys.as_chunks::<16>().0.to_vec();
                Ok::<_, Ended>(found || !Ids::of(keys).repeated.is_empty())
            })
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| look(PARTS / 2..PARTS));
            (look(0..PARTS / 2), other.join())
        });
        let died = |_| Ended::Lost("the thread that looks for repeated ids died".to_owned());
        Ok(one? || other.map_err(died)??)
    }

    /// The ids of a slice.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn ids(&self, slice: Slice) -> Result<Ids, Ended> {
        Ok(Ids::of(keys_of(&self.keys, slice)?))
    }

    /// The changes of a slice, for [`Change::read`].
    ///
    /// # Errors
    /// The disk.
    pub(super) fn changes(&self, slice: Slice) -> Result<Vec<u8>, Ended> {
        let mut changes = Vec::new();
        for desk in &self.difference.desks {
            changes.append(&mut changes_of(&desk.changes, slice)?);
        }
        Ok(changes)
    }

    /// Bytes of the changes whose keys begin with the same byte, at most.
    pub(super) fn largest_changes(&self) -> usize {
        self.difference.desks.iter().map(|desk| desk.changes.largest()).sum()
    }
}

/// The changes of a slice.
fn changes_of(changes: &Scatter, slice: Slice) -> Result<Vec<u8>, Ended> {
    let byte = usize::from(slice.byte());
    if slice.is_whole() {
        return changes.read(byte).map_err(put_aside);
    }
    let mut bytes = Vec::new();
    let keep = |mut piece: &[u8]| {
        while let Some(change) = Change::read(&mut piece) {
            if slice.contains(&change.key) {
                change.write(&mut bytes);
            }
        }
    };
    changes.for_each(byte, keep).map_err(put_aside)?;
    Ok(bytes)
}

/// The keys of a slice.
fn keys_of(keys: &Scatter, slice: Slice) -> Result<Vec<Key>, Ended> {
    let mut of_slice = Vec::new();
    let keep = |piece: &[u8]| {
        let keys = piece.as_chunks::<16>().0.iter();
        of_slice.extend(keys.filter(|key| slice.contains(key)));
    };
    keys.for_each(slice.byte().into(), keep).map_err(put_aside)?;
    Ok(of_slice)
}

/// The half of a comparison that is done while rows come.
pub(super) struct Hashing<'c> {
    model: &'c Model,
    generation: u32,
    rows_key: &'c [u8; 32],
    keys: &'c mut Scatter,
    id: &'c mut Vec<u8>,
    content: &'c mut Vec<u8>,
}

impl Hashing<'_> {
    /// Adds the rows of a batch, which takes so many bytes, to the window.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn take<'s>(
        &mut self,
        batch: BoundBatch<'s>,
        bytes: usize,
        window: &mut Window<'s>,
        told: &mut Told,
    ) -> Result<(), Ended> {
        for row in 0..batch.rows() {
            told.counts.rows += 1;
            if told.counts.rows > self.model.limits.rows {
                return Err(Ended::Lost(too_many_rows(self.model)));
            }
            self.id.clear();
            if !batch.id(row, self.id) {
                told.skip(format!("row {}: {} is NULL", told.counts.rows, self.model.unique_id));
                continue;
            }
            if self.id.len() > ID_BYTES_MAX {
                let bytes = self.id.len();
                told.leave(format!("row {}: an id of {bytes} bytes", told.counts.rows));
                continue;
            }
            let key = digest(blake3::keyed_hash(self.rows_key, self.id));
            self.keys.push(key[0], |into| into.extend_from_slice(&key)).map_err(put_aside)?;
            let hash = hash(self.generation, &batch, row, self.content);
            window.rows.push(Row { key, hash, batch: window.batches.len(), row });
        }
        window.bytes += bytes + batch.rows() * size_of::<Row>();
        window.batches.push(batch);
        Ok(())
    }
}

impl Difference<'_> {
    /// Puts aside what changed of the window.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn compare(&mut self, window: Window<'_>, told: &mut Told) -> Result<(), Ended> {
        let Window { batches, mut rows, .. } = window;
        self.is_decided_by_grants &= batches.iter().all(BoundBatch::is_decided_by_grants);
        rows.sort_unstable_by_key(|row| u128::from_be_bytes(row.key));
        let mut changed = self.find_changed(&rows, told)?;
        // Read in the order in which they lie in memory, which is several times faster.
        changed.sort_unstable_by_key(|changed| (changed.row.batch, changed.row.row));
        let Self { basis, desks: [desk, other_desk], .. } = self;
        let write = |desk: &mut Desk, changed: &[Changed<'_>], told: &mut Told| {
            changed
                .iter()
                .try_for_each(|one| desk.put_aside(basis, one, &batches[one.row.batch], told))
        };
        if changed.len() < CHANGED_APART {
            return write(desk, &changed, told);
        }
        let (front, back) = changed.split_at(changed.len() / 2);
        thread::scope(|scope| {
            let mut other_told = told.another();
            let other = scope.spawn(|| {
                write(other_desk, back, &mut other_told)?;
                Ok::<_, Ended>(other_told)
            });
            write(desk, front, told)?;
            let died = |_| Ended::Lost("a thread that puts rows aside died".to_owned());
            told.add(other.join().map_err(died)??);
            Ok(())
        })
    }

    /// The rows that are to be put aside, of rows in the order of their keys.
    fn find_changed<'r>(
        &mut self,
        rows: &'r [Row],
        told: &mut Told,
    ) -> Result<Vec<Changed<'r>>, Ended> {
        let mut changed = Vec::new();
        for of_part in rows.chunk_by(|one, other| part_of(&one.key) == part_of(&other.key)) {
            let part = part_of(&of_part[0].key);
            let hashes = self.snapshot.hashes(part)?;
            let mut known = hashes.pairs().enumerate().peekable();
            let mut details = None;
            self.rows += of_part.len() as u64;
            for row in of_part {
                while known.next_if(|(_, (key, _))| **key < row.key).is_some() {}
                let same = known.peek().filter(|(_, (key, _))| **key == row.key);
                if let Some((at, _)) = same {
                    self.found += 1;
                    self.seen.add(part, *at);
                }
                let hash = same.map(|(_, (_, hash))| *hash);
                let is_same = hash == Some(&row.hash);
                let is_due = is_same && self.basis.is_due(&row.key);
                // Who was off when a consent ended has to be told now.
                let is_watched = !self.basis.newly_on.is_empty()
                    && self.basis.model.on_withdrawal == OnWithdrawal::Delete;
                if is_same && !is_due && !is_watched {
                    told.counts.unchanged += 1;
                    continue;
                }
                let before = match hash {
                    None => None,
                    Some(_) => {
                        let details: &Vec<(Key, Known)> = match &mut details {
                            Some(details) => details,
                            none => none.insert(self.snapshot.rows(part)?),
                        };
                        let at = details.binary_search_by_key(&row.key, |(key, _)| *key);
                        at.ok().map(|at| &details[at].1)
                    }
                };
                let unchanged = match before {
                    Some(_) if is_due => Some(What::Retry),
                    Some(known) if is_same => {
                        let holds = |id| known.held.contains(id);
                        if !self.basis.newly_on.iter().any(holds) {
                            told.counts.unchanged += 1;
                            continue;
                        }
                        Some(What::Judge)
                    }
                    _ => None,
                };
                let before = before.map(|known| Box::new(known.clone()));
                changed.push(Changed { row, unchanged, before });
            }
        }
        Ok(changed)
    }
}

/// Rows of two models differ, whatever their ids.
fn rows_key(model: &Model) -> [u8; 32] {
    blake3::derive_key("consentd: rows of a model", model.name.as_bytes())
}

/// Of what a row holds. Rows of another generation count as changed.
fn hash(generation: u32, batch: &BoundBatch<'_>, row: usize, content: &mut Vec<u8>) -> Digest {
    content.clear();
    content.extend_from_slice(&generation.to_le_bytes());
    batch.content(row, content);
    digest(blake3::hash(content))
}

/// The `messageId` of a row with this id (JSON) if it is sent by the first sync of a model.
#[must_use]
pub fn first_message_id(model: &Model, batch: &BoundBatch<'_>, row: usize, id: &[u8]) -> String {
    let key = digest(blake3::keyed_hash(&rows_key(model), id));
    let hash = hash(0, batch, row, &mut Vec::new());
    MessageId::new(&key, &message(&key, &hash, None, 0)).as_str().to_owned()
}

/// Why a query is of no use.
pub(super) fn too_many_rows(model: &Model) -> String {
    format!(
        "the query gives more than {} rows, models.{}.limits.rows",
        model.limits.rows, model.name
    )
}

/// The ids of one slice: all once, and those that stand more than once.
pub(super) struct Ids {
    /// Ascending.
    all: Vec<u128>,
    /// With how many rows have them.
    pub(super) repeated: HashMap<Key, u64>,
}

impl Ids {
    /// Those of these keys.
    fn of(keys: Vec<Key>) -> Self {
        let mut all: Vec<u128> = keys.into_iter().map(u128::from_be_bytes).collect();
        all.sort_unstable();
        let mut repeated = HashMap::new();
        for same in all.chunk_by(|one, other| one == other).filter(|same| same.len() > 1) {
            repeated.insert(same[0].to_be_bytes(), same.len() as u64);
        }
        if !repeated.is_empty() {
            all.dedup();
        }
        Self { all, repeated }
    }

    pub(super) fn contain(&self, key: &Key) -> bool {
        self.all.binary_search(&u128::from_be_bytes(*key)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::change::Kind;
    use crate::sync::slice::Slicing;

    #[test]
    fn a_row_that_comes_twice_is_noticed() {
        let mut seen = Seen::default();
        for (part, at) in [(16_383, 0), (0, 63), (0, 64), (0, 200), (7, 0), (0, 0)] {
            seen.add(part, at);
            assert!(!seen.is_any_twice, "{part} {at}");
        }
        seen.add(0, 64);
        assert!(seen.is_any_twice);
    }

    /// However fine the slices are, together they have everything once.
    #[test]
    fn slices_have_what_was_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Scatter::new(folder.path(), 100);
        let mut changes = Scatter::new(folder.path(), 1000);
        let mut expected = Vec::new();
        for number in 0..2000_u32 {
            let key = digest(blake3::hash(&number.to_le_bytes()));
            let id = vec![b'7'; number as usize % 50];
            let change = Change {
                what: What::Add,
                kind: Kind::Added,
                key,
                hash: [2; 16],
                message: [3; 16],
                granted: [1, 0, 0, 9],
                id: &id,
                line: b"{}",
            };
            keys.push(key[0], |into| into.extend_from_slice(&key)).unwrap();
            changes.push(key[0], |into| change.write(into)).unwrap();
            expected.push((key, id));
        }
        expected.sort();
        for finest in 0..=6_u32 {
            let slicing = Slicing::fitting(1 << finest, 1);
            let (mut seen, mut seen_keys) = (Vec::new(), Vec::new());
            for slice in slicing.all() {
                let bytes = changes_of(&changes, slice).unwrap();
                let mut rest = bytes.as_slice();
                let of_slice = std::iter::from_fn(|| Change::read(&mut rest));
                let of_slice: Vec<_> = of_slice.map(|it| (it.key, it.id.to_vec())).collect();
                assert!(of_slice.iter().all(|(key, _)| slicing.of(key) == slice));
                seen.extend(of_slice);
                seen_keys.extend(keys_of(&keys, slice).unwrap());
            }
            seen.sort();
            seen_keys.sort_unstable();
            assert_eq!(seen, expected, "{finest}");
            assert!(seen_keys.iter().eq(expected.iter().map(|(key, _)| key)), "{finest}");
        }
    }
}
