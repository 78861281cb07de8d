//! What became of the lines, written back in their order.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::ingest::frame::{LineOutcome, Outcomes, Report};
use crate::log::StableId;
use crate::parse::RejectReason;

/// Frames that wait for their reports before reading stops.
const FRAMES_OPEN_MAX: usize = 64;

/// Answers are put together in one line up to so much.
const LINE_BYTES: usize = 64 * 1024;

/// How long the last word to a child that is sent away may take.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);

/// No more lines of this connection can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The events of a frame were not stored.
    NotStored,
    /// The child is gone.
    Peer,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    open: VecDeque<Open>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

/// Lines that are not answered yet.
#[derive(Debug)]
enum Open {
    Frame(oneshot::Receiver<Report>),
    /// One that was too long.
    Oversized,
}

impl Answers {
    pub(super) fn add_frame(&mut self, report: oneshot::Receiver<Report>) {
        self.open.push_back(Open::Frame(report));
    }

    pub(super) fn add_oversized(&mut self) {
        self.open.push_back(Open::Oversized);
    }

    /// Whether nothing should be read before something was answered.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty() || self.open.len() >= FRAMES_OPEN_MAX
    }

    /// Writes a line of its own, in front of all answers that are not written yet.
    pub(super) fn say(&mut self, what: &str) {
        self.unsent.extend_from_slice(what.as_bytes());
        self.unsent.push(b'\n');
    }

    /// Waits until more frames are settled, and told if there is a line in them. Cancel safe.
    ///
    /// It returns also if there is none: with the last blank lines, nothing more may be waited for.
    ///
    /// # Errors
    /// [`Lost`]; the connection has to be closed.
    pub(super) async fn advance(&mut self, socket: &UnixStream) -> Result<(), Lost> {
        if self.unsent.is_empty() {
            let before = self.open.len();
            self.write_settled()?;
            if self.open.len() == before {
                // Those that were too long were written.
                let Some(Open::Frame(report)) = self.open.front_mut() else {
                    return pending().await;
                };
                let report = report.await.map_err(|_| Lost::NotStored)?;
                // It can't be waited for twice.
                self.open.pop_front();
                self.write(&[answer_of(&report)]);
            }
        }
        self.send(socket).await
    }

    /// Waits until everything is settled and told.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn complete(&mut self, socket: &UnixStream) -> Result<(), Lost> {
        while !self.open.is_empty() || !self.unsent.is_empty() {
            self.advance(socket).await?;
        }
        Ok(())
    }

    /// Says why the connection ends, behind the answers to what came before. Does not wait long for
    /// somebody who does not read, or for what does not get settled.
    pub(super) async fn take_leave(&mut self, socket: &UnixStream, why: &str) {
        let leave = async {
            self.complete(socket).await?;
            self.say(&json!({ "error": why }).to_string());
            self.complete(socket).await
        };
        // Nobody is left to be told that it went wrong.
        let _ = timeout(LEAVE_TIME_MAX, leave).await;
    }

    /// Writes what is settled by now, up to [`LINE_BYTES`] and one answer more.
    fn write_settled(&mut self) -> Result<(), Lost> {
        let (mut answers, mut bytes) = (Vec::new(), 0);
        while bytes < LINE_BYTES
            && let Some(open) = self.open.front_mut()
        {
            let answer = match open {
                Open::Oversized => rejected_alone(RejectReason::TooLarge),
                Open::Frame(report) => match report.try_recv() {
                    Ok(report) => answer_of(&report),
                    Err(oneshot::error::TryRecvError::Empty) => break,
                    Err(oneshot::error::TryRecvError::Closed) => return Err(Lost::NotStored),
                },
            };
            self.open.pop_front();
            bytes += answer.len();
            answers.push(answer);
        }
        self.write(&answers);
        Ok(())
    }

    fn write(&mut self, answers: &[String]) {
        let answers: Vec<&str> =
            answers.iter().map(String::as_str).filter(|a| !a.is_empty()).collect();
        if !answers.is_empty() {
            let line = format!("{{\"settled\":[{}]}}\n", answers.join(","));
            self.unsent.extend_from_slice(line.as_bytes());
        }
    }

    async fn send(&mut self, socket: &UnixStream) -> Result<(), Lost> {
        while !self.unsent.is_empty() {
            match socket.try_write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable().await.map_err(|_| Lost::Peer)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Peer),
            }
        }
        Ok(())
    }
}

/// One element of an answer; empty for a frame of blank lines.
fn answer_of(report: &Report) -> String {
    match report.outcomes.as_deref() {
        Some(outcomes) if outcomes.lines() > 0 => written(outcomes),
        _ => String::new(),
    }
}

fn rejected_alone(reason: RejectReason) -> String {
    let kinds = vec![LineOutcome::Rejected(reason)];
    written(&Outcomes { kinds, runs: vec![(0, 1)], ..Outcomes::default() })
}

fn written(outcomes: &Outcomes) -> String {
    let kinds: Vec<Value> = outcomes.kinds.iter().map(kind).collect();
    let Outcomes { table, runs, .. } = outcomes;
    json!({ "table": table, "lines": outcomes.lines(), "kinds": kinds, "runs": runs }).to_string()
}

fn kind(kind: &LineOutcome) -> Value {
    let numbers = |ids: &[StableId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    match kind {
        LineOutcome::Decided { stored, refused } if refused.is_empty() => {
            json!({ "stored": numbers(stored) })
        }
        LineOutcome::Decided { stored, refused } => {
            json!({ "stored": numbers(stored), "refused": numbers(refused) })
        }
        LineOutcome::Rejected(reason) => json!({ "rejected": reason.label() }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn blank_lines_alone_are_waited_for_and_then_no_longer() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        for is_waited_for in [true, false] {
            let mut answers = Answers::default();
            let (settle, report) = oneshot::channel();
            answers.add_frame(report);
            let settling = async {
                if is_waited_for {
                    sleep(Duration::from_millis(20)).await;
                }
                settle.send(Report { lines: 1, ..Report::default() }).unwrap();
            };
            let complete = timeout(Duration::from_secs(5), async {
                let complete = answers.complete(&socket);
                if is_waited_for {
                    tokio::join!(complete, settling).0
                } else {
                    settling.await;
                    complete.await
                }
            });
            assert_eq!(complete.await.expect("it ends"), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_away_is_told_why_and_not_waited_for_long() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        Answers::default().take_leave(&ours, "nonsense").await;
        drop(ours);
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "{\"error\":\"nonsense\"}\n");

        // It does not read.
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut answers = Answers::default();
        answers.say(&"x".repeat(16 * 1024 * 1024));
        timeout(2 * LEAVE_TIME_MAX, answers.take_leave(&ours, "nonsense")).await.unwrap();

        // What it sent is not settled.
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (_report, waiting) = oneshot::channel();
        let mut answers = Answers::default();
        answers.add_frame(waiting);
        timeout(2 * LEAVE_TIME_MAX, answers.take_leave(&ours, "nonsense")).await.unwrap();
    }
}
