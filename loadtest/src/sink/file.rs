//! Follows files as they grow.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Account, lock};

const BUFFER_BYTES: usize = 256 * 1024;

/// Looking at the files may take one part in this many of the time, so that following hundreds of
/// them does not starve whoever writes them.
const IDLE_PER_LOOK: u32 = 10;

const PAUSE_MIN: Duration = Duration::from_millis(1);

pub(super) struct Reader {
    files: Vec<Followed>,
    buffer: Vec<u8>,
}

struct Followed {
    path: PathBuf,
    file: Option<File>,
    tail: Vec<u8>,
    account: Account,
}

impl Reader {
    pub(super) fn new(paths: Vec<PathBuf>, accounts: Vec<Account>) -> Self {
        let followed = |(path, account)| Followed { path, file: None, tail: Vec::new(), account };
        let files = paths.into_iter().zip(accounts).map(followed).collect();
        Self { files, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Until it is over, and then once more to the end of every file.
    pub(super) fn follow(mut self, is_over: &AtomicBool) -> io::Result<()> {
        loop {
            let last = is_over.load(Ordering::Acquire);
            let started = Instant::now();
            let found = self.look()?;
            if last {
                self.files.iter().for_each(|file| lock(&file.account).close(&file.tail));
                return Ok(());
            }
            if !found {
                thread::sleep(PAUSE_MIN.max(started.elapsed() * IDLE_PER_LOOK));
            }
        }
    }

    /// Reads every file to its present end; was there anything?
    fn look(&mut self) -> io::Result<bool> {
        let mut found = false;
        for followed in &mut self.files {
            found |= followed.read(&mut self.buffer)?;
        }
        Ok(found)
    }
}

impl Followed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(file) = open(&self.path, &mut self.file)? else {
            return Ok(false);
        };
        let mut found = false;
        loop {
            let count = file.read(buffer)?;
            if count == 0 {
                return Ok(found);
            }
            found = true;
            lock(&self.account).take(&mut self.tail, &buffer[..count]);
        }
    }
}

/// The file appears when something is delivered.
fn open<'a>(path: &Path, file: &'a mut Option<File>) -> io::Result<Option<&'a mut File>> {
    if file.is_none() {
        *file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
    }
    Ok(file.as_mut())
}
