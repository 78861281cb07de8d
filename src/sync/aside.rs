//! Rows that differ from the last sync, as they are put aside until the query has ended well: what is to be
//! done with each, and its event.

use std::io;
use std::path::Path;

use super::change::{Change, Kind, MessageId, What};
use super::compare::Basis;
use super::known::{Digest, Key, Known};
use super::link::Ended;
use super::scatter::Scatter;
use super::told::Told;
use crate::config::OnWithdrawal;
use crate::warehouse::BoundBatch;

/// Memory that the changes of one part take at each desk before they are written out.
const CHANGES_BYTES: usize = 32 * 1024;

/// A row of the query.
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) hash: Digest,
    /// The number of its batch in the window, and its own there.
    pub(super) batch: usize,
    pub(super) row: usize,
}

/// A row that is to be put aside.
pub(super) struct Changed<'r> {
    pub(super) row: &'r Row,
    /// What is to be done although it is as it was.
    pub(super) unchanged: Option<What>,
    /// What was known of it.
    pub(super) before: Option<Box<Known>>,
}

/// Where one thread writes changes down.
pub(super) struct Desk {
    pub(super) changes: Scatter,
    /// Reused from row to row.
    id: Vec<u8>,
    line: Vec<u8>,
}

impl Desk {
    pub(super) fn new(folder: &Path) -> Self {
        let changes = Scatter::new(folder, CHANGES_BYTES);
        Self { changes, id: Vec::new(), line: Vec::new() }
    }

    /// Puts a row aside.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn put_aside(
        &mut self,
        basis: &Basis<'_>,
        changed: &Changed<'_>,
        batch: &BoundBatch<'_>,
        told: &mut Told,
    ) -> Result<(), Ended> {
        let Changed { row, unchanged, before } = changed;
        let before = before.as_deref();
        let granted = batch.granted(row.row).words();
        let (what, kind) = match (before, *unchanged) {
            (_, Some(what)) => (what, Kind::Unchanged),
            (Some(known), None) => {
                let kind = basis.kind(known, granted);
                (basis.what(kind, known), kind)
            }
            (None, None) if basis.model.send.added => (What::Add, Kind::Added),
            (None, None) => (What::Note, Kind::Added),
        };
        let is_sent = !matches!(what, What::Note | What::Judge);
        let message = match before {
            // The fate of what was sent last is told by this name.
            Some(known) if unchanged.is_some() || !is_sent => known.message,
            // Sent once more, it has the same.
            Some(known) if known.sent == Some(row.hash) => known.message,
            _ => message(&row.key, &row.hash, before, basis.begun),
        };
        let Self { id, line, .. } = self;
        id.clear();
        batch.id(row.row, id);
        line.clear();
        if what != What::Note {
            let message_id = MessageId::new(&row.key, &message);
            batch.event(row.row, message_id.as_str(), line);
        }
        let bytes_max = basis.model.limits.row_bytes.min(basis.max_event_bytes);
        let what = if line.len() > bytes_max {
            let why = format!("an event of {} bytes, more than {bytes_max}", line.len());
            *line = why.into_bytes();
            What::Leave
        } else {
            told.count(kind);
            what
        };
        let (key, hash) = (row.key, row.hash);
        let change = Change { what, kind, key, hash, message, granted, id, line };
        self.changes.push(key[0], |into| change.write(into)).map_err(put_aside)
    }
}

impl Basis<'_> {
    /// Whether a destination that rejected the row is to get it again.
    pub(super) fn is_due(&self, key: &Key) -> bool {
        let Self { failed, patience, now, on, .. } = self;
        failed.get(key).is_some_and(|list| list.iter().any(|one| patience.is_due(one, *now, on)))
    }

    /// One that has a consent again that it had not is as good as new to some destination.
    fn kind(&self, known: &Known, granted: [u64; 4]) -> Kind {
        let again = granted.iter().zip(known.granted).any(|(now, before)| now & !before != 0);
        let is_new = known.is_gone() || known.generation != self.generation;
        if is_new || (again && self.same_categories) { Kind::Added } else { Kind::Updated }
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
}

/// Differs from all before, also where a row becomes again what it was: whoever sorts out repeated
/// messages must not take it for the older one.
pub(super) fn message(key: &Key, hash: &Digest, before: Option<&Known>, begun: u64) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(hash);
    hasher.update(&before.map(|known| known.message).unwrap_or_default());
    hasher.update(&begun.to_le_bytes());
    digest(hasher.finalize())
}

pub(super) fn digest(hash: blake3::Hash) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

pub(super) fn put_aside(error: io::Error) -> Ended {
    Ended::Lost(format!("rows can't be put aside under daemon.data_dir: {error}"))
}
