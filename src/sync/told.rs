//! What a sync tells about itself: counts, and samples of what went wrong.

use super::change::Kind;
use crate::admin::{Counts, cut};

/// Samples that are kept, and the bytes of each.
const SAMPLES_MAX: usize = 10;
const SAMPLE_BYTES_MAX: usize = 200;

/// The counts of a sync that goes on.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) counts: Counts,
    /// The column of the unique id.
    pub(super) id_column: String,
    /// Whether something is left that the next sync has to look for among all rows.
    pub(super) is_behind: bool,
}

impl Told {
    /// One that begins with nothing, of the same model.
    pub(super) fn another(&self) -> Self {
        Self { id_column: self.id_column.clone(), ..Self::default() }
    }

    /// Adds what was counted of other rows.
    pub(super) fn add(&mut self, other: Self) {
        let counts = &mut self.counts;
        counts.added += other.counts.added;
        counts.updated += other.counts.updated;
        counts.unchanged += other.counts.unchanged;
        counts.skipped += other.counts.skipped;
        self.is_behind |= other.is_behind;
        other.counts.samples.into_iter().for_each(|sample| self.sample(sample));
    }

    pub(super) fn count(&mut self, kind: Kind) {
        *self.of(kind) += 1;
    }

    /// A row that was counted is not sent after all.
    pub(super) fn take_back(&mut self, kind: Kind) {
        let counted = self.of(kind);
        *counted = counted.saturating_sub(1);
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Added => &mut self.counts.added,
            Kind::Updated => &mut self.counts.updated,
            Kind::Unchanged => &mut self.counts.unchanged,
        }
    }

    /// A row is left out.
    pub(super) fn skip(&mut self, why: String) {
        self.counts.skipped += 1;
        self.sample(why);
    }

    /// A row is left out, and is to be looked at again even if it stays as it is.
    pub(super) fn leave(&mut self, why: String) {
        self.is_behind = true;
        self.skip(why);
    }

    /// A row was rejected.
    pub(super) fn fail(&mut self, why: String) {
        self.counts.failed += 1;
        self.sample(why);
    }

    pub(super) fn sample(&mut self, mut what: String) {
        if self.counts.samples.len() < SAMPLES_MAX {
            cut(&mut what, SAMPLE_BYTES_MAX);
            self.counts.samples.push(what);
        }
    }

    /// A row by its id, for people.
    pub(super) fn id(&self, id_json: &[u8]) -> String {
        let mut id = String::from_utf8_lossy(id_json).into_owned();
        cut(&mut id, SAMPLE_BYTES_MAX / 2);
        format!("{} {id}", self.id_column)
    }
}
