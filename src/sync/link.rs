//! The connection to the daemon: lines go out in sections, what became of each comes back.
//!
//! The words of both directions are those of `ingest/warehouse/control.rs` and `answers.rs`.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Deserialize;
use serde_json::json;

use crate::admin::Counts;

/// Lines that may go without an answer: with these the queue of answers is bounded, too.
const UNANSWERED_LINES_MAX: usize = 32_768;

/// Bytes of them.
const UNANSWERED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// So much is written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// What the daemon says to begin with.
#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    /// The hash of the table in force.
    pub(super) table: String,
    /// Names the categories that it has, and where it looks for the consent object.
    pub(super) words: String,
    pub(super) max_event_bytes: usize,
    /// The destinations that rows of the model may reach at all.
    pub(super) destinations: Vec<Named>,
    /// Those that they can't reach now: switched off, or not for this model.
    pub(super) others: Vec<Named>,
    /// Rows that were rejected since they were stored.
    pub(super) rejections: Vec<Rejection>,
}

/// A destination.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    /// Stable.
    pub(super) id: u32,
    /// Names the consent that it takes.
    pub(super) consent: u64,
}

/// An event that a destination did not take.
#[derive(Debug, Deserialize)]
pub(super) struct Rejection {
    #[serde(rename = "messageId")]
    pub(super) message_id: String,
    pub(super) destination: u32,
}

/// What became of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Outcome {
    /// The destinations for which it is stored, by stable ID, ascending.
    pub(super) stored: Vec<u32>,
    /// Those that consent keeps it from.
    pub(super) refused: Vec<u32>,
    /// Why it is no event.
    pub(super) rejected: Option<String>,
    /// Whether it was decided under other rules than those of the welcome.
    #[serde(skip)]
    pub(super) is_of_other_rules: bool,
}

/// One piece of an answer.
#[derive(Debug, Deserialize)]
struct Settled {
    /// The hash of the table; empty where none decided.
    #[serde(default)]
    table: String,
    kinds: Vec<Outcome>,
    /// Position in `kinds`, and for how many lines.
    runs: Vec<(usize, usize)>,
}

/// A line of the daemon.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    settled: Vec<Settled>,
    #[serde(default)]
    cancel: bool,
    error: Option<String>,
}

/// Why nothing more can be sent.
#[derive(Debug)]
pub(super) enum Ended {
    /// The daemon wants no more.
    Cancelled,
    /// For people.
    Lost(String),
}

/// The daemon, as a sync sees it. `T` is what the sender wants back with the outcome of a line.
pub(super) struct Link<T> {
    socket: UnixStream,
    said: Receiver<Result<Said, String>>,
    /// The hash of the table that was in force at the welcome.
    table: String,
    out: Vec<u8>,
    section: String,
    /// The lines without an answer, with their bytes.
    unanswered: VecDeque<(T, usize)>,
    unanswered_bytes: usize,
    is_cancelled: bool,
}

impl<T> Link<T> {
    /// Connects, says who it is, and reads the answer.
    ///
    /// # Errors
    /// For people.
    pub(super) fn open(
        path: &Path,
        token: &str,
        model: &str,
        sync: &str,
    ) -> Result<(Self, Welcome), String> {
        let lost = |error: io::Error| {
            format!("the daemon can't be reached at {}: {error}", path.display())
        };
        let mut socket = UnixStream::connect(path).map_err(lost)?;
        let hello = json!({ "consentd": 1, "token": token, "model": model, "sync": sync });
        socket.write_all(format!("{hello}\n").as_bytes()).map_err(lost)?;
        let mut reader = BufReader::new(socket.try_clone().map_err(lost)?);
        let mut line = String::new();
        reader.read_line(&mut line).map_err(lost)?;
        let welcome = serde_json::from_str::<Welcome>(&line).map_err(|_| {
            let said: Option<Said> = serde_json::from_str(&line).ok();
            let why = said.and_then(|said| said.error);
            format!("the daemon refuses the sync: {}", why.as_deref().unwrap_or("without a word"))
        })?;
        // A place for an answer to every line, and for what is said beside.
        let (sender, said) = bounded(UNANSWERED_LINES_MAX + 16);
        std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || hear(reader, &sender))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let link = Self {
            socket,
            said,
            table: welcome.table.clone(),
            out: Vec::with_capacity(2 * WRITE_BYTES),
            section: String::new(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            is_cancelled: false,
        };
        Ok((link, welcome))
    }

    /// Sends a line in this section. What became of earlier ones goes to `settled`.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn send(
        &mut self,
        section: &str,
        line: &[u8],
        mark: T,
        settled: &mut dyn FnMut(T, &Outcome),
    ) -> Result<(), Ended> {
        if self.section != section {
            self.section.clear();
            self.section.push_str(section);
            self.out.extend_from_slice(section.as_bytes());
            self.out.push(b'\n');
        }
        self.out.extend_from_slice(line);
        self.out.push(b'\n');
        self.unanswered.push_back((mark, line.len()));
        self.unanswered_bytes += line.len();
        if self.out.len() >= WRITE_BYTES {
            self.flush()?;
            self.listen(None, settled)?;
        }
        while self.unanswered.len() > UNANSWERED_LINES_MAX
            || self.unanswered_bytes > UNANSWERED_BYTES_MAX
        {
            self.wait(settled)?;
        }
        Ok(())
    }

    /// Waits until every line is answered.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn settle(&mut self, settled: &mut dyn FnMut(T, &Outcome)) -> Result<(), Ended> {
        while !self.unanswered.is_empty() {
            self.wait(settled)?;
        }
        self.flush()
    }

    fn wait(&mut self, settled: &mut dyn FnMut(T, &Outcome)) -> Result<(), Ended> {
        self.flush()?;
        self.listen(Some(Duration::from_secs(3600)), settled)
    }

    /// Whether the daemon wants the sync to end.
    ///
    /// # Errors
    /// [`Ended`]
    pub(super) fn look(&mut self) -> Result<(), Ended> {
        self.listen(None, &mut |_, _| ())
    }

    /// Takes what was said; waits for it for so long.
    fn listen(
        &mut self,
        wait: Option<Duration>,
        settled: &mut dyn FnMut(T, &Outcome),
    ) -> Result<(), Ended> {
        let mut wait = wait.unwrap_or_default();
        loop {
            let said = match self.said.recv_timeout(wait) {
                Ok(said) => said.map_err(Ended::Lost)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Ended::Lost("the connection to the daemon is lost".to_owned()));
                }
            };
            wait = Duration::ZERO;
            for piece in said.settled {
                self.answer(piece, settled)?;
            }
            if let Some(error) = said.error {
                return Err(Ended::Lost(format!("the daemon: {error}")));
            }
            if said.cancel {
                self.is_cancelled = true;
            }
            if self.is_cancelled {
                return Err(Ended::Cancelled);
            }
        }
    }

    fn answer(
        &mut self,
        mut piece: Settled,
        settled: &mut dyn FnMut(T, &Outcome),
    ) -> Result<(), Ended> {
        if !piece.table.is_empty() && piece.table != self.table {
            piece.kinds.iter_mut().for_each(|outcome| outcome.is_of_other_rules = true);
        }
        let nonsense = || Ended::Lost("the daemon answers what was not asked".to_owned());
        for &(kind, count) in &piece.runs {
            let outcome = piece.kinds.get(kind).ok_or_else(nonsense)?;
            for _ in 0..count {
                let (mark, bytes) = self.unanswered.pop_front().ok_or_else(nonsense)?;
                self.unanswered_bytes -= bytes;
                settled(mark, outcome);
            }
        }
        Ok(())
    }

    /// Tells how far the sync is.
    ///
    /// # Errors
    /// [`Ended::Lost`]
    pub(super) fn progress(&mut self, counts: &Counts) -> Result<(), Ended> {
        self.say("#progress", &json!(counts).to_string())
    }

    /// Tells that the first so many rejections are kept in the state now.
    ///
    /// # Errors
    /// [`Ended::Lost`]
    pub(super) fn rejections_taken(&mut self, count: usize) -> Result<(), Ended> {
        self.say("#rejections-taken", &count.to_string())
    }

    /// Tells how the sync went: the last word.
    ///
    /// # Errors
    /// [`Ended::Lost`]
    pub(super) fn end(&mut self, counts: &Counts) -> Result<(), Ended> {
        self.say("#end", &json!(counts).to_string())
    }

    fn say(&mut self, word: &str, what: &str) -> Result<(), Ended> {
        // Into memory: it does not fail.
        let _ = writeln!(self.out, "{word} {what}");
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let written = self.socket.write_all(&self.out);
        self.out.clear();
        written
            .map_err(|error| Ended::Lost(format!("the connection to the daemon is lost: {error}")))
    }
}

/// Reads what the daemon says to its end: whoever writes must never wait for somebody who reads here.
fn hear(reader: BufReader<UnixStream>, to: &Sender<Result<Said, String>>) {
    for line in reader.lines() {
        let said = match line {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| format!("the daemon says what can't be understood: {error}")),
            Err(error) => Err(format!("the connection to the daemon is lost: {error}")),
        };
        if to.send(said).is_err() {
            return;
        }
    }
}
