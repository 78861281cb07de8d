//! What a worker writes for the log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tokio::sync::oneshot;

use super::plan::Plan;
use crate::clock::unix_ms_of;
use crate::commit::{Answer, Intake, Portion};
use crate::consent::{Decision, Nature, Recipients};
use crate::destination::{Outlet, Parcel};
use crate::ingest::Report;
use crate::log::{BlockBuilder, BlockFull, BlockHead, StableId};
use crate::route::SourceId;

/// The blocks being written, and what goes with them.
pub(super) struct Stored {
    intake: Intake,
    sources: Arc<[String]>,
    builder: BlockBuilder,
    /// Whose block is being written.
    head: Option<(SourceId, Nature, Instant)>,
    portion: Portion,
    /// Bytes of chunks that wait for the log.
    sealed_bytes: usize,
    ids: Vec<StableId>,
}

impl Stored {
    pub(super) fn new(intake: Intake, sources: Arc<[String]>) -> Self {
        Self {
            intake,
            sources,
            builder: BlockBuilder::new(),
            head: None,
            portion: Portion::default(),
            sealed_bytes: 0,
            ids: Vec::new(),
        }
    }

    /// Writes the line with its decision; one that nobody receives is not stored.
    ///
    /// # Errors
    /// [`BlockFull`]: [`Self::send`] makes room.
    #[inline]
    pub(super) fn store(
        &mut self,
        decision: &Decision<'_>,
        plan: &Plan,
        source: SourceId,
        received_at: Instant,
    ) -> Result<(), BlockFull> {
        self.ids.clear();
        let (mut line, mut nature) = (None, Nature::Event);
        for permit in decision.permits() {
            let Recipients::Class { class, except } = permit.recipients() else {
                continue;
            };
            (line, nature) = (Some(permit.line()), permit.nature());
            let members = &plan.table().classes()[usize::from(class.0)].members;
            let members = members
                .iter()
                .filter(|member| except.is_none_or(|except| !except.contains(member.0.into())));
            let outlets = members.map(|member| &plan.outlets()[usize::from(member.0)]);
            self.ids.extend(outlets.filter_map(|outlet| outlet.stable()));
        }
        let Some(line) = line else {
            return Ok(());
        };
        self.ids.sort_unstable();
        if self.head != Some((source, nature, received_at)) {
            self.begin(plan, source, nature, received_at);
        }
        let number = self.builder.decision(&self.ids)?;
        self.builder.push(number, line)
    }

    fn begin(&mut self, plan: &Plan, source: SourceId, nature: Nature, received_at: Instant) {
        self.finish_block();
        let mut table_hash = [0; 16];
        let hash = plan.table().hash().as_bytes();
        let len = hash.len().min(table_hash.len());
        table_hash[..len].copy_from_slice(&hash[..len]);
        let head = BlockHead {
            source: self.sources.get(usize::from(source.0)).map_or("", String::as_str),
            reason: "",
            deletions: nature == Nature::Deletion,
            received_unix_ms: unix_ms_of(received_at),
            table_version: plan.table().version(),
            table_hash,
        };
        self.builder.begin(&head, self.intake.buffer());
        self.head = Some((source, nature, received_at));
    }

    fn finish_block(&mut self) {
        if self.head.take().is_some() {
            self.portion.blocks.extend(self.builder.finish());
        }
    }

    /// Adds what goes to a destination once it is stored.
    pub(super) fn add(&mut self, outlet: &Arc<Outlet>, parcel: Parcel) {
        self.portion.parcels.push((Arc::clone(outlet), parcel));
    }

    /// Notes that a chunk of so many bytes waits.
    pub(super) fn add_sealed(&mut self, bytes: usize) {
        self.sealed_bytes += bytes;
    }

    /// Bytes of chunks that wait.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed_bytes
    }

    /// Adds whom to answer once everything so far is stored.
    pub(super) fn add_answer(&mut self, report: Report, to: oneshot::Sender<Report>) {
        self.portion.answers.push(Answer { report, to });
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        !self.portion.answers.is_empty()
    }

    /// Sends everything to the log.
    pub(super) fn send(&mut self, progress: &AtomicU64) {
        self.finish_block();
        self.sealed_bytes = 0;
        self.intake.send(std::mem::take(&mut self.portion), progress);
    }
}
