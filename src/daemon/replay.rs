//! Replays of dead letters.
//!
//! A letter of a destination is put into the log for that destination alone, under the stable ID that
//! it failed for, and is judged by the rules in force before it goes out. A rejected line goes through
//! a worker like any other line of its source. What was replayed is taken out of the files afterwards:
//! a crash in between has it replayed again, at least once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::readmit::Readmit;
use crate::admin::{ReplayAnswer, ReplayError, ReplayPlace, ReplayRequest};
use crate::commit::{Again, Intake, Portion};
use crate::consent::Nature;
use crate::dead_letters::{DeadLetters, Filter, Shelf, Taken, is_held_back, letters_of};
use crate::ingest::LISTED_MAX;
use crate::log::{Folder, LogError, Marks, Position, Reader, StableId};
use crate::metrics::DeadLetterReason;
use crate::route::Handle;
use crate::shard::Plan;

/// How long one request may take; then it says where to go on.
const REQUEST_TIME: Duration = Duration::from_secs(20);

/// What is read and put into the log at a time.
const STEP_BYTES: usize = 256 * 1024;

/// Carries out one replay at a time, until the daemon stops.
pub(super) struct Replayer {
    parts: Mutex<Option<Parts>>,
    stop: CancellationToken,
}

/// What a replay takes. Workers and the log end when nobody can send them anything any more, so these
/// are let go of at the stop.
pub(super) struct Parts {
    pub(super) book: Arc<Book>,
    pub(super) to_log: Intake,
    pub(super) plans: Handle<Plan>,
    pub(super) readmit: Readmit,
}

/// A letter that was read.
struct Read {
    position: Position,
    destination: Option<StableId>,
    source: String,
    received_unix_ms: u64,
    is_cut: bool,
    nature: Nature,
    line: Vec<u8>,
}

/// Which letters are replayed.
struct Chosen {
    filter: Filter,
    /// Of these none is.
    erased: Marks,
}

impl Replayer {
    pub(super) fn new(parts: Option<Parts>) -> Arc<Self> {
        Arc::new(Self { parts: Mutex::new(parts), stop: CancellationToken::new() })
    }

    /// Lets go of everything; a replay that goes on ends.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        *self.parts.lock().await = None;
    }

    /// Replays what was asked for.
    pub(super) async fn replay(&self, asked: ReplayRequest) -> Result<ReplayAnswer, ReplayError> {
        let parts = self.parts.try_lock().map_err(|_| ReplayError::Busy)?;
        if self.stop.is_cancelled() {
            return Err(ReplayError::Stopping);
        }
        let no_log =
            || ReplayError::Refused("there is no log, so there are no dead letters".into());
        let parts = parts.as_ref().ok_or_else(no_log)?;
        tokio::select! {
            answer = Box::pin(parts.replay(asked)) => answer,
            () = self.stop.cancelled() => Err(ReplayError::Stopping),
        }
    }
}

impl Parts {
    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayAnswer, ReplayError> {
        let dead_letters = Arc::clone(self.book.dead_letters());
        let filter = self.filter(&asked)?;
        let until = Instant::now() + REQUEST_TIME;
        let stored = Shelf::ALL.map(|shelf| dead_letters.stored(shelf));
        let ends = [stored[0].1.0, stored[1].1.0];
        let mut place = asked.resume.unwrap_or(ReplayPlace { from: [0; 2], end: ends });
        let mut answer = ReplayAnswer::default();
        let mut left = asked.limit.unwrap_or(u64::MAX);
        for (number, (shelf, (folder, end))) in Shelf::ALL.into_iter().zip(stored).enumerate() {
            let end = Position(place.end[number].min(end.0));
            let mut taken = Taken::default();
            let mut failed = None;
            while place.from[number] < end.0 && left > 0 && Instant::now() < until {
                let _exclusive = dead_letters.exclusive().await;
                let from = Position(place.from[number]);
                let chosen = Chosen { filter: filter.clone(), erased: dead_letters.noted(shelf) };
                let (letters, next) = read(folder.clone(), from, end, chosen, left).await?;
                place.from[number] = next.0;
                left -= letters.len() as u64;
                if let Err(error) =
                    self.step(&letters, asked.dry_run, &mut taken, &mut answer).await
                {
                    failed = Some(error);
                    break;
                }
            }
            // Also after a failure: what was replayed until then must not be replayed again.
            let owner = Arc::clone(&dead_letters);
            let removed = spawn_blocking(move || owner.remove(shelf, taken)).await;
            removed.map_err(|error| failure(&error))?.map_err(|error| {
                ReplayError::Failed(format!(
                    "{} were replayed and could not be taken out of the dead letters: {error}",
                    answer.replayed
                ))
            })?;
            if let Some(failed) = failed {
                return Err(failed);
            }
        }
        let is_all = left == 0 || (0..2).all(|shelf| place.from[shelf] >= place.end[shelf]);
        answer.resume = (!is_all).then_some(place);
        Ok(answer)
    }

    fn filter(&self, asked: &ReplayRequest) -> Result<Filter, ReplayError> {
        if let Some(reason) = &asked.reason
            && !DeadLetterReason::all().any(|known| known.label() == reason)
        {
            return Err(ReplayError::Refused(format!("there is no reason `{reason}`")));
        }
        let destinations = asked.destination.as_ref().map(|name| self.book.named(name));
        if destinations.as_ref().is_some_and(Vec::is_empty) {
            return Err(ReplayError::Refused("there is no such destination".to_owned()));
        }
        Ok(Filter {
            destinations,
            source: asked.source.clone(),
            reason: asked.reason.clone(),
            since_unix_ms: asked.since_unix_ms,
            before_unix_ms: asked.before_unix_ms,
        })
    }

    /// Replays some letters, and notes which.
    async fn step(
        &self,
        letters: &[Read],
        dry_run: bool,
        taken: &mut Taken,
        answer: &mut ReplayAnswer,
    ) -> Result<(), ReplayError> {
        let (cut, whole): (Vec<&Read>, Vec<&Read>) =
            letters.iter().partition(|letter| letter.is_cut);
        answer.cut += cut.len() as u64;
        for same in whole.chunk_by(|a, b| (a.destination, &a.source) == (b.destination, &b.source))
        {
            match same[0].destination {
                Some(id) => self.to_destination(id, same, dry_run, taken, answer).await?,
                None => self.to_worker(same, dry_run, taken, answer).await?,
            }
        }
        Ok(())
    }

    async fn to_destination(
        &self,
        id: StableId,
        letters: &[&Read],
        dry_run: bool,
        taken: &mut Taken,
        answer: &mut ReplayAnswer,
    ) -> Result<(), ReplayError> {
        let events = letters.len() as u64;
        let plan = self.plans.load();
        let mut outlets = plan.outlets().iter();
        let Some(outlet) = outlets.find(|outlet| outlet.stable() == Some(id)) else {
            answer.without_owner += events;
            return Ok(());
        };
        answer.replayed += events;
        if dry_run {
            return Ok(());
        }
        let runs = letters
            .chunk_by(|a, b| (a.received_unix_ms, a.nature) == (b.received_unix_ms, b.nature));
        let runs: Vec<Again<'_>> = runs
            .map(|run| Again {
                source: &run[0].source,
                nature: run[0].nature,
                received_unix_ms: run[0].received_unix_ms,
                lines: run.iter().map(|letter| letter.line.as_slice()).collect(),
            })
            .collect();
        let (portion, stored) = Portion::of_again(&runs, outlet, plan.table());
        // Before it is pending, so that the sums are never short of it.
        outlet.counters().replayed.fetch_add(events, Relaxed);
        let to_log = self.to_log.clone();
        let sent = spawn_blocking(move || to_log.send(portion, &AtomicU64::new(0))).await;
        sent.map_err(|error| failure(&error))?;
        stored.await.map_err(|_| ReplayError::Stopping)?;
        letters.iter().for_each(|letter| taken.add(letter.position, &letter.line));
        Ok(())
    }

    async fn to_worker(
        &self,
        letters: &[&Read],
        dry_run: bool,
        taken: &mut Taken,
        answer: &mut ReplayAnswer,
    ) -> Result<(), ReplayError> {
        let source = self.plans.load().table().source(&letters[0].source);
        let Some(source) = source else {
            answer.without_owner += letters.len() as u64;
            return Ok(());
        };
        if dry_run {
            answer.replayed += letters.len() as u64;
            return Ok(());
        }
        // So few that the report names every line that is rejected again.
        for some in letters.chunks(LISTED_MAX) {
            let lines: Vec<&[u8]> = some.iter().map(|letter| letter.line.as_slice()).collect();
            let report = self.readmit.judge(source, &lines).await.ok_or(ReplayError::Stopping)?;
            answer.rejected_again += report.rejected;
            answer.replayed += report.accepted;
            for (number, letter) in (0..).zip(some) {
                if !report.listed.iter().any(|(rejected, _)| *rejected == number) {
                    taken.add(letter.position, &letter.line);
                }
            }
        }
        Ok(())
    }
}

/// Reads some letters from `from` on, at most `limit`, and where to go on.
async fn read(
    folder: Folder,
    from: Position,
    end: Position,
    chosen: Chosen,
    limit: u64,
) -> Result<(Vec<Read>, Position), ReplayError> {
    let reading = spawn_blocking(move || read_some(folder, from, end, &chosen, limit));
    let read = reading.await.map_err(|error| failure(&error))?;
    read.map_err(|error| failure(&error))
}

fn read_some(
    folder: Folder,
    from: Position,
    end: Position,
    chosen: &Chosen,
    limit: u64,
) -> Result<(Vec<Read>, Position), LogError> {
    let mut reader = Reader::new(folder, from);
    let (mut letters, mut bytes) = (Vec::new(), 0);
    while bytes < STEP_BYTES && (letters.len() as u64) < limit {
        let Some(block) = reader.next(end)? else {
            return Ok((letters, end));
        };
        bytes += block.stored_bytes() / 16;
        if !chosen.filter.takes(&block) {
            continue;
        }
        let room = usize::try_from(limit - letters.len() as u64).unwrap_or(usize::MAX);
        let sound = letters_of(&block)
            .filter(|letter| !is_held_back(&chosen.erased, letter.line, letter.position));
        for letter in sound.take(room) {
            bytes += letter.line.len();
            letters.push(Read {
                position: letter.position,
                destination: letter.destination,
                source: letter.source.to_owned(),
                received_unix_ms: letter.received_unix_ms,
                is_cut: DeadLetters::is_cut(letter.detail),
                nature: if letter.is_deletion { Nature::Deletion } else { Nature::Event },
                line: letter.line.to_vec(),
            });
        }
    }
    Ok((letters, reader.position()))
}

fn failure(error: &dyn std::fmt::Display) -> ReplayError {
    ReplayError::Failed(error.to_string())
}
