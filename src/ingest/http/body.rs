//! A request's body as plain bytes, inflated as a stream.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{BufMut as _, Bytes};
use http_body_util::combinators::MapErr;
use http_body_util::{BodyDataStream, BodyExt as _, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_ENCODING;
use tokio::io::{AsyncBufReadExt as _, AsyncRead};
use tokio_util::io::{StreamReader, poll_read_buf};

use super::answer::Failure;
use crate::ingest::buffers::READ_BYTES;

/// Zstandard frames with a larger window are refused, as RFC 9659 says they may be; a decoder
/// takes that much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

type BoxError = Box<dyn Error + Send + Sync>;
type Source = MapErr<Limited<Incoming>, fn(BoxError) -> io::Error>;
type Raw = StreamReader<BodyDataStream<Source>, Bytes>;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

impl Encoding {
    /// What `Content-Encoding` says; more than one encoding is not supported.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(Self::Identity),
            (Some(value), None) => value.as_bytes().trim_ascii().to_ascii_lowercase(),
            (Some(_), Some(_)) => return Err(Failure::UnsupportedEncoding),
        };
        match value.as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            b"deflate" => Ok(Self::Deflate),
            _ => Err(Failure::UnsupportedEncoding),
        }
    }
}

/// A body being read.
pub(super) struct Body {
    inflate: Inflate,
    /// The length, where it is known beforehand.
    expected: Option<u64>,
    read: u64,
    bytes_max: u64,
    /// Whether the decoder has used up what the client sent.
    starved: bool,
}

enum Inflate {
    Identity(Raw),
    Gzip(Box<GzipDecoder<Raw>>),
    Zstd(Box<ZstdDecoder<Raw>>),
    Deflate(Box<ZlibDecoder<Raw>>),
}

impl Body {
    /// A body of at most `bytes_max`, both as it is sent and inflated.
    pub(super) fn new(
        incoming: Incoming,
        encoding: Encoding,
        bytes_max: u64,
    ) -> Result<Self, Failure> {
        let length = incoming.size_hint().exact();
        if length.is_some_and(|length| length > bytes_max) {
            return Err(Failure::BodyTooLarge);
        }
        let limited = Limited::new(incoming, usize::try_from(bytes_max).unwrap_or(usize::MAX));
        let source: Source = limited.map_err(io::Error::other as fn(BoxError) -> io::Error);
        let raw = StreamReader::new(source.into_data_stream());
        Ok(Self {
            inflate: Inflate::new(raw, encoding),
            expected: length.filter(|_| encoding == Encoding::Identity),
            read: 0,
            bytes_max,
            starved: true,
        })
    }

    /// Waits for the client. Returns how much [`Self::take`] may give now; zero at the end.
    pub(super) async fn ready(&mut self) -> Result<usize, Failure> {
        if let Inflate::Identity(raw) = &mut self.inflate {
            let chunk = raw.fill_buf().await.map_err(|error| failure(&error))?;
            return Ok(chunk.len().min(READ_BYTES));
        }
        if self.starved {
            self.inflate.raw().fill_buf().await.map_err(|error| failure(&error))?;
        }
        Ok(READ_BYTES)
    }

    /// Adds what is there to `buffer`, up to so many bytes, without waiting. Returns whether the
    /// body is at its end.
    pub(super) async fn take(
        &mut self,
        buffer: &mut Vec<u8>,
        limit: usize,
    ) -> Result<bool, Failure> {
        let ended = poll_fn(|cx| Poll::Ready(self.poll_take(cx, buffer, limit))).await?;
        self.read += buffer.len() as u64;
        if self.read > self.bytes_max {
            return Err(Failure::BodyTooLarge);
        }
        Ok(ended || self.expected == Some(self.read))
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        limit: usize,
    ) -> Result<bool, Failure> {
        self.starved = false;
        let reader = self.inflate.reader();
        while buffer.len() < limit {
            let left = limit - buffer.len();
            match poll_read_buf(Pin::new(&mut *reader), cx, &mut (&mut *buffer).limit(left)) {
                Poll::Ready(Ok(0)) => return Ok(true),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(failure(&error)),
                Poll::Pending => {
                    self.starved = true;
                    break;
                }
            }
        }
        Ok(false)
    }
}

impl Inflate {
    fn new(raw: Raw, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Identity => Self::Identity(raw),
            Encoding::Gzip => {
                let mut decoder = GzipDecoder::new(raw);
                decoder.multiple_members(true);
                Self::Gzip(Box::new(decoder))
            }
            Encoding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(raw, &[window]);
                decoder.multiple_members(true);
                Self::Zstd(Box::new(decoder))
            }
            Encoding::Deflate => Self::Deflate(Box::new(ZlibDecoder::new(raw))),
        }
    }

    /// What the client sent.
    fn raw(&mut self) -> &mut Raw {
        match self {
            Self::Identity(raw) => raw,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        }
    }

    /// What it means.
    fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match self {
            Self::Identity(raw) => raw,
            Self::Gzip(decoder) => decoder.as_mut(),
            Self::Zstd(decoder) => decoder.as_mut(),
            Self::Deflate(decoder) => decoder.as_mut(),
        }
    }
}

/// Errors that are neither about the length nor about the connection come from a decoder.
fn failure(error: &io::Error) -> Failure {
    match error.get_ref() {
        Some(cause) if cause.is::<LengthLimitError>() => Failure::BodyTooLarge,
        Some(cause) if cause.is::<hyper::Error>() => Failure::IncompleteBody,
        _ => Failure::InvalidEncoding,
    }
}
