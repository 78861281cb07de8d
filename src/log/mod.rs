//! The durable log: what was acknowledged is in here until every destination is done with it.
//!
//! Owns the files of a log: segments, cursors, stable IDs of destinations, tombstones, copies of what
//! is damaged. It does not own threads, clocks, windows of time or counters (the caller has them, and
//! passes the time in), does not judge events, and knows no source and no destination but their stored
//! names. Dead letters are a second log of the same form ([`Kind::DeadLetters`]) whose blocks have a
//! reason.
//!
//! The way of an event: a worker writes it into a [`BlockBuilder`]; the thread that owns the [`Writer`]
//! appends the finished block to a group and commits the group as one frame; then it is acknowledged,
//! and may be delivered from memory or by a [`Reader`]. Each destination has a cursor in [`Cursors`].
//! Segments that every durable cursor is behind are released. The bytes are described at the head of
//! `format.rs`, `twin.rs`, `cursor.rs`, `identity.rs` and `tombstone.rs`.
//!
//! # The order of a start and of a reload
//!
//! [`Folder::open`], [`Identities::open`], [`Identities::resolve`], then [`Identities::retire_others`]
//! (what is dropped as `removed` must not come back under its ID), then [`Cursors::open`] with those
//! IDs, then [`Writer::open`] with [`CursorReport::highest`]. A reload resolves and retires in the same
//! way, then calls [`Cursors::begin`] at [`Writer::end`] for what is new, [`Cursors::remove`] for what
//! is gone, and [`Cursors::save`].
//!
//! # What always holds
//!
//! - What [`Writer::commit`] reported under [`SyncMode::Commit`], or [`Writer::sync`] under the others,
//!   is found again by every later start, byte for byte, in the same order, at the same position.
//! - Nothing is read that does not carry the checksum it was written with. Damage costs the commit it
//!   is in and no other; it is counted and copied aside, and the log opens.
//! - A position is never given out twice ([`Position`]), a stable ID never means another destination
//!   ([`Identities`]).
//! - A segment is removed only after cursors behind it are durable, or when it is expired by name.
//! - After an error of a write or sync the writer takes nothing more ([`Writer`]); no sync is ever
//!   tried again on the same descriptor.
//! - Reading allocates no more than the file is long, and no input makes it panic.
//!
//! # Why it is ours
//!
//! What is needed: one log with many cursors that move on their own; places that stay valid while
//! single records are erased; a group as the unit of damage; and going on behind damage in the middle.
//! Looked at: `okaywal` (its documentation calls it early and the format unstable; entries go to one
//! checkpointer and are then recycled), `commitlog` (last release in 2021; no erasure), `raft-engine`
//! (entries with consecutive indexes per Raft group, an index of them all in memory), `open-wal`
//! (opaque payloads, one checkpoint, segments never rewritten, a gap in the middle is fatal), `fjall` 3,
//! `redb` and `sled` (key-value stores: an event would be written a second time by compaction or copied
//! pages, and an erased one stays in old files until then). Ours are the framing and its recovery; the
//! checksum is `crc32c`, the search `memchr`, the hash `blake3`, the system calls `rustix`.

mod block;
mod cursor;
mod error;
mod folder;
mod format;
mod fs;
mod identity;
mod inspect;
mod position;
mod reader;
mod recovery;
mod retention;
mod rewrite;
mod scan;
mod tombstone;
mod twin;
mod view;
mod writer;

pub use block::{BlockBuilder, BlockFull, BlockHead, DecisionNumber, EncodedBlock};
pub use cursor::{CursorReport, Cursors};
pub use error::{AppendError, CommitError, LogError};
pub use folder::{Folder, SegmentInfo};
pub use format::{FRAME_PAYLOAD_BYTES_MAX, Kind, SEGMENT_HEADER_BYTES};
pub use fs::{Disk, Entry, FileSystem, LogFile, Open};
pub use identity::{Identities, Identity};
pub use inspect::{
    Amount, PLACES_MAX, Place, SegmentCheck, Stats, count_pending, stats, verify, verify_segment,
};
pub use position::{Position, StableId};
pub use reader::Reader;
pub use recovery::{Progress, RecoveryReport};
pub use retention::Removed;
pub use rewrite::{Rewritten, rewrite_segment};
pub use scan::Damage;
pub use tombstone::{Marks, Tombstones};
pub use view::{Block, Decision, Record};
pub use writer::{Committed, Options, Room, SyncMode, Writer};
