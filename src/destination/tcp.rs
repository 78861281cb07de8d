//! Lines over plain TCP.
//!
//! Nothing on the wire says what the other end has read: a batch counts as delivered once the kernel
//! took all of it. After any error the whole batch goes out again on a new connection, so the other
//! end may see the first part of it twice, the last of that part cut within a line.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::batch::Batch;
use super::retry::Outcome;
use super::sink::SinkError;

/// An idle connection is probed after this long, so that a peer that vanished is noticed before the
/// next batch disappears in the kernel's buffer.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// How long a peer may take to close its side after ours.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub struct TcpSink {
    address: String,
    timeout: Duration,
    stream: Option<TcpStream>,
}

impl TcpSink {
    pub(super) fn new(address: String, timeout: Duration) -> Result<Self, SinkError> {
        let port = address.rsplit_once(':').map(|(_, port)| port);
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(SinkError("`address` is not `host:port`".into()));
        }
        Ok(Self { address, timeout, stream: None })
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Outcome {
        // Out of `self` while it is in use: if this is cancelled the connection ends too, because
        // nobody would know how much of the batch went out.
        let stream = self.stream.take().filter(is_open);
        let connected = match stream {
            Some(stream) => Ok(stream),
            None => self.connect().await,
        };
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => return Outcome::retry(format!("cannot connect: {error}")),
        };
        match self.write(&mut stream, batch).await {
            Ok(()) => {
                self.stream = Some(stream);
                Outcome::Delivered
            }
            Err(error) => Outcome::retry(format!("connection lost: {error}")),
        }
    }

    /// Closes the connection so that what was written is not lost to a reset.
    pub(super) async fn close(self, until: Option<Instant>) {
        let Some(mut stream) = self.stream else {
            return;
        };
        let latest = Instant::now() + GOODBYE;
        let goodbye = async {
            stream.shutdown().await?;
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever comes of it, nothing more can be done.
        let _ = timeout_at(until.map_or(latest, |until| until.min(latest)), goodbye).await;
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(self.timeout, TcpStream::connect(&self.address))
            .await
            .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    }

    async fn write(&self, stream: &mut TcpStream, batch: &Batch) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = batch.slices().map(IoSlice::new).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = timeout(self.timeout, stream.write_vectored(rest))
                .await
                .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }
}

/// Whether the peer still has its side open. What it says is read and ignored.
fn is_open(stream: &TcpStream) -> bool {
    let mut ignored = [0; 4096];
    // A peer that talks without end is asked again before the next batch.
    for _ in 0..16 {
        match stream.try_read(&mut ignored) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}
