//! Newline-delimited or octet-counted events over plain TCP.
//!
//! What was read is judged, whatever becomes of the connection; what was not read is the peer's. Where
//! it is configured, the peer is told how many lines are settled (`ack`); else there is no answer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BufMut as _;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::budget::Room;
use super::buffers::READ_BYTES;
use super::framing::{Cut, Cutter as _, StreamCutter};
use super::lane::{Context, Lane, WorkersGone};
use super::listen::Listener;
use super::tails::Tail;
use ack::{Acks, Lost};

mod ack;
#[cfg(test)]
mod tests;

/// In a drain a connection is read until it was quiet for so long,
const DRAIN_QUIET: Duration = Duration::from_millis(50);
/// but no longer than this,
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// and no more than this.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a client may take to close its end after its last acknowledgement: what it still sends is thrown away, because a
/// socket that is closed with something unread takes back what was sent.
const LINGER: Duration = Duration::from_millis(500);

/// A TCP source whose address is bound.
#[derive(Debug)]
pub struct TcpSource {
    listener: Listener,
    connections_max: NonZeroUsize,
    acknowledges: bool,
}

impl TcpSource {
    /// Binds the address, so that nothing is started if it is taken. If it `acknowledges`, clients are
    /// told how many of their lines are settled.
    ///
    /// # Errors
    /// The message names the address, the cause and what to do.
    pub fn bind(
        listen: SocketAddr,
        connections_max: NonZeroUsize,
        acknowledges: bool,
    ) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(listen)?, connections_max, acknowledges })
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
        let acknowledges = self.acknowledges;
        let connect = |socket, lane| Connection::new(socket, lane, acknowledges).run();
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
    /// For a client that is told what is settled, as long as it can be.
    acks: Option<Acks>,
}

/// What a read gave.
enum Progress {
    Read(usize),
    Nothing,
    /// The peer, or the daemon, is done.
    End,
}

impl Connection {
    fn new(socket: TcpStream, lane: Lane, acknowledges: bool) -> Self {
        let close = lane.context.stop.child_token();
        if acknowledges {
            // Without these, acknowledgements come late, or many are kept for nobody.
            let options = SockRef::from(&socket);
            let set = options
                .set_tcp_nodelay(true)
                .and_then(|()| options.set_send_buffer_size(ack::UNREAD_BYTES_MAX));
            if let Err(error) = set {
                debug!(%error, "cannot set up the socket for acknowledgements");
            }
        }
        Self {
            socket,
            cutter: StreamCutter::new(lane.context.max_event_bytes),
            cuts: Vec::new(),
            tail: lane.context.tails.open(close.clone()),
            close,
            acks: acknowledges.then(|| Acks::new(lane.context.stop.clone())),
            lane,
        }
    }

    async fn run(mut self) {
        let close = self.close.clone();
        let mut closing = pin!(close.cancelled());
        let mut ended = false;
        while !ended {
            let is_behind = self.acks.as_ref().is_some_and(Acks::is_behind);
            tokio::select! {
                biased;
                () = &mut closing => break,
                told = advance(&mut self.acks, &self.socket) => match told {
                    Ok(()) => continue,
                    Err(lost) => {
                        self.lose(&lost);
                        break;
                    }
                },
                ready = self.socket.readable(), if !is_behind => if ready.is_err() { break },
            }
            ended = matches!(self.read().await, Progress::End);
        }
        if self.lane.context.stop.is_cancelled() {
            // Running out of time is as good as quiet.
            let _ = timeout(DRAIN_TIME_MAX, self.drain()).await;
        }
        self.finish(ended).await;
    }

    /// Reads what is there. Cancel safe: it waits only before it reads.
    async fn read(&mut self) -> Progress {
        tokio::task::coop::consume_budget().await;
        let room = self.room().await;
        let mut buffer = self.lane.buffers.take();
        let limit = READ_BYTES.min(room.bytes());
        let read = self.socket.try_read_buf(&mut (&mut buffer).limit(limit));
        let progress = match read {
            Ok(0) => Progress::End,
            Ok(bytes) => {
                self.cutter.push(&mut buffer, &mut self.cuts);
                self.tail.set(self.cutter.tail_bytes(), !self.cuts.is_empty());
                match self.send(room) {
                    Ok(()) => Progress::Read(bytes),
                    Err(WorkersGone) => Progress::End,
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

    /// Waits for room for a read, which may take long; the client is told meanwhile what is settled.
    async fn room(&mut self) -> Room {
        let mut room = pin!(self.lane.room(READ_BYTES, self.cutter.tail_bytes()));
        loop {
            let told = tokio::select! {
                biased;
                room = &mut room => return room,
                told = advance(&mut self.acks, &self.socket) => told,
            };
            if told.is_err() {
                // Seen again, and said, where the next read is waited for.
                return room.await;
            }
        }
    }

    /// Hands over what was cut.
    fn send(&mut self, room: Room) -> Result<(), WorkersGone> {
        let Some(acks) = &mut self.acks else {
            return self.lane.send(&mut self.cuts, room, Instant::now(), None);
        };
        let mut pieces = VecDeque::new();
        let sent = self.lane.send(&mut self.cuts, room, Instant::now(), Some(&mut pieces));
        acks.add(pieces);
        if sent.is_err() {
            // A line in the middle is missing.
            self.acks = None;
        }
        sent
    }

    /// Tells the client nothing any more.
    fn lose(&mut self, why: &Lost) {
        debug!(?why, "connection ends without an acknowledgement");
        self.acks = None;
    }

    async fn drain(&mut self) {
        let mut bytes = 0;
        while bytes < DRAIN_BYTES_MAX
            && !self.acks.as_ref().is_some_and(Acks::is_behind)
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
    /// and if half of it is missing, it is counted as rejected. Then the client is told of everything.
    async fn finish(mut self, ended: bool) {
        let tail_bytes = self.cutter.tail_bytes();
        self.cutter.finish(&mut self.cuts);
        if !self.cuts.is_empty() {
            let room = self.lane.room(0, tail_bytes).await;
            // Without workers there is nobody left to count it.
            let _ = self.send(room);
        }
        self.tail.set(0, true);
        let Some(mut acks) = self.acks.take() else { return };
        match acks.complete(&self.socket).await {
            Ok(()) => self.hang_up(ended).await,
            Err(lost) => self.lose(&lost),
        }
    }

    /// Closes the connection without taking back what the client did not read yet.
    async fn hang_up(mut self, ended: bool) {
        if self.socket.shutdown().await.is_err() || ended {
            return;
        }
        let discard = async {
            let mut unread = [0; 4096];
            while self.socket.readable().await.is_ok() {
                match self.socket.try_read(&mut unread) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(0) | Err(_) => return,
                }
            }
        };
        let _ = timeout(LINGER, discard).await;
    }
}

/// As [`Acks::advance`]; for ever, where nothing is acknowledged.
async fn advance(acks: &mut Option<Acks>, socket: &TcpStream) -> Result<(), Lost> {
    match acks {
        Some(acks) => acks.advance(socket).await,
        None => std::future::pending().await,
    }
}
