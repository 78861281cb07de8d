//! Parts are made ready and announced ahead of being sent, on a thread of its own: who sends never waits for
//! the disk.
//!
//! What always holds: a part is given out only when it is durably noted that it is about to be sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::channel::Sender;

use super::compare::Comparison;
use super::link::Ended;
use super::part::Part;
use super::slice::{Slice, Slicing};
use super::store::StateFile;
use crate::warehouse::Blank;

/// Bytes of changes that are announced together, and at most in one slice,
const CHANGES_BYTES: usize = 4 * 1024 * 1024;
/// and rows that are known.
const ROWS: usize = 16 * 1024;

/// How keys are sliced, so that a slice has no more than is announced together.
pub(super) fn slicing(compared: &Comparison<'_>, known_rows: u64) -> Slicing {
    let changes = Slicing::fitting(compared.largest_changes() as u64, CHANGES_BYTES as u64);
    // Keys are hashes: they are spread evenly.
    changes.and(Slicing::fitting(known_rows / 256, ROWS as u64))
}

/// What makes parts ready.
pub(super) struct Announcer<'a> {
    pub(super) compared: &'a Comparison<'a>,
    pub(super) file: Arc<StateFile>,
    pub(super) slicing: Slicing,
    /// The destinations that rows can reach now.
    pub(super) on: &'a HashSet<u32>,
    /// An event, if all that grant the same are decided alike.
    pub(super) blank: Option<Blank>,
    /// How many syncs began to send, this one included.
    pub(super) begun: u64,
    /// Whether the grants that are known are of the same categories.
    pub(super) same_categories: bool,
    /// No id stands twice, and no row is gone.
    pub(super) is_plain: bool,
    /// Nothing is noted.
    pub(super) dry_run: bool,
}

impl Announcer<'_> {
    /// Gives out every part in which there is something to do, until nobody takes them any more.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn run(&self, ready: &Sender<Vec<Part>>, is_over: &AtomicBool) -> Result<(), Ended> {
        let mut slices = self.slicing.all();
        while !is_over.load(Relaxed) {
            let parts = self.next(&mut slices)?;
            if parts.is_empty() {
                break;
            }
            self.announce(&parts)?;
            if ready.send(parts).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The next parts, as many as are announced together.
    fn next(&self, slices: &mut impl Iterator<Item = Slice>) -> Result<Vec<Part>, Ended> {
        let snapshot = self.file.snapshot()?;
        let (mut parts, mut bytes, mut rows) = (Vec::new(), 0, 0);
        for slice in slices {
            let (is_plain, same_categories) = (self.is_plain, self.same_categories);
            let part = Part::read(slice, self.compared, is_plain, same_categories, &snapshot)?;
            let Some(part) = part else { continue };
            let size = part.size();
            bytes += size.0;
            rows += size.1;
            parts.push(part);
            if bytes >= CHANGES_BYTES || rows >= ROWS {
                break;
            }
        }
        Ok(parts)
    }

    /// Notes what is about to be sent: if this sync dies, the next one knows of it.
    fn announce(&self, parts: &[Part]) -> Result<(), Ended> {
        if self.dry_run {
            return Ok(());
        }
        let note = |part: &Part| (part.slice, part.note(self.on, self.blank.as_ref()));
        let notes: Vec<_> = parts.iter().map(note).filter(|(_, note)| !note.is_empty()).collect();
        if notes.is_empty() {
            return Ok(());
        }
        // What is sent from now on differs from what later syncs send.
        Ok(self.file.announce(&notes, self.begun)?)
    }
}
