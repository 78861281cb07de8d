//! The thread of one shelf: it owns the writer, and keeps to the shelf's limits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::letters::Letters;
use crate::clock::unix_ms;
use crate::log::{
    CommitError, LogError, Position, Reader, Rewritten, Room, SegmentInfo, SyncMode, Writer,
    rewrite_segment,
};
use crate::metrics::DeadLetterCounters;

/// How often it is looked what is too old.
const UPKEEP: Duration = Duration::from_millis(500);

/// A segment is closed at this part of `max_age`, so that it can expire not much later than its
/// first letter.
const AGE_PARTS: u64 = 8;

/// What the thread is asked for.
pub(super) enum Request {
    /// To store letters, and to say when they are.
    Store(Letters, Option<oneshot::Sender<Result<(), Refused>>>),
    /// To close the segment that is written to; which ones are closed then.
    Close(oneshot::Sender<Vec<SegmentInfo>>),
    /// To put a rewritten segment in force.
    Adopt(Rewritten, oneshot::Sender<Result<(), LogError>>),
    /// To make everything durable and end.
    End,
}

/// The disk is full; nothing was stored.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
}

/// What the thread shares with those who ask.
#[derive(Debug)]
pub(super) struct Shared {
    /// Behind the last letter.
    pub(super) end: AtomicU64,
    /// Bytes of letters that were offered without waiting and are not stored yet.
    pub(super) offered_bytes: AtomicU64,
    pub(super) failure: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(end: Position) -> Self {
        Self {
            end: AtomicU64::new(end.0),
            offered_bytes: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }
}

/// How one shelf is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) sync: SyncMode,
    /// How often the shelf is synced with [`SyncMode::Interval`].
    pub(super) sync_every: Duration,
    pub(super) max_age: Duration,
    /// What comes together while a group is written is the next group, up to so much.
    pub(super) group_bytes: usize,
    /// Writing pauses so as not to be quicker than this: the disk is there for accepted events first.
    pub(super) bytes_per_second_max: Option<u64>,
}

/// Owns the writer of one shelf.
pub(super) struct Keeper {
    pub(super) writer: Writer,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<DeadLetterCounters>,
    /// Where the size of this shelf is shown.
    pub(super) bytes: fn(&DeadLetterCounters) -> &AtomicU64,
    pub(super) next_upkeep: Instant,
    pub(super) next_sync: Instant,
    /// The newest segment, once everything in it was too old and is gone.
    pub(super) emptied: Option<u32>,
}

impl Keeper {
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => Ok(request),
                None => requests.recv_timeout(UPKEEP),
            };
            let done = match request {
                Ok(Request::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Request::Store(letters, done)) => {
                    let (group, other) = gather((letters, done), requests, self.limits.group_bytes);
                    next = other;
                    self.store(group)
                }
                Ok(Request::Close(done)) => self.close(done),
                Ok(Request::Adopt(rewritten, done)) => {
                    // Whoever asked for it tells of the error.
                    let _ = done.send(self.writer.adopt(&rewritten));
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            if let Err(failed) = done.and_then(|()| self.keep_house()) {
                return self.fail(&failed);
            }
        }
        if let Err(failed) = self.writer.sync() {
            self.fail(&failed);
        }
    }

    fn fail(&self, failed: &LogError) {
        error!("dead letters: {failed}");
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(failed.to_string());
    }

    fn store(&mut self, group: Vec<Waiting>) -> Result<(), LogError> {
        let bytes: u64 = group.iter().map(|(letters, _)| letters.bytes() as u64).sum();
        if !self.make_room(bytes)? {
            let why = "the disk has no more than half of log.free_space_min left";
            self.refuse(group, why);
            return Ok(());
        }
        for block in group.iter().flat_map(|(letters, _)| &letters.blocks) {
            self.writer.append(block).map_err(|_| {
                LogError::Poisoned("a dead letter does not fit in a frame".to_owned())
            })?;
        }
        match self.writer.commit(unix_ms()) {
            Ok(_) => {}
            Err(CommitError::Refused(refused)) => {
                self.refuse(group, &refused.to_string());
                return Ok(());
            }
            Err(CommitError::Fatal(fatal)) => return Err(fatal),
        }
        self.shared.end.store(self.writer.end().0, Release);
        for (letters, done) in group {
            for (reason, events) in &letters.counts {
                self.counters.add_kept(*reason, *events);
            }
            match done {
                // Whoever waited may have been told to stop.
                Some(done) => drop(done.send(Ok(()))),
                None => self.no_longer_offered(&letters),
            }
        }
        self.show_bytes();
        if let Some(most) = self.limits.bytes_per_second_max {
            std::thread::sleep(Duration::from_secs_f64(bytes as f64 / most as f64));
        }
        Ok(())
    }

    fn refuse(&self, group: Vec<Waiting>, why: &str) {
        for (letters, done) in group {
            match done {
                Some(done) => drop(done.send(Err(Refused { why: why.to_owned() }))),
                None => {
                    self.counters.lost.fetch_add(letters.count(), Relaxed);
                    self.no_longer_offered(&letters);
                }
            }
        }
    }

    fn no_longer_offered(&self, letters: &Letters) {
        self.shared.offered_bytes.fetch_sub(letters.bytes() as u64, Relaxed);
    }

    /// Lets the oldest letters go as far as necessary; false if the disk is full.
    fn make_room(&mut self, bytes: u64) -> Result<bool, LogError> {
        loop {
            match self.writer.room(bytes)? {
                Room::Enough => return Ok(true),
                Room::DiskFull => return Ok(false),
                // One letter that is larger than the shelf has to be somewhere.
                Room::LogFull if !self.expire_oldest()? => return Ok(true),
                Room::LogFull => {}
            }
        }
    }

    /// False if there is only one segment.
    fn expire_oldest(&mut self) -> Result<bool, LogError> {
        let Some(oldest) = self.writer.oldest_segment() else {
            return Ok(false);
        };
        let mut letters = 0;
        let mut reader = Reader::new(self.writer.folder().clone(), oldest.first());
        while let Some(block) = reader.next(oldest.end())? {
            letters += block.records().count() as u64;
        }
        self.writer.expire_before(oldest.end())?;
        self.counters.expired.fetch_add(letters, Relaxed);
        info!(letters, "dead letters expired: too old, or no more room");
        Ok(true)
    }

    fn close(&mut self, done: oneshot::Sender<Vec<SegmentInfo>>) -> Result<(), LogError> {
        self.writer.roll()?;
        // Whoever asked may be gone.
        let _ = done.send(self.writer.closed_segments().collect());
        Ok(())
    }

    /// Syncs, and lets go of what is too old: what is due.
    fn keep_house(&mut self) -> Result<(), LogError> {
        let now = Instant::now();
        if self.limits.sync == SyncMode::Interval && now >= self.next_sync {
            self.writer.sync()?;
            self.next_sync = now + self.limits.sync_every;
        }
        if now >= self.next_upkeep {
            self.next_upkeep = now + UPKEEP;
            self.expire_old()?;
            self.show_bytes();
        }
        Ok(())
    }

    fn expire_old(&mut self) -> Result<(), LogError> {
        let max_age = u64::try_from(self.limits.max_age.as_millis()).unwrap_or(u64::MAX);
        let now = unix_ms();
        let is_over = |segment: SegmentInfo, age: u64| {
            segment.created_unix_ms.is_some_and(|created| created.saturating_add(age) < now)
        };
        // What is in a segment is older than the one behind it.
        while self.writer.segments().nth(1).is_some_and(|next| is_over(next, max_age)) {
            self.expire_oldest()?;
        }
        let Some(newest) = self.writer.segments().last() else { return Ok(()) };
        let closed = self.writer.closed_segments().last();
        let open_for = max_age / AGE_PARTS;
        if closed != Some(newest) {
            if is_over(newest, open_for) {
                self.writer.roll()?;
            }
        } else if is_over(newest, max_age.saturating_add(open_for))
            && self.emptied != Some(newest.number)
        {
            self.emptied = Some(newest.number);
            return self.empty(newest.number);
        }
        Ok(())
    }

    /// Takes everything out of the newest segment, which stays for its number.
    fn empty(&mut self, number: u32) -> Result<(), LogError> {
        let rewritten = rewrite_segment(self.writer.folder(), number, |_, _| true)?;
        if let Some(rewritten) = rewritten {
            self.writer.adopt(&rewritten)?;
            self.counters.expired.fetch_add(rewritten.erased, Relaxed);
        }
        Ok(())
    }

    fn show_bytes(&self) {
        (self.bytes)(&self.counters).store(self.writer.size_bytes(), Relaxed);
    }
}

type Waiting = (Letters, Option<oneshot::Sender<Result<(), Refused>>>);

/// What waits behind `first`, up to something that is no letter.
fn gather(
    first: Waiting,
    requests: &Receiver<Request>,
    group_bytes: usize,
) -> (Vec<Waiting>, Option<Request>) {
    let mut bytes = first.0.bytes();
    let mut group = vec![first];
    while bytes < group_bytes {
        match requests.try_recv() {
            Ok(Request::Store(letters, done)) => {
                bytes += letters.bytes();
                group.push((letters, done));
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}
