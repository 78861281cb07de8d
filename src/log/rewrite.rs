//! Erasure, physically: a copy of a segment without certain records, which takes its place.
//!
//! Every frame, block and record keeps its place, so that positions stay valid: an erased record is
//! zeros of the same length, marked as such. Damaged stretches may hold anything, so
//! they are not copied; a frame that says so stands in their place. Readers that have the original
//! open go on reading it, and ask the tombstones as for everything else.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::folder::{Folder, UNFINISHED};
use super::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader, HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::fs::{LogFile, Open, read_full, uninterrupted, write_all};
use super::position::Position;
use super::scan::{Found, Frames};
use super::view::{Block, Layout, erase_records};

/// A copy of a segment that waits for [`Writer::adopt`](super::Writer::adopt).
#[derive(Debug)]
pub struct Rewritten {
    number: u32,
    path: PathBuf,
    /// Records that were erased by this copy.
    pub erased: u64,
    /// Damaged bytes that were left out.
    pub wiped_bytes: u64,
}

impl Rewritten {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a durable copy of the closed segment `number` without the records that `erase` chooses;
/// `None` if it chooses none and nothing is damaged, so that nothing needs to change. Slow; for any
/// thread. The copy is in force only after [`Writer::adopt`](super::Writer::adopt); copies of damaged
/// bytes are removed by [`Folder::remove_damaged`].
///
/// # Errors
/// [`LogError`]; the original is as it was.
pub fn rewrite_segment(
    folder: &Folder,
    number: u32,
    mut erase: impl FnMut(&Block<'_>, &[u8]) -> bool,
) -> Result<Option<Rewritten>, LogError> {
    let source = folder.segment_path(number);
    let mut unfinished = source.clone().into_os_string();
    unfinished.push(UNFINISHED);
    let mut rewritten = Rewritten { number, path: unfinished.into(), erased: 0, wiped_bytes: 0 };
    let file = folder.open_segment(number, Open::Read)?;
    let len = uninterrupted(|| file.len()).map_err(LogError::io("measure", &source))?;

    folder.unlink(&rewritten.path)?;
    let copy = folder.open_file(&rewritten.path, Open::CreateNew)?;
    let write = |bytes: &[u8], at: u64| {
        write_all(&*copy, bytes, at).map_err(LogError::io("write to", &rewritten.path))
    };
    write(&header(folder, &*file, number, &source)?, 0)?;
    let mut frames = Frames::new(file, number);
    let mut buffer = Vec::new();
    loop {
        match frames.next(0, len, len).map_err(LogError::io("read", &source))? {
            Found::Frame { header, payload } => {
                let at = payload.start - FRAME_HEADER_BYTES as u64;
                let bytes = frames.bytes(&payload, len).map_err(LogError::io("read", &source))?;
                buffer.clear();
                buffer.extend_from_slice(&header.encode());
                buffer.extend_from_slice(bytes);
                rewritten.erased += u64::from(erase_in_frame(&mut buffer, header, &mut erase));
                write(&buffer, at)?;
            }
            Found::Damage { range, .. } => {
                rewritten.wiped_bytes += range.end - range.start;
                buffer.clear();
                buffer.extend_from_slice(&wiped(number, &range));
                buffer.resize((range.end - range.start) as usize, 0);
                write(&buffer, range.start)?;
            }
            Found::End => break,
        }
    }
    if rewritten.erased == 0 && rewritten.wiped_bytes == 0 {
        folder.unlink(&rewritten.path)?;
        return Ok(None);
    }
    uninterrupted(|| copy.sync_data()).map_err(LogError::io("sync", &rewritten.path))?;
    Ok(Some(rewritten))
}

/// The header of the original; one that is damaged is written anew, without the time of creation.
fn header(
    folder: &Folder,
    file: &dyn LogFile,
    number: u32,
    path: &Path,
) -> Result<[u8; SEGMENT_HEADER_BYTES as usize], LogError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    read_full(file, &mut bytes, 0).map_err(LogError::io("read", path))?;
    match SegmentHeader::decode(&bytes, number) {
        HeaderRead::Sound(_) => Ok(bytes),
        HeaderRead::Damaged => {
            Ok(SegmentHeader { kind: folder.kind, number, created_unix_ms: 0 }.encode())
        }
        HeaderRead::Newer(version) => Err(LogError::Newer { path: path.to_owned(), version }),
    }
}

/// Erases in a frame whose checksum holds; returns how many records.
fn erase_in_frame(
    frame: &mut [u8],
    header: FrameHeader,
    erase: &mut impl FnMut(&Block<'_>, &[u8]) -> bool,
) -> u32 {
    let (head, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let mut erased = 0;
    let mut at = 0;
    while let Some(block) = payload.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let Some(layout) = Layout::read(block) else { break };
        let position = Position(header.position.0 + (FRAME_HEADER_BYTES + at) as u64);
        erased += erase_records(block, &layout, position, &mut *erase);
        at += layout.block_bytes();
    }
    if erased > 0 {
        let records = header.records.saturating_sub(erased);
        let payload_checksum = crc32c::crc32c(payload);
        head.copy_from_slice(&FrameHeader { records, payload_checksum, ..header }.encode());
    }
    erased
}

/// The header of a frame of zeros that fills a damaged range.
fn wiped(number: u32, range: &Range<u64>) -> Vec<u8> {
    let len = (range.end - range.start) as usize;
    let Some(payload) = len.checked_sub(FRAME_HEADER_BYTES).filter(|n| n % ALIGNMENT == 0) else {
        // Shorter than any frame, or not where one could be: plain zeros, damage as before.
        return Vec::new();
    };
    let header = FrameHeader {
        position: Position::new(number, u32::try_from(range.start).unwrap_or(u32::MAX)),
        payload_bytes: u32::try_from(payload).unwrap_or(u32::MAX),
        records: 0,
        wiped: true,
        payload_checksum: crc32c::crc32c(&vec![0; payload]),
    };
    header.encode().to_vec()
}
