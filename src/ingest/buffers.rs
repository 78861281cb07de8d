//! The buffers that sockets are read into, used again and again.

use crate::buffer::Buffers;
use crate::parse::PADDING;

/// How much is read at a time.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// What a buffer holds: a read, a line end and the padding of a frame.
const BUFFER_BYTES: usize = READ_BYTES + 1 + PADDING;

/// How many buffers are kept for later; there may be more in use.
const SPARE_BUFFERS_MAX: usize = 32;

/// The spare buffers of one source.
pub(super) fn read_buffers() -> Buffers {
    Buffers::new(SPARE_BUFFERS_MAX, BUFFER_BYTES)
}

/// Bytes whose memory may go back to where it came from.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    home: Option<Buffers>,
}

impl Buffer {
    pub(super) fn return_to(&mut self, buffers: &Buffers) {
        self.home = Some(buffers.clone());
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}
