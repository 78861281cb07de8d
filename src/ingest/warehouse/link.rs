//! One connection that was admitted.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::BufMut as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::answers::{Answers, Lost};
use super::control::Control;
use super::cutter::{Next, SectionCutter};
use super::pass::Said;
use crate::ingest::budget::{PAGE_BYTES, Room};
use crate::ingest::buffers::READ_BYTES;
use crate::ingest::frame::{Frame, Section};
use crate::ingest::framing::{Cut, RUNS_PER_CALL_MAX};
use crate::ingest::lane::{Lane, WorkersGone};
use crate::ingest::listen::Counted;
use crate::ingest::tails::Tail;
use crate::parse::PADDING;

/// A child that was let in.
pub(super) struct Link {
    socket: UnixStream,
    lane: Lane,
    said: mpsc::Sender<Said>,
    /// Asks for the child to stop.
    cancel: CancellationToken,
    /// Ends the connection: asked for, or the pool of unfinished lines is exhausted.
    close: CancellationToken,
    cutter: SectionCutter,
    section: Section,
    answers: Answers,
    tail: Tail,
    _counted: Counted,
}

/// Why the connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The child has said how it ended, or is gone.
    Peer,
    /// It says what can't be understood.
    Wrong(&'static str),
    /// What it sent was not stored, or can't be judged any more.
    Stopping,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Peer => Self::Peer,
            Lost::NotStored => Self::Stopping,
        }
    }
}

impl From<WorkersGone> for End {
    fn from(WorkersGone: WorkersGone) -> Self {
        Self::Stopping
    }
}

/// Lines of one section that are handed over together.
struct Taken {
    cut: Cut,
    section: Section,
}

impl Link {
    /// `rest` was read behind the handshake; `welcome` is its answer.
    #[expect(clippy::too_many_arguments, reason = "the one place that puts a connection together")]
    pub(super) fn new(
        socket: UnixStream,
        lane: Lane,
        said: mpsc::Sender<Said>,
        cancel: CancellationToken,
        close: CancellationToken,
        rest: Vec<u8>,
        welcome: &str,
        counted: Counted,
    ) -> Self {
        let mut cutter = SectionCutter::new(lane.context.max_event_bytes);
        cutter.push(rest);
        let mut answers = Answers::default();
        answers.say(welcome);
        Self {
            socket,
            said,
            cancel,
            tail: lane.context.tails.open(close.clone()),
            close,
            cutter,
            // Before the first section, lines are only judged: nothing is sent by mistake.
            section: Section::Rehearsal,
            answers,
            lane,
            _counted: counted,
        }
    }

    pub(super) async fn run(mut self) {
        let close = self.close.clone();
        let end = tokio::select! {
            end = self.serve() => end,
            () = close.cancelled() => End::Stopping,
        };
        match end {
            End::Peer => {}
            End::Wrong(why) => {
                warn!("the connection of a sync is closed: {why}");
                // What came before made sense, and is answered before.
                tokio::select! {
                    () = self.answers.take_leave(&self.socket, why) => {}
                    () = close.cancelled() => {}
                }
            }
            End::Stopping => debug!("the connection of a sync ends with unanswered lines"),
        }
        // What was read is judged, whatever became of the connection; half a line is nothing.
    }

    async fn serve(&mut self) -> End {
        let cancel = self.cancel.clone();
        let mut asked = pin!(cancel.cancelled());
        let mut is_asked = false;
        loop {
            let is_behind = self.answers.is_behind();
            let has_input = !self.cutter.is_empty();
            tokio::select! {
                biased;
                () = &mut asked, if !is_asked => {
                    is_asked = true;
                    self.answers.say("{\"cancel\":true}");
                    continue;
                }
                told = self.answers.advance(&self.socket) => match told {
                    Ok(()) => continue,
                    Err(lost) => return lost.into(),
                },
                () = std::future::ready(()), if !is_behind && has_input => {}
                ready = self.socket.readable(), if !is_behind && !has_input => {
                    if ready.is_err() {
                        return End::Peer;
                    }
                }
            }
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    /// Reads, unless something is left of the last read, and hands over some of it.
    async fn turn(&mut self) -> Result<(), End> {
        tokio::task::coop::consume_budget().await;
        let room = self.room().await;
        if self.cutter.is_empty() {
            self.read(room.bytes())?;
        }
        let mut taken = Vec::new();
        let control = self.take(&mut taken);
        self.tail.set(self.cutter.tail_bytes(), !taken.is_empty());
        self.send(taken, room)?;
        match control.map_err(End::Wrong)? {
            Some(control) => self.follow(control).await,
            None => Ok(()),
        }
    }

    fn read(&mut self, room_bytes: usize) -> Result<(), End> {
        let mut buffer = self.lane.buffers.take();
        let limit = READ_BYTES.min(room_bytes);
        match self.socket.try_read_buf(&mut (&mut buffer).limit(limit)) {
            Ok(0) => return Err(End::Peer),
            Ok(_) => buffer = self.cutter.push(buffer),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                debug!(%error, "the connection of a sync broke");
                return Err(End::Peer);
            }
        }
        self.lane.buffers.give_back(buffer);
        Ok(())
    }

    /// Cuts as much as one turn may hand over, up to a control line that is not about a section.
    fn take(&mut self, taken: &mut Vec<Taken>) -> Result<Option<Control>, &'static str> {
        let mut cuts = Vec::new();
        while taken.len() < RUNS_PER_CALL_MAX {
            match self.cutter.next(&mut cuts)? {
                Next::Nothing => return Ok(None),
                Next::Cuts => {
                    let section = &self.section;
                    let cuts = cuts.drain(..);
                    taken.extend(cuts.map(|cut| Taken { cut, section: section.clone() }));
                }
                Next::Control(Control::Section(section)) => self.section = section,
                Next::Control(control) => return Ok(Some(control)),
            }
        }
        Ok(None)
    }

    /// Waits for room for a read, which may take long; the child is told meanwhile what is settled.
    async fn room(&mut self) -> Room {
        let lane = self.lane.clone();
        let mut room = pin!(lane.room(READ_BYTES, self.cutter.tail_bytes()));
        loop {
            let told = tokio::select! {
                biased;
                room = &mut room => return room,
                told = self.answers.advance(&self.socket) => told,
            };
            if told.is_err() {
                // Seen again where the next read is waited for.
                return room.await;
            }
        }
    }

    /// Hands over what was cut, and gives back what is left of the room.
    fn send(&mut self, mut taken: Vec<Taken>, mut room: Room) -> Result<(), WorkersGone> {
        let (mut frames, mut bytes) = (0, 0);
        for Taken { cut, .. } in &mut taken {
            if let Cut::Lines(run) = cut {
                self.lane.fit(run);
                frames += 1;
                bytes += run.bytes.capacity() + PADDING;
            }
        }
        room.shrink(bytes.max(frames * PAGE_BYTES));
        let (room, received_at) = (Arc::new(room), Instant::now());
        for Taken { cut, section } in taken {
            match cut {
                Cut::Lines(run) => {
                    let context = &self.lane.context;
                    let mut frame = Frame::new(run, context.source, received_at, Arc::clone(&room))
                        .returning_to(&self.lane.buffers)
                        .in_section(section);
                    let (reply, report) = oneshot::channel();
                    frame.reply = Some(reply);
                    context.workers.send(self.lane.shard, frame).map_err(|_| WorkersGone)?;
                    self.answers.add_frame(report);
                }
                Cut::Oversized { bytes, head } => {
                    self.answers.add_oversized();
                    if section != Section::Rehearsal {
                        let keep = section == Section::Events { to: None };
                        let head = keep.then_some(head.as_slice());
                        self.lane.count_oversized(bytes, head, received_at);
                    }
                }
                Cut::Blank { .. } => {}
            }
        }
        Ok(())
    }

    async fn follow(&mut self, control: Control) -> Result<(), End> {
        match control {
            Control::Section(section) => self.section = section,
            Control::Progress(counts) => drop(self.said.send(Said::Progress(counts)).await),
            Control::RejectionsTaken(count) => {
                let (done, forgotten) = oneshot::channel();
                if self.said.send(Said::RejectionsTaken(count, done)).await.is_ok() {
                    let _ = forgotten.await;
                }
            }
            Control::End(result) => {
                self.answers.complete(&self.socket).await?;
                // Nobody listens any more if the sync was given up.
                let _ = self.said.send(Said::End(result)).await;
                return Err(End::Peer);
            }
        }
        Ok(())
    }
}
