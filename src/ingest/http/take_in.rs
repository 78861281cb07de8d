//! One request: from its body to what became of every line.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant as Clock};

use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::answer::Failure;
use super::body::{Body, Encoding};
use super::server::Client;
use super::tally::Tally;
use crate::ingest::budget::Room;
use crate::ingest::buffers::READ_BYTES;
use crate::ingest::framing::{BodyCutter, Cut, Cutter as _};
use crate::ingest::lane::{Piece, WorkersGone};
use crate::parse::PADDING;

/// How long a request waits for room before it is told to come again.
const ADMISSION_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a request that is being sent may go on once the daemon drains.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// How many pieces of one request wait for their reports.
const PIECES_MAX: usize = 8;

/// Reads, cuts and sends the body; ends when every line was judged.
pub(super) async fn take_in(client: &Client, request: Request<Incoming>) -> Result<Tally, Failure> {
    if *client.lane.context.full.borrow() {
        return Err(Failure::LogFull);
    }
    let encoding = Encoding::of(request.headers())?;
    let bytes_max = client.source.limits.max_body_bytes;
    let body = Body::new(request.into_body(), encoding, bytes_max)?;
    let deadline = Instant::now() + client.source.limits.request_timeout;
    let _place = place(client, encoding, deadline).await?;
    let mut intake = Intake {
        client,
        deadline,
        draining: false,
        drained_by: deadline,
        cutter: BodyCutter::new(client.lane.context.max_event_bytes),
        cuts: Vec::new(),
        pieces: VecDeque::new(),
        tally: Tally::default(),
    };
    let result = intake.run(body).await;
    client.tail.set(0, true);
    result?;
    Ok(intake.tally)
}

/// Waits for one of the places that bound the memory of decoders.
async fn place(
    client: &Client,
    encoding: Encoding,
    deadline: Instant,
) -> Result<Option<SemaphorePermit<'_>>, Failure> {
    match encoding {
        Encoding::Zstd => {}
        Encoding::Identity | Encoding::Gzip | Encoding::Deflate => return Ok(None),
    }
    let until = deadline.min(Instant::now() + ADMISSION_WAIT_MAX);
    match timeout_at(until, client.source.zstd_places.acquire()).await {
        Ok(Ok(place)) => Ok(Some(place)),
        // Nobody closes the semaphore.
        Ok(Err(_)) => pending().await,
        Err(_) => Err(Failure::Overloaded),
    }
}

struct Intake<'c> {
    client: &'c Client,
    deadline: Instant,
    /// The daemon drains, and the client has until `drained_by` to send the rest.
    draining: bool,
    drained_by: Instant,
    cutter: BodyCutter,
    cuts: Vec<Cut>,
    pieces: VecDeque<Piece>,
    tally: Tally,
}

impl Intake<'_> {
    async fn run(&mut self, mut body: Body) -> Result<(), Failure> {
        let mut ended = false;
        while !ended {
            tokio::task::coop::consume_budget().await;
            let available = self.sent(body.ready()).await??;
            if available == 0 {
                break;
            }
            let room = self.room(available).await?;
            let limit = available.min(room.bytes());
            let mut buffer = self.buffer(limit);
            ended = body.take(&mut buffer, limit).await?;
            if ended && buffer.last().is_some_and(|byte| *byte != b'\n') {
                // So that a last line without one needs no frame of its own.
                buffer.push(b'\n');
            }
            self.cutter.push(&mut buffer, &mut self.cuts);
            self.client.lane.buffers.give_back(buffer);
            let tail_bytes = self.cutter.tail_bytes();
            self.client.tail.set(tail_bytes, !self.cuts.is_empty());
            self.send(room)?;
            self.collect(PIECES_MAX).await?;
        }
        self.finish().await
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        let tail_bytes = self.cutter.tail_bytes();
        self.cutter.finish(&mut self.cuts);
        if !self.cuts.is_empty() {
            let room = self.room(tail_bytes).await?;
            self.send(room)?;
        }
        self.collect(0).await
    }

    /// A buffer for a read of this length, right-sized where the length says enough.
    fn buffer(&self, limit: usize) -> Vec<u8> {
        if limit == READ_BYTES {
            return self.client.lane.buffers.take();
        }
        Vec::with_capacity(limit + 1 + PADDING)
    }

    /// Waits for the client to send.
    async fn sent<T>(&mut self, sending: impl Future<Output = T>) -> Result<T, Failure> {
        let mut sending = pin!(sending);
        if !self.draining {
            tokio::select! {
                biased;
                sent = timeout_at(self.deadline, &mut sending) => {
                    return sent.map_err(|_| Failure::RequestTimeout);
                }
                () = self.client.close.cancelled() => {}
            }
            if !self.client.lane.context.stop.is_cancelled() {
                // Unfinished lines take too much memory, and the one here is the oldest.
                return Err(Failure::Overloaded);
            }
            self.draining = true;
            self.drained_by = self.deadline.min(Instant::now() + DRAIN_TIME_MAX);
        }
        let sent = timeout_at(self.drained_by, sending).await;
        sent.map_err(|_| Failure::ShuttingDown)
    }

    /// Waits for room for a read and for the line that it may complete.
    async fn room(&self, bytes: usize) -> Result<Room, Failure> {
        let until = self.deadline.min(Instant::now() + ADMISSION_WAIT_MAX);
        let waiting = self.client.lane.room(bytes, self.cutter.tail_bytes());
        timeout_at(until, waiting).await.map_err(|_| Failure::Overloaded)
    }

    fn send(&mut self, room: Room) -> Result<(), Failure> {
        let pieces = Some(&mut self.pieces);
        self.client
            .lane
            .send(&mut self.cuts, room, Clock::now(), pieces)
            .map_err(|WorkersGone| Failure::ShuttingDown)
    }

    async fn collect(&mut self, left_max: usize) -> Result<(), Failure> {
        let mut full = self.client.lane.context.full.clone();
        let reports = self.tally.collect(&mut self.pieces, left_max);
        tokio::select! {
            biased;
            collected = timeout_at(self.deadline, reports) => match collected {
                Ok(Ok(())) => Ok(()),
                Ok(Err(WorkersGone)) => Err(Failure::ShuttingDown),
                Err(_) => Err(Failure::Overloaded),
            },
            // Some of it may be stored later: the client sends it again all the same.
            Ok(_) = full.wait_for(|full| *full) => Err(Failure::LogFull),
        }
    }
}
