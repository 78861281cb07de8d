//! Lines on standard output.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use super::batch::{Batch, Piece};
use super::file::write_all;
use super::retry::Outcome;
use super::sink::SinkError;
use super::turns::{Turn, turn_at};

/// Standard output, past the line buffer of the standard library.
#[derive(Debug)]
pub struct StdoutSink {
    output: Arc<File>,
    /// There is one standard output, whatever the number of destinations.
    turn: Turn,
}

impl StdoutSink {
    pub(super) fn new() -> Result<Self, SinkError> {
        let output = io::stdout().as_fd().try_clone_to_owned();
        let fails = |error: io::Error| SinkError(format!("standard output: {error}"));
        let output = File::from(output.map_err(fails)?);
        let turn = turn_at(&output).map_err(fails)?;
        Ok(Self { output: Arc::new(output), turn })
    }

    pub(super) async fn send(&self, batch: &Batch) -> Outcome {
        let output = Arc::clone(&self.output);
        let turn = Arc::clone(&self.turn);
        let pieces = batch.pieces().to_vec();
        // A pipe that nobody reads blocks, for as long as it takes.
        let write = tokio::task::spawn_blocking(move || {
            let _alone = turn.lock().unwrap_or_else(PoisonError::into_inner);
            write_all(&output, pieces.iter().map(Piece::lines))
        });
        match write.await {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Outcome::hold("nobody reads standard output any more")
            }
            Ok(Err(error)) => Outcome::retry(format!("standard output: {error}")),
            Err(_) => Outcome::retry("the write was cancelled"),
        }
    }
}
