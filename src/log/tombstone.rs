//! Erasures: whose events, received before which position, may not be delivered any more.
//!
//! Kept in two copies (see `twin.rs`), `tombstones.a` and `tombstones.b`, in the folder of the log that
//! they are about, whose positions they name. The body, little-endian: a key (32 bytes), then per
//! tombstone the kind of ID (1 byte; 0 user, 1 anonymous), the first 16 bytes of the ID's BLAKE3 hash
//! under the key, the position (8) and when it was asked for (8).
//!
//! IDs are hashed under a key of this file because the list of those who asked to be forgotten is a
//! list nobody should be able to read: the file says nothing without guessing, the hashes of another
//! installation do not compare, and together with the tombstones the last trace goes away.

use std::collections::HashMap;

use super::error::LogError;
use super::folder::Folder;
use super::format::Fields;
use super::position::Position;
use super::twin::{Kept, Twin};

const MAGIC: &[u8; 8] = b"CNSTDTMB";

/// The erasures that are not yet carried out everywhere.
#[derive(Debug)]
pub struct Tombstones {
    twin: Twin,
    marks: Marks,
}

/// Whose events are erased, apart from the file that says so.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Marks {
    key: [u8; 32],
    marks: HashMap<Subject, Mark>,
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").field("len", &self.marks.len()).finish_non_exhaustive()
    }
}

impl Marks {
    /// Whether an event that is stored at `position` and carries these IDs was erased.
    #[must_use]
    pub fn is_erased(
        &self,
        user: Option<&[u8]>,
        anonymous: Option<&[u8]>,
        position: Position,
    ) -> bool {
        // Nearly always, and then nothing is hashed.
        !self.marks.is_empty()
            && self
                .subjects(user, anonymous)
                .any(|subject| self.marks.get(&subject).is_some_and(|mark| position < mark.before))
    }

    /// No event at or behind this position was erased.
    #[must_use]
    pub fn highest(&self) -> Position {
        self.marks.values().map(|mark| mark.before).max().unwrap_or_default()
    }

    /// These, except for those of this user ID and this anonymous ID.
    #[must_use]
    pub fn without(&self, user: Option<&[u8]>, anonymous: Option<&[u8]>) -> Self {
        let mut others = self.clone();
        for subject in self.subjects(user, anonymous) {
            others.marks.remove(&subject);
        }
        others
    }

    /// How many IDs are erased.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    fn subjects(
        &self,
        user: Option<&[u8]>,
        anonymous: Option<&[u8]>,
    ) -> impl Iterator<Item = Subject> + use<> {
        let subjects = [(USER, user), (ANONYMOUS, anonymous)].map(|(kind, id)| {
            let mut hash = blake3::Hasher::new_keyed(&self.key);
            hash.update(&[kind]).update(id?);
            Some((kind, *hash.finalize().as_bytes().first_chunk()?))
        });
        subjects.into_iter().flatten()
    }
}

/// The kind of an ID and its keyed hash.
type Subject = (u8, [u8; 16]);

const USER: u8 = 0;
const ANONYMOUS: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    before: Position,
    asked_unix_ms: u64,
}

impl Tombstones {
    /// Reads the erasures. `fresh_key` is random; it is used if there are none yet.
    ///
    /// # Errors
    /// [`LogError::Lost`] if both copies are damaged; [`LogError::Io`].
    pub fn open(folder: &Folder, fresh_key: [u8; 32]) -> Result<Self, LogError> {
        let (twin, kept) = Twin::open(folder, "tombstones", MAGIC)?;
        let state = match kept {
            Kept::State(body) => decode(&body),
            Kept::Nothing => Some((fresh_key, HashMap::new())),
            Kept::Damaged => None,
        };
        let Some((key, marks)) = state else {
            return Err(LogError::Lost {
                path: folder.path.join("tombstones.a"),
                advice: "it says whose events must not be delivered any more; restore it, or remove \
                         both copies and ask for the erasures again",
            });
        };
        Ok(Self { twin, marks: Marks { key, marks } })
    }

    /// Erases the events that were stored before `before` and carry this user ID or this anonymous
    /// ID. Durable when it returns.
    ///
    /// # Errors
    /// [`LogError`]; nothing changed then.
    pub fn erase(
        &mut self,
        user: Option<&[u8]>,
        anonymous: Option<&[u8]>,
        before: Position,
        asked_unix_ms: u64,
    ) -> Result<(), LogError> {
        let mut marks = self.marks.marks.clone();
        for subject in self.marks.subjects(user, anonymous) {
            let mark = Mark { before, asked_unix_ms };
            let kept = marks.entry(subject).or_insert(mark);
            if before > kept.before {
                *kept = mark;
            }
        }
        self.keep(marks)
    }

    /// Whether an event that is stored at `position` and carries these IDs was erased.
    #[must_use]
    pub fn is_erased(
        &self,
        user: Option<&[u8]>,
        anonymous: Option<&[u8]>,
        position: Position,
    ) -> bool {
        self.marks.is_erased(user, anonymous, position)
    }

    /// Whose events are erased.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Forgets the erasures of events before `first`, the first position that is still stored.
    ///
    /// # Errors
    /// [`LogError`]; nothing changed then.
    pub fn forget_before(&mut self, first: Position) -> Result<(), LogError> {
        let mut marks = self.marks.marks.clone();
        marks.retain(|_, mark| mark.before > first);
        self.keep(marks)
    }

    fn keep(&mut self, marks: HashMap<Subject, Mark>) -> Result<(), LogError> {
        if marks != self.marks.marks {
            self.twin.save(&encode(&self.marks.key, &marks))?;
            self.marks.marks = marks;
        }
        Ok(())
    }

    /// When the oldest erasure that is kept was asked for, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_unix_ms(&self) -> Option<u64> {
        self.marks.marks.values().map(|mark| mark.asked_unix_ms).min()
    }
}

fn encode(key: &[u8; 32], marks: &HashMap<Subject, Mark>) -> Vec<u8> {
    let mut body = key.to_vec();
    for ((kind, hash), mark) in marks {
        body.push(*kind);
        body.extend_from_slice(hash);
        body.extend_from_slice(&mark.before.0.to_le_bytes());
        body.extend_from_slice(&mark.asked_unix_ms.to_le_bytes());
    }
    body
}

fn decode(body: &[u8]) -> Option<([u8; 32], HashMap<Subject, Mark>)> {
    let mut fields = Fields(body);
    let key = fields.array()?;
    let mut marks = HashMap::new();
    while !fields.0.is_empty() {
        let [kind] = fields.array()?;
        let hash = fields.array()?;
        let mark = Mark { before: Position(fields.u64()?), asked_unix_ms: fields.u64()? };
        marks.insert((kind, hash), mark);
    }
    Some((key, marks))
}
