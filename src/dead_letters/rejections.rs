//! Which rows of a model failed for good, for the process that syncs it: it tries them again.
//!
//! A file of NDJSON per model, appended to and synced before the events count as dropped, whether or not
//! they are kept as dead letters as well. The sync is told the oldest when it begins, keeps them in its
//! own state, and has them forgotten then. A file is written anew beside itself and renamed, so that a
//! crash leaves one or the other; half a line at its end was never counted and is cut off.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::log::StableId;
use crate::route::SourceId;

/// Rejections that are kept of a model; more push out the oldest.
const KEPT_MAX: u64 = 1_000_000;

/// So many go at a time then: each time the file is written anew.
const DROPPED_AT_A_TIME: u64 = 100_000;

/// A longer `messageId` is not one that a sync wrote.
const MESSAGE_ID_BYTES_MAX: usize = 200;

/// How long it waits after a file could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// The rejections of every model.
#[derive(Debug, Default)]
pub struct Rejections {
    models: HashMap<SourceId, Arc<ModelRejections>>,
}

/// The rejections of one model.
#[derive(Debug)]
pub struct ModelRejections {
    model: String,
    path: PathBuf,
    kept_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// How long it is without what was not written to its end.
    bytes: u64,
    /// How many were forgotten or dropped before the first in the file, since the start.
    before: u64,
    count: u64,
}

/// The oldest rejections, and where they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// A JSON object each.
    pub lines: Vec<String>,
    /// The number of the first.
    first: u64,
}

impl Rejections {
    /// Opens the files of these models in `folder`.
    ///
    /// # Errors
    /// The message names the file.
    pub fn open(folder: &Path, models: &[(SourceId, String)]) -> io::Result<Self> {
        let open = |(source, model): &(SourceId, String)| {
            let path = folder.join(format!("{model}.rejections"));
            let opened = ModelRejections::open(model, path.clone(), KEPT_MAX);
            let opened = opened.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            });
            Ok((*source, Arc::new(opened?)))
        };
        if !models.is_empty() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Self { models: models.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Those of the model that is this source.
    #[must_use]
    pub fn of(&self, source: SourceId) -> Option<&Arc<ModelRejections>> {
        self.models.get(&source)
    }
}

/// What is noted of a line that a destination did not take; nothing if no sync wrote it.
#[must_use]
pub fn noted(line: &[u8], destination: StableId, at: &str) -> Option<String> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let message_id = event["messageId"].as_str()?;
    let is_ours = message_id.len() <= MESSAGE_ID_BYTES_MAX;
    is_ours.then(|| {
        json!({ "messageId": message_id, "destination": destination.0, "at": at }).to_string()
    })
}

impl ModelRejections {
    fn open(model: &str, path: PathBuf, kept_max: u64) -> io::Result<Self> {
        let state = State::open(&path, 0)?;
        Ok(Self { model: model.to_owned(), path, kept_max, state: Mutex::new(state) })
    }

    /// Adds lines without line ends, and returns when they are durable.
    pub async fn add(self: &Arc<Self>, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let lines = Arc::new(lines);
        let mut warned = false;
        loop {
            let (own, its) = (Arc::clone(self), Arc::clone(&lines));
            let error = match spawn_blocking(move || own.append(&its)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut warned, true) {
                let path = self.path.display();
                warn!("{path} can't be written, deliveries of rejected rows wait: {error}");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn append(&self, lines: &[String]) -> io::Result<()> {
        let mut state = self.lock();
        if state.count + lines.len() as u64 > self.kept_max {
            let dropped = (lines.len() as u64).max(DROPPED_AT_A_TIME).min(state.count);
            self.drop_first(&mut state, dropped)?;
            warn!(model = self.model, dropped, "too many rejected rows: the oldest are forgotten");
        }
        let mut text = lines.join("\n");
        text.push('\n');
        let written = state.file.write_all(text.as_bytes()).and_then(|()| state.file.sync_data());
        if let Err(error) = written {
            // What a failed sync leaves behind is not known: another descriptor, and what was sound.
            let (bytes, before) = (state.bytes, state.before);
            OpenOptions::new().write(true).open(&self.path)?.set_len(bytes)?;
            *state = State::open(&self.path, before)?;
            return Err(error);
        }
        state.bytes += text.len() as u64;
        state.count += lines.len() as u64;
        Ok(())
    }

    /// The oldest, at most so many. Reads a file.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn oldest(&self, max: usize) -> io::Result<Oldest> {
        let state = self.lock();
        let lines = BufReader::new(File::open(&self.path)?.take(state.bytes)).lines();
        let lines: io::Result<Vec<String>> = lines.take(max).collect();
        Ok(Oldest { lines: lines?, first: state.before })
    }

    /// Forgets the first `count` of `oldest`, durably. Writes a file.
    ///
    /// # Errors
    /// The file can't be written; nothing is forgotten then.
    pub fn forget(&self, oldest: &Oldest, count: u64) -> io::Result<()> {
        let mut state = self.lock();
        let end = oldest.first + count.min(oldest.lines.len() as u64);
        // Some may have been dropped meanwhile.
        let count = end.saturating_sub(state.before).min(state.count);
        self.drop_first(&mut state, count)
    }

    fn drop_first(&self, state: &mut State, count: u64) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let next = self.path.with_extension("rejections.new");
        let mut rest = BufReader::new(File::open(&self.path)?.take(state.bytes));
        for _ in 0..count {
            rest.skip_until(b'\n')?;
        }
        let mut file = BufWriter::new(
            private(OpenOptions::new().write(true).create(true).truncate(true)).open(&next)?,
        );
        let bytes = io::copy(&mut rest, &mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        // From here on this is the file, whatever fails: what is added to the other one is lost.
        let (before, count) = (state.before + count, state.count - count);
        *state = State { file, bytes, before, count };
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(path: &Path, before: u64) -> io::Result<Self> {
        let mut file =
            private(OpenOptions::new().read(true).append(true).create(true)).open(path)?;
        let (mut count, mut bytes, mut line) = (0, 0, Vec::new());
        let mut lines = BufReader::new(&file);
        while lines.read_until(b'\n', &mut line)? > 0 {
            if line.last() == Some(&b'\n') {
                count += 1;
                bytes += line.len() as u64;
            }
            line.clear();
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, bytes, before, count })
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_was_added_is_there_after_a_crash_and_half_a_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.rejections");
        let model = ModelRejections::open("m", path.clone(), 100).unwrap();
        model.append(&names(&["a", "b", "c"])).unwrap();
        drop(model);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "hal").unwrap();
        let model = ModelRejections::open("m", path, 100).unwrap();
        model.append(&names(&["d"])).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["a", "b", "c", "d"]));
        assert_eq!(model.oldest(2).unwrap().lines, names(&["a", "b"]));
    }

    #[test]
    fn what_is_taken_is_forgotten_and_nothing_that_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.rejections");
        let model = ModelRejections::open("m", path.clone(), 100).unwrap();
        model.append(&names(&["a", "b", "c"])).unwrap();
        let told = model.oldest(2).unwrap();
        model.append(&names(&["d"])).unwrap();
        model.forget(&told, 1).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["b", "c", "d"]));
        // Said again, and more than was told: what was told, and once.
        model.forget(&told, 1).unwrap();
        model.forget(&told, 99).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["c", "d"]));
        drop(model);
        let model = ModelRejections::open("m", path, 100).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["c", "d"]));
    }

    #[test]
    fn too_many_push_out_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let model = ModelRejections::open("m", folder.path().join("m.rejections"), 3).unwrap();
        model.append(&names(&["a", "b", "c"])).unwrap();
        let told = model.oldest(3).unwrap();
        model.append(&names(&["d"])).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["d"]));
        model.forget(&told, 3).unwrap();
        assert_eq!(model.oldest(10).unwrap().lines, names(&["d"]), "it was not told");
    }

    #[test]
    fn what_is_noted_of_a_row() {
        let line = br#"{"type":"identify","messageId":"ab-cd","userId":"someone"}"#;
        let said = noted(line, StableId(3), "2026-01-01T00:00:00Z").unwrap();
        assert!(said.contains("ab-cd") && !said.contains("someone"), "{said}");
        assert_eq!(noted(b"{}", StableId(3), ""), None);
    }
}
