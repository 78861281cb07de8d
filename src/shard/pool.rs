//! The worker threads and the way to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::plan::Plan;
use super::rejected::Rejected;
use super::stored::Stored;
use super::worker::Worker;
use crate::commit;
use crate::dead_letters::DeadLetters;
use crate::ingest::{Budget, Frame, Report, Workers};
use crate::metrics::SourceCounters;
use crate::route::{Handle, SourceId};

/// The way for frames to the workers; cheap to clone. When the last one is dropped, the workers
/// finish what was sent and end.
#[derive(Clone, Debug)]
pub struct Intake {
    shards: Arc<[Sender<Frame>]>,
    has_sources: bool,
}

impl Intake {
    /// Sends an empty frame through every shard: when all of the reports have come, everything that
    /// was handed over before is settled, and stored where there is a log.
    ///
    /// # Errors
    /// A sentence, if the workers are gone or have no place for it.
    pub fn pass_through(&self) -> Result<Vec<oneshot::Receiver<Report>>, String> {
        // Without a source nothing was handed over.
        let shards = 0..if self.has_sources { self.shards.len() } else { 0 };
        let send = |shard| {
            let (reply, report) = oneshot::channel();
            let sent = self.send(shard, Frame::empty(SourceId(0), reply));
            sent.map_err(|_| "the workers take nothing now; try again".to_owned())?;
            Ok(report)
        };
        shards.map(send).collect()
    }
}

impl Workers for Intake {
    fn send(&self, shard: usize, frame: Frame) -> Result<(), Frame> {
        self.shards[shard % self.shards.len()].try_send(frame).map_err(|error| error.into_inner())
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }
}

/// A read makes a few frames at most, which share its room.
const FRAMES_PER_PAGE_MAX: usize = 4;

/// The worker threads.
#[derive(Debug)]
pub struct Pool {
    threads: Vec<JoinHandle<()>>,
    progress: Vec<Arc<AtomicU64>>,
}

impl Pool {
    /// Starts `workers` threads that follow `plans`. With `log`, its way and the names of the sources,
    /// everything they accept goes there; with `dead_letters`, what they reject.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        workers: usize,
        plans: &Handle<Plan>,
        sources: &Arc<[Arc<SourceCounters>]>,
        budget: &Budget,
        max_event_bytes: usize,
        log: Option<&(commit::Intake, Arc<[String]>)>,
        dead_letters: Option<&Arc<DeadLetters>>,
    ) -> io::Result<(Self, Intake)> {
        let mut pool = Self { threads: Vec::new(), progress: Vec::new() };
        let mut shards = Vec::new();
        for number in 0..workers.max(1) {
            let (sender, frames) = bounded(budget.frames_max() * FRAMES_PER_PAGE_MAX);
            let progress = Arc::new(AtomicU64::new(0));
            let worker = Worker::new(
                frames,
                plans,
                Arc::clone(sources),
                Arc::clone(&progress),
                max_event_bytes,
                log.map(|(intake, names)| Stored::new(intake.clone(), Arc::clone(names))),
                dead_letters.map(|dead_letters| Rejected::new(Arc::clone(dead_letters))),
            );
            let thread = std::thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || worker.run())?;
            pool.threads.push(thread);
            pool.progress.push(progress);
            shards.push(sender);
        }
        Ok((pool, Intake { shards: shards.into(), has_sources: !sources.is_empty() }))
    }

    /// Per worker a number that changes at least once a second while the worker is alive, whatever
    /// it waits for.
    #[must_use]
    pub fn progress(&self) -> Vec<u64> {
        self.progress.iter().map(|progress| progress.load(Relaxed)).collect()
    }

    /// Whether a worker ended although its intake is open.
    #[must_use]
    pub fn any_dead(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits for the workers to end, which they do once every [`Intake`] is dropped. Gives the
    /// number of those that panicked.
    #[must_use]
    pub fn join(self) -> usize {
        self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
    }
}

/// One worker without a thread, for measuring what a frame costs and for tests that count
/// allocations.
pub struct WorkerPath {
    worker: Worker,
    _frames: Sender<Frame>,
}

impl WorkerPath {
    /// A worker that follows `plans`.
    #[must_use]
    pub fn new(
        plans: &Handle<Plan>,
        sources: &Arc<[Arc<SourceCounters>]>,
        max_event_bytes: usize,
    ) -> Self {
        let (sender, frames): (_, Receiver<Frame>) = bounded(1);
        let progress = Arc::default();
        let worker =
            Worker::new(frames, plans, Arc::clone(sources), progress, max_event_bytes, None, None);
        Self { worker, _frames: sender }
    }

    /// Takes one frame all the way.
    pub fn take_up(&mut self, frame: Frame) {
        self.worker.take_up(frame);
    }
}

impl std::fmt::Debug for WorkerPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPath").finish_non_exhaustive()
    }
}
