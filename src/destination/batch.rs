//! Batches: whole lines of chunks, in order, by reference.
//!
//! Pure. Nothing here owns or copies a line; what can be delivered is what a [`Chunk`] holds.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::chunk::{Chunk, Run};
use super::parcel::Parcel;
use super::queue::Charge;
use crate::log::Position;

/// A chunk, and the room in the destination's budget that is given back with it.
#[derive(Debug)]
struct Held {
    chunk: Arc<Chunk>,
    charge: Option<Arc<Charge>>,
}

/// Consecutive whole lines of one chunk.
#[derive(Clone, Debug)]
pub struct Piece {
    held: Arc<Held>,
    range: Range<u32>,
    events: u32,
    /// The version of the table that permitted the lines last.
    table_version: u64,
    /// The generation of erasures under which the lines were looked at last.
    looked_at: u64,
}

impl Piece {
    /// The pieces of a parcel, in order.
    pub(super) fn of(parcel: Parcel) -> impl Iterator<Item = Self> {
        let table_version = parcel.chunk.table_version();
        let held = Arc::new(Held { chunk: parcel.chunk, charge: parcel.charge });
        let whole = parcel.ranges.len() == 1;
        parcel.ranges.into_iter().map(move |range| {
            let events = parcel.events;
            let mut piece =
                Self { held: Arc::clone(&held), range, events, table_version, looked_at: 0 };
            if !whole {
                piece.events = count_lines(piece.lines());
            }
            piece
        })
    }

    /// The same place in the destination's budget, with `chunk` instead of these lines.
    pub(super) fn replaced_by(&self, chunk: Chunk) -> Self {
        let range = 0..chunk.bytes().len() as u32;
        let events = chunk.runs().iter().map(|run| run.events).sum();
        let table_version = chunk.table_version();
        let held = Held { chunk: Arc::new(chunk), charge: self.held.charge.clone() };
        Self { held: Arc::new(held), range, events, table_version, looked_at: self.looked_at }
    }

    /// So many of its events were delivered, or dropped with a reason: they are done with, and need
    /// not come again after a restart.
    pub(super) fn settle(&self, events: u32) {
        if let Some(charge) = &self.held.charge {
            charge.settle(events);
        }
    }

    /// The same lines, all of which the table of `table_version` permits, too.
    pub(super) fn permitted_by(&self, table_version: u64) -> Self {
        Self { table_version, ..self.clone() }
    }

    /// Where the lines stand in the log, if they are in it: all of them before or all of them behind
    /// any end of the log.
    pub(super) fn stored_at(&self) -> Option<Position> {
        self.held.charge.as_ref().and_then(|charge| charge.stored_at())
    }

    /// The room that it takes.
    pub(super) fn charge(&self) -> Option<&Arc<Charge>> {
        self.held.charge.as_ref()
    }

    /// The generation of erasures under which the lines were looked at last.
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Some of the lines: whole ones, so many, from here to there in them.
    pub(super) fn part(&self, lines: Range<usize>, events: u32) -> Self {
        let start = self.range.start;
        let range = start + lines.start as u32..start + lines.end as u32;
        Self { range, events, ..self.clone() }
    }

    /// What is left without the lines for which `is_erased` says so, in order, and how many those are.
    pub(super) fn without(
        &self,
        generation: u64,
        is_erased: impl Fn(&[u8]) -> bool,
    ) -> (Vec<Self>, u32) {
        let whole = Self { looked_at: generation, ..self.clone() };
        let (mut left, mut erased) = (Vec::new(), 0);
        let (mut start, mut at, mut events) = (self.range.start, self.range.start, 0);
        let mut close = |range: Range<u32>, events: u32| {
            if events > 0 {
                left.push(Self { range, events, ..whole.clone() });
            }
        };
        for line in self.lines().split_inclusive(|byte| *byte == b'\n') {
            let end = at + line.len() as u32;
            if is_erased(line.strip_suffix(b"\n").unwrap_or(line)) {
                close(start..at, std::mem::take(&mut events));
                start = end;
                erased += 1;
            } else {
                events += 1;
            }
            at = end;
        }
        close(start..at, events);
        (left, erased)
    }

    /// The lines; each ends in an LF.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.held.chunk.bytes()[self.range.start as usize..self.range.end as usize]
    }

    /// How many lines.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// The version of the table that permitted the lines last.
    #[must_use]
    pub fn table_version(&self) -> u64 {
        self.table_version
    }

    /// The runs that the lines belong to, cut to them: `end` is relative to [`Self::lines`].
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let runs = self.held.chunk.runs();
        let first = self.first_run();
        let before = first.checked_sub(1).map_or(0, |before| runs[before].end);
        let starts = std::iter::once(before).chain(runs[first..].iter().map(|run| run.end));
        starts
            .zip(&runs[first..])
            .take_while(|(start, _)| *start < self.range.end)
            .map(|(start, run)| self.cut_run(start, *run))
    }

    /// When the first of the lines was read.
    #[must_use]
    pub fn received_at(&self) -> Option<Instant> {
        let run = self.held.chunk.runs().get(self.first_run());
        run.map(|run| run.received_at)
    }

    /// Takes off the most whole lines that fit in `bytes_max` and `events_max`, if any does.
    pub(super) fn split_off_front(&mut self, bytes_max: usize, events_max: u32) -> Option<Self> {
        let lines = self.lines();
        let within = &lines[..bytes_max.min(lines.len())];
        let by_bytes = memchr::memrchr(b'\n', within).map_or(0, |at| at + 1);
        let mut len = by_bytes;
        let mut events = count_lines(&lines[..by_bytes]);
        if events > events_max {
            len = end_of_line(lines, events_max);
            events = events_max;
        }
        (len > 0).then(|| self.cut(len, events))
    }

    /// Takes off the first line.
    pub(super) fn split_off_line(&mut self) -> Self {
        let len = end_of_line(self.lines(), 1);
        self.cut(len, 1)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Splits behind the first `events` lines, which are `len` bytes.
    fn cut(&mut self, len: usize, events: u32) -> Self {
        let at = self.range.start + len as u32;
        let front = Self { range: self.range.start..at, events, ..self.clone() };
        self.range.start = at;
        self.events -= events;
        front
    }

    /// Position of the run that the first line belongs to.
    fn first_run(&self) -> usize {
        let runs = self.held.chunk.runs();
        runs.partition_point(|run| run.end <= self.range.start)
    }

    fn cut_run(&self, start: u32, mut run: Run) -> Run {
        let from = start.max(self.range.start);
        let to = run.end.min(self.range.end);
        if to - from < run.end - start {
            run.events = count_lines(&self.held.chunk.bytes()[from as usize..to as usize]);
        }
        run.end = to - self.range.start;
        run
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.lines()
    }
}

/// What is delivered, acknowledged and counted as one.
#[derive(Debug)]
pub struct Batch {
    pieces: Vec<Piece>,
    bytes: usize,
    events: u32,
    key: u128,
}

impl Batch {
    pub(super) fn new(pieces: Vec<Piece>, key: u128) -> Self {
        let mut batch = Self { pieces, bytes: 0, events: 0, key };
        batch.sum_up();
        batch
    }

    /// The lines, in order, as runs of whole lines; each line ends in an LF.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::lines)
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Length of all lines, their line ends included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many lines.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Names this batch with this content: the same for every attempt, another one as soon as lines
    /// are taken out.
    #[must_use]
    pub fn key(&self) -> u128 {
        self.key
    }

    /// When the oldest of its pieces was read.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.pieces.iter().filter_map(Piece::received_at).min()
    }

    /// Adds a piece behind the others.
    pub(super) fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.sum_up();
    }

    /// Puts `next`, what is left of a piece, in its place. With fewer lines the batch is another one
    /// and takes `key`.
    pub(super) fn replace(
        &mut self,
        position: usize,
        next: impl IntoIterator<Item = Piece>,
        key: impl FnOnce() -> u128,
    ) {
        let before = self.events;
        self.pieces.splice(position..=position, next);
        self.sum_up();
        if self.events != before {
            self.key = key();
        }
    }

    /// Its events were delivered, or dropped with a reason.
    pub(super) fn settle(&self) {
        self.pieces.iter().for_each(|piece| piece.settle(piece.events()));
    }

    /// Takes everything out; how many events that was.
    pub(super) fn clear(&mut self) -> u32 {
        self.pieces.clear();
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Two batches of half the events each; `None` for the second where there is one event only.
    pub(super) fn halve(self, keys: &Keys) -> (Self, Option<Self>) {
        if self.events < 2 {
            return (self, None);
        }
        let mut room = self.events / 2;
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for mut piece in self.pieces {
            if piece.events <= room {
                room -= piece.events;
                front.push(piece);
            } else {
                front.extend(piece.split_off_front(usize::MAX, room));
                room = 0;
                back.push(piece);
            }
        }
        let back = Self::new(back, keys.next());
        (Self::new(front, keys.next()), Some(back))
    }

    fn sum_up(&mut self) {
        self.bytes = self.pieces.iter().map(|piece| piece.lines().len()).sum();
        self.events = self.pieces.iter().map(Piece::events).sum();
    }
}

/// Gives out identities: a random part for the run of the destination, and a count.
#[derive(Debug)]
pub(super) struct Keys {
    run: u64,
    next: AtomicU64,
}

impl Keys {
    pub(super) fn new(random: u64) -> Self {
        Self { run: random, next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> u128 {
        u128::from(self.run) << 64 | u128::from(self.next.fetch_add(1, Relaxed))
    }
}

fn count_lines(lines: &[u8]) -> u32 {
    memchr::memchr_iter(b'\n', lines).count() as u32
}

/// Offset behind line number `events`, or of the end.
fn end_of_line(lines: &[u8], events: u32) -> usize {
    match events.checked_sub(1) {
        None => 0,
        Some(before) => {
            memchr::memchr_iter(b'\n', lines).nth(before as usize).map_or(lines.len(), |at| at + 1)
        }
    }
}
