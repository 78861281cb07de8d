//! What is to be done with the rows of one slice.
//!
//! Nothing here is sent or written.

use std::collections::{HashMap, HashSet};

use super::change::{Change, Kind, What};
use super::compare::{Comparison, Ids};
use super::group::Group;
use super::known::{Key, Known, UNCERTAIN};
use super::link::Ended;
use super::slice::Slice;
use super::store::Snapshot;
use super::told::Told;
use super::under_way::Note;
use crate::warehouse::Blank;

/// Which categories a row grants.
pub(super) type Grants = [u64; 4];

/// The rows of a slice, and what changed of them.
pub(super) struct Part {
    pub(super) slice: Slice,
    /// The last state of all of them.
    group: Group,
    /// For [`Change::read`].
    changes: Vec<u8>,
    /// Keys that stand more than once, with how often.
    repeated: HashMap<Key, u64>,
    /// Keys that the query does not give any more.
    pub(super) gone: Vec<Key>,
    /// Rows that are left out, with what they certainly grant.
    pub(super) left_out: Vec<(Key, Grants)>,
}

impl Part {
    /// Reads a part; `None` if there is nothing to do. With `is_plain`, no id stands twice, and no row is
    /// gone. Without `same_categories`, the known grants say nothing.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn read(
        slice: Slice,
        compared: &Comparison<'_>,
        is_plain: bool,
        same_categories: bool,
        snapshot: &Snapshot,
    ) -> Result<Option<Self>, Ended> {
        let changes = compared.changes(slice)?;
        let mut gone = Vec::new();
        let mut repeated = HashMap::new();
        if !is_plain {
            let ids: Ids = compared.ids(slice)?;
            let mut look = |key: &Key| {
                if !ids.contain(key) {
                    gone.push(*key);
                }
            };
            if compared.is_partial() {
                compared.gone(slice)?.iter().for_each(look);
            } else {
                snapshot.keys(slice, &mut look)?;
            }
            repeated = ids.repeated;
        }
        if changes.is_empty() && gone.is_empty() && repeated.is_empty() {
            return Ok(None);
        }
        let group = snapshot.group(slice)?;
        let left_out = Vec::new();
        let mut part = Self { slice, group, changes, repeated, gone, left_out };
        part.left_out = part.find_left_out(same_categories);
        Ok(Some(part))
    }

    /// The rows that changed, each of another id, in the order of their keys, which is that of the disk.
    pub(super) fn changes(&self) -> Vec<Change<'_>> {
        let is_single = |change: &Change<'_>| !self.repeated.contains_key(&change.key);
        let mut changes: Vec<Change<'_>> = self.all_changes().filter(is_single).collect();
        changes.sort_unstable_by_key(|change| u128::from_be_bytes(change.key));
        changes
    }

    fn all_changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = self.changes.as_slice();
        std::iter::from_fn(move || Change::read(&mut rest))
    }

    /// Bytes of what is to be sent, and rows that are known.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.changes.len(), self.group.len())
    }

    /// The last state of all rows: nothing else here is of use without it but the changes.
    pub(super) fn take_group(&mut self) -> Group {
        std::mem::take(&mut self.group)
    }

    /// Rows with the same id: which of them would be the right one nobody knows.
    pub(super) fn count_repeated(&self, told: &mut Told) {
        for (key, rows) in &self.repeated {
            let mut unchanged = *rows;
            let mut id = None;
            for change in self.all_changes().filter(|change| change.key == *key) {
                if change.what != What::Leave {
                    told.take_back(change.kind);
                }
                unchanged -= 1;
                id = Some(change.id.to_vec());
            }
            (0..unchanged).for_each(|_| told.take_back(Kind::Unchanged));
            let id = id
                .or_else(|| self.group.get(key).map(|known| known.id.clone()))
                .unwrap_or_default();
            told.counts.skipped += rows;
            told.sample(format!("{} stands {rows} times", told.id(&id)));
        }
    }

    /// Rows that somebody has, and that are left out now. What one of several rows with the same id does
    /// not grant, is not granted.
    fn find_left_out(&self, same_categories: bool) -> Vec<(Key, Grants)> {
        let mut changed: HashMap<Key, (u64, Grants)> = HashMap::new();
        for change in self.all_changes() {
            if change.what == What::Leave || self.repeated.contains_key(&change.key) {
                let (rows, granted) = changed.entry(change.key).or_insert((0, [u64::MAX; 4]));
                *rows += 1;
                *granted = both(*granted, change.granted);
            }
        }
        let grants = |(key, (rows, granted)): (Key, (u64, Grants))| {
            let known = self.group.get(&key).filter(|known| !known.held.is_empty())?;
            let has_unchanged = self.repeated.get(&key).is_some_and(|all| *all > rows);
            let grants = match (has_unchanged, same_categories) {
                (false, _) => granted,
                (true, true) => both(granted, known.granted),
                (true, false) => Grants::default(),
            };
            Some((key, grants))
        };
        changed.into_iter().filter_map(grants).collect()
    }

    /// What the next sync has to know if this one dies while it sends; empty if that is nothing. An event
    /// stands in it only where it can reach somebody of `on` who has not got the row already. With `blank`,
    /// one that grants the same will do.
    pub(super) fn note(&self, on: &HashSet<u32>, blank: Option<&Blank>) -> Vec<u8> {
        let mut note = Note::default();
        for change in self.changes() {
            if matches!(change.what, What::Note | What::Leave) {
                continue;
            }
            let held = self.group.get(&change.key).map_or(&[][..], |known| &known.held);
            let is_held_by_all = on.iter().all(|id| held.contains(id));
            let asks = !is_held_by_all && change.what != What::Judge;
            note.add(change, asks, blank);
        }
        let gone = self.gone.iter().map(|key| (What::Gone, key));
        let withdrawn = self.left_out.iter().map(|(key, _)| (What::Withdraw, key));
        for (what, key) in gone.chain(withdrawn) {
            let Some(known) = self.group.get(key) else { continue };
            note.add(without_event(what, *key, known), false, blank);
        }
        note.finish()
    }
}

/// A change that has no event of its own.
fn without_event(what: What, key: Key, known: &Known) -> Change<'_> {
    Change {
        what,
        kind: Kind::Unchanged,
        key,
        hash: UNCERTAIN,
        message: known.message,
        granted: Grants::default(),
        id: &known.id,
        line: b"",
    }
}

/// What is granted by both.
pub(super) fn both(one: Grants, other: Grants) -> Grants {
    std::array::from_fn(|at| one[at] & other[at])
}
