//! The bytes of a segment, version 1.
//!
//! All numbers are unsigned and little-endian, all times are milliseconds since 1970 (UTC), all
//! checksums are CRC32C. Reserved bytes are written as 0 and not looked at.
//!
//! # Segment file
//!
//! Named by its first position: sixteen hex digits and `.segment`. A header of 128 bytes, then
//! frames without a gap. The number of the segment is the high half of its first position.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic `CNSTDLOG` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | kind: 1 events, 2 dead letters |
//! | 12 | 4 | number of the segment |
//! | 16 | 8 | created at |
//! | 24 | 4 | encryption: 0 none; anything else is refused as of a newer version |
//! | 28 | 4 | reserved |
//! | 32 | 32 | identifier of the encryption key; 0 without encryption |
//! | 64 | 60 | reserved |
//! | 124 | 4 | checksum of bytes 0 to 124 |
//!
//! # Frame
//!
//! What one commit wrote. The header has its own checksum, so that a damaged payload can be stepped
//! over exactly and its events can be counted. Length and place are multiples of 8.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic: FF, `commit`, FE |
//! | 8 | 8 | position of the frame |
//! | 16 | 4 | bytes of the payload, a multiple of 8 |
//! | 20 | 4 | records in it that are not erased |
//! | 24 | 4 | flags: 1 means wiped: the payload is zeros where damage was removed by an erasure |
//! | 28 | 4 | reserved |
//! | 32 | 4 | checksum of the payload |
//! | 36 | 4 | checksum of bytes 0 to 36 |
//! | 40 | | the payload: blocks without a gap |
//!
//! A search for the next frame after damage believes only a header whose checksum holds and that names
//! the very place where it was found. FF and FE do not occur in UTF-8, so no accepted event can even
//! begin to look like one.
//!
//! # Block
//!
//! Events of one source, received together and decided under one table; or dead letters that failed
//! for one reason.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 4 | bytes of the block, a multiple of 8 |
//! | 4 | 4 | where the decisions begin |
//! | 8 | 4 | number of records |
//! | 12 | 4 | number of decisions |
//! | 16 | 2 | bytes of the source's name |
//! | 18 | 2 | bytes of the reason (dead letters) |
//! | 20 | 4 | flags: 1 means that the records are deletions: consent was not asked, and is not asked again |
//! | 24 | 8 | received at |
//! | 32 | 8 | version of the routing table |
//! | 40 | 16 | hash of the routing table |
//! | 56 | | the source's name, the reason (both UTF-8), the records, the decisions, up to 7 zeros |
//!
//! # Record
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 4 | number of its decision in the block; the highest bit: erased |
//! | 4 | 4 | bytes of the line |
//! | 8 | | the line as it was received, without its line end; zeros if erased |
//!
//! # Decision
//!
//! A distinct set of destinations; most blocks have one or a few for thousands of records.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 4 | records that have this decision and are not erased |
//! | 4 | 4 | number of destinations |
//! | 8 | | their stable IDs, 4 bytes each, ascending |

use super::position::Position;

/// Bytes of a segment's header; no frame stands before this offset.
pub const SEGMENT_HEADER_BYTES: u32 = 128;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 40;
/// Bytes of a block before the source's name.
pub(super) const BLOCK_HEADER_BYTES: usize = 56;
/// Bytes of a record before the line.
pub(super) const RECORD_HEADER_BYTES: usize = 8;
/// The largest payload of a frame: what a reader must be able to hold. An event of the largest size
/// that can be configured (256 MiB) fits.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Frames and blocks begin and end at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The bit of a record's decision number that says it was erased. The number stays: whose event it was
/// is gone, for how many destinations events are missing is not.
pub(super) const ERASED: u32 = 1 << 31;

/// The version of the format that is written.
const VERSION: u16 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"CNSTDLOG";
pub(super) const FRAME_MAGIC: &[u8; 8] = b"\xFFcommit\xFE";
const WIPED: u32 = 1;
/// In a block's flags.
pub(super) const DELETIONS: u32 = 1;

/// What the segments of a folder hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accepted events that are not yet delivered everywhere.
    Events,
    /// Events that failed for good, each with its reason.
    DeadLetters,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) kind: Kind,
    pub(super) number: u32,
    pub(super) created_unix_ms: u64,
}

/// What the first bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderRead {
    Sound(SegmentHeader),
    /// The frames say by themselves where they belong, so they can be read all the same.
    Damaged,
    /// Sound, but of this newer version.
    Newer(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let kind: u16 = match self.kind {
            Kind::Events => 1,
            Kind::DeadLetters => 2,
        };
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.created_unix_ms.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of segment `number`.
    pub(super) fn decode(bytes: &[u8], number: u32) -> HeaderRead {
        Self::sound(bytes, number).unwrap_or(HeaderRead::Damaged)
    }

    fn sound(bytes: &[u8], number: u32) -> Option<HeaderRead> {
        let mut fields = Fields(bytes);
        let is_ours = fields.take(8)? == SEGMENT_MAGIC;
        let checksum = Fields(bytes.get(124..)?).u32()?;
        if !is_ours || checksum != crc32c::crc32c(bytes.get(..124)?) {
            return None;
        }
        let version = fields.u16()?;
        let kind = fields.u16()?;
        let is_right = fields.u32()? == number;
        let created_unix_ms = fields.u64()?;
        let encryption = fields.u32()?;
        let kind = match (version, kind, encryption) {
            (VERSION, 1, 0) => Kind::Events,
            (VERSION, 2, 0) => Kind::DeadLetters,
            _ => return Some(HeaderRead::Newer(version)),
        };
        is_right.then_some(HeaderRead::Sound(Self { kind, number, created_unix_ms }))
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) position: Position,
    pub(super) payload_bytes: u32,
    pub(super) records: u32,
    pub(super) wiped: bool,
    pub(super) payload_checksum: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let flags = if self.wiped { WIPED } else { 0 };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..8].copy_from_slice(FRAME_MAGIC);
        bytes[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.records.to_le_bytes());
        bytes[24..28].copy_from_slice(&flags.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header that was found at `position`; `None` if none of this place stands there.
    pub(super) fn decode(bytes: &[u8], position: Position) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take(8)? != FRAME_MAGIC || fields.u64()? != position.0 {
            return None;
        }
        let header = Self {
            position,
            payload_bytes: fields.u32()?,
            records: fields.u32()?,
            wiped: fields.u32()? & WIPED != 0,
            payload_checksum: {
                fields.u32()?;
                fields.u32()?
            },
        };
        let is_sound = fields.u32()? == crc32c::crc32c(bytes.get(..36)?)
            && (header.payload_bytes as usize).is_multiple_of(ALIGNMENT)
            && header.payload_bytes as usize <= FRAME_PAYLOAD_BYTES_MAX;
        is_sound.then_some(header)
    }

    /// Bytes of the frame, header included.
    pub(super) fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }
}

/// Takes fields from the front of bytes; `None` once there are not enough left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text behind its length in two bytes.
    pub(super) fn text(&mut self) -> Option<String> {
        let len = self.u16()?;
        String::from_utf8(self.take(len.into())?.to_vec()).ok()
    }
}
