//! What is in a log, and is it sound: answers for people, read from the files beside a running writer.

use std::collections::BTreeMap;

use super::error::LogError;
use super::folder::{Folder, SegmentInfo};
use super::fs::Open;
use super::position::{Position, StableId};
use super::reader::Reader;
use super::recovery::Progress;
use super::scan::{Damage, Found, Frames};
use super::view::Layout;

/// What one segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Bytes that an erasure replaced because they were damaged.
    pub wiped_bytes: u64,
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
        checks.push(verify_segment(folder, segment)?);
        done_bytes += segment.bytes;
        progress(Progress { done_bytes, total_bytes });
    }
    Ok(checks)
}

fn verify_segment(folder: &Folder, segment: SegmentInfo) -> Result<SegmentCheck, LogError> {
    let path = folder.segment_path(segment.number);
    let file = folder.open_segment(segment.number, Open::Read)?;
    let mut frames = Frames::new(file, segment.number);
    let damage = Damage::default();
    let mut check =
        SegmentCheck { segment, frames: 0, blocks: 0, records: 0, damage, wiped_bytes: 0 };
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
                        check.damage.add(&payload, None);
                        break;
                    };
                    check.blocks += 1;
                    payload.start += layout.block_bytes() as u64;
                }
            }
            Found::Damage { range, events } => check.damage.add(&range, events),
            Found::End => return Ok(check),
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
/// start, and what expires if everything before `end` is removed. One pass, whatever their number.
///
/// # Errors
/// [`LogError::Io`].
pub fn count_pending(
    folder: &Folder,
    cursors: &[(StableId, Position)],
    end: Position,
) -> Result<BTreeMap<StableId, u64>, LogError> {
    let mut pending: BTreeMap<StableId, u64> = cursors.iter().map(|(id, _)| (*id, 0)).collect();
    let starts: BTreeMap<StableId, Position> = cursors.iter().copied().collect();
    let Some(from) = starts.values().copied().min() else {
        return Ok(pending);
    };
    let mut reader = Reader::new(folder.clone(), from);
    while let Some(block) = reader.next(end)? {
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
