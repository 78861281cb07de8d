//! Removes the files of released segments beside the log's own thread: to give a large file back to the
//! file system takes tens of milliseconds, and everybody who waits for a commit would wait for that.

use std::io;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, TrySendError, bounded};
use tracing::warn;

use crate::log::{Folder, SegmentInfo};

/// Releases that may wait to be carried out.
const WAITING_MAX: usize = 16;

/// The running thread.
#[derive(Debug)]
pub(super) struct Remover {
    folder: Folder,
    retired: Sender<Vec<SegmentInfo>>,
    thread: JoinHandle<()>,
}

impl Remover {
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(folder: Folder) -> io::Result<Self> {
        let (retired, waiting) = bounded::<Vec<SegmentInfo>>(WAITING_MAX);
        let its = folder.clone();
        let thread =
            std::thread::Builder::new().name("log-remove".to_owned()).spawn(move || {
                waiting.iter().for_each(|segments| remove(&its, &segments));
            })?;
        Ok(Self { folder, retired, thread })
    }

    /// Removes their files soon.
    pub(super) fn remove(&self, segments: Vec<SegmentInfo>) {
        if segments.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(segments) | TrySendError::Disconnected(segments)) =
            self.retired.try_send(segments)
        {
            remove(&self.folder, &segments);
        }
    }

    /// Returns when all are removed.
    pub(super) fn finish(self) {
        drop(self.retired);
        // A panic there has nothing to do with the log.
        let _ = self.thread.join();
    }
}

fn remove(folder: &Folder, segments: &[SegmentInfo]) {
    if let Err(error) = folder.remove_segments(segments) {
        warn!("log: {error}; the next start tries again");
    }
}
