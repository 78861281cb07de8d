//! Workers for the tests of sources: they judge by a simple rule, and remember the lines.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::frame::{Frame, LISTED_MAX, Report};
use super::lane::{Context, Workers};
use super::tails::Tails;
use crate::metrics::SourceCounters;
use crate::parse::{Lines, RejectReason};
use crate::route::SourceId;

pub(super) const MAX_EVENT_BYTES: usize = 1000;

/// A line is an event if it begins and ends with a brace and is not too long.
#[derive(Default)]
pub(super) struct Judges {
    /// Shard and line, blank lines left out.
    lines: Mutex<Vec<(usize, String)>>,
    /// While set, frames pile up unjudged.
    pub(super) stalled: AtomicBool,
    waiting: Mutex<Vec<(usize, Frame)>>,
}

impl Judges {
    fn judge(&self, shard: usize, mut frame: Frame) {
        let mut report = Report::default();
        let (bytes, len) = frame.bytes();
        let mut lines = Lines::new(len);
        while let Some(line) = lines.next(bytes) {
            let position = report.lines;
            report.lines += 1;
            if line.is_blank(bytes) {
                continue;
            }
            let text = String::from_utf8_lossy(&bytes[line.start..line.start + line.len]);
            let reason = if text.len() > MAX_EVENT_BYTES {
                Some(RejectReason::TooLarge)
            } else if text.starts_with('{') && text.ends_with('}') {
                None
            } else {
                Some(RejectReason::InvalidJson)
            };
            match reason {
                None => report.accepted += 1,
                Some(reason) => {
                    report.rejected += 1;
                    if report.listed.len() < LISTED_MAX {
                        report.listed.push((position, reason));
                    }
                }
            }
            self.lines.lock().unwrap().push((shard, text.into_owned()));
        }
        if let Some(reply) = frame.reply.take() {
            let _ = reply.send(report);
        }
    }

    /// Judges what piled up.
    pub(super) fn resume(&self) {
        self.stalled.store(false, Relaxed);
        for (shard, frame) in self.waiting.lock().unwrap().drain(..) {
            self.judge(shard, frame);
        }
    }

    /// How many frames piled up.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|(_, line)| line.clone()).collect()
    }

    pub(super) fn shards_seen(&self) -> Vec<usize> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|(shard, _)| *shard).collect()
    }
}

impl Workers for Judges {
    fn send(&self, shard: usize, frame: Frame) -> Result<(), Frame> {
        if self.stalled.load(Relaxed) {
            self.waiting.lock().unwrap().push((shard, frame));
        } else {
            self.judge(shard, frame);
        }
        Ok(())
    }

    fn shards(&self) -> usize {
        2
    }
}

pub(super) fn context(judges: &Arc<Judges>, budget_bytes: usize, tail_bytes: usize) -> Context {
    Context {
        source: SourceId(0),
        counters: Arc::new(SourceCounters::default()),
        budget: Budget::new(budget_bytes),
        tails: Tails::new(tail_bytes),
        full: watch::channel(false).1,
        workers: Arc::clone(judges) as Arc<dyn Workers>,
        max_event_bytes: MAX_EVENT_BYTES,
        dead_letters: None,
        stop: CancellationToken::new(),
    }
}

/// Waits until it is so; panics if it does not become so.
pub(super) async fn eventually(what: &str, so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
