//! The thread that owns the log's writer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use crossbeam::select;
use tracing::{error, info, warn};

use super::erase::{Erasing, Order};
use super::portion::{Intake, Portion, Waiting};
use super::remover::Remover;
use super::state::Log;
use crate::buffer::Buffers;
use crate::clock::unix_ms;
use crate::destination::{Outlet, Parcel, Span};
use crate::log::{
    CommitError, Cursors, FRAME_PAYLOAD_BYTES_MAX, Folder, LogError, Position, Room, SyncMode,
    Tombstones, Writer, count_pending,
};
use crate::metrics::DropReason;

/// A group is committed once it has so much, whatever its window.
const GROUP_BYTES: usize = 1024 * 1024;

/// It takes what waits anyway up to so much.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How often cursors are saved and segments are released.
const UPKEEP: Duration = Duration::from_millis(500);

/// Orders that can wait for their turn.
const ORDERS_MAX: usize = 16;

/// How often it is looked whether a full log has room again.
const FULL_LOOK: Duration = Duration::from_millis(50);

/// When to commit and what to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a group waits for more after its first portion, at most.
    pub window: Duration,
    /// How often the log is synced with [`SyncMode::Interval`].
    pub sync_every: Duration,
    /// When commits are made durable.
    pub sync: SyncMode,
    /// What is older is dropped as `expired`.
    pub max_age: Duration,
    /// Whether the oldest events make room when the log is full; else the intake waits.
    pub drop_oldest: bool,
}

/// The running thread.
#[derive(Debug)]
pub struct Committer {
    log: Arc<Log>,
    thread: JoinHandle<Keeper>,
}

impl Committer {
    /// Starts the thread. `cursors` has every destination that runs from the start.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        writer: Writer,
        cursors: Cursors,
        tombstones: Tombstones,
        limits: Limits,
        workers: usize,
    ) -> io::Result<(Self, Intake)> {
        let folder: Folder = writer.folder().clone();
        let (sender, orders) = bounded(ORDERS_MAX);
        let log = Arc::new(Log::new(folder, writer.end(), writer.size_bytes(), sender));
        let erasing = Erasing::start(tombstones, &log)?;
        let (intake, portions) = Intake::new(workers);
        let keeper = Keeper {
            log: Arc::clone(&log),
            buffers: intake.buffers().clone(),
            remover: Remover::start(writer.folder().clone())?,
            writer,
            cursors,
            erasing,
            orders,
            limits,
            last_commit: Duration::ZERO,
            last_committed: Instant::now(),
            next_upkeep: Instant::now(),
            next_sync: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || keeper.run(&portions))?;
        Ok((Self { log, thread }, intake))
    }

    /// Whether the thread ended although its intake is open.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread, which ends when every [`Intake`] is dropped. Gives what is left to do once
    /// the destinations have ended; `None` if the thread panicked.
    #[must_use]
    pub fn join(self) -> Option<Keeper> {
        self.thread.join().ok()
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }
}

/// Writes the log, and keeps its cursors and segments.
pub struct Keeper {
    log: Arc<Log>,
    /// Where the buffers of blocks go.
    buffers: Buffers,
    writer: Writer,
    remover: Remover,
    cursors: Cursors,
    erasing: Erasing,
    orders: Receiver<Order>,
    limits: Limits,
    /// How long the last commit took.
    last_commit: Duration,
    /// When it ended.
    last_committed: Instant,
    next_upkeep: Instant,
    next_sync: Instant,
}

impl Keeper {
    fn run(mut self, portions: &Receiver<Waiting>) -> Self {
        loop {
            let mut order = None;
            let group = select! {
                recv(portions) -> first => match first {
                    Ok(first) => self.gather(first, portions),
                    Err(_) => break,
                },
                recv(self.orders) -> ordered => {
                    order = ordered.ok();
                    Vec::new()
                }
                default(UPKEEP) => Vec::new(),
            };
            let done = self.store(group).and_then(|()| match order {
                Some(order) => self.erasing.follow(order, &mut self.writer, &self.log, unix_ms()),
                None => Ok(()),
            });
            if let Err(failed) = done.and_then(|()| self.keep_house()) {
                error!("{failed}");
                self.log.fail(failed.to_string());
                // Whoever waits for an answer gets none: nothing of it may be acknowledged.
                return self;
            }
        }
        self
    }

    /// What waits already, and what comes before the first of it has waited for the window, or for as
    /// long as a commit takes: waiting longer would cost more than it saves. What comes after a pause
    /// that long waits for nothing: more is not to be expected.
    fn gather(&self, first: Waiting, portions: &Receiver<Waiting>) -> Vec<Portion> {
        let pause = first.since.saturating_duration_since(self.last_committed);
        let wait = self.limits.window.min(self.last_commit);
        let until = first.since + if pause > self.last_commit { Duration::ZERO } else { wait };
        let mut bytes = first.portion.bytes();
        let mut group = vec![first.portion];
        while bytes < GROUP_BYTES_MAX {
            let next = portions.try_recv().ok();
            let wait = || portions.recv_deadline(until).ok();
            let Some(next) = next.or_else(|| (bytes < GROUP_BYTES).then(wait).flatten()) else {
                break;
            };
            bytes += next.portion.bytes();
            group.push(next.portion);
        }
        group
    }

    /// Writes the portions, then answers and hands over.
    fn store(&mut self, mut group: Vec<Portion>) -> Result<(), LogError> {
        while !group.is_empty() {
            let now = self.take(group)?;
            group = now;
        }
        Ok(())
    }

    /// Writes as many of the first portions as fit in a frame; gives back the others.
    fn take(&mut self, mut group: Vec<Portion>) -> Result<Vec<Portion>, LogError> {
        let mut bytes = 0;
        let fit = group.iter().take_while(|portion| {
            bytes += portion.bytes();
            bytes <= FRAME_PAYLOAD_BYTES_MAX
        });
        let count = fit.count().max(1);
        let rest = group.split_off(count);
        let bytes = group.iter().map(Portion::bytes).sum::<usize>() as u64;
        loop {
            if !self.wait_for_room(bytes)? {
                group.into_iter().for_each(refuse);
                return Ok(rest);
            }
            let spans = self.append(&group)?;
            let started = Instant::now();
            match self.writer.commit(unix_ms()) {
                Ok(committed) => {
                    if committed.is_some() {
                        self.last_committed = Instant::now();
                        self.last_commit = self.last_committed - started;
                        self.log.set_full(false);
                        let size = self.writer.size_bytes();
                        self.log.publish(self.writer.end(), size, self.last_commit);
                    }
                    for (portion, span) in group.into_iter().zip(spans) {
                        self.hand_over(portion, span);
                    }
                    self.log.set_handed(self.writer.end());
                    return Ok(rest);
                }
                Err(CommitError::Refused(_)) if self.log.is_stopping() => {
                    group.into_iter().for_each(refuse);
                    return Ok(rest);
                }
                Err(CommitError::Refused(refused)) => {
                    if !self.log.is_full() {
                        warn!("no more events are taken for now: {refused}");
                    }
                    self.log.set_full(true);
                    std::thread::sleep(FULL_LOOK);
                    self.make_way()?;
                }
                Err(CommitError::Fatal(fatal)) => return Err(fatal),
            }
        }
    }

    /// Answers, and offers the parcels to those who keep up: all of one destination at once.
    fn hand_over(&self, portion: Portion, span: Option<Span>) {
        let Portion { blocks, mut parcels, answers } = portion;
        for block in blocks {
            self.buffers.give_back(block.into_buffer());
        }
        for answer in answers {
            // A sender that went away does not want to know.
            let _ = answer.to.send(answer.report);
        }
        let Some(span) = span else { return };
        // Stable: the chunks of one destination stay in order.
        parcels.sort_by_key(|(outlet, _)| outlet.id().0);
        let mut parcels = parcels.into_iter().peekable();
        while let Some((outlet, first)) = parcels.next() {
            let mut its = vec![first];
            while let Some((_, next)) = parcels.next_if(|(other, _)| other.id() == outlet.id()) {
                its.push(next);
            }
            outlet.offer_committed(its, span);
        }
    }

    /// Where each portion will stand; none for one that has nothing to store.
    fn append(&mut self, group: &[Portion]) -> Result<Vec<Option<Span>>, LogError> {
        let mut spans = Vec::with_capacity(group.len());
        for portion in group {
            let mut span: Option<Span> = None;
            for block in &portion.blocks {
                let position = self.writer.append(block).map_err(|_| {
                    LogError::Poisoned("a block does not fit in a frame".to_owned())
                })?;
                let end = block.at(position).end();
                let begin = span.map_or(position, |span| span.begin);
                span = Some(Span { begin, end });
            }
            spans.push(span);
        }
        Ok(spans)
    }

    /// Waits until the log may take so many bytes; false if the daemon stops before it may.
    fn wait_for_room(&mut self, bytes: u64) -> Result<bool, LogError> {
        let mut warned = false;
        loop {
            let room = if bytes == 0 { Room::Enough } else { self.writer.room(bytes)? };
            match room {
                Room::Enough => return Ok(true),
                Room::LogFull if self.limits.drop_oldest && self.expire_oldest()? => continue,
                Room::LogFull | Room::DiskFull => {}
            }
            if !warned {
                let what = match room {
                    Room::DiskFull => "the disk has no more than log.free_space_min left",
                    Room::Enough | Room::LogFull => "log.max_bytes is reached",
                };
                warn!("no more events are taken for now: {what}");
                warned = true;
            }
            // Whoever is refused finds the reason in the daemon's messages.
            self.log.set_full(true);
            if self.log.is_stopping() {
                return Ok(false);
            }
            std::thread::sleep(FULL_LOOK);
            self.make_way()?;
        }
    }

    /// For a log that is full: releases what can be released now. That is also the newest segment, if
    /// everything in it is settled and every cursor behind it is durable; or a volume that has no room
    /// for two segments would stay full for ever.
    fn make_way(&mut self) -> Result<(), LogError> {
        self.next_upkeep = Instant::now();
        self.keep_house()?;
        let low = self.cursors.durable_low_water();
        let is_settled = self.writer.segments().last().is_some_and(|newest| newest.end() <= low);
        if is_settled && self.log.is_followed() && self.writer.leave_segment(unix_ms())? {
            self.remover.remove(self.writer.retire(&self.cursors));
            self.log.set_bytes(self.writer.size_bytes());
        }
        Ok(())
    }

    /// Saves cursors, releases and expires segments, syncs: what is due.
    fn keep_house(&mut self) -> Result<(), LogError> {
        let now = Instant::now();
        if self.limits.sync == SyncMode::Interval && now >= self.next_sync {
            self.writer.sync()?;
            self.next_sync = now + self.limits.sync_every;
        }
        if now >= self.next_upkeep && self.log.is_followed() {
            self.next_upkeep = now + UPKEEP;
            self.expire_old()?;
            self.save_cursors()?;
            if !self.erasing.is_empty()
                && let Err(error) = self.erasing.forget(self.log.settled(), &self.log)
            {
                warn!("{error}; erasures that are carried out are not forgotten yet");
            }
            self.remover.remove(self.writer.retire(&self.cursors));
            self.log.set_bytes(self.writer.size_bytes());
        }
        Ok(())
    }

    fn save_cursors(&mut self) -> Result<(), LogError> {
        let handed = self.log.handed();
        let followed = self.log.followed();
        if !self.log.is_followed() {
            return Ok(());
        }
        let mut gone: Vec<_> = self.cursors.iter().map(|(id, _)| id).collect();
        for outlet in followed.iter() {
            let Some(id) = outlet.stable() else { continue };
            outlet.balance(handed);
            gone.retain(|other| *other != id);
            let position = outlet.cursor(handed);
            if self.cursors.get(id).is_none() {
                // One that has not begun will begin anywhere.
                self.cursors.begin(id, position.unwrap_or(Position::START));
            }
            let Some(position) = position else { continue };
            let lag_bytes = self.writer.bytes_after(position);
            outlet.counters().lag_bytes.store(lag_bytes, Ordering::Relaxed);
            self.cursors.advance(id, position);
        }
        gone.into_iter().for_each(|id| self.cursors.remove(id));
        self.cursors.save()
    }

    fn expire_old(&mut self) -> Result<(), LogError> {
        let age = u64::try_from(self.limits.max_age.as_millis()).unwrap_or(u64::MAX);
        let limit = unix_ms().saturating_sub(age);
        loop {
            // What is in a segment is older than the one behind it.
            let next = self.writer.segments().nth(1).and_then(|segment| segment.created_unix_ms);
            if next.is_none_or(|created| created >= limit) || !self.expire_oldest()? {
                return Ok(());
            }
        }
    }

    /// Drops what the oldest segment still holds for anybody; false if there is only one segment.
    fn expire_oldest(&mut self) -> Result<bool, LogError> {
        let Some(oldest) = self.writer.oldest_segment() else {
            return Ok(false);
        };
        let followed = self.log.followed();
        // What its reader has given to a destination already is still delivered.
        let read = |outlet: &Arc<Outlet>| Some((outlet.stable()?, outlet.lags_from()?));
        let lagging: Vec<_> = followed.iter().filter_map(read).collect();
        let lost = count_pending(self.writer.folder(), &lagging, oldest.end(), |_| {})?;
        for outlet in followed.iter() {
            let events = outlet.stable().and_then(|id| lost.get(&id)).copied().unwrap_or(0);
            if events > 0 {
                warn!(destination = outlet.name(), events, "dropped: too old, or the log is full");
            }
            outlet.expire_before(oldest.end(), events);
        }
        drop(followed);
        self.cursors.expire_before(oldest.end());
        self.cursors.save()?;
        self.writer.expire_before(oldest.end())?;
        Ok(true)
    }

    /// The last thing, once the destinations have ended: what they have settled is noted.
    ///
    /// # Errors
    /// [`LogError`]; then they get some events again.
    pub fn finish(mut self) -> Result<(), LogError> {
        self.writer.sync()?;
        self.save_cursors()?;
        self.remover.finish();
        self.writer.release(&self.cursors)?;
        info!(bytes = self.writer.size_bytes(), "log closed");
        Ok(())
    }
}

/// The daemon stops and the log is full: nothing of it was acknowledged.
fn refuse(portion: Portion) {
    for (outlet, parcel) in portion.parcels {
        let Parcel { events, .. } = parcel;
        outlet.counters().add_dropped(DropReason::Overflow, events.into());
    }
}
