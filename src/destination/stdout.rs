//! Lines on standard output.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::{Batch, Piece};
use super::file::write_all;
use super::retry::Outcome;
use super::sink::SinkError;

/// There is one standard output, whatever the number of destinations: their batches must not mix
/// within a line.
static WRITING: Mutex<()> = Mutex::new(());

/// Standard output, past the line buffer of the standard library.
#[derive(Debug)]
pub struct StdoutSink {
    output: Arc<File>,
}

impl StdoutSink {
    pub(super) fn new() -> Result<Self, SinkError> {
        let output = io::stdout().as_fd().try_clone_to_owned();
        let output = output.map_err(|error| SinkError(format!("standard output: {error}")))?;
        Ok(Self { output: Arc::new(output.into()) })
    }

    pub(super) async fn send(&self, batch: &Batch) -> Outcome {
        let output = Arc::clone(&self.output);
        let pieces = batch.pieces().to_vec();
        // A pipe that nobody reads blocks, for as long as it takes.
        let write = tokio::task::spawn_blocking(move || {
            let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
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
