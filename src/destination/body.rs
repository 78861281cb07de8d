//! The body of a request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;

use super::batch::Batch;
use super::compress::compress;
use crate::config::{Compression, Format};

/// Parts of known length; without compression, lines are sent right from their chunks.
#[derive(Debug)]
pub(super) struct Body {
    parts: VecDeque<Bytes>,
    len: u64,
}

impl Body {
    /// `batch` in the form that the destination wants; `now` becomes `sentAt`.
    pub(super) async fn new(
        batch: &Batch,
        format: Format,
        compression: Compression,
        now: Timestamp,
    ) -> io::Result<Self> {
        let frame = match format {
            Format::Ndjson => None,
            Format::JsonArray => Some(("[", "]".to_owned())),
            Format::SegmentBatch => Some(("{\"batch\":[", format!("],\"sentAt\":\"{now:.3}\"}}"))),
        };
        let document = frame.map(|(before, after)| in_array(batch, before, &after));
        Ok(match (document, compression) {
            (None, Compression::None) => {
                let pieces = batch.pieces().iter().cloned();
                Self::of(pieces.map(Bytes::from_owner).collect())
            }
            (None, kind) => Self::of_one(compress(batch.slices(), kind).await?),
            (Some(document), Compression::None) => Self::of_one(document),
            (Some(document), kind) => {
                Self::of_one(compress([&document[..]].into_iter(), kind).await?)
            }
        })
    }

    fn of_one(bytes: Vec<u8>) -> Self {
        Self::of(VecDeque::from([bytes.into()]))
    }

    fn of(parts: VecDeque<Bytes>) -> Self {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, len }
    }
}

/// The events between `before` and `after`, with commas in the place of line ends.
fn in_array(batch: &Batch, before: &str, after: &str) -> Vec<u8> {
    let mut document = Vec::with_capacity(before.len() + batch.bytes() + after.len());
    document.extend_from_slice(before.as_bytes());
    for slice in batch.slices() {
        let start = document.len();
        document.extend_from_slice(slice);
        let mut at = start;
        // Valid JSON has no raw LF within a string, and a line has none between its tokens.
        while let Some(found) = memchr::memchr(b'\n', &document[at..]) {
            document[at + found] = b',';
            at += found + 1;
        }
    }
    document.pop();
    document.extend_from_slice(after.as_bytes());
    document
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.len -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len)
    }
}
