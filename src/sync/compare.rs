//! Rows of the query against those of the last sync.
//!
//! What always holds: nothing is sent before the query has ended well, for only then is known which ids
//! stand twice, and which rows are gone.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::change::{Change, Kind, What, message_id};
use super::failed::{Failed, Patience};
use super::known::{Digest, Key, Known, is_same};
use super::link::Ended;
use super::scatter::Scatter;
use super::store::Snapshot;
use super::told::Told;
use crate::config::{Model, OnWithdrawal};
use crate::warehouse::BoundBatch;

/// Memory that the changes of one part take before they are written out,
const CHANGES_BYTES: usize = 64 * 1024;
/// and its keys.
const KEYS_BYTES: usize = 16 * 1024;

/// Longest unique id, as JSON.
const ID_BYTES_MAX: usize = 4096;

/// Compares the rows of one query.
pub(super) struct Comparison<'m> {
    model: &'m Model,
    snapshot: Snapshot,
    basis: Basis<'m>,
    /// The keys of all rows.
    keys: Scatter,
    /// Rows that are to be sent or noted.
    changes: Scatter,
    found: u64,
    bytes: Buffers,
}

/// What rows are compared with beside their last content.
pub(super) struct Basis<'m> {
    pub(super) generation: u32,
    /// Whether the grants that are known are of the same categories.
    pub(super) same_categories: bool,
    pub(super) failed: &'m HashMap<Key, Vec<Failed>>,
    pub(super) patience: Patience,
    pub(super) now: u64,
    pub(super) max_event_bytes: usize,
}

/// Reused from row to row.
#[derive(Default)]
struct Buffers {
    id: Vec<u8>,
    content: Vec<u8>,
    line: Vec<u8>,
}

impl<'m> Comparison<'m> {
    pub(super) fn new(
        model: &'m Model,
        snapshot: Snapshot,
        basis: Basis<'m>,
        folder: &Path,
    ) -> Self {
        Self {
            model,
            snapshot,
            basis,
            keys: Scatter::new(folder, KEYS_BYTES),
            changes: Scatter::new(folder, CHANGES_BYTES),
            found: 0,
            bytes: Buffers::default(),
        }
    }

    /// Puts aside what changed.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn take(&mut self, batch: &BoundBatch<'_>, told: &mut Told) -> Result<(), Ended> {
        let rows_key = rows_key(&self.model.name);
        for row in 0..batch.rows() {
            told.counts.rows += 1;
            if told.counts.rows > self.model.limits.rows {
                return Err(Ended::Lost(format!(
                    "the query gives more than {} rows, models.{}.limits.rows",
                    self.model.limits.rows, self.model.name
                )));
            }
            self.bytes.id.clear();
            if !batch.id(row, &mut self.bytes.id) {
                told.skip(format!("row {}: {} is NULL", told.counts.rows, self.model.unique_id));
                continue;
            }
            if self.bytes.id.len() > ID_BYTES_MAX {
                let bytes = self.bytes.id.len();
                told.skip(format!("row {}: an id of {bytes} bytes", told.counts.rows));
                continue;
            }
            let key = digest(blake3::keyed_hash(&rows_key, &self.bytes.id));
            self.keys.push(key[0], |into| into.extend_from_slice(&key)).map_err(put_aside)?;
            self.compare(batch, row, key, told)?;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        batch: &BoundBatch<'_>,
        row: usize,
        key: Key,
        told: &mut Told,
    ) -> Result<(), Ended> {
        self.bytes.content.clear();
        batch.content(row, &mut self.bytes.content);
        let hash = digest(blake3::hash(&self.bytes.content));
        let generation = self.basis.generation;
        let known = self.snapshot.look(&key, |bytes| {
            if is_same(bytes, &hash, generation) { None } else { Known::decode(bytes) }
        })?;
        self.found += u64::from(known.is_some());
        let granted = batch.granted(row).words();
        let (what, kind, before) = match known {
            Some(None) if self.is_due(&key) => {
                (What::Retry, Kind::Unchanged, self.snapshot.get(&key)?)
            }
            Some(None) => {
                told.counts.unchanged += 1;
                return Ok(());
            }
            Some(Some(known)) => {
                let kind = self.kind(&known, granted);
                (self.what(kind, &known), kind, Some(known))
            }
            None => {
                let what = if self.model.send.added { What::Add } else { What::Note };
                (what, Kind::Added, None)
            }
        };
        let message = match (what, &before) {
            (What::Retry, Some(known)) => known.message,
            _ => self.message(&key, &hash, before.as_ref()),
        };
        let line = &mut self.bytes.line;
        line.clear();
        if what != What::Note {
            batch.event(row, &message_id(&key, &message), line);
        }
        let bytes_max = self.model.limits.row_bytes.min(self.basis.max_event_bytes);
        if line.len() > bytes_max {
            let (id, bytes) = (told.id(&self.bytes.id), line.len());
            told.skip(format!("{id}: an event of {bytes} bytes, more than {bytes_max}"));
            return Ok(());
        }
        told.count(kind);
        let (id, line) = (&self.bytes.id, &self.bytes.line);
        let is_first = before.is_none();
        let change = Change { what, kind, key, hash, message, granted, is_first, id, line };
        self.changes.push(key[0], |into| change.write(into)).map_err(put_aside)
    }

    /// Rows that the last sync knew, those that stand twice counted twice.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// The ids of a part.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn ids(&self, part: usize) -> Result<Ids, Ended> {
        Ok(Ids::of(&self.keys.read(part).map_err(put_aside)?))
    }

    /// The changes of a part, for [`Change::read`].
    ///
    /// # Errors
    /// The disk.
    pub(super) fn changes(&self, part: usize) -> Result<Vec<u8>, Ended> {
        self.changes.read(part).map_err(put_aside)
    }

    fn is_due(&self, key: &Key) -> bool {
        let Basis { failed, patience, now, .. } = &self.basis;
        failed.get(key).is_some_and(|list| list.iter().any(|one| patience.is_left(one, *now)))
    }

    /// One that has a consent again that it had not is as good as new to some destination.
    fn kind(&self, known: &Known, granted: [u64; 4]) -> Kind {
        let is_gone = known.hash == Digest::default();
        let again = granted.iter().zip(known.granted).any(|(now, before)| now & !before != 0);
        let is_new = is_gone || known.generation != self.basis.generation;
        if is_new || (again && self.basis.same_categories) { Kind::Added } else { Kind::Updated }
    }

    fn what(&self, kind: Kind, known: &Known) -> What {
        let send = &self.model.send;
        match kind {
            Kind::Added if send.added || send.updated => What::Add,
            Kind::Updated if send.updated => What::Update,
            _ if self.model.on_withdrawal == OnWithdrawal::Delete && !known.held.is_empty() => {
                What::Judge
            }
            _ => What::Note,
        }
    }

    /// Differs from all before, also where a row becomes again what it was: whoever sorts out repeated
    /// messages must not take it for the older one.
    fn message(&self, key: &Key, hash: &Digest, before: Option<&Known>) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(key).update(hash);
        hasher.update(&before.map(|known| known.message).unwrap_or_default());
        hasher.update(&self.basis.generation.to_le_bytes());
        digest(hasher.finalize())
    }
}

/// Rows of two models differ, whatever their ids.
fn rows_key(model: &str) -> [u8; 32] {
    blake3::derive_key("consentd: rows of a model", model.as_bytes())
}

fn digest(hash: blake3::Hash) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

fn put_aside(error: io::Error) -> Ended {
    Ended::Lost(format!("rows can't be put aside under daemon.data_dir: {error}"))
}

/// The ids of one part: all once, and those that stand more than once.
pub(super) struct Ids {
    /// Ascending.
    pub(super) all: Vec<Key>,
    /// With how many rows have them.
    pub(super) repeated: HashMap<Key, u64>,
}

impl Ids {
    /// From the bytes of all keys of a part.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (keys, _) = bytes.as_chunks::<16>();
        let mut all = keys.to_vec();
        all.sort_unstable();
        let mut repeated = HashMap::new();
        for same in all.chunk_by(|one, other| one == other).filter(|same| same.len() > 1) {
            repeated.insert(same[0], same.len() as u64);
        }
        all.dedup();
        Self { all, repeated }
    }

    pub(super) fn contain(&self, key: &Key) -> bool {
        self.all.binary_search(key).is_ok()
    }
}
