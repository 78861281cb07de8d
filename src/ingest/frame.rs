//! The unit that moves from a connection to a worker.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::budget::Room;
use super::buffers::Buffer;
use super::framing::Run;
use crate::buffer::Buffers;
use crate::log::StableId;
use crate::parse::{PADDING, RejectReason};
use crate::route::SourceId;

/// A run of whole lines from one connection.
#[derive(Debug)]
pub struct Frame {
    /// The lines and [`PADDING`] bytes behind them.
    bytes: Buffer,
    /// Where the lines begin.
    start: usize,
    /// Where they came from.
    pub source: SourceId,
    /// When they were read.
    pub received_at: Instant,
    /// Where the answer goes, if the sender gets one.
    pub reply: Option<oneshot::Sender<Report>>,
    /// Whether the lines were rejected before and are kept as dead letters: those that are rejected again
    /// stay where they are.
    pub is_replayed: bool,
    /// What a warehouse says about the lines.
    section: Option<Section>,
    /// The room they take, given back when the worker drops the last frame of a read.
    _room: Option<Arc<Room>>,
}

impl Frame {
    /// A frame of `lines`; the last may lack its line end.
    #[must_use]
    pub fn new(
        lines: impl Into<Run>,
        source: SourceId,
        received_at: Instant,
        room: Arc<Room>,
    ) -> Self {
        let Run { mut bytes, start } = lines.into();
        bytes.resize(bytes.len() + PADDING, 0);
        Self {
            bytes: Buffer::from(bytes),
            start,
            source,
            received_at,
            reply: None,
            is_replayed: false,
            section: None,
            _room: Some(room),
        }
    }

    /// A frame without lines: its report comes when everything in front of it is settled.
    #[must_use]
    pub fn empty(source: SourceId, reply: oneshot::Sender<Report>) -> Self {
        Self {
            bytes: Buffer::from(vec![0; PADDING]),
            start: 0,
            source,
            received_at: Instant::now(),
            reply: Some(reply),
            is_replayed: false,
            section: None,
            _room: None,
        }
    }

    /// Lets the memory of the lines go back to `buffers` when the worker is done with it.
    pub(super) fn returning_to(mut self, buffers: &Buffers) -> Self {
        self.bytes.return_to(buffers);
        self
    }

    /// The same lines, in a section of a warehouse. No other source may say such things.
    pub(super) fn in_section(mut self, section: Section) -> Self {
        self.section = Some(section);
        self
    }

    /// What the warehouse that the lines come from says about them.
    #[must_use]
    pub fn section(&self) -> Option<&Section> {
        self.section.as_ref()
    }

    /// The lines with their padding, and the length without it.
    pub fn bytes(&mut self) -> (&mut [u8], usize) {
        let lines = &mut self.bytes.as_mut_slice()[self.start..];
        let len = lines.len() - PADDING;
        (lines, len)
    }
}

/// How many rejected lines a [`Report`] names.
pub const LISTED_MAX: usize = 100;

/// What became of the lines of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All lines, the blank ones included.
    pub lines: u64,
    /// Lines that are events and were decided on.
    pub accepted: u64,
    /// Lines that were rejected.
    pub rejected: u64,
    /// The first [`LISTED_MAX`] of them: position among all lines, from 0, and the reason.
    pub listed: Vec<(u64, RejectReason)>,
    /// What became of each line, for a frame of a warehouse.
    pub outcomes: Option<Box<Outcomes>>,
}

/// What a warehouse says about the lines of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// They are events like all others, and go to these destinations only, if it names some.
    Events {
        /// Ascending.
        to: Option<Arc<[StableId]>>,
    },
    /// They are deletions for these destinations.
    Deletions {
        /// Ascending.
        to: Arc<[StableId]>,
    },
    /// They are judged, and neither stored nor counted.
    Rehearsal,
}

/// What became of each line of a frame, blank ones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The hash of the table that decided.
    pub table: String,
    /// What there was, each kind once.
    pub kinds: Vec<LineOutcome>,
    /// In the order of the lines: the number of a kind, and of how many lines in a row.
    pub runs: Vec<(u32, u32)>,
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// It was decided on.
    Decided {
        /// Who gets it; it is stored for them, unless it was only judged.
        stored: Vec<StableId>,
        /// Who does not get it because its user did not agree.
        refused: Vec<StableId>,
    },
    /// It is not an acceptable event.
    Rejected(RejectReason),
}

impl Outcomes {
    /// Adds a line of kind number `kind`.
    pub fn add(&mut self, kind: u32) {
        match self.runs.last_mut() {
            Some((last, lines)) if *last == kind => *lines += 1,
            _ => self.runs.push((kind, 1)),
        }
    }

    /// How many lines.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.runs.iter().map(|(_, lines)| u64::from(*lines)).sum()
    }
}
