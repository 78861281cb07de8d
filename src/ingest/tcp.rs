//! Newline-delimited or octet-counted events over plain TCP.
//!
//! There is no acknowledgement: what was read is judged, whatever becomes of the connection; what
//! was not read is the peer's.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BufMut as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::buffers::READ_BYTES;
use super::framing::{Cut, Cutter as _, StreamCutter};
use super::lane::{Context, Lane};
use super::listen::Listener;
use super::tails::Tail;

#[cfg(test)]
mod tests;

/// In a drain a connection is read until it was quiet for so long,
const DRAIN_QUIET: Duration = Duration::from_millis(50);
/// but no longer than this,
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// and no more than this.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A TCP source whose address is bound.
#[derive(Debug)]
pub struct TcpSource {
    listener: Listener,
    connections_max: NonZeroUsize,
}

impl TcpSource {
    /// Binds the address, so that nothing is started if it is taken.
    ///
    /// # Errors
    /// The message names the address, the cause and what to do.
    pub fn bind(listen: SocketAddr, connections_max: NonZeroUsize) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(listen)?, connections_max })
    }

    /// Lets connections queue up; to be called once everything else can take them.
    ///
    /// # Errors
    /// As `bind`.
    pub fn listen(&self) -> io::Result<()> {
        self.listener.listen()
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Takes events in until `context.stop`; ends when everything that was read is handed over.
    ///
    /// # Errors
    /// The socket cannot be used at all.
    pub async fn serve(self, context: Context) -> io::Result<()> {
        let connections_max = self.connections_max.get();
        let connect = |socket, lane| Connection::new(socket, lane).run();
        self.listener.serve(connections_max, context, connect).await
    }
}

struct Connection {
    socket: TcpStream,
    lane: Lane,
    cutter: StreamCutter,
    cuts: Vec<Cut>,
    tail: Tail,
    /// Cancelled by a drain, or when the pool of unfinished lines is exhausted.
    close: CancellationToken,
}

/// What a read gave.
enum Progress {
    Read(usize),
    Nothing,
    /// The peer, or the daemon, is done.
    End,
}

impl Connection {
    fn new(socket: TcpStream, lane: Lane) -> Self {
        let close = lane.context.stop.child_token();
        Self {
            socket,
            cutter: StreamCutter::new(lane.context.max_event_bytes),
            cuts: Vec::new(),
            tail: lane.context.tails.open(close.clone()),
            close,
            lane,
        }
    }

    async fn run(mut self) {
        let close = self.close.clone();
        let mut closing = pin!(close.cancelled());
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                ready = self.socket.readable() => if ready.is_err() { break },
            }
            if let Progress::End = self.read().await {
                break;
            }
        }
        if self.lane.context.stop.is_cancelled() {
            // Running out of time is as good as quiet.
            let _ = timeout(DRAIN_TIME_MAX, self.drain()).await;
        }
        self.finish().await;
    }

    /// Reads what is there. Cancel safe: it waits only before it reads.
    async fn read(&mut self) -> Progress {
        tokio::task::coop::consume_budget().await;
        let room = self.lane.room(READ_BYTES, self.cutter.tail_bytes()).await;
        let mut buffer = self.lane.buffers.take();
        let limit = READ_BYTES.min(room.bytes());
        let read = self.socket.try_read_buf(&mut (&mut buffer).limit(limit));
        let progress = match read {
            Ok(0) => Progress::End,
            Ok(bytes) => {
                self.cutter.push(&mut buffer, &mut self.cuts);
                self.tail.set(self.cutter.tail_bytes(), !self.cuts.is_empty());
                match self.lane.send(&mut self.cuts, room, Instant::now(), None) {
                    Ok(()) => Progress::Read(bytes),
                    Err(_) => Progress::End,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Progress::Nothing,
            Err(error) => {
                debug!(%error, "connection broke");
                Progress::End
            }
        };
        self.lane.buffers.give_back(buffer);
        progress
    }

    async fn drain(&mut self) {
        let mut bytes = 0;
        while bytes < DRAIN_BYTES_MAX
            && let Ok(Ok(())) = timeout(DRAIN_QUIET, self.socket.readable()).await
        {
            match self.read().await {
                Progress::Read(more) => bytes += more,
                Progress::Nothing => {}
                Progress::End => return,
            }
        }
    }

    /// Hands over the last line, however the connection ended: if it is an event, it counts as one,
    /// and if half of it is missing, it is counted as rejected.
    async fn finish(mut self) {
        let tail_bytes = self.cutter.tail_bytes();
        self.cutter.finish(&mut self.cuts);
        if self.cuts.is_empty() {
            return;
        }
        let room = self.lane.room(0, tail_bytes).await;
        // Without workers there is nobody left to count it.
        let _ = self.lane.send(&mut self.cuts, room, Instant::now(), None);
    }
}
