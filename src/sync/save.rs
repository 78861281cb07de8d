//! State is written on a thread of its own: who sends does not wait for the disk.
//!
//! What always holds: what is saved later is written in the order in which it was given, each time in one
//! step; whoever waits learns whether all of it was.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::failed::Failed;
use super::group::Group;
use super::known::Key;
use super::slice::Slice;
use super::store::{StateError, StateFile};

/// Saves that wait for the one that goes on.
const WAITING_MAX: usize = 1;

/// What is written beside rows.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Rejections of rows; none are forgotten.
    pub(super) failed: HashMap<Key, Vec<Failed>>,
    /// The slices of which nothing is under way any more.
    pub(super) settled: BTreeSet<Slice>,
    /// Whether who was told is not certain in this sync.
    pub(super) is_unheard: bool,
}

impl Beside {
    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.settled.is_empty()
    }
}

/// Groups that are done, and what goes with them.
type Job = (Vec<Group>, Beside);

/// The thread, if it runs.
#[derive(Default)]
pub(super) struct Saver(Option<Running>);

struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<Result<(), StateError>>,
}

impl Saver {
    /// Writes this soon.
    ///
    /// # Errors
    /// The disk, also of what was given before; or there is no thread.
    pub(super) fn save_later(
        &mut self,
        file: &Arc<StateFile>,
        groups: Vec<Group>,
        beside: Beside,
    ) -> Result<(), StateError> {
        if self.0.is_none() {
            self.0 = Some(start(Arc::clone(file))?);
        }
        if self.0.as_ref().is_some_and(|it| it.jobs.send((groups, beside)).is_ok()) {
            return Ok(());
        }
        // It ends early for an error only.
        self.wait()?;
        Err(StateError::new("the thread that saves has ended"))
    }

    /// Returns when everything is written.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn wait(&mut self) -> Result<(), StateError> {
        let Some(Running { jobs, thread }) = self.0.take() else { return Ok(()) };
        drop(jobs);
        thread.join().unwrap_or_else(|_| Err(StateError::new("the thread that saves died")))
    }
}

fn start(file: Arc<StateFile>) -> Result<Running, StateError> {
    let (sender, jobs) = bounded(WAITING_MAX);
    let thread = std::thread::Builder::new()
        .name("save".to_owned())
        .spawn(move || save_all(&file, &jobs))
        .map_err(|error| StateError::new(&format!("cannot start a thread: {error}")))?;
    Ok(Running { jobs: sender, thread })
}

fn save_all(file: &StateFile, jobs: &Receiver<Job>) -> Result<(), StateError> {
    for (mut groups, beside) in jobs {
        let mut changed: Vec<&mut Group> =
            groups.iter_mut().filter(|group| group.is_changed()).collect();
        file.save(&mut changed, &beside)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::sync::known::Known;
    use crate::sync::slice::Slicing;
    use crate::sync::store::Store;

    /// In the order in which it was given, whoever writes it.
    #[test]
    fn what_is_saved_later_is_there_before_what_is_saved_now() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let row = |hash: u8| Some(Known { hash: [hash; 16], ..Known::default() });
        let (key, slice) = ([7; 16], Slicing::FINEST.of(&[7; 16]));
        store.file().announce(&[(slice, b"note".to_vec())], 1).unwrap();
        // It keeps the thread busy.
        let many = Slicing::fitting(0, 1).of(&[9; 16]);
        let mut busy = store.snapshot().unwrap().group(many).unwrap();
        for number in 0..20_000_u32 {
            let mut key = [9; 16];
            key[12..].copy_from_slice(&number.to_le_bytes());
            busy.put(key, row(1));
        }
        let mut first = store.snapshot().unwrap().group(slice).unwrap();
        let mut second = store.snapshot().unwrap().group(slice).unwrap();
        first.put(key, row(1));
        second.put(key, row(2));
        store.save_later(vec![busy]).unwrap();
        store.end_under_way(slice);
        store.save_later(vec![first]).unwrap();
        store.save([&mut second].into_iter()).unwrap();
        drop(store);
        // It is opened once nobody writes to it any more.
        let store = Store::open(folder.path()).unwrap();
        let now = store.snapshot().unwrap();
        assert_eq!(now.group(slice).unwrap().get(&key).unwrap().hash, [2; 16]);
        assert_eq!(now.group(many).unwrap().len(), 20_000);
        assert!(store.under_way().unwrap().is_empty());
    }
}
