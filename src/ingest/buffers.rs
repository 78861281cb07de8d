//! The buffers that sockets are read into, used again and again.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::parse::PADDING;

/// How much is read at a time.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// What a buffer holds: a read, a line end and the padding of a frame.
const BUFFER_BYTES: usize = READ_BYTES + 1 + PADDING;

/// How many buffers are kept for later; there may be more in use.
const SPARE_BUFFERS_MAX: usize = 8;

/// Spare buffers. Memory that was used before needs no page faults, which cost more than the read.
#[derive(Clone, Debug)]
pub(super) struct Buffers {
    spare: Arc<ArrayQueue<Vec<u8>>>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            spare: Arc::new(ArrayQueue::new(SPARE_BUFFERS_MAX)),
        }
    }

    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Keeps the buffer for later, unless it is of another size or enough are kept.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if (BUFFER_BYTES..2 * BUFFER_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            // The queue is full: the buffer is freed.
            let _ = self.spare.push(buffer);
        }
    }
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
            home.give(std::mem::take(&mut self.bytes));
        }
    }
}
