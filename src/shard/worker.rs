//! One shard's thread: receive, judge, append, count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::outputs::Outputs;
use super::plan::Plan;
use super::rejected::Rejected;
use super::stored::Stored;
use super::tally::{SourceTally, Tally};
use crate::consent::Judge;
use crate::ingest::{Frame, LISTED_MAX, Report};
use crate::metrics::SourceCounters;
use crate::parse::Lines;
use crate::route::Handle;

mod section;

/// Without a pause in the queue, everything is settled after so many frames: this bounds how long a
/// line can wait in the chunk of a class that few events reach.
const FRAMES_UNSETTLED_MAX: u32 = 32;

/// How long lines may wait for others of their class: it lets chunks fill up under a stream whose
/// frames come a little slower than they are judged.
const LINGER: Duration = Duration::from_millis(1);

/// How long a worker sleeps at most before it shows that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A worker and what it reuses from frame to frame.
pub(super) struct Worker {
    frames: Receiver<Frame>,
    sources: Arc<[Arc<SourceCounters>]>,
    progress: Arc<AtomicU64>,
    judge: Judge,
    tally: Tally,
    outputs: Outputs,
    /// Judges what must not be counted; made when it is first needed.
    rehearsal: Option<Box<Judge>>,
    /// Keeps what is rejected, if that is wanted.
    rejected: Option<Rejected>,
    frames_unsettled: u32,
}

impl Worker {
    pub(super) fn new(
        frames: Receiver<Frame>,
        plans: &Handle<Plan>,
        sources: Arc<[Arc<SourceCounters>]>,
        progress: Arc<AtomicU64>,
        max_event_bytes: usize,
        stored: Option<Stored>,
        rejected: Option<Rejected>,
    ) -> Self {
        let outputs = Outputs::new(plans, Arc::clone(&progress), stored);
        let table = outputs.plan().table();
        Self {
            frames,
            sources,
            progress,
            judge: Judge::new(table, max_event_bytes),
            tally: Tally::new(table),
            outputs,
            rehearsal: None,
            rejected,
            frames_unsettled: 0,
        }
    }

    /// Runs until every sender of frames is gone and every frame is settled.
    pub(super) fn run(mut self) {
        loop {
            // Whoever waits for the log need not wait for others of a class as well.
            let linger = if self.outputs.is_awaited() { Duration::ZERO } else { LINGER };
            let frame = match self.frames.recv_timeout(linger) {
                Ok(frame) => frame,
                Err(_) => {
                    self.settle();
                    match self.frames.recv_timeout(HEARTBEAT) {
                        Ok(frame) => frame,
                        Err(RecvTimeoutError::Timeout) => {
                            self.follow_plan();
                            self.progress.fetch_add(1, Relaxed);
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            self.take_up(frame);
            self.progress.fetch_add(1, Relaxed);
        }
        self.settle();
    }

    /// Judges every line of a frame. Public to the crate's benches through [`super::WorkerPath`].
    pub(super) fn take_up(&mut self, mut frame: Frame) {
        self.follow_plan();
        let mut report = Report::default();
        match frame.section().cloned() {
            None => self.judge_lines(&mut frame, &mut report),
            Some(section) => self.judge_section(&mut frame, &section, &mut report),
        }
        self.frames_unsettled += 1;
        if let Some(reply) = frame.reply.take() {
            // What is answered is counted first, so that the sender finds it in the metrics.
            self.count();
            if report.lines == 0
                && let Some(rejected) = &mut self.rejected
            {
                // It was sent to learn when everything before it has gone its way.
                rejected.offer();
            }
            self.outputs.answer(report, reply);
        }
        if self.frames_unsettled >= FRAMES_UNSETTLED_MAX {
            self.settle();
        }
    }

    fn judge_lines(&mut self, frame: &mut Frame, report: &mut Report) {
        let plan = Arc::clone(self.outputs.plan());
        let table = plan.table();
        let (source, received_at) = (frame.source, frame.received_at);
        let counters = &self.sources[usize::from(source.0)];
        // A list that nobody will read would be an allocation for nothing.
        let listed_max = if frame.reply.is_some() { LISTED_MAX } else { 0 };
        let is_replayed = frame.is_replayed;
        let mut counts = SourceTally::default();
        let (bytes, end) = frame.bytes();
        let mut lines = Lines::new(end);
        while let Some(line) = lines.next(bytes) {
            let number = report.lines;
            report.lines += 1;
            if line.is_blank(bytes) {
                continue;
            }
            counts.received += 1;
            counts.bytes += line.len as u64;
            let buffer = &mut bytes[line.start..];
            let tally = &mut self.tally;
            let decision =
                match self.judge.judge(buffer, line.len, source, table, |count| tally.add(count)) {
                    Ok(decision) => decision,
                    Err(rejection) => {
                        report.rejected += 1;
                        counters.add_rejected(rejection.reason, 1);
                        if let Some(rejected) = self.rejected.as_mut().filter(|_| !is_replayed) {
                            let line = &bytes[line.start..line.start + line.len];
                            rejected.add(source, rejection, line, received_at);
                        }
                        if report.listed.len() < listed_max {
                            report.listed.push((number, rejection.reason));
                        }
                        continue;
                    }
                };
            counts.unknown += u64::from(decision.unknown_categories());
            report.accepted += 1;
            // Whoever looks while the worker waits finds what was judged.
            let before_waiting = &mut || counts.flush(counters);
            self.outputs.append(&decision, line.len, source, received_at, before_waiting);
            if decision.switches_off() {
                tally.add_switched_off(&decision);
            }
        }
        counts.flush(counters);
    }

    /// Adds what was counted to the shared counters.
    fn count(&mut self) {
        let tally = &mut self.tally;
        self.judge.drain(|counted| tally.add(counted));
        tally.flush(self.outputs.plan());
    }

    /// Counts, and hands every open chunk over.
    fn settle(&mut self) {
        self.frames_unsettled = 0;
        self.count();
        self.outputs.hand_over_all(&mut || {});
        if let Some(rejected) = &mut self.rejected {
            rejected.offer();
        }
    }

    /// Moves to the plan in force. What was judged under the last one is settled under it.
    fn follow_plan(&mut self) {
        if !self.outputs.is_outdated() {
            return;
        }
        self.settle();
        self.outputs.follow_plan();
        let table = self.outputs.plan().table();
        self.judge.change_table(table, |_| {});
        self.tally = Tally::new(table);
    }
}
