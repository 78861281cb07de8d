//! Erasures: asked for, in force, carried out on the disk.
//!
//! An erasure is in force once its tombstone is durable and published; from then on no attempt begins
//! that has what it is about. The thread here then writes the segments anew without it, one at a time,
//! and begins again after a restart, as long as there are tombstones. Only the thread of the log changes
//! the log: this one asks it to, by [`Order`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::state::Log;
use crate::destination::Erasures;
use crate::log::{LogError, Position, Rewritten, Tombstones, Writer, rewrite_segment};

/// How long the thread waits after segments could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// What the thread of the log is asked to do.
pub(super) enum Order {
    /// Erase the events that are stored so far and carry this user ID or this anonymous ID.
    Erase {
        user: Option<String>,
        anonymous: Option<String>,
        /// Told when it is in force.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Close the segment that is being written if it begins before this position; gives the numbers of
    /// all that do.
    Close { before: Position, numbers: Sender<Vec<u32>> },
    /// Put a copy in the place of its segment.
    Adopt { copy: Rewritten, done: Sender<()> },
    /// Every segment was written anew under these erasures.
    CarriedOut { erasures: Arc<Erasures> },
}

/// The erasures as the thread of the log keeps them.
pub(super) struct Erasing {
    tombstones: Tombstones,
    generation: u64,
    /// The last generation that was carried out on the disk, and the position that it was about.
    carried_out: (u64, Position),
    wake: Sender<()>,
}

impl Erasing {
    /// Publishes what was asked for before, and starts the thread that carries it out.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(tombstones: Tombstones, log: &Arc<Log>) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let removal = Removal { log: Arc::clone(log), woken };
        std::thread::Builder::new().name("erase".to_owned()).spawn(move || removal.run())?;
        let carried_out = (0, Position::START);
        let mut erasing = Self { tombstones, generation: 0, carried_out, wake };
        if !erasing.tombstones.marks().is_empty() {
            info!(
                ids = erasing.tombstones.marks().len(),
                "erasures are not yet carried out: going on"
            );
            erasing.publish(log);
            erasing.begin(log);
        }
        Ok(erasing)
    }

    /// Does what was ordered.
    ///
    /// # Errors
    /// [`LogError`]; the log can't go on.
    pub(super) fn follow(
        &mut self,
        order: Order,
        writer: &mut Writer,
        log: &Log,
        now_unix_ms: u64,
    ) -> Result<(), LogError> {
        match order {
            Order::Erase { user, anonymous, done } => {
                let (user, anonymous) = (user.as_deref(), anonymous.as_deref());
                let erased = self.tombstones.erase(
                    user.map(str::as_bytes),
                    anonymous.map(str::as_bytes),
                    writer.end(),
                    now_unix_ms,
                );
                if erased.is_ok() {
                    self.publish(log);
                    self.begin(log);
                }
                // Whoever asked may be gone; it is erased all the same.
                let _ = done.send(erased.map_err(|error| error.to_string()));
            }
            Order::Close { before, numbers } => {
                let open = writer.segments().last().filter(|last| last.first() < before);
                if open.is_some() {
                    writer.roll()?;
                }
                let old = writer.closed_segments().filter(|segment| segment.first() < before);
                let _ = numbers.send(old.map(|segment| segment.number).collect());
            }
            Order::Adopt { copy, done } => {
                writer.adopt(&copy)?;
                let _ = done.send(());
            }
            Order::CarriedOut { erasures } => {
                self.carried_out = (erasures.generation(), erasures.highest());
                if erasures.generation() == self.generation {
                    log.set_erasures_pending(0);
                    info!("erasures are carried out: nothing of them is left on the disk");
                }
            }
        }
        Ok(())
    }

    /// Forgets what is carried out on the disk, and what no destination has in memory any more:
    /// `settled` is how far all of them are done.
    ///
    /// # Errors
    /// [`LogError`]; it is tried again later.
    pub(super) fn forget(&mut self, settled: Position, log: &Log) -> Result<(), LogError> {
        let (generation, before) = self.carried_out;
        // An erasure that came later may be about the same position.
        let later = u64::from(generation != self.generation);
        let limit = settled.min(Position(before.0.saturating_sub(later)));
        let known = self.tombstones.marks().len();
        self.tombstones.forget_before(limit)?;
        if self.tombstones.marks().len() != known {
            let all_carried_out = later == 0;
            self.publish(log);
            if all_carried_out {
                self.carried_out = (self.generation, before);
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tombstones.marks().is_empty()
    }

    fn publish(&mut self, log: &Log) {
        self.generation += 1;
        log.publish_erasures(Erasures::new(self.generation, self.tombstones.marks().clone()));
    }

    fn begin(&self, log: &Log) {
        log.set_erasures_pending(self.tombstones.marks().len() as u64);
        // If it is full, the thread is about to look.
        let _ = self.wake.try_send(());
    }
}

/// The thread that writes segments anew. It ends with the thread of the log.
struct Removal {
    log: Arc<Log>,
    woken: Receiver<()>,
}

/// Why a pass ended early.
enum Failed {
    /// The thread of the log has ended.
    Over,
    Log(LogError),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl Removal {
    fn run(self) {
        while self.woken.recv().is_ok() {
            loop {
                match self.pass() {
                    Ok(()) => break,
                    Err(Failed::Over) => return,
                    Err(Failed::Log(error)) => {
                        warn!("erased events are not yet removed from the disk: {error}");
                        std::thread::sleep(RETRY);
                    }
                }
            }
        }
    }

    /// Writes every segment anew that may hold something erased.
    fn pass(&self) -> Result<(), Failed> {
        let erasures = self.log.erasures().load();
        if erasures.is_empty() {
            return Ok(());
        }
        let before = erasures.highest();
        for number in self.ask(|numbers| Order::Close { before, numbers })? {
            let folder = self.log.folder();
            let copy = rewrite_segment(folder, number, |block, line| {
                erasures.erases(line, block.position())
            });
            match copy {
                Ok(None) => {}
                Ok(Some(copy)) => {
                    let (erased, wiped_bytes) = (copy.erased, copy.wiped_bytes);
                    self.ask(|done| Order::Adopt { copy, done })?;
                    info!(segment = number, erased, wiped_bytes, "segment written anew");
                }
                // Every destination was done with it, and it was removed.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.log.folder().remove_damaged()?;
        self.log.order(Order::CarriedOut { erasures }).map_err(|()| Failed::Over)
    }

    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, Failed> {
        let (sender, answer) = bounded(1);
        self.log.order(order(sender)).map_err(|()| Failed::Over)?;
        answer.recv().map_err(|_| Failed::Over)
    }
}
