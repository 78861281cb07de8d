//! Lines appended to files.
//!
//! A batch is one write to the file under its final name, which is locked (`flock`) against a second
//! writer as long as it is open. The blocking calls run on the runtime's
//! threads for that; [`target`] holds them, [`name`] what a file is called.

mod name;
mod target;

use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::Arc;

use jiff::Timestamp;

use self::name::Naming;
pub use self::target::FileCare;
use self::target::{Payload, Target};
use super::batch::Batch;
use super::compress::compress;
use super::retry::Outcome;
use super::sink::SinkError;
use crate::config::{Compression, Rotate};

/// Appends to the file of the hour, day or whatever the path says.
#[derive(Debug)]
pub struct FileSink {
    naming: Arc<Naming>,
    rotate: Rotate,
    compression: Compression,
    care: FileCare,
    /// The open file; not here while a write goes on.
    target: Option<Target>,
}

impl FileSink {
    pub(super) fn new(
        path: String,
        rotate: Rotate,
        compression: Compression,
        care: FileCare,
    ) -> Result<Self, SinkError> {
        let suffix = match compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        };
        let naming = Arc::new(Naming::new(path, suffix)?);
        Ok(Self { naming, rotate, compression, care, target: None })
    }

    /// Opens the file and lets go of it again: a predecessor that has not written yet may need it.
    pub(super) async fn verify(&mut self) -> Result<(), SinkError> {
        let opened = self.append(Payload::Nothing).await;
        self.target = None;
        match opened {
            // The predecessor of this destination has it, and will be done with it.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
            Err(error) => Err(SinkError(error.to_string())),
            Ok(()) => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Outcome {
        let payload = match self.compression {
            Compression::None => Ok(Payload::Lines(batch.pieces().to_vec())),
            kind => compress(batch.slices(), kind).await.map(Payload::Whole),
        };
        let done = match payload {
            Ok(payload) => self.append(payload).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => Outcome::Delivered,
            Err(error) => outcome_of(&error),
        }
    }

    async fn append(&mut self, payload: Payload) -> io::Result<()> {
        let naming = Arc::clone(&self.naming);
        let (rotate, care) = (self.rotate.clone(), self.care);
        let target = self.target.take();
        let append = move || -> io::Result<Target> {
            let now = Timestamp::now();
            let mut target = Target::ready(target, &naming, &rotate, now, care)?;
            target.append(&payload)?;
            // After an error the file is opened anew, and repaired then.
            Ok(target)
        };
        let target = tokio::task::spawn_blocking(append)
            .await
            .map_err(|_| io::Error::other("the write was cancelled"))??;
        self.target = Some(target);
        Ok(())
    }
}

/// Whether waiting helps or somebody has to do something.
fn outcome_of(error: &io::Error) -> Outcome {
    let why = error.to_string();
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::AlreadyExists
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename => Outcome::hold(why),
        _ => Outcome::retry(why),
    }
}

/// Writes all `slices`, with one call as long as the kernel takes everything.
pub(super) fn write_all<'a>(
    mut file: &std::fs::File,
    slices: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
