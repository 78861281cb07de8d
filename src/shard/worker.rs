//! One shard's thread: receive, judge, append, count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::plan::Plan;
use super::tally::{SourceTally, Tally};
use crate::buffer::Buffers;
use crate::consent::{Judge, Recipients};
use crate::destination::{CHUNK_CAPACITY, Lane, Outlet, Parcel, Refused};
use crate::ingest::{Frame, LISTED_MAX, Report};
use crate::metrics::{DropReason, SourceCounters};
use crate::parse::Lines;
use crate::route::{Handle, Reader};

/// Without a pause in the queue, everything is settled after so many frames: this bounds how long a
/// line can wait in the chunk of a class that few events reach.
const FRAMES_UNSETTLED_MAX: u32 = 32;

/// How long lines may wait for others of their class: it lets chunks fill up under a stream whose
/// frames come a little slower than they are judged.
const LINGER: Duration = Duration::from_millis(1);

/// Everything is settled once the chunks being written hold so much together.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Chunk buffers that a worker keeps for the next chunks.
const SPARE_CHUNKS_MAX: usize = 64;

/// How long a worker sleeps at most before it shows that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long it waits for a destination's room before it looks around.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// A worker and what it reuses from frame to frame.
pub(super) struct Worker {
    frames: Receiver<Frame>,
    plans: Reader<Plan>,
    plan: Arc<Plan>,
    sources: Arc<[Arc<SourceCounters>]>,
    progress: Arc<AtomicU64>,
    judge: Judge,
    tally: Tally,
    lanes: Vec<Lane>,
    buffers: Buffers,
    /// Classes whose lane is not empty.
    open: Vec<u16>,
    open_bytes: usize,
    frames_unsettled: u32,
}

impl Worker {
    pub(super) fn new(
        frames: Receiver<Frame>,
        plans: &Handle<Plan>,
        sources: Arc<[Arc<SourceCounters>]>,
        progress: Arc<AtomicU64>,
        max_event_bytes: usize,
    ) -> Self {
        let plan = plans.load();
        let buffers = Buffers::new(SPARE_CHUNKS_MAX, CHUNK_CAPACITY);
        Self {
            frames,
            plans: plans.reader(),
            sources,
            progress,
            judge: Judge::new(plan.table(), max_event_bytes),
            tally: Tally::new(plan.table()),
            lanes: lanes(&plan, &buffers),
            buffers,
            open: Vec::new(),
            open_bytes: 0,
            frames_unsettled: 0,
            plan,
        }
    }

    /// Runs until every sender of frames is gone and every frame is settled.
    pub(super) fn run(mut self) {
        loop {
            let frame = match self.frames.recv_timeout(LINGER) {
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
        self.judge_lines(&mut frame, &mut report);
        self.frames_unsettled += 1;
        if let Some(reply) = frame.reply.take() {
            // What is answered is counted first, so that the sender finds it in the metrics.
            self.count();
            // A sender that went away does not want to know.
            let _ = reply.send(report);
        }
        if self.frames_unsettled >= FRAMES_UNSETTLED_MAX || self.open_bytes >= OPEN_BYTES_MAX {
            self.settle();
        }
    }

    fn judge_lines(&mut self, frame: &mut Frame, report: &mut Report) {
        let plan = Arc::clone(&self.plan);
        let table = plan.table();
        let (source, received_at) = (frame.source, frame.received_at);
        let counters = &self.sources[usize::from(source.0)];
        // A list that nobody will read would be an allocation for nothing.
        let listed_max = if frame.reply.is_some() { LISTED_MAX } else { 0 };
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
                        if report.listed.len() < listed_max {
                            report.listed.push((number, rejection.reason));
                        }
                        continue;
                    }
                };
            counts.unknown += u64::from(decision.unknown_categories());
            for permit in decision.permits() {
                let Recipients::Class { class, .. } = permit.recipients() else {
                    continue;
                };
                let lane = &mut self.lanes[usize::from(class.0)];
                if lane.is_empty() {
                    self.open.push(class.0);
                }
                lane.append(permit, table, source, received_at);
                self.open_bytes += line.len;
                if lane.is_full() {
                    self.open_bytes = self.open_bytes.saturating_sub(lane.len());
                    hand_over(lane, class.0, &plan, &mut self.plans, &self.progress);
                    // Its entry in `open` stays and finds it empty, or open again.
                    self.open.retain(|&open| open != class.0);
                }
            }
            if decision.switches_off() {
                tally.add_switched_off(&decision);
            }
            if self.open_bytes >= OPEN_BYTES_MAX {
                for class in self.open.drain(..) {
                    let lane = &mut self.lanes[usize::from(class)];
                    hand_over(lane, class, &plan, &mut self.plans, &self.progress);
                }
                self.open_bytes = 0;
            }
        }
        report.accepted = counts.received - report.rejected;
        counts.flush(counters);
    }

    /// Adds what was counted to the shared counters.
    fn count(&mut self) {
        let tally = &mut self.tally;
        self.judge.drain(|counted| tally.add(counted));
        tally.flush(&self.plan);
    }

    /// Counts, and hands every open chunk over.
    fn settle(&mut self) {
        self.frames_unsettled = 0;
        self.count();
        for class in self.open.drain(..) {
            let lane = &mut self.lanes[usize::from(class)];
            hand_over(lane, class, &self.plan, &mut self.plans, &self.progress);
        }
        self.open_bytes = 0;
    }

    /// Moves to the plan in force. What was judged under the last one is settled under it.
    fn follow_plan(&mut self) {
        if Arc::ptr_eq(self.plans.load(), &self.plan) {
            return;
        }
        self.settle();
        self.plan = Arc::clone(self.plans.load());
        let table = self.plan.table();
        self.judge.change_table(table, |_| {});
        self.tally = Tally::new(table);
        self.lanes = lanes(&self.plan, &self.buffers);
    }
}

fn lanes(plan: &Plan, buffers: &Buffers) -> Vec<Lane> {
    plan.table().classes().iter().map(|_| Lane::recycling(buffers)).collect()
}

/// Seals a lane and offers each member of its class what it may have. Waits for members without room
/// whose rule is to wait; a reload that removes such a member, or a stop, closes its outlet and ends
/// the wait.
fn hand_over(
    lane: &mut Lane,
    class: u16,
    plan: &Plan,
    plans: &mut Reader<Plan>,
    progress: &AtomicU64,
) {
    if lane.is_empty() {
        return;
    }
    let sealed = lane.seal(plan.table().version());
    let mut waiting = Vec::new();
    for &member in &plan.table().classes()[usize::from(class)].members {
        let (ranges, events) = sealed.share_of(member);
        if events == 0 {
            continue;
        }
        let parcel = Parcel { chunk: Arc::clone(&sealed.chunk), ranges, events, charge: None };
        let outlet = &plan.outlets()[usize::from(member.0)];
        if let Some(left) = offer(outlet, parcel, plans) {
            waiting.push(left);
        }
    }
    for (outlet, parcel) in waiting {
        insist(outlet, parcel, plans, progress);
    }
}

/// Offers once; gives the parcel back where the rule is to wait, with the outlet to wait for.
///
/// An outlet that was closed because a reload replaced its destination hands on to the one that took
/// its name: events that were acknowledged must not be lost to a destination that is still there. They
/// are judged again under the table in force before they go out.
fn offer(
    outlet: &Arc<Outlet>,
    parcel: Parcel,
    plans: &mut Reader<Plan>,
) -> Option<(Arc<Outlet>, Parcel)> {
    let refused = outlet.offer(parcel).err()?;
    let (outlet, refused) = match refused {
        Refused::Closed(parcel) => match successor(outlet, plans) {
            Some(next) => match next.offer(parcel) {
                Ok(()) => return None,
                Err(refused) => (next, refused),
            },
            None => (Arc::clone(outlet), Refused::Closed(parcel)),
        },
        refused @ (Refused::Full(_) | Refused::Overflow(_)) => (Arc::clone(outlet), refused),
    };
    let (reason, events) = match refused {
        Refused::Full(parcel) => return Some((outlet, parcel)),
        Refused::Overflow(parcel) => (DropReason::Overflow, parcel.events),
        Refused::Closed(parcel) => (DropReason::Removed, parcel.events),
    };
    outlet.counters().add_dropped(reason, events.into());
    None
}

/// The running destination that has the name of a closed one.
fn successor(closed: &Outlet, plans: &mut Reader<Plan>) -> Option<Arc<Outlet>> {
    let mut outlets = plans.load().outlets().iter();
    outlets.find(|outlet| outlet.name() == closed.name() && outlet.id() != closed.id()).cloned()
}

fn insist(
    mut outlet: Arc<Outlet>,
    mut parcel: Parcel,
    plans: &mut Reader<Plan>,
    progress: &AtomicU64,
) {
    while let Some((next, refused)) = offer(&outlet, parcel, plans) {
        (outlet, parcel) = (next, refused);
        outlet.wait_for_room(ROOM_WAIT);
        // Waiting for a slow destination is no reason for the watchdog to bite.
        progress.fetch_add(1, Relaxed);
    }
}
