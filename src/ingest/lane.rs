//! The way from a connection to its worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, PAGE_BYTES, Room};
use super::buffers::READ_BYTES;
use super::frame::{Frame, Report};
use super::framing::{Cut, Run};
use super::tails::Tails;
use crate::buffer::Buffers;
use crate::dead_letters::DeadLetters;
use crate::metrics::SourceCounters;
use crate::parse::{PADDING, RejectReason};
use crate::route::SourceId;

/// The worker threads, one per shard.
pub trait Workers: Send + Sync + 'static {
    /// Hands a frame over. It never waits: there is a place for every frame that the budget admits.
    ///
    /// # Errors
    /// The workers are gone; the frame comes back.
    fn send(&self, shard: usize, frame: Frame) -> Result<(), Frame>;

    /// How many shards there are; at least one.
    fn shards(&self) -> usize;
}

/// What a source needs from the rest of the daemon.
#[derive(Clone)]
pub struct Context {
    /// Which source it is.
    pub source: SourceId,
    /// Where it counts what workers do not see.
    pub counters: Arc<SourceCounters>,
    /// Room for bytes that are read; shared by all sources.
    pub budget: Budget,
    /// Room for unfinished lines; shared by all sources.
    pub tails: Tails,
    /// Whether the log is full, so that nothing can be acknowledged; always false without one.
    pub full: watch::Receiver<bool>,
    /// Who judges.
    pub workers: Arc<dyn Workers>,
    /// Longest line that is an event.
    pub max_event_bytes: usize,
    /// Where rejected lines go, if they are kept.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Cancelled to make it drain.
    pub stop: CancellationToken,
}

/// The workers are gone, which happens only after a drain was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkersGone;

/// Something whose lines must be accounted for, in the order of the lines.
#[derive(Debug)]
pub(super) enum Piece {
    /// A frame, and where its report comes out.
    Frame(oneshot::Receiver<Report>),
    /// A line that was too long to be kept.
    Oversized,
    /// Blank lines that were left out.
    Blank(u64),
}

/// What one connection sends its frames through: all of them to one shard.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) context: Arc<Context>,
    pub(super) buffers: Buffers,
    pub(super) shard: usize,
}

impl Lane {
    /// Room for a read of up to `read_bytes`, and for the unfinished line that it may complete.
    pub(super) async fn room(&self, read_bytes: usize, tail_bytes: usize) -> Room {
        self.context.budget.room(read_bytes + tail_bytes).await
    }

    /// Sends and counts what was cut from one read, and gives back what is left of its room.
    ///
    /// With `pieces`, the worker is asked for a report of each frame.
    pub(super) fn send(
        &self,
        cuts: &mut Vec<Cut>,
        mut room: Room,
        received_at: Instant,
        mut pieces: Option<&mut VecDeque<Piece>>,
    ) -> Result<(), WorkersGone> {
        let mut frames = 0;
        let mut bytes = 0;
        for cut in cuts.iter_mut() {
            if let Cut::Lines(run) = cut {
                self.fit(run);
                frames += 1;
                bytes += run.bytes.capacity() + PADDING;
            }
        }
        // At least a page for each: the workers' queues have a place for every page.
        room.shrink(bytes.max(frames * PAGE_BYTES));
        let room = Arc::new(room);
        for cut in cuts.drain(..) {
            let piece = match cut {
                Cut::Lines(run) => self.send_run(run, &room, received_at, pieces.is_some())?,
                Cut::Oversized { bytes, head } => {
                    self.count_oversized(bytes, Some(&head), received_at);
                    Some(Piece::Oversized)
                }
                Cut::Blank { lines } => Some(Piece::Blank(lines)),
            };
            if let (Some(pieces), Some(piece)) = (pieces.as_deref_mut(), piece) {
                pieces.push_back(piece);
            }
        }
        Ok(())
    }

    fn send_run(
        &self,
        run: Run,
        room: &Arc<Room>,
        received_at: Instant,
        report: bool,
    ) -> Result<Option<Piece>, WorkersGone> {
        let mut frame = Frame::new(run, self.context.source, received_at, Arc::clone(room))
            .returning_to(&self.buffers);
        let mut piece = None;
        if report {
            let (sender, receiver) = oneshot::channel();
            frame.reply = Some(sender);
            piece = Some(Piece::Frame(receiver));
        }
        match self.context.workers.send(self.shard, frame) {
            Ok(()) => Ok(piece),
            Err(_) => Err(WorkersGone),
        }
    }

    /// Moves a short run out of a long buffer, so that it does not pin it.
    pub(super) fn fit(&self, run: &mut Run) {
        let len = run.lines().len();
        if run.bytes.capacity() < READ_BYTES || len * 2 >= READ_BYTES {
            return;
        }
        let mut bytes = Vec::with_capacity(len + PADDING);
        bytes.extend_from_slice(run.lines());
        let large = std::mem::replace(run, bytes.into());
        self.buffers.give_back(large.bytes);
    }

    /// Counts a line that was too long; its beginning may become a dead letter.
    pub(super) fn count_oversized(&self, bytes: u64, head: Option<&[u8]>, received_at: Instant) {
        let counters = &self.context.counters;
        counters.received.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(bytes, Relaxed);
        counters.add_rejected(RejectReason::TooLarge, 1);
        if let Some((dead_letters, head)) = self.context.dead_letters.as_ref().zip(head) {
            dead_letters.offer_oversized(self.context.source, bytes, head, received_at);
        }
    }
}
