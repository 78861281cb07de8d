//! What is in a log, and is it sound: answers for people, read from the files beside a running writer.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::error::LogError;
use super::folder::{Folder, SegmentInfo};
use super::fs::Open;
use super::position::{Position, StableId};
use super::reader::Reader;
use super::recovery::Progress;
use super::scan::{Damage, Found, Frames};
use super::view::Layout;

/// What one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCheck {
    /// Which.
    pub segment: SegmentInfo,
    /// Sound commits.
    pub frames: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Records in them that are not erased.
    pub records: u64,
    /// Damage. At the end of the newest segment of a log that is being written to, a commit that is
    /// not finished yet looks like it.
    pub damage: Damage,
    /// Where the first [`PLACES_MAX`] damaged stretches are.
    pub places: Vec<Place>,
    /// Bytes that an erasure replaced because they were damaged.
    pub wiped_bytes: u64,
}

/// How many damaged stretches of a segment are named.
pub const PLACES_MAX: usize = 100;

/// A damaged stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub position: Position,
    /// Its length.
    pub bytes: u64,
    /// Events in it, if that is known.
    pub events: Option<u32>,
}

impl SegmentCheck {
    /// Whether the only damage is what stands at the end of the file: in the newest segment, that may
    /// be a commit that is being written, or that was when the power went.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        let end = |place: &Place| u64::from(place.position.offset()) + place.bytes;
        self.damage.stretches == 1
            && self.places.first().is_some_and(|place| end(place) >= self.segment.bytes)
    }

    fn add_damage(&mut self, range: &Range<u64>, events: Option<u32>) {
        self.damage.add(range, events);
        if self.places.len() < PLACES_MAX {
            let offset = u32::try_from(range.start).unwrap_or(u32::MAX);
            let position = Position::new(self.segment.number, offset);
            self.places.push(Place { position, bytes: range.end - range.start, events });
        }
    }
}

/// Reads every segment through and checks everything.
///
/// # Errors
/// [`LogError`] if something can't be read at all.
pub fn verify(
    folder: &Folder,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<SegmentCheck>, LogError> {
    let segments = folder.segments()?;
    let total_bytes = segments.iter().map(|segment| segment.bytes).sum();
    let mut done_bytes = 0;
    let mut checks = Vec::with_capacity(segments.len());
    for segment in segments {
        // One that was released meanwhile needs no look.
        checks.extend(verify_segment(folder, segment)?);
        done_bytes += segment.bytes;
        progress(Progress { done_bytes, total_bytes });
    }
    Ok(checks)
}

/// Checks one segment; `None` if it is gone.
///
/// # Errors
/// [`LogError::Io`].
pub fn verify_segment(
    folder: &Folder,
    segment: SegmentInfo,
) -> Result<Option<SegmentCheck>, LogError> {
    let path = folder.segment_path(segment.number);
    let file = match folder.open_segment(segment.number, Open::Read) {
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened?,
    };
    let mut frames = Frames::new(file, segment.number);
    let damage = Damage::default();
    let mut check = SegmentCheck {
        segment,
        frames: 0,
        blocks: 0,
        records: 0,
        damage,
        places: Vec::new(),
        wiped_bytes: 0,
    };
    loop {
        match frames.next(0, segment.bytes, segment.bytes).map_err(LogError::io("read", &path))? {
            Found::Frame { header, payload } if header.wiped => {
                check.wiped_bytes += payload.end - payload.start;
            }
            Found::Frame { header, mut payload } => {
                check.frames += 1;
                check.records += u64::from(header.records);
                while !payload.is_empty() {
                    let bytes = frames.bytes(&payload, segment.bytes);
                    let bytes = bytes.map_err(LogError::io("read", &path))?;
                    let Some(layout) = Layout::read(bytes) else {
                        check.add_damage(&payload, None);
                        break;
                    };
                    check.blocks += 1;
                    payload.start += layout.block_bytes() as u64;
                }
            }
            Found::Damage { range, events } => check.add_damage(&range, events),
            Found::End => return Ok(Some(check)),
        }
    }
}

/// An amount of stored events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Their number.
    pub events: u64,
    /// Bytes of the blocks that hold them.
    pub bytes: u64,
}

/// What a log holds, by whom it is from and for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Everything.
    pub total: Amount,
    /// Blocks.
    pub blocks: u64,
    /// By source.
    pub sources: BTreeMap<String, Amount>,
    /// By destination, whether it has been delivered or not; an event counts for each.
    pub destinations: BTreeMap<StableId, Amount>,
    /// When the oldest block was received, in milliseconds since 1970.
    pub oldest_unix_ms: Option<u64>,
    /// When the newest block was received, in milliseconds since 1970.
    pub newest_unix_ms: Option<u64>,
    /// What could not be read.
    pub damage: Damage,
}

/// Counts what lies between two positions.
///
/// # Errors
/// [`LogError::Io`].
pub fn stats(folder: &Folder, from: Position, end: Position) -> Result<Stats, LogError> {
    let mut stats = Stats::default();
    let mut reader = Reader::new(folder.clone(), from);
    while let Some(block) = reader.next(end)? {
        let bytes = block.stored_bytes() as u64;
        let events = block.decisions().map(|decision| u64::from(decision.records())).sum();
        stats.blocks += 1;
        stats.total.add(events, bytes);
        if !stats.sources.contains_key(block.source()) {
            stats.sources.insert(block.source().to_owned(), Amount::default());
        }
        if let Some(amount) = stats.sources.get_mut(block.source()) {
            amount.add(events, bytes);
        }
        for decision in block.decisions() {
            for id in decision.ids() {
                stats.destinations.entry(id).or_default().add(decision.records().into(), bytes);
            }
        }
        let at = block.received_unix_ms();
        stats.oldest_unix_ms = Some(stats.oldest_unix_ms.map_or(at, |oldest| oldest.min(at)));
        stats.newest_unix_ms = stats.newest_unix_ms.max(Some(at));
    }
    stats.damage = reader.damage();
    Ok(stats)
}

impl Amount {
    fn add(&mut self, events: u64, bytes: u64) {
        self.events += events;
        self.bytes += bytes;
    }
}

/// How many events between a cursor of each destination and `end` wait for it: what is pending at a
/// start, and what expires if everything before `end` is removed. One pass, whatever their number;
/// `progress` hears where it is.
///
/// # Errors
/// [`LogError::Io`].
pub fn count_pending(
    folder: &Folder,
    cursors: &[(StableId, Position)],
    end: Position,
    mut progress: impl FnMut(Position),
) -> Result<BTreeMap<StableId, u64>, LogError> {
    let mut pending: BTreeMap<StableId, u64> = cursors.iter().map(|(id, _)| (*id, 0)).collect();
    let starts: BTreeMap<StableId, Position> = cursors.iter().copied().collect();
    let Some(from) = starts.values().copied().min() else {
        return Ok(pending);
    };
    let mut reader = Reader::new(folder.clone(), from);
    while let Some(block) = reader.next(end)? {
        progress(block.position());
        for decision in block.decisions() {
            for id in decision.ids() {
                let is_before = starts.get(&id).is_some_and(|start| *start <= block.position());
                if let Some(count) = pending.get_mut(&id).filter(|_| is_before) {
                    *count += u64::from(decision.records());
                }
            }
        }
        for (id, erased) in block.erased() {
            let is_before = starts.get(&id).is_some_and(|start| *start <= block.position());
            if let Some(count) = pending.get_mut(&id).filter(|_| is_before) {
                *count += erased;
            }
        }
    }
    Ok(pending)
}
