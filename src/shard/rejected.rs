//! What a worker rejects, on its way to the dead letters.

use std::sync::Arc;
use std::time::Instant;

use crate::dead_letters::{DeadLetters, LettersWriter};
use crate::parse::Rejection;
use crate::route::SourceId;

/// Lines are offered once there are so many bytes of them.
const OFFER_BYTES: usize = 256 * 1024;

/// The rejected lines that were not offered yet.
pub(super) struct Rejected {
    dead_letters: Arc<DeadLetters>,
    writer: LettersWriter,
}

impl Rejected {
    pub(super) fn new(dead_letters: Arc<DeadLetters>) -> Self {
        // No table has decided about them.
        Self { dead_letters, writer: LettersWriter::new(None, 0, "") }
    }

    /// Adds a line. In a flood of them it is only counted.
    pub(super) fn add(
        &mut self,
        source: SourceId,
        rejection: Rejection,
        line: &[u8],
        received_at: Instant,
    ) {
        if !self.dead_letters.has_room_for_offers() {
            return self.dead_letters.count_lost(1);
        }
        let Rejection { reason, detail, .. } = rejection;
        let writer = &mut self.writer;
        self.dead_letters.write_rejected(writer, source, reason, detail, line, received_at);
        if writer.bytes() >= OFFER_BYTES {
            self.offer();
        }
    }

    /// Offers what there is.
    pub(super) fn offer(&mut self) {
        if self.writer.bytes() > 0 {
            self.dead_letters.offer(self.writer.take());
        }
    }
}
