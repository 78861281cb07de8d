//! Compression of a batch.

use std::io;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::config::Compression;

/// Other tasks get their turn after this many bytes, about a millisecond of work.
const TURN_BYTES: usize = 64 * 1024;

/// `slices`, one after the other, as one gzip member or zstd frame; as they are without compression.
pub(super) async fn compress<'a>(
    slices: impl ExactSizeIterator<Item = &'a [u8]>,
    compression: Compression,
) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(slices.flatten().copied().collect()),
        Compression::Gzip => {
            let mut encoder = GzipEncoder::new(Vec::new());
            feed(&mut encoder, slices).await?;
            Ok(encoder.into_inner())
        }
        Compression::Zstd => {
            let mut encoder = ZstdEncoder::new(Vec::new());
            feed(&mut encoder, slices).await?;
            Ok(encoder.into_inner())
        }
    }
}

async fn feed<'a>(
    encoder: &mut (impl AsyncWrite + Unpin),
    slices: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    for slice in slices.flat_map(|slice| slice.chunks(TURN_BYTES)) {
        encoder.write_all(slice).await?;
        tokio::task::yield_now().await;
    }
    encoder.shutdown().await
}
