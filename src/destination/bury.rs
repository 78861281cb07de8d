//! What fails for good becomes dead letters before it is counted as dropped; if it was a row of a
//! warehouse, that is noted as well.

use std::collections::HashMap;

use super::attempt::Shared;
use super::batch::Batch;
use super::erase::erase;
use crate::dead_letters::{DeadLetters, Letters, LettersWriter, Reason, rejection};
use crate::log::StableId;
use crate::route::SourceId;

impl Shared {
    /// Stores the events of `batches` as dead letters, and returns when that is durable; at once where
    /// there are none. What was erased is taken out of them before. It may be cancelled.
    pub(super) async fn bury(&self, reason: Reason, why: &str, batches: &mut [Batch]) {
        self.note_rows(batches).await;
        let (Some(dead_letters), Some(id)) = (&self.dead_letters, self.outlet.stable()) else {
            return;
        };
        let bytes = batches.iter().map(Batch::bytes).sum();
        let _room = dead_letters.room(bytes).await;
        loop {
            let turn = dead_letters.turn().await;
            // Not held while they are stored: whoever waits for older ones would wait for the disk.
            let erasures = self.erasures.load();
            for batch in &mut *batches {
                erase(batch, &erasures, &self.keys, self.outlet.counters()).await;
            }
            drop(erasures);
            let letters = self.letters(dead_letters, id, reason, why, batches);
            if dead_letters.keep(letters, turn).await {
                return;
            }
        }
    }

    /// Notes which rows of warehouses are among the events, durably.
    async fn note_rows(&self, batches: &[Batch]) {
        let (Some(rejections), Some(id)) = (&self.rejections, self.outlet.stable()) else { return };
        let at = jiff::Timestamp::now().to_string();
        // Together: a write to the disk for each would take longer than finding them.
        let mut noted: HashMap<SourceId, Vec<String>> = HashMap::new();
        for piece in batches.iter().flat_map(Batch::pieces) {
            let mut start = 0;
            for run in piece.runs() {
                let end = run.end as usize;
                if rejections.of(run.source).is_some() {
                    let lines = piece.lines()[start..end].split_inclusive(|byte| *byte == b'\n');
                    let lines = lines.filter_map(|line| rejection(line, id, &at));
                    noted.entry(run.source).or_default().extend(lines);
                }
                start = end;
            }
        }
        for (source, lines) in noted {
            if let Some(model) = rejections.of(source) {
                model.add(lines).await;
            }
        }
    }

    fn letters(
        &self,
        dead_letters: &DeadLetters,
        id: StableId,
        reason: Reason,
        why: &str,
        batches: &[Batch],
    ) -> Letters {
        let plan = self.plans.load();
        let table = plan.table();
        let mut writer = LettersWriter::new(Some(id), table.version(), table.hash());
        for piece in batches.iter().flat_map(Batch::pieces) {
            let (lines, mut at) = (piece.lines(), 0);
            for run in piece.runs() {
                let its = &lines[at..run.end as usize];
                at = run.end as usize;
                let source = dead_letters.source(run.source);
                writer.begin(source, reason, why, run.nature, run.received_at);
                let ends = its.split_inclusive(|byte| *byte == b'\n');
                ends.for_each(|line| writer.push(line.strip_suffix(b"\n").unwrap_or(line)));
            }
        }
        writer.take()
    }
}
