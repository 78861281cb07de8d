//! Erasures in both shelves.
//!
//! An erasure is noted first, as a tombstone beside each shelf: from then on whoever reads letters leaves
//! out what it is about. Then the files are written anew, and the tombstone is forgotten. If a crash or
//! the disk comes in between, the note is what is left, for the next start or the next erasure. It holds
//! hashes, not IDs, so letters that can't be read can't be searched for the ID any more: those that are
//! older than the note then go, whoever's they are.

use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed};
use std::sync::{MutexGuard, PoisonError};

use tracing::{info, warn};

use super::keep::{DeadLetters, Shelf};
use super::subject::{Subject, is_held_back};
use crate::clock::unix_ms;
use crate::log::{Folder, LogError, Marks, Position, Tombstones};

/// An erasure that is noted, and not yet carried out.
#[derive(Debug, Default)]
pub struct Noted {
    user: Option<String>,
    anonymous: Option<String>,
    /// What else is noted, by shelf.
    others: [Marks; 2],
}

impl DeadLetters {
    /// Notes that the letters of this user, or of this anonymous user, are to be erased. Durable when
    /// it returns. Blocks: not for the async runtime's own threads.
    ///
    /// # Errors
    /// [`LogError`]; it may be noted for one shelf then.
    pub fn note_erasure(
        &self,
        user: Option<String>,
        anonymous: Option<String>,
    ) -> Result<Noted, LogError> {
        let mut noted = Noted { user, anonymous, ..Noted::default() };
        let user = noted.user.as_deref().map(str::as_bytes);
        let anonymous = noted.anonymous.as_deref().map(str::as_bytes);
        for (shelf, others) in Shelf::ALL.into_iter().zip(&mut noted.others) {
            let mut tombstones = self.tombstones(shelf);
            // This one's own, from a try before, is what the ID itself is better for.
            *others = tombstones.marks().without(user, anonymous);
            // To the end of the segment, which is closed when it is carried out: what is stored until
            // then is erased, too.
            let end = Position(self.shelf(shelf).shared.end.load(Acquire));
            let before = Position::new(end.segment().saturating_add(1), 0);
            let erased = tombstones.erase(user, anonymous, before, unix_ms());
            drop(tombstones);
            self.show_erasures();
            erased?;
        }
        Ok(noted)
    }

    /// Removes every letter that is, or may be, of whom the erasure is about, and what was noted before
    /// and not carried out; how many letters. Letters that are stored while it runs are not looked at.
    /// One at a time: see [`Self::exclusive`]. Blocks, too.
    ///
    /// # Errors
    /// [`LogError`]; some may be removed then, and the others are still held back.
    pub fn carry_out(&self, noted: &Noted) -> Result<u64, LogError> {
        let subject = Subject {
            user: noted.user.as_deref().map(str::as_bytes),
            anonymous: noted.anonymous.as_deref().map(str::as_bytes),
        };
        let erase = |(shelf, others): (Shelf, &Marks)| {
            let erased = self.rewrite(shelf, |block, line| {
                subject.may_own(line) || is_held_back(others, line, block.position())
            })?;
            let forgotten = self.tombstones(shelf).forget_before(Position(u64::MAX));
            self.show_erasures();
            forgotten.map(|()| erased)
        };
        let erased: Vec<Result<u64, LogError>> =
            Shelf::ALL.into_iter().zip(&noted.others).map(erase).collect();
        erased.into_iter().sum()
    }

    /// Carries out what was noted before a crash. Blocks, too. What fails is left for the next erasure,
    /// or the next start: it is held back.
    pub fn resume_erasures(&self) {
        let others = Shelf::ALL.map(|shelf| self.noted(shelf));
        if others.iter().all(Marks::is_empty) {
            return;
        }
        match self.carry_out(&Noted { others, ..Noted::default() }) {
            Ok(letters) => info!(letters, "an erasure was carried out in the dead letters"),
            Err(error) => warn!("erased dead letters are not yet removed from the disk: {error}"),
        }
    }

    /// The erasures that are noted for a shelf: see [`is_held_back`].
    #[must_use]
    pub fn noted(&self, shelf: Shelf) -> Marks {
        self.tombstones(shelf).marks().clone()
    }

    /// Most IDs are noted for both shelves.
    pub(super) fn show_erasures(&self) {
        let noted = Shelf::ALL.map(|shelf| self.tombstones(shelf).marks().len() as u64);
        let most = noted.into_iter().max().unwrap_or(0);
        self.counters().erasures_pending.store(most, Relaxed);
    }

    fn tombstones(&self, shelf: Shelf) -> MutexGuard<'_, Tombstones> {
        self.shelf(shelf).tombstones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The erasures that are noted beside the log or the shelf in a folder that is only looked at.
///
/// # Errors
/// [`LogError`].
pub fn noted_in(folder: &Folder) -> Result<Marks, LogError> {
    // The key matters to those who add something only.
    Ok(Tombstones::open(folder, [0; 32])?.marks().clone())
}
