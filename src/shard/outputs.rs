//! A worker's way to the destinations: the chunks that it writes, one per class, and their hand-over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::plan::Plan;
use super::stored::Stored;
use crate::buffer::Buffers;
use crate::consent::{Decision, Recipients};
use crate::destination::{CHUNK_CAPACITY, Chunk, LANE_LINE_MAX, Lane, Outlet, Parcel, Refused};
use crate::ingest::Report;
use crate::metrics::DropReason;
use crate::route::{Class, DestinationId, Handle, Reader, SourceId};

/// Everything is handed over once the chunks being written hold so much together.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Chunk buffers that a worker keeps for the next chunks.
const SPARE_CHUNKS_MAX: usize = 64;

/// How long a worker waits for a destination's room before it looks around.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// The chunks being written under one plan.
pub(super) struct Outputs {
    plan: Arc<Plan>,
    plans: Reader<Plan>,
    progress: Arc<AtomicU64>,
    lanes: Vec<Lane>,
    buffers: Buffers,
    /// Classes whose lane is not empty.
    open: Vec<u16>,
    /// Bytes in their lanes.
    open_bytes: usize,
    /// With a log: everything goes through it.
    stored: Option<Stored>,
}

impl Outputs {
    /// `progress` moves while somebody without room is waited for.
    pub(super) fn new(
        plans: &Handle<Plan>,
        progress: Arc<AtomicU64>,
        stored: Option<Stored>,
    ) -> Self {
        let plan = plans.load();
        let buffers = Buffers::new(SPARE_CHUNKS_MAX, CHUNK_CAPACITY);
        Self {
            lanes: lanes(&plan, &buffers),
            plan,
            plans: plans.reader(),
            progress,
            buffers,
            open: Vec::new(),
            open_bytes: 0,
            stored,
        }
    }

    /// Answers, at once or when what was judged is stored.
    pub(super) fn answer(&mut self, report: Report, to: oneshot::Sender<Report>) {
        match &mut self.stored {
            Some(stored) => stored.add_answer(report, to),
            // A sender that went away does not want to know.
            None => drop(to.send(report)),
        }
    }

    /// Whether somebody waits for what was judged to be stored.
    pub(super) fn is_awaited(&self) -> bool {
        self.stored.as_ref().is_some_and(Stored::is_awaited)
    }

    /// The plan that lines are to be judged by.
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Whether another plan is in force.
    pub(super) fn is_outdated(&mut self) -> bool {
        !Arc::ptr_eq(self.plans.load(), &self.plan)
    }

    /// Moves to the plan in force; everything was handed over.
    pub(super) fn follow_plan(&mut self) {
        self.plan = Arc::clone(self.plans.load());
        self.lanes = lanes(&self.plan, &self.buffers);
    }

    /// Writes the line of a decision for all who may have it; calls `before_waiting` before it waits for
    /// one of them.
    #[inline]
    pub(super) fn append(
        &mut self,
        decision: &Decision<'_>,
        line_bytes: usize,
        source: SourceId,
        received_at: Instant,
        before_waiting: &mut dyn FnMut(),
    ) {
        if let Some(stored) = &mut self.stored
            && stored.store(decision, &self.plan, source, received_at).is_err()
        {
            self.hand_over_all(before_waiting);
            if let Some(stored) = &mut self.stored {
                // A frame holds any one event.
                let _ = stored.store(decision, &self.plan, source, received_at);
            }
        }
        if line_bytes > LANE_LINE_MAX {
            self.append_alone(decision, source, received_at, before_waiting);
        } else {
            self.append_to_lanes(decision, line_bytes, source, received_at, before_waiting);
        }
        let sealed_bytes = self.stored.as_ref().map_or(0, Stored::sealed_bytes);
        if self.open_bytes + sealed_bytes >= OPEN_BYTES_MAX {
            self.hand_over_all(before_waiting);
        }
    }

    #[inline]
    fn append_to_lanes(
        &mut self,
        decision: &Decision<'_>,
        line_bytes: usize,
        source: SourceId,
        received_at: Instant,
        before_waiting: &mut dyn FnMut(),
    ) {
        for permit in decision.permits() {
            let Recipients::Class { class, .. } = permit.recipients() else {
                continue;
            };
            let lane = &mut self.lanes[usize::from(class.0)];
            if lane.is_empty() {
                self.open.push(class.0);
            }
            lane.append(permit, self.plan.table(), source, received_at);
            self.open_bytes += line_bytes + 1;
            if lane.is_full() {
                self.hand_over(class.0, before_waiting);
            }
        }
    }

    /// A long line is copied once, whatever the number of classes.
    fn append_alone(
        &mut self,
        decision: &Decision<'_>,
        source: SourceId,
        received_at: Instant,
        before_waiting: &mut dyn FnMut(),
    ) {
        // What came before it goes before it.
        for permit in decision.permits() {
            if let Recipients::Class { class, .. } = permit.recipients() {
                self.hand_over(class.0, before_waiting);
            }
        }
        let plan = Arc::clone(&self.plan);
        let table = plan.table();
        let mut chunk = None;
        let mut waiting = Vec::new();
        for permit in decision.permits() {
            let Recipients::Class { class, except } = permit.recipients() else {
                continue;
            };
            let chunk = chunk.get_or_insert_with(|| {
                Arc::new(Chunk::of_line(permit, table.version(), source, received_at))
            });
            let members = &table.classes()[usize::from(class.0)].members;
            let may = |member: &&DestinationId| {
                except.is_none_or(|except| !except.contains(member.0.into()))
            };
            for &member in members.iter().filter(may) {
                let whole = std::iter::once(0..chunk.bytes().len() as u32).collect();
                let parcel =
                    Parcel { chunk: Arc::clone(chunk), ranges: whole, events: 1, charge: None };
                let outlet = &plan.outlets()[usize::from(member.0)];
                match &mut self.stored {
                    Some(stored) => stored.add(outlet, parcel),
                    None => waiting.extend(offer(outlet, parcel, &mut self.plans)),
                }
            }
        }
        if let (Some(stored), Some(chunk)) = (&mut self.stored, chunk) {
            stored.add_sealed(chunk.bytes().len());
        }
        self.insist(waiting, before_waiting);
    }

    /// Hands every open chunk over.
    pub(super) fn hand_over_all(&mut self, before_waiting: &mut dyn FnMut()) {
        while let Some(class) = self.open.pop() {
            self.seal(class, before_waiting);
        }
        if let Some(stored) = &mut self.stored {
            before_waiting();
            stored.send(&self.progress);
        }
    }

    /// Hands the chunk of a class over, if there is one.
    fn hand_over(&mut self, class: u16, before_waiting: &mut dyn FnMut()) {
        if !self.lanes[usize::from(class)].is_empty() {
            self.open.retain(|&open| open != class);
            self.seal(class, before_waiting);
        }
    }

    /// Seals the chunk of a class, which is not among the open ones any more, and offers each member
    /// what it may have.
    fn seal(&mut self, class: u16, before_waiting: &mut dyn FnMut()) {
        let lane = &mut self.lanes[usize::from(class)];
        self.open_bytes -= lane.len();
        let plan = Arc::clone(&self.plan);
        let sealed = lane.seal(plan.table().version());
        let mut waiting = Vec::new();
        for &member in &plan.table().classes()[usize::from(class)].members {
            let (ranges, events) = sealed.share_of(member);
            if events == 0 {
                continue;
            }
            let parcel = Parcel { chunk: Arc::clone(&sealed.chunk), ranges, events, charge: None };
            let outlet = &plan.outlets()[usize::from(member.0)];
            match &mut self.stored {
                Some(stored) => stored.add(outlet, parcel),
                None => waiting.extend(offer(outlet, parcel, &mut self.plans)),
            }
        }
        if let Some(stored) = &mut self.stored {
            stored.add_sealed(sealed.chunk.bytes().len());
        }
        drop(sealed);
        self.insist(waiting, before_waiting);
    }

    /// Waits for those without room whose rule is to wait; a reload that removes one of them, or a
    /// stop, closes its outlet and ends the wait.
    fn insist(&mut self, waiting: Vec<(Arc<Outlet>, Parcel)>, before_waiting: &mut dyn FnMut()) {
        if !waiting.is_empty() {
            before_waiting();
        }
        for (mut outlet, mut parcel) in waiting {
            while let Some(refused) = offer(&outlet, parcel, &mut self.plans) {
                (outlet, parcel) = refused;
                outlet.wait_for_room(&parcel, ROOM_WAIT);
                // Waiting for a slow destination is no reason for the watchdog to bite.
                self.progress.fetch_add(1, Relaxed);
            }
        }
    }
}

fn lanes(plan: &Plan, buffers: &Buffers) -> Vec<Lane> {
    let budget = |class: &Class| {
        let members = class.members.iter();
        members.map(|member| plan.outlets()[usize::from(member.0)].budget()).min()
    };
    let classes = plan.table().classes().iter();
    classes.map(|class| Lane::recycling(buffers, budget(class).unwrap_or(usize::MAX))).collect()
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
