//! Stable IDs of destinations: which number in a stored decision means whom.
//!
//! A registry in two copies (see `twin.rs`), `identities.a` and `identities.b`. The body, little-endian:
//! the next ID (4 bytes), the number of entries (4), then per entry its ID (4), flags (1 byte; 1:
//! retired), the fingerprint (16), and name and type, each behind its length in 2 bytes.
//!
//! What always holds: an ID was durable before it was returned, and is never returned for anything
//! else. If both copies are lost while the log holds decisions, going on would mean guessing to whom
//! consent was given: that is an error.

use super::error::LogError;
use super::folder::Folder;
use super::format::Fields;
use super::position::StableId;
use super::twin::{Kept, Twin};

const MAGIC: &[u8; 8] = b"CNSTDIDS";
const RETIRED: u8 = 1;

/// What makes a destination the same one as before: a change of any of it makes it a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name in the config; at most 65,535 bytes.
    pub name: String,
    /// The type (`http`, `file`, ...).
    pub kind: String,
    /// A digest of the address: where events go.
    pub fingerprint: [u8; 16],
}

#[derive(Clone, Debug)]
struct Entry {
    id: StableId,
    retired: bool,
    identity: Identity,
}

/// The registry of stable IDs.
pub struct Identities {
    twin: Twin,
    next: u32,
    entries: Vec<Entry>,
}

impl Identities {
    /// Reads the registry. `log_is_empty` says whether there is no stored decision that an ID of a lost
    /// registry could stand in.
    ///
    /// # Errors
    /// [`LogError::Lost`] if it is missing or damaged and the log is not empty; [`LogError::Io`].
    pub fn open(folder: &Folder, log_is_empty: bool) -> Result<Self, LogError> {
        let (twin, kept) = Twin::open(folder, "identities", MAGIC)?;
        let state = match kept {
            Kept::State(body) => decode(&body),
            Kept::Nothing | Kept::Damaged if log_is_empty => Some((1, Vec::new())),
            Kept::Nothing | Kept::Damaged => None,
        };
        let Some((next, entries)) = state else {
            return Err(LogError::Lost {
                path: folder.path.join("identities.a"),
                advice: "without it nobody can tell which destinations the stored events were \
                         permitted for; restore it, or move the log away to begin an empty one",
            });
        };
        Ok(Self { twin, next, entries })
    }

    /// The registry of a log that is only looked at; empty if there is none.
    ///
    /// # Errors
    /// [`LogError::Lost`], [`LogError::Io`].
    pub fn look(folder: &Folder) -> Result<Self, LogError> {
        match Twin::open(folder, "identities", MAGIC)? {
            (twin, Kept::Nothing) => Ok(Self { twin, next: 1, entries: Vec::new() }),
            _ => Self::open(folder, false),
        }
    }

    /// Every destination that there ever was, oldest first; whether it is one still.
    pub fn all(&self) -> impl Iterator<Item = (StableId, &Identity, bool)> {
        self.entries.iter().map(|entry| (entry.id, &entry.identity, !entry.retired))
    }

    /// The IDs of these destinations, in their order. New ones are made durable first.
    ///
    /// # Errors
    /// [`LogError`]; nothing changed then.
    pub fn resolve(&mut self, wanted: &[Identity]) -> Result<Vec<StableId>, LogError> {
        let mut entries = self.entries.clone();
        let mut next = self.next;
        let mut ids = Vec::with_capacity(wanted.len());
        for identity in wanted {
            // The last one of the name: an address that changes back is a new destination as well, for
            // what waited for the first was dropped when it went.
            let last = entries.iter().rev().find(|entry| entry.identity.name == identity.name);
            if let Some(entry) = last.filter(|entry| !entry.retired && entry.identity == *identity)
            {
                ids.push(entry.id);
                continue;
            }
            let id = StableId(next);
            next = next.checked_add(1).ok_or_else(|| {
                LogError::Poisoned("there are no more IDs for destinations".to_owned())
            })?;
            entries.push(Entry { id, retired: false, identity: identity.clone() });
            ids.push(id);
        }
        self.keep(next, entries)?;
        Ok(ids)
    }

    /// Retires every destination that is not among `live`: should one of them come back, it is a new
    /// one, and nothing that waited for it before is delivered to it.
    ///
    /// # Errors
    /// [`LogError`]; nothing changed then.
    pub fn retire_others(&mut self, live: &[StableId]) -> Result<(), LogError> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.retired |= !live.contains(&entry.id);
        }
        self.keep(self.next, entries)
    }

    /// The destinations that are not retired.
    #[must_use]
    pub fn live(&self) -> Vec<StableId> {
        let live = self.entries.iter().filter(|entry| !entry.retired);
        live.map(|entry| entry.id).collect()
    }

    /// The name, type and fingerprint behind an ID, of retired ones too.
    #[must_use]
    pub fn get(&self, id: StableId) -> Option<&Identity> {
        self.entries.iter().find(|entry| entry.id == id).map(|entry| &entry.identity)
    }

    fn keep(&mut self, next: u32, entries: Vec<Entry>) -> Result<(), LogError> {
        let is_changed = entries.len() != self.entries.len()
            || entries.iter().zip(&self.entries).any(|(new, old)| new.retired != old.retired);
        if is_changed {
            self.twin.save(&encode(next, &entries))?;
            self.next = next;
            self.entries = entries;
        }
        Ok(())
    }
}

fn encode(next: u32, entries: &[Entry]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&next.to_le_bytes());
    body.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for Entry { id, retired, identity } in entries {
        body.extend_from_slice(&id.0.to_le_bytes());
        body.push(if *retired { RETIRED } else { 0 });
        body.extend_from_slice(&identity.fingerprint);
        for text in [&identity.name, &identity.kind] {
            body.extend_from_slice(&(text.len() as u16).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
    }
    body
}

fn decode(body: &[u8]) -> Option<(u32, Vec<Entry>)> {
    let mut fields = Fields(body);
    let next = fields.u32()?;
    let mut entries = Vec::new();
    for _ in 0..fields.u32()? {
        let id = StableId(fields.u32()?);
        let [flags] = fields.array()?;
        let fingerprint = fields.array()?;
        let (name, kind) = (fields.text()?, fields.text()?);
        let identity = Identity { name, kind, fingerprint };
        entries.push(Entry { id, retired: flags & RETIRED != 0, identity });
    }
    Some((next, entries))
}
