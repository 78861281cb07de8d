//! What a sync sends: rows, then the deletions that follow from them, a part after the other.
//!
//! What always holds: what is sent was announced durably before (`under_way.rs`); the state of a row moves
//! on only when its event is settled; a row of which a destination has to be told that it is gone keeps
//! its old state until that is stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;

use super::announce::{Announcer, slicing};
use super::change::{Change, MessageId, What};
use super::compare::Comparison;
use super::failed::{self, EVERYWHERE, Failed, Patience};
use super::group::Group;
use super::known::{Digest, Key, Known, UNCERTAIN};
use super::link::{Ended, Link, Outcome};
use super::part::{Part, both};
use super::slice::{Slice, Slicing};
use super::store::Store;
use super::told::Told;
use crate::config::{Model, OnWithdrawal};
use crate::warehouse::{Blank, Granted, deletion};

/// How often the daemon is told how far the sync is.
pub(super) const PROGRESS: Duration = Duration::from_millis(500);

/// How long what is settled may wait to be noted: so much is sent again after a crash.
const SAVE: Duration = Duration::from_secs(2);

/// Rows of groups that are done and not saved yet.
const DONE_ROWS_MAX: usize = 16 * 1024;

/// Parts that are announced together and wait to be sent.
const PORTIONS_AHEAD: usize = 1;

/// Lines between two looks at the clock.
const LOOK_LINES: u32 = 256;

/// What comes back with the outcome of a line.
pub(super) enum Mark {
    /// A row, as it is to be noted, and who had it before.
    Row { what: What, key: Key, known: Known },
    /// Somebody is told that a row is gone.
    Deletion(Owed),
    /// A row that is no event: who must not have it any more is asked without its values.
    Rejected { key: Key, known: Known },
    /// An event that was under way when the last sync died, by its number.
    UnderWay(usize),
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
    blank: Blank,
    /// Parts that are announced and not begun.
    announced: BTreeSet<Slice>,
    /// How keys are sliced in this sync.
    slicing: Slicing,
    /// The rows that are worked on.
    groups: BTreeMap<Slice, Working>,
    owed: Vec<Owed>,
    /// Rows that are no events, and that somebody has.
    rejected: Vec<(Key, Known)>,
    /// Destinations that have rows of which they should be told, and can't be.
    untold: HashSet<u32>,
    lines: u32,
    next_progress: Instant,
    next_save: Instant,
}

/// Rows of one slice.
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
    /// How many syncs began to send.
    pub(super) begun: u64,
    /// The destinations that rows can reach now,
    pub(super) on: HashSet<u32>,
    /// and those that they can't: they are told later.
    pub(super) off: HashSet<u32>,
    /// Those among the first that no deletion can reach, with their names: as long as that is so, they
    /// keep what they have.
    pub(super) deaf: HashMap<u32, String>,
    /// Whether the grants that are known are of the same categories.
    pub(super) same_categories: bool,
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
            blank: Blank::new(model),
            announced: BTreeSet::new(),
            slicing: Slicing::FINEST,
            groups: BTreeMap::new(),
            owed: Vec::new(),
            rejected: Vec::new(),
            untold: HashSet::new(),
            lines: 0,
            next_progress: now,
            next_save: now + SAVE,
        }
    }

    /// Sends everything; gives the destinations that are still to be told of rows.
    ///
    /// # Errors
    /// [`Ended`]; what was settled is noted in any case.
    pub(super) fn run(
        mut self,
        compared: &Comparison<'_>,
        link: &mut Link<Mark>,
    ) -> Result<HashSet<u32>, Ended> {
        let sent = self.send_all(compared, link);
        for slice in std::mem::take(&mut self.announced) {
            self.store.end_under_way(slice);
        }
        self.close_groups(0)?;
        self.save()?;
        sent.map(|()| self.untold)
    }

    fn send_all(&mut self, compared: &Comparison<'_>, link: &mut Link<Mark>) -> Result<(), Ended> {
        // Most often no id stands twice and no row is gone; then keys need not be looked at again.
        let known_rows = self.store.snapshot()?.count();
        let is_plain = !compared.is_partial()
            && compared.found() == known_rows
            && !compared.has_repeated_ids()?;
        let on = self.around.on.clone();
        self.slicing = slicing(compared, known_rows);
        let announcer = Announcer {
            compared,
            slicing: self.slicing,
            file: self.store.file(),
            on: &on,
            blank: compared.is_decided_by_grants().then(|| Blank::new(self.model)),
            begun: self.around.begun + 1,
            same_categories: self.around.same_categories,
            is_plain,
            dry_run: self.around.dry_run,
        };
        self.send_announced(&announcer, link)?;
        // What is settled by now may make deletions necessary.
        loop {
            link.settle(&mut |mark, outcome| self.apply(mark, outcome))?;
            if self.owed.is_empty() && self.rejected.is_empty() {
                return self.close_groups(0);
            }
            self.pay(link)?;
        }
    }

    fn send_announced(
        &mut self,
        announcer: &Announcer<'_>,
        link: &mut Link<Mark>,
    ) -> Result<(), Ended> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (ready, portions) = bounded::<Vec<Part>>(PORTIONS_AHEAD);
            let is_over = &is_over;
            let announcing = scope.spawn(move || announcer.run(&ready, is_over));
            let sent = portions.iter().try_for_each(|parts| self.send_parts(parts, link));
            is_over.store(true, Relaxed);
            // Announced and never begun.
            self.announced.extend(portions.iter().flatten().map(|part| part.slice));
            let died = |_| Ended::Lost("the thread that announces rows died".to_owned());
            sent.and(announcing.join().map_err(died)?)
        })
    }

    fn send_parts(&mut self, parts: Vec<Part>, link: &mut Link<Mark>) -> Result<(), Ended> {
        self.announced.extend(parts.iter().map(|part| part.slice));
        for part in parts {
            self.send_part(part, link)?;
            self.pay(link)?;
            self.close_groups(DONE_ROWS_MAX)?;
        }
        Ok(())
    }

    fn send_part(&mut self, mut part: Part, link: &mut Link<Mark>) -> Result<(), Ended> {
        part.count_repeated(self.told);
        let slice = part.slice;
        self.announced.remove(&slice);
        self.groups.insert(slice, Working { group: part.take_group(), open: 1 });
        for change in &part.changes() {
            self.send_row(change, link)?;
            self.look_up_now_and_then(link)?;
        }
        for (key, granted) in part.left_out {
            self.send_left_out(key, granted, link)?;
        }
        for key in part.gone {
            self.find_gone(key);
        }
        self.settled_of(slice);
        Ok(())
    }

    /// A row that somebody has and that is left out: it may have to be taken back all the same.
    fn send_left_out(
        &mut self,
        key: Key,
        granted: [u64; 4],
        link: &mut Link<Mark>,
    ) -> Result<(), Ended> {
        if self.model.on_withdrawal != OnWithdrawal::Delete {
            return Ok(());
        }
        let Some(working) = self.groups.get_mut(&self.slicing.of(&key)) else { return Ok(()) };
        let Some(known) = working.group.get(&key).cloned() else { return Ok(()) };
        working.open += 1;
        let mut line = Vec::new();
        self.blank.write(Granted::from_words(granted), "", &mut line);
        // Once the row comes right again, it is sent.
        let granted = both(known.granted, granted);
        let known = Known { hash: UNCERTAIN, granted, sent: None, ..known };
        let mark = Mark::Row { what: What::Withdraw, key, known };
        link.send("#judge", &line, mark, &mut |mark, outcome| self.apply(mark, outcome))
    }

    fn send_row(&mut self, change: &Change<'_>, link: &mut Link<Mark>) -> Result<(), Ended> {
        let key = change.key;
        let working = self.groups.get_mut(&self.slicing.of(&key));
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
            sent: None,
            id: change.id.to_vec(),
        };
        match change.what {
            What::Note => {
                self.note(key, Some(known));
                return Ok(());
            }
            What::Leave => {
                let why = String::from_utf8_lossy(change.line);
                self.told.leave(format!("{}: {why}", self.told.id(change.id)));
                self.settled(&key);
                return Ok(());
            }
            What::Add | What::Update | What::Retry | What::Judge => {}
            // These are no rows of the query.
            What::Withdraw | What::Gone => {
                self.settled(&key);
                return Ok(());
            }
        }
        let section = match change.what {
            _ if self.around.dry_run => "#judge".to_owned(),
            What::Judge => "#judge".to_owned(),
            What::Retry => match self.due(&key) {
                Some(to) => section("#events", &to),
                None => "#events".to_owned(),
            },
            _ => "#events".to_owned(),
        };
        let mark = Mark::Row { what: change.what, key, known };
        link.send(&section, change.line, mark, &mut |mark, outcome| self.apply(mark, outcome))
    }

    /// The destinations that are to get a row again; `None` for all.
    fn due(&self, key: &Key) -> Option<Vec<u32>> {
        let Around { patience, now, on, .. } = &self.around;
        let list = self.failed.get(key)?.iter().filter(|one| patience.is_due(one, *now, on));
        let to: Vec<u32> = list.map(|one| one.destination).collect();
        if to.contains(&EVERYWHERE) { None } else { Some(to) }
    }

    /// A row of the last sync that the query does not give any more.
    fn find_gone(&mut self, key: Key) {
        let Some(working) = self.groups.get_mut(&self.slicing.of(&key)) else { return };
        let Some(known) = working.group.get(&key).cloned() else { return };
        working.open += 1;
        // One that somebody still has to be told of was counted when it went.
        self.told.counts.deleted += u64::from(!known.is_gone());
        let to = self.present(&known.held);
        if self.model.send.deleted && !known.is_gone() {
            self.leave_untold(&known.held);
        }
        if !self.model.send.deleted {
            self.note(key, None);
        } else if to.is_empty() {
            self.note_gone(key, known, false);
        } else {
            self.owed.push(Owed { key, to, known, is_gone: true });
        }
    }

    /// A row is gone; it is kept for destinations that can't be told now, or perhaps can't: they are told
    /// later.
    fn note_gone(&mut self, key: Key, mut known: Known, may_be_off: bool) {
        let Around { off, deaf, .. } = &self.around;
        let untold = &self.untold;
        let is_later = |id: &u32| off.contains(id) || deaf.contains_key(id) || untold.contains(id);
        known.held.retain(|id| may_be_off || is_later(id));
        known.hash = Digest::default();
        self.note(key, if known.held.is_empty() { None } else { Some(known) });
    }

    /// Those whom a deletion can reach.
    fn present(&self, ids: &[u32]) -> Vec<u32> {
        let Around { on, deaf, .. } = &self.around;
        ids.iter().copied().filter(|id| on.contains(id) && !deaf.contains_key(id)).collect()
    }

    /// Says once of each destination that it keeps a row, because deletions can't reach it.
    fn leave_untold(&mut self, ids: &[u32]) {
        for id in ids {
            let Some(name) = self.around.deaf.get(id) else { continue };
            if self.untold.insert(*id) {
                self.told.sample(format!(
                    "{name} keeps what it has: its `types` or integrations leave deletions out"
                ));
            }
        }
    }

    /// Sends the deletions that are owed, those to the same destinations together.
    fn pay(&mut self, link: &mut Link<Mark>) -> Result<(), Ended> {
        self.ask_for_rejected(link)?;
        let mut owed = std::mem::take(&mut self.owed);
        if self.around.dry_run {
            owed.iter().for_each(|one| self.settled(&one.key));
            return Ok(());
        }
        owed.sort_by(|one, other| one.to.cmp(&other.to));
        let mut line = Vec::new();
        for one in owed {
            line.clear();
            let id = String::from_utf8_lossy(&one.known.id);
            let message = deletion_message(&one);
            deletion(self.model, &id, message.as_str(), &mut line);
            let section = section("#deletions", &one.to);
            let mark = Mark::Deletion(one);
            link.send(&section, &line, mark, &mut |mark, outcome| self.apply(mark, outcome))?;
            self.look_up_now_and_then(link)?;
        }
        Ok(())
    }

    /// Finds out who has one of these rows and must not have it any more.
    fn ask_for_rejected(&mut self, link: &mut Link<Mark>) -> Result<(), Ended> {
        let mut line = Vec::new();
        for (key, known) in std::mem::take(&mut self.rejected) {
            line.clear();
            self.blank.write(Granted::from_words(known.granted), "", &mut line);
            let mark = Mark::Rejected { key, known };
            link.send("#judge", &line, mark, &mut |mark, outcome| self.apply(mark, outcome))?;
        }
        Ok(())
    }

    fn apply(&mut self, mark: Mark, outcome: &Outcome) {
        if outcome.is_of_other_rules && !self.around.dry_run {
            // Somebody may have been switched off, or on, since the sync was told who is on.
            self.store.put_unheard();
        }
        match mark {
            Mark::Row { what, key, known } => self.settle_row(what, key, known, outcome),
            Mark::Deletion(owed) => self.settle_deletion(owed, outcome),
            Mark::Rejected { key, known } => self.settle_rejected(key, known, outcome),
            // Asked before anything is sent.
            Mark::UnderWay(_) => {}
        }
    }

    fn settle_row(&mut self, what: What, key: Key, mut known: Known, outcome: &Outcome) {
        if what == What::Withdraw && self.lost(&known, outcome).is_empty() {
            // It stays as it was.
            return self.settled(&key);
        }
        if let Some(reason) = &outcome.rejected {
            let id = self.told.id(&known.id);
            self.told.fail(format!("{id}: rejected as {reason}"));
            self.note_failed(what, key, Some(EVERYWHERE));
            if self.model.on_withdrawal == OnWithdrawal::Delete && !known.held.is_empty() {
                self.rejected.push((key, known));
            } else {
                self.note(key, Some(known));
            }
            return;
        }
        let is_judged = matches!(what, What::Judge | What::Withdraw);
        self.told.counts.refused +=
            u64::from(what != What::Withdraw && !outcome.refused.is_empty());
        self.told.counts.sent += u64::from(!is_judged && !outcome.stored.is_empty());
        let lost = self.lost(&known, outcome);
        if self.model.on_withdrawal == OnWithdrawal::Delete && !self.around.deaf.is_empty() {
            let held = known.held.iter().filter(|id| outcome.refused.contains(id));
            self.leave_untold(&held.copied().collect::<Vec<u32>>());
        }
        if !is_judged {
            known.fresh.extend(outcome.stored.iter().filter(|id| !known.held.contains(id)));
            known.held.extend(&outcome.stored);
            known.held.sort_unstable();
            known.held.dedup();
        }
        self.note_failed(what, key, None);
        self.withdraw(key, known, lost);
    }

    fn settle_rejected(&mut self, key: Key, known: Known, outcome: &Outcome) {
        let lost = self.lost(&known, outcome);
        self.withdraw(key, known, lost);
    }

    /// Notes a row, once those who have lost it are told, if they are to be.
    fn withdraw(&mut self, key: Key, known: Known, lost: Vec<u32>) {
        if self.model.on_withdrawal == OnWithdrawal::Delete && !lost.is_empty() {
            self.told.counts.withdrawn += 1;
            self.owed.push(Owed { key, to: lost, known, is_gone: false });
        } else {
            self.note(key, Some(known));
        }
    }

    /// Those who have the row and must not have it any more.
    fn lost(&self, known: &Known, outcome: &Outcome) -> Vec<u32> {
        let refused: Vec<u32> =
            known.held.iter().copied().filter(|id| outcome.refused.contains(id)).collect();
        self.present(&refused)
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
            if self.around.patience.is_due(one, self.around.now, &self.around.on) {
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
        let Owed { key, to, mut known, is_gone } = owed;
        if let Some(reason) = &outcome.rejected {
            // Its state stays as it was: the next sync finds it again.
            let id = self.told.id(&known.id);
            self.told.fail(format!("{id}: its deletion is rejected as {reason}"));
            self.told.is_behind = true;
            self.settled(&key);
            return;
        }
        self.told.counts.sent += u64::from(!outcome.stored.is_empty());
        known.held.retain(|id| !outcome.stored.contains(id));
        // The config that is in force is another one than this process has read.
        self.untold.extend(to.iter().filter(|id| known.held.contains(id)));
        if is_gone {
            self.note_gone(key, known, outcome.is_of_other_rules);
        } else {
            self.note(key, Some(known));
        }
    }

    /// A row is as it will be: what is known of it moves on.
    fn note(&mut self, key: Key, row: Option<Known>) {
        if let Some(working) = self.groups.get_mut(&self.slicing.of(&key))
            && !self.around.dry_run
        {
            working.group.put(key, row);
        }
        self.settled(&key);
    }

    fn settled(&mut self, key: &Key) {
        self.settled_of(self.slicing.of(key));
    }

    fn settled_of(&mut self, slice: Slice) {
        if let Some(working) = self.groups.get_mut(&slice) {
            working.open = working.open.saturating_sub(1);
        }
    }

    /// Saves, and lets go of groups that are done, once they have so many rows.
    fn close_groups(&mut self, rows_min: usize) -> Result<(), Ended> {
        let is_done = |(_, working): &(&Slice, &Working)| working.open == 0;
        let done = || self.groups.iter().filter(is_done);
        let rows: usize = done().map(|(_, working)| working.group.len()).sum();
        let done: Vec<Slice> = done().map(|(slice, _)| *slice).collect();
        if rows < rows_min || done.is_empty() {
            return Ok(());
        }
        let mut groups = Vec::with_capacity(done.len());
        for slice in done {
            groups.extend(self.groups.remove(&slice).map(|working| working.group));
            if !self.around.dry_run {
                self.store.end_under_way(slice);
            }
        }
        if self.around.dry_run { Ok(()) } else { Ok(self.store.save_later(groups)?) }
    }

    fn save(&mut self) -> Result<(), Ended> {
        if self.around.dry_run {
            return Ok(());
        }
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

/// Told again, it has the same: nothing was sent in between under the same message.
fn deletion_message(owed: &Owed) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"deletion").update(&owed.key).update(&owed.known.message);
    let mut message = [0; 16];
    message.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    MessageId::new(&owed.key, &message)
}
