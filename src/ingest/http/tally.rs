//! What became of the lines of one body.

use std::collections::VecDeque;

use serde::Serialize;

use crate::ingest::frame::{LISTED_MAX, Report};
use crate::ingest::lane::{Piece, WorkersGone};
use crate::parse::RejectReason;

/// A rejected line: its number in the body, from 1, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RejectedLine {
    line: u64,
    reason: &'static str,
}

/// The sum of all reports so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    lines: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// The first [`LISTED_MAX`] rejected lines.
    pub(super) listed: Vec<RejectedLine>,
}

impl Tally {
    /// Adds pieces, waiting for their reports, until only so many are left.
    pub(super) async fn collect(
        &mut self,
        pieces: &mut VecDeque<Piece>,
        left_max: usize,
    ) -> Result<(), WorkersGone> {
        while pieces.len() > left_max
            && let Some(piece) = pieces.pop_front()
        {
            match piece {
                Piece::Frame(report) => self.add(&report.await.map_err(|_| WorkersGone)?),
                Piece::Oversized => self.add(&Report {
                    lines: 1,
                    rejected: 1,
                    listed: vec![(0, RejectReason::TooLarge)],
                    ..Report::default()
                }),
                Piece::Blank(lines) => self.lines += lines,
            }
        }
        Ok(())
    }

    fn add(&mut self, report: &Report) {
        let room = LISTED_MAX.saturating_sub(self.listed.len());
        let numbered = report.listed.iter().map(|(position, reason)| RejectedLine {
            line: self.lines + position + 1,
            reason: reason.label(),
        });
        self.listed.extend(numbered.take(room));
        self.lines += report.lines;
        self.accepted += report.accepted;
        self.rejected += report.rejected;
    }
}
