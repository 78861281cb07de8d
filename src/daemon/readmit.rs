//! Lines that were rejected go the way of an event of their source once more.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::ingest::{Budget, Frame, Report, Workers};
use crate::parse::PADDING;
use crate::route::SourceId;
use crate::shard::Intake;

/// The way to the workers.
pub(super) struct Readmit {
    pub(super) budget: Budget,
    pub(super) workers: Intake,
}

impl Readmit {
    /// Has the lines judged; `None` if the daemon stops.
    pub(super) async fn judge(&self, source: SourceId, lines: &[&[u8]]) -> Option<Report> {
        let bytes = lines.iter().map(|line| line.len() + 1).sum::<usize>();
        let room = self.budget.room(bytes + PADDING).await;
        let mut joined = Vec::with_capacity(bytes + PADDING);
        for line in lines {
            joined.extend_from_slice(line);
            joined.push(b'\n');
        }
        let mut frame = Frame::new(joined, source, Instant::now(), Arc::new(room));
        frame.is_replayed = true;
        let (reply, report) = oneshot::channel();
        frame.reply = Some(reply);
        self.workers.send(0, frame).ok()?;
        report.await.ok()
    }
}
