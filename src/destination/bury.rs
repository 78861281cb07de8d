//! What fails for good becomes dead letters before it is counted as dropped.

use super::attempt::Shared;
use super::batch::Batch;
use crate::dead_letters::{LettersWriter, Reason};

impl Shared {
    /// Stores the events of `batches` as dead letters, and returns when that is durable; at once where
    /// there are none. Nothing of the batches changes: it may be cancelled.
    pub(super) async fn bury(&self, reason: Reason, why: &str, batches: &[Batch]) {
        let (Some(dead_letters), Some(id)) = (&self.dead_letters, self.outlet.stable()) else {
            return;
        };
        let bytes = batches.iter().map(Batch::bytes).sum();
        let room = dead_letters.room(bytes).await;
        let letters = {
            let plan = self.plans.load();
            let table = plan.table();
            let mut writer = LettersWriter::new(Some(id), table.version(), table.hash());
            for piece in batches.iter().flat_map(Batch::pieces) {
                let (lines, mut at) = (piece.lines(), 0);
                for run in piece.runs() {
                    let its = &lines[at..run.end as usize];
                    at = run.end as usize;
                    writer.begin(dead_letters.source(run.source), reason, why, run.received_at);
                    let ends = its.split_inclusive(|byte| *byte == b'\n');
                    ends.for_each(|line| writer.push(line.strip_suffix(b"\n").unwrap_or(line)));
                }
            }
            writer.take()
        };
        dead_letters.keep(letters).await;
        drop(room);
    }
}
