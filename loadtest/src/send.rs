//! The sending side: copies of the corpus, each with its own number and time of sending.
//!
//! Always: event number `n` is a copy of template `n % templates`, numbers are given out once and
//! in order, and an event counts as sent when its last byte was handed to the kernel.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::corpus::{EventId, ID_LEN};
use crate::http_client::Connection;

/// Bytes that go to the kernel, or into one request, at a time.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// How often a paced sender looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// How long a blocked write may last before the sender looks at its deadline.
const WRITE_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the other side may take to hang up after the last byte.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// One line of the corpus, ready to be copied and patched.
#[derive(Debug)]
pub struct Template {
    /// With its newline.
    pub line: Vec<u8>,
    /// Where the [`ID_LEN`] bytes of the id begin.
    pub id_at: usize,
}

impl Template {
    /// Lines without an id could not be told apart at the other end, so they are left out.
    pub fn all(lines: &[Vec<u8>]) -> Vec<Self> {
        let template = |line: &Vec<u8>| {
            let (id_at, _) = EventId::find(line)?;
            Some(Self { line: [line.as_slice(), b"\n"].concat(), id_at })
        };
        lines.iter().filter_map(template).collect()
    }
}

/// What one phase of a load is to send.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// How many events.
    pub events: u64,
    /// Events a second; as fast as the other side takes them without.
    pub rate: Option<u64>,
    /// When to stop, whatever was sent by then; also if the other side no longer reads.
    pub give_up: Instant,
    /// How many at a time; as many as are due and fit in [`CHUNK_BYTES`] without.
    pub at_a_time: Option<u64>,
}

/// Where the events go in.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// One connection.
    Tcp(SocketAddr),
    /// `POST /`, over this many connections.
    Http(SocketAddr, usize),
}

/// What became of a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events whose last byte was taken.
    pub events: u64,
    /// Bytes of them, newlines included.
    pub bytes: u64,
    /// Events that HTTP answers said were accepted; `None` where nothing was said.
    pub accepted: Option<u64>,
    /// Requests that had to be repeated because the answer was 503.
    pub refused_requests: u64,
}

impl Sent {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        let accepted = match (self.accepted, other.accepted) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
            accepted,
            refused_requests: self.refused_requests + other.refused_requests,
        }
    }
}

/// Gives out numbered, stamped copies of the templates.
#[derive(Debug)]
pub struct Feed<'a> {
    templates: &'a [Template],
    clock: Clock,
    demand: Demand,
    started: Instant,
    first: u64,
    next: Mutex<u64>,
    /// How long each answer took, in microseconds.
    answers_us: Mutex<Vec<u64>>,
}

impl<'a> Feed<'a> {
    /// Numbers begin at `first`.
    pub fn new(templates: &'a [Template], clock: Clock, first: u64, demand: Demand) -> Self {
        let (started, next) = (Instant::now(), Mutex::new(first));
        Self { templates, clock, demand, started, first, next, answers_us: Mutex::default() }
    }

    /// Fills `chunk` with whole lines and says which events they are; `None` when all were given
    /// out or time is up. Waits for its turn when the demand has a rate.
    pub fn fill(&self, chunk: &mut Vec<u8>) -> Option<Range<u64>> {
        if let Some(at_a_time) = self.demand.at_a_time {
            return self.fill_with(chunk, at_a_time);
        }
        loop {
            let mut next = self.next();
            let end = self.end();
            if *next >= end || self.is_over() {
                return None;
            }
            let due = self.due().min(end);
            if *next < due {
                let range = self.copy(chunk, *next, due, CHUNK_BYTES);
                *next = range.end;
                return Some(range);
            }
            drop(next);
            thread::sleep(TICK);
        }
    }

    /// As many events as are wanted at a time. Many senders wait for their turn, each asleep until its
    /// own: looking every now and then would cost more than sending.
    fn fill_with(&self, chunk: &mut Vec<u8>, at_a_time: u64) -> Option<Range<u64>> {
        let (range, due) = {
            let mut next = self.next();
            let end = self.end().min(next.saturating_add(at_a_time));
            let after =
                self.demand.rate.map_or(0.0, |rate| (end - self.first) as f64 / rate as f64);
            let due = self.started + Duration::from_secs_f64(after);
            // What is taken is sent: the numbers have no gaps.
            if *next >= end || self.is_over() || due >= self.demand.give_up {
                return None;
            }
            (std::mem::replace(&mut *next, end)..end, due)
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Some(self.copy(chunk, range.start, range.end, usize::MAX))
    }

    fn next(&self) -> MutexGuard<'_, u64> {
        self.next.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.demand.events)
    }

    /// The number below which events may be sent by now.
    fn due(&self) -> u64 {
        match self.demand.rate {
            None => u64::MAX,
            Some(rate) => self.first + (self.started.elapsed().as_secs_f64() * rate as f64) as u64,
        }
    }

    fn copy(&self, chunk: &mut Vec<u8>, first: u64, end: u64, bytes_max: usize) -> Range<u64> {
        let sent_ns = self.clock.now_ns();
        chunk.clear();
        let mut sequence = first;
        while sequence < end {
            let index = (sequence % self.templates.len() as u64) as usize;
            let template = &self.templates[index];
            if !chunk.is_empty() && chunk.len() + template.line.len() > bytes_max {
                break;
            }
            let id_at = chunk.len() + template.id_at;
            chunk.extend_from_slice(&template.line);
            let id = EventId { template: index as u32, sequence, sent_ns };
            id.patch(&mut chunk[id_at..id_at + ID_LEN]);
            sequence += 1;
        }
        first..sequence
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.demand.give_up
    }

    /// How long each answer to a request took, in microseconds.
    pub fn into_answers_us(self) -> Vec<u64> {
        self.answers_us.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note_answer(&self, took: Duration) {
        let mut answers = self.answers_us.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        answers.push(took.as_micros() as u64);
    }
}

/// Sends what the feed gives out.
///
/// # Errors
/// When the other side cannot be reached, hangs up, or answers with anything but 200 and 503.
pub fn send(feed: &Feed<'_>, entry: Entry) -> io::Result<Sent> {
    match entry {
        Entry::Tcp(address) => send_tcp(feed, address),
        Entry::Http(address, connections) => thread::scope(|scope| {
            let threads: Vec<_> =
                (0..connections).map(|_| scope.spawn(|| send_http(feed, address))).collect();
            threads.into_iter().try_fold(Sent::default(), |sum, thread| {
                let sent = thread.join().map_err(|_| io::Error::other("a sender died"))??;
                Ok(sum.plus(sent))
            })
        }),
    }
}

fn send_tcp(feed: &Feed<'_>, address: SocketAddr) -> io::Result<Sent> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut sent = Sent::default();
    while let Some(range) = feed.fill(&mut chunk) {
        let taken = write_until(feed, &mut stream, &chunk)?;
        sent.bytes += taken as u64;
        if taken < chunk.len() {
            sent.events += chunk[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
            return Ok(sent);
        }
        sent.events += range.end - range.start;
    }
    stream.shutdown(Shutdown::Write)?;
    // The other side hangs up when it has read everything. Whoever does not is waited for where
    // the events arrive.
    stream.set_read_timeout(Some(HANG_UP_TIMEOUT))?;
    let _ = stream.read(&mut [0]);
    Ok(sent)
}

/// How many bytes were taken before the feed's time was up.
fn write_until(feed: &Feed<'_>, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(count) => taken += count,
            Err(error) if is_timeout(&error) => {
                if feed.is_over() {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn send_http(feed: &Feed<'_>, address: SocketAddr) -> io::Result<Sent> {
    let mut connection = Connection::open(address)?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut sent = Sent::default();
    while let Some(range) = feed.fill(&mut chunk) {
        loop {
            let asked = Instant::now();
            let answer = match connection.post(&chunk) {
                Err(error) if is_timeout(&error) && feed.is_over() => return Ok(sent),
                answer => answer?,
            };
            match answer.status {
                // 400: no line was acceptable, which is right for a request of one malformed line.
                200 | 400 => {
                    feed.note_answer(asked.elapsed());
                    sent = sent.plus(Sent {
                        events: range.end - range.start,
                        bytes: chunk.len() as u64,
                        accepted: answer.accepted,
                        refused_requests: 0,
                    });
                    break;
                }
                503 if !feed.is_over() => {
                    sent.refused_requests += 1;
                    thread::sleep(Duration::from_millis(50));
                }
                503 => return Ok(sent),
                status => return Err(io::Error::other(format!("answered {status}"))),
            }
        }
    }
    Ok(sent)
}
