//! Acknowledgements: the count of settled lines, written back on the connection.
//!
//! What always holds: the count covers the first lines of the connection, in their order, and no line
//! that is not stored, refused everywhere or rejected; it never goes back.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ingest::frame::Report;
use crate::ingest::lane::Piece;

/// How many frames of one connection wait for their reports before reading stops.
pub(super) const FRAMES_OPEN_MAX: usize = 64;

/// What the system keeps of acknowledgements that the client does not read; when that is full, reading
/// stops, so that nothing piles up here.
pub(super) const UNREAD_BYTES_MAX: usize = 16 * 1024;

/// How long a client may leave acknowledgements unread once the daemon drains.
const DRAIN_UNREAD_MAX: Duration = Duration::from_secs(2);

/// No more lines of this connection can be acknowledged.
#[derive(Debug)]
pub(super) enum Lost {
    /// The events of a frame were not stored.
    NotStored,
    /// The client is gone.
    Peer,
}

/// The acknowledgements of one connection.
#[derive(Debug)]
pub(super) struct Acks {
    /// Cancelled when the daemon drains.
    stop: CancellationToken,
    open: VecDeque<Open>,
    /// Lines that are settled, in order from the first.
    settled: u64,
    /// What the client was last told, or is being told.
    told: u64,
    /// What the socket did not take yet of the last acknowledgement.
    unsent: Vec<u8>,
}

/// A frame whose lines are not settled yet.
#[derive(Debug)]
struct Open {
    report: oneshot::Receiver<Report>,
    /// Lines that are settled with it: those that were too long to be part of it.
    more: u64,
}

impl Acks {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, open: VecDeque::new(), settled: 0, told: 0, unsent: Vec::new() }
    }

    /// Adds what was cut from one read. A line that was too long counts only with the frames of that
    /// read, for it may have been reported before the lines in front of it.
    pub(super) fn add(&mut self, pieces: VecDeque<Piece>) {
        let mut oversized = 0;
        for piece in pieces {
            match piece {
                Piece::Frame(report) => self.open.push_back(Open { report, more: 0 }),
                Piece::Oversized => oversized += 1,
                Piece::Blank(_) => {}
            }
        }
        match self.open.back_mut() {
            Some(last) => last.more += oversized,
            None => self.settled += oversized,
        }
    }

    /// Whether nothing should be read before something was acknowledged.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty() || self.open.len() >= FRAMES_OPEN_MAX
    }

    /// Waits until more frames are settled and the client was told, if there is a line in them that
    /// counts. Cancel safe.
    ///
    /// It returns also if there was none: with the last of the blank lines, nothing more may be waited
    /// for, and reading may have stopped for them.
    ///
    /// # Errors
    /// [`Lost`]; the connection has to be closed.
    pub(super) async fn advance(&mut self, socket: &TcpStream) -> Result<(), Lost> {
        let before = self.open.len();
        self.take_settled()?;
        let has_news = self.open.len() < before || self.told < self.settled;
        if !has_news && self.unsent.is_empty() {
            let Some(open) = self.open.front_mut() else { return pending().await };
            let report = (&mut open.report).await.map_err(|_| Lost::NotStored)?;
            self.settle_first(&report);
            self.take_settled()?;
        }
        if self.unsent.is_empty() && self.told < self.settled {
            self.told = self.settled;
            // Into memory: it does not fail.
            let _ = writeln!(self.unsent, "{}", self.told);
        }
        self.send(socket).await
    }

    /// Waits until every line is settled and the client was told.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn complete(&mut self, socket: &TcpStream) -> Result<(), Lost> {
        while !self.open.is_empty() || self.told < self.settled || !self.unsent.is_empty() {
            self.advance(socket).await?;
        }
        Ok(())
    }

    /// Adds what is settled by now, so that one acknowledgement tells of all of it.
    fn take_settled(&mut self) -> Result<(), Lost> {
        while let Some(open) = self.open.front_mut() {
            match open.report.try_recv() {
                Ok(report) => self.settle_first(&report),
                Err(oneshot::error::TryRecvError::Empty) => break,
                Err(oneshot::error::TryRecvError::Closed) => return Err(Lost::NotStored),
            }
        }
        Ok(())
    }

    fn settle_first(&mut self, report: &Report) {
        let more = self.open.pop_front().map_or(0, |open| open.more);
        self.settled += report.accepted + report.rejected + more;
    }

    /// Sends what the socket did not take yet.
    async fn send(&mut self, socket: &TcpStream) -> Result<(), Lost> {
        while !self.unsent.is_empty() {
            match socket.try_write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        ready = socket.writable() => ready.map_err(|_| Lost::Peer)?,
                        () = self.give_up_waiting() => return Err(Lost::Peer),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Peer),
            }
        }
        Ok(())
    }

    async fn give_up_waiting(&self) {
        self.stop.cancelled().await;
        sleep(DRAIN_UNREAD_MAX).await;
    }
}
