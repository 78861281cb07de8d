//! Small files that must not be lost: two copies, each replaced whole.
//!
//! A state is written to a new file, synced, renamed over the first copy, and then likewise over the
//! second; only then is it said to be durable. So one damaged copy costs nothing, and what was never
//! said to be durable is found or not, but never in part.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic |
//! | 8 | 8 | generation: counts up with every state |
//! | 16 | 4 | bytes of the body |
//! | 20 | | the body |
//! | | 4 | CRC32C of everything before |

use std::io;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::folder::{Folder, UNFINISHED};
use super::format::Fields;
use super::fs::{Open, read_full, uninterrupted, write_all};

/// No state of ours comes near: a longer file is a damaged one.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Puts a body into its envelope.
pub(super) fn seal(magic: &[u8; 8], generation: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The generation and body of an envelope, if it is sound. What follows it does not matter.
pub(super) fn unseal<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let mut fields = Fields(bytes);
    let is_ours = fields.take(8)? == magic;
    let generation = fields.u64()?;
    let len = fields.u32()? as usize;
    let body = fields.take(len)?;
    let is_sound = fields.u32()? == crc32c::crc32c(bytes.get(..20 + len)?);
    (is_ours && is_sound).then_some((generation, body))
}

/// Reads a small file; `None` if there is none.
pub(super) fn read_small(folder: &Folder, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let file = match folder.open_file(path, Open::Read) {
        Ok(file) => file,
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let len = uninterrupted(|| file.len()).map_err(LogError::io("measure", path))?;
    let mut bytes = vec![0; len.min(BYTES_MAX) as usize];
    let read = read_full(&*file, &mut bytes, 0).map_err(LogError::io("read", path))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Where a state is kept.
#[derive(Debug)]
pub(super) struct Twin {
    folder: Folder,
    magic: &'static [u8; 8],
    paths: [PathBuf; 2],
    generation: u64,
}

/// What was found at a start.
pub(super) enum Kept {
    /// The last state that was said to be durable, or one that was about to be.
    State(Vec<u8>),
    /// No copy exists.
    Nothing,
    /// There is a copy, but no sound one.
    Damaged,
}

impl Twin {
    /// Reads the newer sound copy, and makes the other one like it if it is not (unless the folder is
    /// only looked at).
    pub(super) fn open(
        folder: &Folder,
        name: &str,
        magic: &'static [u8; 8],
    ) -> Result<(Self, Kept), LogError> {
        let paths = ["a", "b"].map(|copy| folder.path.join(format!("{name}.{copy}")));
        let mut twin = Self { folder: folder.clone(), magic, paths, generation: 0 };
        let mut found = Vec::new();
        let mut files = 0;
        for path in &twin.paths {
            let bytes = read_small(folder, path)?;
            files += usize::from(bytes.is_some());
            let state = bytes.as_deref().and_then(|bytes| unseal(magic, bytes));
            found.extend(state.map(|(generation, body)| (generation, body.to_vec())));
        }
        let alike = found.len() == 2 && found[0] == found[1];
        let Some((generation, body)) = found.into_iter().max_by_key(|(generation, _)| *generation)
        else {
            let kept = if files == 0 { Kept::Nothing } else { Kept::Damaged };
            return Ok((twin, kept));
        };
        twin.generation = generation;
        if !alike && !folder.only_looks {
            twin.save(&body)?;
        }
        Ok((twin, Kept::State(body)))
    }

    /// Makes `body` the durable state.
    pub(super) fn save(&mut self, body: &[u8]) -> Result<(), LogError> {
        self.generation += 1;
        let bytes = seal(self.magic, self.generation, body);
        for path in &self.paths {
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(UNFINISHED);
            let unfinished = PathBuf::from(unfinished);
            self.folder.unlink(&unfinished)?;
            let file = self.folder.open_file(&unfinished, Open::CreateNew)?;
            write_all(&*file, &bytes, 0).map_err(LogError::io("write", &unfinished))?;
            uninterrupted(|| file.sync_data()).map_err(LogError::io("sync", &unfinished))?;
            self.folder.rename(&unfinished, path)?;
            self.folder.sync_dir()?;
        }
        Ok(())
    }
}
