//! How far each destination is, durably.
//!
//! Two files, `cursors.a` and `cursors.b`, are written in turn, in place, each in an envelope with
//! generation and checksum (see `twin.rs`), so that a write that is torn by a crash leaves the other,
//! one save older. The body is a number of entries (4 bytes), then per entry a stable ID (4 bytes) and
//! a position (8 bytes), all little-endian. An older cursor means that events are delivered again,
//! never that one is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::LogError;
use super::folder::Folder;
use super::format::Fields;
use super::fs::{Open, uninterrupted, write_all};
use super::position::{Position, StableId};
use super::twin::{read_small, seal, unseal};

const MAGIC: &[u8; 8] = b"CNSTDCUR";

/// The cursors of all destinations that exist. A cursor is a low-water mark: every event of its
/// destination before it is settled.
pub struct Cursors {
    folder: Folder,
    slots: [PathBuf; 2],
    /// The slot that is written next: not the one that holds the newest sound state.
    next_slot: usize,
    /// Whether the name of each slot is known to be durable.
    is_named: [bool; 2],
    generation: u64,
    positions: BTreeMap<StableId, Position>,
    durable: BTreeMap<StableId, Position>,
    poisoned: Option<String>,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorReport {
    /// Destinations of which nothing is known: they begin at the start of the log. Those that are new
    /// find nothing there, since no stored decision names them.
    pub without: Vec<StableId>,
    /// Cursors of destinations that exist no more, with what they were: their events are `removed`.
    pub gone: Vec<(StableId, Position)>,
    /// Slots that exist and are not sound: 0 to 2.
    pub damaged_slots: usize,
    /// The highest position of all, gone ones included: to be given to
    /// [`Writer::open`](super::Writer::open).
    pub highest: Position,
}

impl Cursors {
    /// Reads the cursors of the destinations `ids`: all that exist.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn open(folder: &Folder, ids: &[StableId]) -> Result<(Self, CursorReport), LogError> {
        let slots = ["cursors.a", "cursors.b"].map(|name| folder.path.join(name));
        let mut report = CursorReport::default();
        let mut newest: Option<(u64, usize, BTreeMap<StableId, Position>)> = None;
        for (slot, path) in slots.iter().enumerate() {
            let Some(bytes) = read_small(folder, path)? else {
                continue;
            };
            let state = unseal(MAGIC, &bytes);
            match state.and_then(|(generation, body)| Some((generation, decode(body)?))) {
                Some((generation, kept)) => {
                    if newest.as_ref().is_none_or(|(other, ..)| generation > *other) {
                        newest = Some((generation, slot, kept));
                    }
                }
                None => report.damaged_slots += 1,
            }
        }
        let (generation, slot, kept) = newest.unwrap_or((0, 1, BTreeMap::new()));
        report.highest = kept.values().copied().max().unwrap_or_default();
        let mut positions = BTreeMap::new();
        for &id in ids {
            if !kept.contains_key(&id) {
                report.without.push(id);
            }
            positions.insert(id, kept.get(&id).copied().unwrap_or(Position::START));
        }
        report.gone = kept.into_iter().filter(|(id, _)| !positions.contains_key(id)).collect();
        let cursors = Self {
            folder: folder.clone(),
            slots,
            next_slot: 1 - slot,
            is_named: [false; 2],
            generation,
            durable: positions.clone(),
            positions,
            poisoned: None,
        };
        Ok((cursors, report))
    }

    /// Where the destination is; `None` if it has no cursor.
    #[must_use]
    pub fn get(&self, id: StableId) -> Option<Position> {
        self.positions.get(&id).copied()
    }

    /// Adds a destination, or puts it where it is to begin: a new one at the end of the log.
    pub fn begin(&mut self, id: StableId, at: Position) {
        self.positions.insert(id, at);
        // Until the cursor is durable nothing may be removed that a start without it would read.
        self.durable.entry(id).or_insert(Position::START);
    }

    /// Moves a cursor forward; backwards it never goes.
    pub fn advance(&mut self, id: StableId, to: Position) {
        if let Some(position) = self.positions.get_mut(&id) {
            *position = to.max(*position);
        }
    }

    /// Forgets a destination: it holds nothing back any more.
    pub fn remove(&mut self, id: StableId) {
        self.positions.remove(&id);
        // A start that still finds its cursor finds one that nobody asks for.
        self.durable.remove(&id);
    }

    /// Moves every cursor that stands before `position` to it, for segments that are to be expired;
    /// returns those that moved, with what they were.
    pub fn expire_before(&mut self, position: Position) -> Vec<(StableId, Position)> {
        let mut moved = Vec::new();
        for (id, at) in &mut self.positions {
            if *at < position {
                moved.push((*id, *at));
                *at = position;
            }
        }
        moved
    }

    /// Makes the cursors durable.
    ///
    /// # Errors
    /// [`LogError`]. Every later call fails, too: which slot is sound is not known any more.
    pub fn save(&mut self) -> Result<(), LogError> {
        if let Some(cause) = &self.poisoned {
            return Err(LogError::Poisoned(cause.clone()));
        }
        let written = self.write();
        if let Err(error) = &written {
            self.poisoned = Some(error.to_string());
        }
        written
    }

    fn write(&mut self) -> Result<(), LogError> {
        let bytes = seal(MAGIC, self.generation + 1, &encode(&self.positions));
        let path = &self.slots[self.next_slot];
        let file = self.folder.open_file(path, Open::Create)?;
        write_all(&*file, &bytes, 0).map_err(LogError::io("write", path))?;
        uninterrupted(|| file.truncate(bytes.len() as u64))
            .map_err(LogError::io("truncate", path))?;
        uninterrupted(|| file.sync_data()).map_err(LogError::io("sync", path))?;
        if !self.is_named[self.next_slot] {
            self.folder.sync_dir()?;
            self.is_named[self.next_slot] = true;
        }
        self.generation += 1;
        self.next_slot = 1 - self.next_slot;
        self.durable.clone_from(&self.positions);
        Ok(())
    }

    /// The lowest durable cursor: what lies before it is needed by nobody, whatever happens. The end
    /// of all positions if there is no destination.
    #[must_use]
    pub fn durable_low_water(&self) -> Position {
        self.durable.values().copied().min().unwrap_or(Position(u64::MAX))
    }

    /// All cursors.
    pub fn iter(&self) -> impl Iterator<Item = (StableId, Position)> + '_ {
        self.positions.iter().map(|(id, position)| (*id, *position))
    }
}

fn encode(positions: &BTreeMap<StableId, Position>) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + 12 * positions.len());
    body.extend_from_slice(&(positions.len() as u32).to_le_bytes());
    for (id, position) in positions {
        body.extend_from_slice(&id.0.to_le_bytes());
        body.extend_from_slice(&position.0.to_le_bytes());
    }
    body
}

fn decode(body: &[u8]) -> Option<BTreeMap<StableId, Position>> {
    let mut fields = Fields(body);
    let mut positions = BTreeMap::new();
    for _ in 0..fields.u32()? {
        positions.insert(StableId(fields.u32()?), Position(fields.u64()?));
    }
    Some(positions)
}
