//! Who writes to a pipe or a device now.
//!
//! Several destinations may write to one, under one name or several: `/dev/stdout` twice, a link to a
//! FIFO. A pipe takes a batch in parts, so two batches would mix within a line. Each writer takes its
//! turn with a whole batch. Other processes take no turns: only writes of up to 4 KiB (`PIPE_BUF`) are
//! whole then, which nothing here can change.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Held while a batch is written.
pub(super) type Turn = Arc<Mutex<()>>;

type Place = (u64, u64);

static TURNS: Mutex<Option<HashMap<Place, Weak<Mutex<()>>>>> = Mutex::new(None);

/// What everybody in this process shares who writes to the same thing as `file`.
pub(super) fn turn_at(file: &File) -> io::Result<Turn> {
    let found = file.metadata()?;
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let turns = turns.get_or_insert_default();
    turns.retain(|_, turn| turn.strong_count() > 0);
    let place = (found.dev(), found.ino());
    if let Some(turn) = turns.get(&place).and_then(Weak::upgrade) {
        return Ok(turn);
    }
    let turn = Turn::default();
    turns.insert(place, Arc::downgrade(&turn));
    Ok(turn)
}
