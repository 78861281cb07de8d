//! What was stored elsewhere and comes into the log once more.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::catch_up::CHUNK_BYTES;
use super::portion::{Answer, Portion};
use crate::clock::instant_of;
use crate::consent::Nature;
use crate::destination::{Chunk, Outlet, Parcel};
use crate::ingest::Report;
use crate::log::{BlockBuilder, BlockHead};
use crate::route::RoutingTable;

/// Lines that go to one destination once more.
#[derive(Debug)]
pub struct Again<'l> {
    /// The name of their source.
    pub source: &'l str,
    /// What they are to the rules.
    pub nature: Nature,
    /// When they were read, in milliseconds since 1970.
    pub received_unix_ms: u64,
    /// Without their line ends.
    pub lines: Vec<&'l [u8]>,
}

impl Portion {
    /// A portion of lines for `outlet` alone. No table in force has permitted them: every one is judged
    /// before it goes out. The second is told when they are stored; dropped if they are not.
    #[must_use]
    pub fn of_again(
        runs: &[Again<'_>],
        outlet: &Arc<Outlet>,
        table: &RoutingTable,
    ) -> (Self, oneshot::Receiver<Report>) {
        let (to, stored) = oneshot::channel();
        let answers = vec![Answer { report: Report::default(), to }];
        let mut portion = Self { answers, ..Self::default() };
        for run in runs {
            portion.add_run(run, outlet, table);
        }
        (portion, stored)
    }

    fn add_run(&mut self, run: &Again<'_>, outlet: &Arc<Outlet>, table: &RoutingTable) {
        let head = BlockHead {
            source: run.source,
            reason: "",
            deletions: run.nature == Nature::Deletion,
            received_unix_ms: run.received_unix_ms,
            // No table: whoever reads it back must not take it for permitted either.
            table_version: 0,
            table_hash: [0; 16],
        };
        let source = table.source(run.source).unwrap_or(table.any_source());
        let received_at = instant_of(run.received_unix_ms);
        let mut builder = BlockBuilder::new();
        let (mut bytes, mut events) = (Vec::new(), 0);
        let mut lines = run.lines.iter().peekable();
        builder.begin(&head, Vec::new());
        while let Some(line) = lines.next() {
            let push = |builder: &mut BlockBuilder| {
                let decision = builder.decision(outlet.stable().as_slice())?;
                builder.push(decision, line)
            };
            if push(&mut builder).is_err() {
                self.blocks.extend(builder.finish());
                builder.begin(&head, Vec::new());
                // An empty block holds any one event.
                let _ = push(&mut builder);
            }
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
            events += 1;
            if bytes.len() >= CHUNK_BYTES || lines.peek().is_none() {
                let whole = std::iter::once(0..bytes.len() as u32).collect();
                let bytes = std::mem::take(&mut bytes);
                let chunk = Chunk::stored(bytes, events, None, source, run.nature, received_at);
                let parcel = Parcel { chunk: Arc::new(chunk), ranges: whole, events, charge: None };
                self.parcels.push((Arc::clone(outlet), parcel));
                events = 0;
            }
        }
        self.blocks.extend(builder.finish());
    }
}
