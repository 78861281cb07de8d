//! What a sync sends: rows, then the deletions that follow from them, a part after the other.
//!
//! What always holds: the state of a row moves on only when its event is settled; a row of which a
//! destination has to be told that it is gone keeps its old state until that is stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::change::{Change, Kind, What, message_id};
use super::compare::{Comparison, Ids};
use super::failed::{self, EVERYWHERE, Failed, Patience};
use super::known::{Digest, Key, Known};
use super::link::{Ended, Link, Outcome};
use super::store::{Group, Store};
use super::told::Told;
use crate::config::{Model, OnWithdrawal};
use crate::warehouse::deletion;

/// How often the daemon is told how far the sync is.
pub(super) const PROGRESS: Duration = Duration::from_millis(500);

/// How long what is settled may wait to be noted: so much is sent again after a crash.
const SAVE: Duration = Duration::from_secs(2);

/// Groups that are done and not saved yet.
const OPEN_MAX: usize = 8;

/// Lines between two looks at the clock.
const LOOK_LINES: u32 = 256;

/// What comes back with the outcome of a line.
pub(super) enum Mark {
    /// A row, as it is to be noted, and who had it before.
    Row { what: What, key: Key, known: Known },
    /// Somebody is told that a row is gone.
    Deletion(Owed),
}

/// A deletion that has to be sent.
pub(super) struct Owed {
    key: Key,
    /// By stable ID.
    to: Vec<u32>,
    /// The row as it is to be noted, who is told among those who have it.
    known: Known,
    /// Whether the row itself is gone, not only a consent.
    is_gone: bool,
}

/// Sends the changes of one comparison.
pub(super) struct Sending<'s> {
    model: &'s Model,
    store: &'s mut Store,
    told: &'s mut Told,
    failed: &'s HashMap<Key, Vec<Failed>>,
    around: Around,
    /// The rows that are worked on, by the first byte of their keys.
    groups: BTreeMap<u8, Working>,
    owed: Vec<Owed>,
    lines: u32,
    next_progress: Instant,
    next_save: Instant,
}

/// Rows whose keys begin with one byte.
struct Working {
    group: Group,
    /// Rows that are sent and not settled, or to be sent still.
    open: usize,
}

/// What holds for the whole sync.
pub(super) struct Around {
    pub(super) patience: Patience,
    pub(super) now: u64,
    pub(super) generation: u32,
    /// How many syncs were completed.
    pub(super) completed: u64,
    /// The destinations that rows can reach now,
    pub(super) on: HashSet<u32>,
    /// and those that they can't: they are told later.
    pub(super) off: HashSet<u32>,
    /// Nothing is stored anywhere, and nothing noted.
    pub(super) dry_run: bool,
}

impl<'s> Sending<'s> {
    pub(super) fn new(
        model: &'s Model,
        store: &'s mut Store,
        told: &'s mut Told,
        failed: &'s HashMap<Key, Vec<Failed>>,
        around: Around,
    ) -> Self {
        let now = Instant::now();
        Self {
            model,
            store,
            told,
            failed,
            around,
            groups: BTreeMap::new(),
            owed: Vec::new(),
            lines: 0,
            next_progress: now,
            next_save: now + SAVE,
        }
    }

    /// Sends everything.
    ///
    /// # Errors
    /// [`Ended`]; what was settled is noted in any case.
    pub(super) fn run(
        mut self,
        compared: &Comparison<'_>,
        link: &mut Link<Mark>,
    ) -> Result<(), Ended> {
        let sent = self.send_all(compared, link);
        self.save()?;
        sent
    }

    fn send_all(&mut self, compared: &Comparison<'_>, link: &mut Link<Mark>) -> Result<(), Ended> {
        // Most often no id stands twice and no row is gone; then keys need not be looked at again.
        let is_plain =
            compared.found() == self.store.snapshot()?.count() && !compared.has_repeated_ids()?;
        for part in 0..=u8::MAX {
            let ids = if is_plain { None } else { Some(compared.ids(part.into())?) };
            let changes = compared.changes(part.into())?;
            self.send_part(part, &changes, ids.as_ref(), link)?;
            self.pay(link)?;
            self.close_groups(OPEN_MAX)?;
        }
        // What is settled by now may make deletions necessary.
        loop {
            link.settle(&mut |mark, outcome| self.apply(mark, outcome))?;
            if self.owed.is_empty() {
                return self.close_groups(0);
            }
            self.pay(link)?;
        }
    }

    fn send_part(
        &mut self,
        part: u8,
        bytes: &[u8],
        ids: Option<&Ids>,
        link: &mut Link<Mark>,
    ) -> Result<(), Ended> {
        let mut rest = bytes;
        let mut changes: Vec<Change<'_>> = std::iter::from_fn(|| Change::read(&mut rest)).collect();
        // In the order of the keys, which is the order on the disk.
        changes.sort_unstable_by_key(|change| u128::from_be_bytes(change.key));
        let snapshot = self.store.snapshot()?;
        let mut gone = Vec::new();
        if let Some(ids) = ids {
            snapshot.keys(part, |key| {
                if !ids.contain(key) {
                    gone.push(*key)
                }
            })?;
        }
        let repeats = ids.is_some_and(|ids| !ids.repeated.is_empty());
        if changes.is_empty() && gone.is_empty() && !repeats {
            return Ok(());
        }
        let group = snapshot.group(part)?;
        if let Some(ids) = ids {
            self.leave_repeated_out(ids, &mut changes, &group);
        }
        self.groups.insert(part, Working { group, open: 1 });
        for change in &changes {
            self.send_row(change, link)?;
            self.look_up_now_and_then(link)?;
        }
        for key in gone {
            self.find_gone(key);
        }
        self.settled(part);
        Ok(())
    }

    /// Which of several rows with the same id would be the right one nobody knows.
    fn leave_repeated_out(&mut self, ids: &Ids, changes: &mut Vec<Change<'_>>, group: &Group) {
        for (key, rows) in &ids.repeated {
            let mut unchanged = *rows;
            let mut id = None;
            for change in changes.iter().filter(|change| change.key == *key) {
                if change.what != What::Leave {
                    self.told.take_back(change.kind);
                }
                unchanged -= 1;
                id = Some(change.id.to_vec());
            }
            (0..unchanged).for_each(|_| self.told.take_back(Kind::Unchanged));
            let id =
                id.or_else(|| group.get(key).map(|known| known.id.clone())).unwrap_or_default();
            self.told.counts.skipped += rows;
            self.told.sample(format!("{} stands {rows} times", self.told.id(&id)));
        }
        changes.retain(|change| !ids.repeated.contains_key(&change.key));
    }

    fn send_row(&mut self, change: &Change<'_>, link: &mut Link<Mark>) -> Result<(), Ended> {
        let key = change.key;
        let working = self.groups.get_mut(&key[0]);
        let before = working.and_then(|working| {
            working.open += 1;
            working.group.get(&key)
        });
        let known = Known {
            hash: change.hash,
            message: change.message,
            generation: self.around.generation,
            granted: change.granted,
            held: before.map(|known| known.held.clone()).unwrap_or_default(),
            fresh: match (change.what, before) {
                // Who has it had it before this version.
                (What::Add | What::Update, _) | (_, None) => Vec::new(),
                (_, Some(known)) => known.fresh.clone(),
            },
            id: change.id.to_vec(),
        };
        match change.what {
            What::Note => {
                self.note(key, Some(known));
                return Ok(());
            }
            What::Leave => {
                let why = String::from_utf8_lossy(change.line);
                self.told.skip(format!("{}: {why}", self.told.id(change.id)));
                self.settled(key[0]);
                return Ok(());
            }
            What::Add | What::Update | What::Retry | What::Judge => {}
        }
        let section = match change.what {
            _ if self.around.dry_run => "#judge".to_owned(),
            What::Judge => "#judge".to_owned(),
            What::Retry => match self.due(&key) {
                Some(to) => section("#events", &to),
                None => "#events".to_owned(),
            },
            What::Add | What::Update | What::Note | What::Leave => "#events".to_owned(),
        };
        let mark = Mark::Row { what: change.what, key, known };
        link.send(&section, change.line, mark, &mut |mark, outcome| self.apply(mark, outcome))
    }

    /// The destinations that are to get a row again; `None` for all.
    fn due(&self, key: &Key) -> Option<Vec<u32>> {
        let Around { patience, now, .. } = &self.around;
        let list = self.failed.get(key)?.iter().filter(|one| patience.is_left(one, *now));
        let to: Vec<u32> = list.map(|one| one.destination).collect();
        if to.contains(&EVERYWHERE) { None } else { Some(to) }
    }

    /// A row of the last sync that the query does not give any more.
    fn find_gone(&mut self, key: Key) {
        let Some(working) = self.groups.get_mut(&key[0]) else { return };
        let Some(known) = working.group.get(&key).cloned() else { return };
        working.open += 1;
        // One that somebody still has to be told of was counted when it went.
        self.told.counts.deleted += u64::from(!known.is_gone());
        let to = self.present(&known.held);
        if !self.model.send.deleted {
            self.note(key, None);
        } else if to.is_empty() {
            self.note_gone(key, known);
        } else {
            self.owed.push(Owed { key, to, known, is_gone: true });
        }
    }

    /// A row is gone; it is kept for destinations that are switched off: they are told later.
    fn note_gone(&mut self, key: Key, mut known: Known) {
        known.held.retain(|id| self.around.off.contains(id));
        known.hash = Digest::default();
        self.note(key, if known.held.is_empty() { None } else { Some(known) });
    }

    fn present(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().copied().filter(|id| self.around.on.contains(id)).collect()
    }

    /// Sends the deletions that are owed, those to the same destinations together.
    fn pay(&mut self, link: &mut Link<Mark>) -> Result<(), Ended> {
        let mut owed = std::mem::take(&mut self.owed);
        if self.around.dry_run {
            owed.iter().for_each(|one| self.settled(one.key[0]));
            return Ok(());
        }
        owed.sort_by(|one, other| one.to.cmp(&other.to));
        let mut line = Vec::new();
        for one in owed {
            line.clear();
            let id = String::from_utf8_lossy(&one.known.id);
            let message = deletion_message(&one, self.around.completed);
            deletion(self.model, &id, &message, &mut line);
            let section = section("#deletions", &one.to);
            let mark = Mark::Deletion(one);
            link.send(&section, &line, mark, &mut |mark, outcome| self.apply(mark, outcome))?;
            self.look_up_now_and_then(link)?;
        }
        Ok(())
    }

    fn apply(&mut self, mark: Mark, outcome: &Outcome) {
        match mark {
            Mark::Row { what, key, known } => self.settle_row(what, key, known, outcome),
            Mark::Deletion(owed) => self.settle_deletion(owed, outcome),
        }
    }

    fn settle_row(&mut self, what: What, key: Key, mut known: Known, outcome: &Outcome) {
        if let Some(reason) = &outcome.rejected {
            let id = self.told.id(&known.id);
            self.told.fail(format!("{id}: rejected as {reason}"));
            self.note_failed(what, key, Some(EVERYWHERE));
            self.note(key, Some(known));
            return;
        }
        self.told.counts.refused += u64::from(!outcome.refused.is_empty());
        let is_sent = what != What::Judge && !outcome.stored.is_empty();
        self.told.counts.sent += u64::from(is_sent);
        let lost: Vec<u32> =
            known.held.iter().copied().filter(|id| outcome.refused.contains(id)).collect();
        if what != What::Judge {
            known.fresh.extend(outcome.stored.iter().filter(|id| !known.held.contains(id)));
            known.held.extend(&outcome.stored);
            known.held.sort_unstable();
            known.held.dedup();
        }
        self.note_failed(what, key, None);
        let lost = self.present(&lost);
        if self.model.on_withdrawal == OnWithdrawal::Delete && !lost.is_empty() {
            self.told.counts.withdrawn += 1;
            self.owed.push(Owed { key, to: lost, known, is_gone: false });
        } else {
            self.note(key, Some(known));
        }
    }

    /// A newer version has its own fate; one that was tried again is not due until it is rejected again.
    fn note_failed(&mut self, what: What, key: Key, rejected: Option<u32>) {
        let before = self.failed.get(&key);
        if self.around.dry_run || (before.is_none() && rejected.is_none()) {
            return;
        }
        let mut list = match (what, before) {
            (What::Retry, Some(before)) => before.clone(),
            _ => Vec::new(),
        };
        for one in &mut list {
            if self.around.patience.is_left(one, self.around.now) {
                one.tries += 1;
                one.is_due = false;
            }
        }
        if let Some(destination) = rejected {
            failed::add(&mut list, destination, self.around.now);
        }
        self.store.put_failed(key, list);
    }

    fn settle_deletion(&mut self, owed: Owed, outcome: &Outcome) {
        let Owed { key, mut known, is_gone, .. } = owed;
        if let Some(reason) = &outcome.rejected {
            // Its state stays as it was: the next sync finds it again.
            let id = self.told.id(&known.id);
            self.told.fail(format!("{id}: its deletion is rejected as {reason}"));
            self.settled(key[0]);
            return;
        }
        self.told.counts.sent += u64::from(!outcome.stored.is_empty());
        known.held.retain(|id| !outcome.stored.contains(id));
        if is_gone {
            self.note_gone(key, known);
        } else {
            self.note(key, Some(known));
        }
    }

    /// A row is as it will be: what is known of it moves on.
    fn note(&mut self, key: Key, row: Option<Known>) {
        if let Some(working) = self.groups.get_mut(&key[0])
            && !self.around.dry_run
        {
            working.group.put(key, row);
        }
        self.settled(key[0]);
    }

    fn settled(&mut self, first: u8) {
        if let Some(working) = self.groups.get_mut(&first) {
            working.open = working.open.saturating_sub(1);
        }
    }

    /// Saves, and lets go of groups that are done, once there are more than so many.
    fn close_groups(&mut self, max: usize) -> Result<(), Ended> {
        let done = self.groups.values().filter(|working| working.open == 0).count();
        if done > max {
            self.save()?;
            self.groups.retain(|_, working| working.open > 0);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), Ended> {
        Ok(self.store.save(self.groups.values_mut().map(|working| &mut working.group))?)
    }

    fn look_up_now_and_then(&mut self, link: &mut Link<Mark>) -> Result<(), Ended> {
        self.lines += 1;
        if !self.lines.is_multiple_of(LOOK_LINES) {
            return Ok(());
        }
        let now = Instant::now();
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS;
            link.progress(&self.told.counts)?;
        }
        if now >= self.next_save {
            self.next_save = now + SAVE;
            self.save()?;
        }
        Ok(())
    }
}

fn section(word: &str, to: &[u32]) -> String {
    let to: Vec<String> = to.iter().map(u32::to_string).collect();
    format!("{word} to={}", to.join(","))
}

/// Told again, it has the same.
fn deletion_message(owed: &Owed, completed: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"deletion").update(&owed.key).update(&owed.known.message);
    hasher.update(&completed.to_le_bytes());
    let mut message = [0; 16];
    message.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    message_id(&owed.key, &message)
}
