//! Erasures that somebody asks for, of the running daemon or while it does not run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::book::{dead_letter_settings, fresh_key};
use super::lock::DataDirLock;
use crate::admin::{EraseAnswer, EraseRequest};
use crate::clock::unix_ms;
use crate::commit::Log;
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::log::{Disk, Folder, Kind, LogError, Tombstones};
use crate::shard::Intake;

/// How long what was read before may take to be stored.
const STORED_TIME_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether requests are still under way.
const POLL: Duration = Duration::from_millis(20);

/// Requests that can wait for their turn.
pub(super) const ERASURES_MAX: usize = 16;

/// Whoever erases: it knows the way of events from the workers to every place where they are kept.
pub(super) struct Eraser {
    pub(super) intake: Intake,
    pub(super) log: Arc<Log>,
    pub(super) dead_letters: Arc<DeadLetters>,
    /// Cancelled before the workers are waited for.
    pub(super) stop: CancellationToken,
}

impl Eraser {
    /// Serves until the daemon stops. One at a time; answers may wait for requests under way.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<EraseRequest>) {
        let stop = self.stop.clone();
        let serving = async {
            while let Some(EraseRequest { user, anonymous, wait, answer }) = requests.recv().await {
                if let Err(why) = self.erase(user, anonymous).await {
                    warn!("erasure failed: {why}");
                    let _ = answer.send(EraseAnswer::Failed { why });
                    continue;
                }
                // Not whose: the daemon's log is not erased.
                info!("erased: the events that were received before are not delivered any more");
                let log = Arc::clone(&self.log);
                tokio::spawn(async move {
                    while wait && log.is_older_erasure_used() {
                        tokio::time::sleep(POLL).await;
                    }
                    let in_flight = log.is_older_erasure_used();
                    // Whoever asked may be gone.
                    let _ = answer.send(EraseAnswer::Erased { in_flight });
                });
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serving => {}
        }
    }

    /// Erases in every place where events are kept, in the order of their way. Done only when it is done
    /// in all: in force in the log, and carried out in the dead letters.
    async fn erase(&self, user: Option<String>, anonymous: Option<String>) -> Result<(), String> {
        let ready = async {
            // First, since a replay adds to what is stored.
            let exclusive = self.dead_letters.exclusive().await;
            // What was read before is stored first, or it would be stored behind the erasure.
            for answer in self.intake.pass_through()? {
                answer.await.map_err(|_| "the log has failed".to_owned())?;
            }
            Ok::<_, String>(exclusive)
        };
        let why = "what was received before could not be stored in time; is the log full?";
        let _exclusive = timeout(STORED_TIME_MAX, ready).await.map_err(|_| why.to_owned())??;
        // Before the tombstone in the log: a crash may come behind either, and both are gone on with.
        let noted = self
            .with_dead_letters({
                let (user, anonymous) = (user.clone(), anonymous.clone());
                move |letters| letters.note_erasure(user, anonymous)
            })
            .await?;
        self.log.erase(user, anonymous).await?;
        // What failed for good before the tombstone is stored now, or knows of it.
        self.dead_letters.wait_for_turns().await;
        let carried_out = self.with_dead_letters(move |letters| letters.carry_out(&noted)).await;
        carried_out.map(drop).map_err(|error| {
            format!(
                "nothing of it is delivered or replayed any more, but it could not be removed from \
                 the dead letters: {error}; ask again"
            )
        })
    }

    async fn with_dead_letters<T: Send + 'static>(
        &self,
        what: impl FnOnce(&DeadLetters) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, String> {
        let dead_letters = Arc::clone(&self.dead_letters);
        let done = tokio::task::spawn_blocking(move || what(&dead_letters)).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// `consentd erase` while the daemon does not run: the dead letters are erased at once; of the log the
/// next start delivers nothing of it, and removes it from the disk.
///
/// # Errors
/// A sentence. It is not done, at least not everywhere.
pub fn erase_stopped(
    config: &Config,
    user: Option<String>,
    anonymous: Option<String>,
) -> Result<(), String> {
    let none = || "the log is off, so nothing is stored".to_owned();
    let (Some(log), Some(data_dir)) = (&config.log, &config.daemon.data_dir) else {
        return Err(none());
    };
    let settings = dead_letter_settings(config, &Arc::from([])).ok_or_else(none)?;
    if !log.folder.exists() {
        return Err(format!("there is no log in {}", log.folder.display()));
    }
    let _lock = DataDirLock::acquire(data_dir)?;
    let erase = || {
        let dead_letters = DeadLetters::open(&settings, fresh_key()?)?;
        let erased = dead_letters.note_erasure(user.clone(), anonymous.clone()).and_then(|noted| {
            mark_log(&log.folder, user.as_deref(), anonymous.as_deref())?;
            dead_letters.carry_out(&noted)
        });
        dead_letters.finish();
        erased
    };
    erase().map(drop).map_err(|error: LogError| error.to_string())
}

/// Puts a tombstone into a log that nobody writes.
fn mark_log(path: &Path, user: Option<&str>, anonymous: Option<&str>) -> Result<(), LogError> {
    let folder = Folder::open(Arc::new(Disk), path, Kind::Events)?;
    let mut tombstones = Tombstones::open(&folder, fresh_key()?)?;
    // Positions that are given out later are higher: a start always begins a new segment.
    let before = folder.end_on_disk()?;
    tombstones.erase(user.map(str::as_bytes), anonymous.map(str::as_bytes), before, unix_ms())
}
