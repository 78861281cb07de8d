//! A file system in memory that knows what would survive a power cut, and that fails on demand.
//!
//! Content is durable after `sync_data`, names after `sync_dir`. At a crash every write since may be
//! there, be lost, or be there in part: pages of 64 bytes, each for itself, so that commits tear and
//! arrive in another order. Of the changes of names any subset may have arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use consentd::log::{Entry, FileSystem, LogFile, Open};

const PAGE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Read,
    Write,
    Sync,
    SyncDir,
    Rename,
    Unlink,
    List,
    Truncate,
    Reserve,
    Free,
}

impl Op {
    pub(crate) const ALL: [Self; 11] = [
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::SyncDir,
        Self::Rename,
        Self::Unlink,
        Self::List,
        Self::Truncate,
        Self::Reserve,
        Self::Free,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Io,
    NoSpace,
    Interrupted,
    Short,
    /// This call and all after it fail: the power is gone.
    PowerCut,
}

/// What a crash does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Only the process is gone: the system keeps everything.
    Process,
    /// Nothing that was not synced is left.
    LoseAll,
    /// Anything may be left.
    Any,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

#[derive(Clone, Debug, Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    files: Vec<Content>,
    calls: u64,
    fault: Option<(Option<Op>, u64, Fault)>,
    struck: bool,
    dead: bool,
    free: u64,
    reservable: Option<u64>,
}

/// Cheap to clone: clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

enum Verdict {
    Go,
    /// Do half of it, then say so or fail.
    Half(io::Result<()>),
    Fail(io::Error),
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Io => io::Error::other("injected EIO"),
        Fault::NoSpace => io::ErrorKind::StorageFull.into(),
        Fault::Interrupted => io::ErrorKind::Interrupted.into(),
        Fault::Short | Fault::PowerCut => io::Error::other("the power is gone"),
    }
}

impl State {
    fn verdict(&mut self, op: Op) -> Verdict {
        self.calls += 1;
        if self.dead {
            return Verdict::Fail(error(Fault::PowerCut));
        }
        let Some((only, left, fault)) = &mut self.fault else {
            return Verdict::Go;
        };
        if only.is_some_and(|only| only != op) {
            return Verdict::Go;
        }
        *left -= 1;
        if *left > 0 {
            return Verdict::Go;
        }
        let fault = *fault;
        self.fault = None;
        self.struck = true;
        match fault {
            Fault::Interrupted => Verdict::Fail(error(fault)),
            Fault::Short => Verdict::Half(Ok(())),
            Fault::Io | Fault::NoSpace => Verdict::Half(Err(error(fault))),
            Fault::PowerCut => {
                self.dead = true;
                Verdict::Half(Err(error(fault)))
            }
        }
    }

    /// For calls that can't be done by half: done or not, the caller sees an error.
    fn whole(&mut self, op: Op) -> io::Result<()> {
        match self.verdict(op) {
            Verdict::Go | Verdict::Half(Ok(())) => Ok(()),
            Verdict::Half(Err(error)) | Verdict::Fail(error) => Err(error),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.name_changes.push(change);
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Link(path, file) => {
            names.insert(path.clone(), *file);
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
    }
}

fn apply(content: &mut Vec<u8>, change: Change) {
    match change {
        Change::Write { at, bytes } => write_into(content, at, &bytes),
        Change::Truncate(len) => content.resize(len, 0),
    }
}

fn write_into(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Memory {
    pub(crate) fn new() -> Self {
        let memory = Self::default();
        memory.state().free = u64::MAX;
        memory
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Another disk with the same content.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// The `nth` call from now on (of one kind, or of any) fails.
    pub(crate) fn fail(&self, only: Option<Op>, nth: u64, fault: Fault) {
        let mut state = self.state();
        state.struck = false;
        state.fault = Some((only, nth, fault));
    }

    /// No fault any more; returns whether one has struck.
    pub(crate) fn heal(&self) -> bool {
        let mut state = self.state();
        state.fault = None;
        state.struck
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// No file can reserve more.
    pub(crate) fn set_reservable(&self, bytes: Option<u64>) {
        self.state().reservable = bytes;
    }

    pub(crate) fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// The power comes back, or the process is started again.
    pub(crate) fn crash(&self, crash: Crash, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let state = &mut *self.state();
        state.dead = false;
        state.fault = None;
        if crash == Crash::Process {
            return;
        }
        let mut arrives = || crash == Crash::Any && rng.bool();
        for content in &mut state.files {
            let mut left = content.durable.clone();
            for change in content.pending.drain(..) {
                match change {
                    Change::Write { at, bytes } => {
                        for (page, bytes) in bytes.chunks(PAGE).enumerate() {
                            if arrives() {
                                write_into(&mut left, at + page * PAGE, bytes);
                            }
                        }
                    }
                    Change::Truncate(len) => {
                        if arrives() {
                            left.resize(len, 0);
                        }
                    }
                }
            }
            content.now.clone_from(&left);
            content.durable = left;
        }
        let mut names = state.durable_names.clone();
        for change in state.name_changes.drain(..) {
            if arrives() {
                apply_name(&mut names, &change);
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].now.clone()
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.state();
        let content = &mut state.files[state.names[path]];
        change(&mut content.now);
        content.durable.clone_from(&content.now);
        content.pending.clear();
    }

    pub(crate) fn remove(&self, path: &Path) {
        let state = &mut *self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }
}

impl FileSystem for Memory {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.whole(Op::Open)?;
        let file = match (state.names.get(path), how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => *file,
            (None, Open::CreateNew | Open::Create) => {
                state.files.push(Content::default());
                let file = state.files.len() - 1;
                state.change_name(NameChange::Link(path.to_owned(), file));
                file
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.whole(Op::List)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(here
            .map(|(path, file)| Entry {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                len: state.files[*file].now.len() as u64,
            })
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole(Op::Rename)?;
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole(Op::Unlink)?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        state.whole(Op::SyncDir)?;
        let names = &mut state.durable_names;
        state.name_changes.retain(|change| {
            let (NameChange::Link(path, _)
            | NameChange::Unlink(path)
            | NameChange::Rename(path, _, _)) = change;
            let is_elsewhere = path.parent() != Some(dir);
            if !is_elsewhere {
                apply_name(names, change);
            }
            is_elsewhere
        });
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.whole(Op::Free)?;
        Ok(state.free)
    }
}

struct Handle {
    disk: Memory,
    file: usize,
}

impl LogFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let max = match state.verdict(Op::Read) {
            Verdict::Go => buffer.len(),
            Verdict::Half(Ok(())) => buffer.len().div_ceil(2),
            Verdict::Half(Err(error)) | Verdict::Fail(error) => return Err(error),
        };
        let content = &state.files[self.file].now;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(max);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let (len, answer) = match state.verdict(Op::Write) {
            Verdict::Go => (bytes.len(), Ok(())),
            Verdict::Half(answer) => (bytes.len().div_ceil(2), answer),
            Verdict::Fail(error) => return Err(error),
        };
        let bytes = &bytes[..len];
        let content = &mut state.files[self.file];
        write_into(&mut content.now, offset as usize, bytes);
        content.pending.push(Change::Write { at: offset as usize, bytes: bytes.to_vec() });
        answer.map(|()| len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let verdict = state.verdict(Op::Sync);
        let content = &mut state.files[self.file];
        match verdict {
            Verdict::Go | Verdict::Half(Ok(())) => {
                for change in content.pending.drain(..) {
                    apply(&mut content.durable, change);
                }
                Ok(())
            }
            Verdict::Half(Err(error)) => {
                if !state.dead {
                    // As Linux does: the pages count as written from here on, and are not.
                    state.files[self.file].pending.clear();
                }
                Err(error)
            }
            Verdict::Fail(error) => Err(error),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole(Op::Truncate)?;
        let content = &mut state.files[self.file];
        content.now.resize(len as usize, 0);
        content.pending.push(Change::Truncate(len as usize));
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole(Op::Reserve)?;
        match state.reservable {
            Some(most) if len > most => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }
}
