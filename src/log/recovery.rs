//! What a start finds: everything up to the last valid commit.
//!
//! Only the newest segment can have been written to when the process ended (every other was made
//! durable before its successor was created), so only that one is read through, and a start takes as
//! long with a hundred segments as with one. Damage in older ones is met, counted and stepped over by
//! whoever reads them.

use super::error::LogError;
use super::folder::{Folder, SegmentInfo};
use super::format::SEGMENT_HEADER_BYTES;
use super::fs::{Open, uninterrupted};
use super::scan::{Damage, Found, Frames};

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was cut off behind the last valid commit, and copied to `damaged/`: as a rule a commit
    /// that was being written when the power went, which nobody was told of.
    pub cut: Damage,
    /// Damage in front of the last valid commit of the newest segment; copied to `damaged/` and
    /// stepped over by readers.
    pub damage: Damage,
}

/// How far a long recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes looked at.
    pub done_bytes: u64,
    /// Bytes to look at.
    pub total_bytes: u64,
}

/// Lists the segments and mends the newest.
pub(super) fn recover(
    folder: &Folder,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<SegmentInfo>, RecoveryReport), LogError> {
    folder.remove_unfinished()?;
    let mut segments = folder.segments()?;
    let mut report = RecoveryReport::default();
    if let Some(newest) = segments.last_mut() {
        newest.bytes = mend(folder, *newest, &mut report, progress)?;
    }
    report.segments = segments.len() as u64;
    report.bytes = segments.iter().map(|segment| segment.bytes).sum();
    Ok((segments, report))
}

/// Reads a segment through, cuts off what follows its last valid commit, makes the rest durable, and
/// returns its length.
fn mend(
    folder: &Folder,
    segment: SegmentInfo,
    report: &mut RecoveryReport,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, LogError> {
    let path = folder.segment_path(segment.number);
    let file = folder.open_segment(segment.number, Open::Write)?;
    let mut frames = Frames::new(file, segment.number);
    let mut sound_end = u64::from(SEGMENT_HEADER_BYTES).min(segment.bytes);
    // Damage since the last sound frame: in the middle if another one follows.
    let mut since = Vec::new();
    loop {
        match frames.next(0, segment.bytes, segment.bytes).map_err(LogError::io("read", &path))? {
            Found::Frame { payload, .. } => {
                sound_end = payload.end;
                for (range, events) in since.drain(..) {
                    report.damage.add(&range, events);
                    folder.keep_damaged(segment.number, &range);
                }
                progress(Progress { done_bytes: payload.end, total_bytes: segment.bytes });
            }
            Found::Damage { range, events } => since.push((range, events)),
            Found::End => break,
        }
    }
    for (range, events) in since {
        report.cut.add(&range, events);
        folder.keep_damaged(segment.number, &range);
    }
    let file = frames.file();
    // Also where nothing is cut off: this frees what was reserved for frames that will not come.
    uninterrupted(|| file.truncate(sound_end)).map_err(LogError::io("truncate", &path))?;
    // What was read may have come from the page cache only.
    uninterrupted(|| file.sync_data()).map_err(LogError::io("sync", &path))?;
    Ok(sound_end)
}
