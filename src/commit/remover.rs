//! Removes the files of released segments beside the log's own thread, and slowly: to give a large file
//! back to the file system takes tens of milliseconds, and everybody who waits for a commit would wait
//! for that.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError, bounded};
use tracing::warn;

use crate::log::{Folder, SegmentInfo};

/// Releases that may wait to be carried out.
const WAITING_MAX: usize = 16;

/// So much is given back to the file system at once.
const STEP_BYTES: u64 = 4 * 1024 * 1024;

/// Between two steps of a removal: a segment of 64 MiB is gone in a third of a second.
const PAUSE: Duration = Duration::from_millis(20);

/// The running thread.
#[derive(Debug)]
pub(super) struct Remover {
    folder: Folder,
    retired: Sender<Vec<SegmentInfo>>,
    /// Disconnected when there is no more time for pauses.
    hurry: Sender<()>,
    thread: JoinHandle<()>,
}

impl Remover {
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(folder: Folder) -> io::Result<Self> {
        let (retired, waiting) = bounded::<Vec<SegmentInfo>>(WAITING_MAX);
        let (hurry, is_hurried) = bounded(0);
        let its = folder.clone();
        let thread =
            std::thread::Builder::new().name("log-remove".to_owned()).spawn(move || {
                let mut pause = || {
                    let _: Result<(), _> = is_hurried.recv_timeout(PAUSE);
                };
                waiting.iter().for_each(|segments| remove(&its, &segments, &mut pause));
            })?;
        Ok(Self { folder, retired, hurry, thread })
    }

    /// Removes their files soon.
    pub(super) fn remove(&self, segments: Vec<SegmentInfo>) {
        if segments.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(segments) | TrySendError::Disconnected(segments)) =
            self.retired.try_send(segments)
        {
            remove(&self.folder, &segments, &mut || {});
        }
    }

    /// Returns when all are removed.
    pub(super) fn finish(self) {
        drop((self.retired, self.hurry));
        // A panic there has nothing to do with the log.
        let _ = self.thread.join();
    }
}

fn remove(folder: &Folder, segments: &[SegmentInfo], pause: &mut dyn FnMut()) {
    if let Err(error) = folder.remove_segments(segments, STEP_BYTES, pause) {
        warn!("log: {error}; the next start tries again");
    }
}
