//! The types of destinations, as a closed set.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::Batch;
use super::file::{FileCare, FileSink};
use super::http::HttpSink;
use super::retry::Outcome;
use super::stdout::StdoutSink;
use super::tcp::TcpSink;
use crate::config::{BatchLimits, Compression, Format, Rotate};

/// How long events for a blackhole wait to be counted together.
const BLACKHOLE_WAIT: Duration = Duration::from_millis(5);

/// Where to deliver and how, with all variables and secrets resolved.
pub enum SinkSpec {
    /// `POST` of batches.
    Http(HttpSpec),
    /// Newline-delimited JSON over plain TCP.
    Tcp {
        /// `host:port`, looked up anew for every connection.
        address: String,
        /// For connecting, and for any progress of a write.
        timeout: Duration,
    },
    /// Newline-delimited JSON, appended to files.
    File {
        /// Path with `strftime` conversions, in UTC.
        path: String,
        /// When a new file is begun although the path is the same.
        rotate: Rotate,
        /// Every batch becomes a complete member or frame.
        compression: Compression,
        /// What the log asks for.
        care: FileCare,
    },
    /// Newline-delimited JSON on standard output.
    Stdout,
    /// Counts and forgets.
    Blackhole,
}

/// An HTTP destination. It has no `Debug`: URL and headers may hold secrets.
pub struct HttpSpec {
    /// `http://` or `https://`.
    pub url: String,
    /// Extra header fields.
    pub headers: Vec<(String, String)>,
    /// Form of the body.
    pub format: Format,
    /// Compression of the body.
    pub compression: Compression,
    /// Requests at a time.
    pub concurrency: NonZeroUsize,
    /// For one request, connecting included.
    pub timeout: Duration,
}

/// Why a destination cannot work as it is configured.
#[derive(Debug)]
pub struct SinkError(pub(super) String);

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SinkError {}

/// One way to a destination: takes one batch at a time.
#[derive(Debug)]
pub enum Sink {
    /// See [`SinkSpec::Http`].
    Http(HttpSink),
    /// See [`SinkSpec::Tcp`].
    Tcp(TcpSink),
    /// See [`SinkSpec::File`].
    File(FileSink),
    /// See [`SinkSpec::Stdout`].
    Stdout(StdoutSink),
    /// See [`SinkSpec::Blackhole`].
    Blackhole,
    /// Answers by a script.
    #[cfg(test)]
    Scripted(super::tests::Script),
}

impl Sink {
    /// Builds it; connects to nothing and opens nothing.
    ///
    /// # Errors
    /// [`SinkError`] where the spec cannot work. The message holds no secret.
    pub fn new(spec: SinkSpec) -> Result<Self, SinkError> {
        Ok(match spec {
            SinkSpec::Http(spec) => Self::Http(HttpSink::new(spec)?),
            SinkSpec::Tcp { address, timeout } => Self::Tcp(TcpSink::new(address, timeout)?),
            SinkSpec::File { path, rotate, compression, care } => {
                Self::File(FileSink::new(path, rotate, compression, care)?)
            }
            SinkSpec::Stdout => Self::Stdout(StdoutSink::new()?),
            SinkSpec::Blackhole => Self::Blackhole,
        })
    }

    /// Finds out what can be found out without sending anything: a file is opened, and created with
    /// its folders.
    ///
    /// # Errors
    /// [`SinkError`] where it does not work now.
    pub async fn verify(&mut self) -> Result<(), SinkError> {
        match self {
            Self::File(file) => file.verify().await,
            Self::Http(_) | Self::Tcp(_) | Self::Stdout(_) | Self::Blackhole => Ok(()),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }

    /// How batches for it are formed, where `limits` are what the config says. What is only counted is
    /// not worth keeping.
    pub(super) fn limits(&self, limits: BatchLimits) -> BatchLimits {
        match self {
            Self::Blackhole => BatchLimits { max_wait: BLACKHOLE_WAIT, ..limits },
            _ => limits,
        }
    }

    /// As many sinks as there may be batches in flight. More than one only where the order of
    /// batches does not show.
    pub(super) fn into_lanes(self) -> Vec<Self> {
        match self {
            Self::Http(http) => http.into_lanes().map(Self::Http).collect(),
            #[cfg(test)]
            Self::Scripted(script) => script.into_lanes().map(Self::Scripted).collect(),
            one => vec![one],
        }
    }

    /// Tries once to deliver `batch`. May be cancelled; the batch may have arrived then.
    pub(super) async fn send(&mut self, batch: &Batch) -> Outcome {
        match self {
            Self::Http(http) => Box::pin(http.send(batch)).await,
            Self::Tcp(tcp) => tcp.send(batch).await,
            Self::File(file) => file.send(batch).await,
            Self::Stdout(stdout) => stdout.send(batch).await,
            Self::Blackhole => Outcome::Delivered,
            #[cfg(test)]
            Self::Scripted(script) => script.send(batch).await,
        }
    }

    /// Says goodbye where the other end cares, at the latest at `until`.
    pub(super) async fn close(self, until: Option<Instant>) {
        if let Self::Tcp(tcp) = self {
            tcp.close(until).await;
        }
    }
}
