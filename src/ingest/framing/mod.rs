//! From bytes in arbitrary pieces to runs of whole lines; no I/O.
//!
//! Owns the three forms in which events come in: lines ended by LF or CRLF, octet-counted messages
//! (RFC 6587) and the elements of one JSON array. It does not judge lines.
//!
//! What always holds: the pieces in which the bytes arrive make no difference to the lines that come
//! out; a byte is copied a bounded number of times, however small the pieces; what is kept between
//! two pieces is one unfinished line of little more than `max_event_bytes`; no raw LF or CR is left
//! within a line where it could be taken for the end of one.

mod array;
mod assembly;
mod body;
mod counted;
mod lines;
mod stream;

pub use body::BodyCutter;
pub(super) use lines::LineCutter;
pub use stream::StreamCutter;

/// A run of whole lines; the last may lack its line end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
}

impl Run {
    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<Vec<u8>> for Run {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

/// What a cutter found.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// Lines to be judged, the blank ones included.
    Lines(Run),
    /// A line that was too long to be kept. A line that is too long but was whole within one piece
    /// is among the `Lines`.
    Oversized {
        /// Its length without its line end.
        bytes: u64,
        /// How it begins: at most [`HEAD_BYTES_MAX`].
        head: Vec<u8>,
    },
    /// Blank lines that were left out.
    Blank {
        /// How many.
        lines: u64,
    },
}

/// How many runs one call of a cutter can give; that many frames may share the room of one read.
pub const RUNS_PER_CALL_MAX: usize = 4;

/// A way to cut lines.
///
/// Cuts come in the order of the bytes, except that a too long octet-counted message may come before
/// the lines in front of it.
pub trait Cutter {
    /// Cuts what follows; the buffer may be taken over, what is left of it has no meaning.
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>);

    /// Cuts what is left when nothing follows.
    fn finish(&mut self, cuts: &mut Vec<Cut>);

    /// Memory that the unfinished line takes.
    fn tail_bytes(&self) -> usize;
}

/// How much longer than `max_event_bytes` an unfinished line is allowed to grow: by its line end.
const LINE_END_BYTES: usize = 2;

/// How much is kept of the beginning of a line that is too long.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The beginning of a line that is too long, of which as much is kept as there is capacity for.
fn empty_head(max_event_bytes: usize) -> Vec<u8> {
    Vec::with_capacity(max_event_bytes.min(HEAD_BYTES_MAX))
}

fn add_to_head(head: &mut Vec<u8>, piece: &[u8]) {
    let room = head.capacity() - head.len();
    head.extend_from_slice(&piece[..room.min(piece.len())]);
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
