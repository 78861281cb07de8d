//! Rows that were being sent when a sync died: it had noted which, but not what became of them.
//!
//! Some destinations may have such a row in a version that the state does not know. So it counts as
//! changed, whatever it is now, and who would have got that version is taken to have it: if the row goes
//! or refuses, they are told.
//!
//! A note is the number of events (4 bytes) and these, each with its length (4 bytes) in front; then the
//! changes, which have in the place of their events the number of one of those (4 bytes), or nothing.
//! All numbers are unsigned and little-endian.

use std::collections::HashMap;

use super::change::{Change, What};
use super::failed::{EVERYWHERE, Failed};
use super::group::Group;
use super::known::{Known, Reader, UNCERTAIN};
use super::link::{Ended, Link, Outcome};
use super::part::{Grants, both};
use super::send::Mark;
use super::store::Store;
use crate::warehouse::{Blank, Granted};

/// A note that is being written.
#[derive(Default)]
pub(super) struct Note {
    events: Vec<u8>,
    count: u32,
    changes: Vec<u8>,
    /// The events that stand for all that grant the same.
    by_grants: HashMap<Grants, u32>,
}

impl Note {
    /// Adds a change. If it `asks`, the next sync has to find out who would have got the event; with
    /// `blank`, that is so for every event that grants the same.
    pub(super) fn add(&mut self, change: Change<'_>, asks: bool, blank: Option<&Blank>) {
        let event = match (asks, blank) {
            (false, _) => None,
            (true, None) => Some(self.add_event(change.line)),
            (true, Some(blank)) => Some(match self.by_grants.get(&change.granted) {
                Some(event) => *event,
                None => {
                    let mut line = Vec::new();
                    blank.write(Granted::from_words(change.granted), "", &mut line);
                    let event = self.add_event(&line);
                    self.by_grants.insert(change.granted, event);
                    event
                }
            }),
        };
        let number = event.map(u32::to_le_bytes);
        let line = number.as_ref().map_or(&[][..], |bytes| bytes);
        Change { line, ..change }.write(&mut self.changes);
    }

    fn add_event(&mut self, line: &[u8]) -> u32 {
        self.events.extend_from_slice(&(line.len() as u32).to_le_bytes());
        self.events.extend_from_slice(line);
        self.count += 1;
        self.count - 1
    }

    /// Its bytes; none, if there is no change in it.
    pub(super) fn finish(self) -> Vec<u8> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        [&self.count.to_le_bytes()[..], &self.events, &self.changes].concat()
    }
}

/// The events of a note, and its changes.
fn read(note: &[u8]) -> (Vec<&[u8]>, Vec<Change<'_>>) {
    let mut rest = Reader(note);
    let count = rest.array().map_or(0, u32::from_le_bytes);
    let events = (0..count).map_while(|_| rest.bytes()).collect();
    let mut rest = rest.0;
    (events, std::iter::from_fn(|| Change::read(&mut rest)).collect())
}

/// Makes the state say what may have happened since it was noted.
///
/// # Errors
/// [`Ended`]; what was under way stays so.
pub(super) fn recover(store: &mut Store, link: &mut Link<Mark>) -> Result<(), Ended> {
    let slices = store.under_way()?;
    if slices.is_empty() {
        return Ok(());
    }
    let failed = store.failed(usize::MAX)?;
    let generation = store.generation()?;
    for slice in slices {
        let bytes = store.under_way_of(slice)?;
        let (events, changes) = read(&bytes);
        let mut group = store.snapshot()?.group(slice)?;
        let reached = who_would_get(&events, link)?;
        for change in changes {
            let event = change.line.try_into().ok().map(u32::from_le_bytes);
            let reached = event.and_then(|event| reached.get(event as usize));
            let reached = reached.map_or(&[][..], Vec::as_slice);
            let failed = failed.get(&change.key).map_or(&[][..], Vec::as_slice);
            apply(&change, reached, failed, generation, &mut group);
        }
        store.end_under_way(slice);
        store.save([&mut group].into_iter())?;
    }
    Ok(())
}

/// Asks the daemon for whom each of these events would be stored.
fn who_would_get(events: &[&[u8]], link: &mut Link<Mark>) -> Result<Vec<Vec<u32>>, Ended> {
    let mut reached = vec![Vec::new(); events.len()];
    let mut settled = |mark, outcome: &Outcome| {
        if let Mark::UnderWay(event) = mark
            && let Some(reached) = reached.get_mut(event)
        {
            reached.clone_from(&outcome.stored);
        }
    };
    for (number, event) in events.iter().enumerate() {
        link.send("#judge", event, Mark::UnderWay(number), &mut settled)?;
    }
    link.settle(&mut settled)?;
    Ok(reached)
}

/// Makes what is known of a row uncertain, if it was not noted after all.
fn apply(
    change: &Change<'_>,
    reached: &[u32],
    failed: &[Failed],
    generation: u32,
    group: &mut Group,
) {
    let before = group.get(&change.key);
    let mut known = match (change.what, before) {
        // It is as it was; those who rejected it may have it now.
        (What::Retry, Some(before)) => {
            let was_asked = |id: &u32| {
                failed.iter().any(|one| one.destination == *id || one.destination == EVERYWHERE)
            };
            let mut known = before.clone();
            let reached: Vec<u32> = reached.iter().copied().filter(was_asked).collect();
            reach(&mut known, &reached);
            return group.put(change.key, Some(known));
        }
        (What::Add | What::Update, Some(before)) => {
            if before.message == change.message && before.hash != UNCERTAIN {
                return;
            }
            let granted = both(before.granted, change.granted);
            let (message, sent) = (change.message, Some(change.hash));
            Known { message, sent, granted, fresh: Vec::new(), ..before.clone() }
        }
        // As good as new also for this one.
        (What::Add | What::Update, None) if !reached.is_empty() => Known {
            message: change.message,
            generation: generation.wrapping_sub(1),
            sent: Some(change.hash),
            id: change.id.to_vec(),
            ..Known::default()
        },
        // Somebody may have been told that it is gone.
        (What::Judge | What::Withdraw | What::Gone, Some(before)) if !before.is_gone() => {
            Known { sent: None, granted: [0; 4], ..before.clone() }
        }
        _ => return,
    };
    known.hash = UNCERTAIN;
    reach(&mut known, reached);
    group.put(change.key, Some(known));
}

/// These may have the row.
fn reach(known: &mut Known, ids: &[u32]) {
    let new: Vec<u32> = ids.iter().copied().filter(|id| !known.held.contains(id)).collect();
    known.fresh.extend(&new);
    known.held.extend(&new);
    known.held.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::sync::change::Kind;

    /// A model whose events differ in what they grant, and in nothing else that decides.
    fn blank() -> Blank {
        let text = r#"
            consent = { missing = "deny" }
            categories = [{ id = "Ads" }]
            [daemon]
            data_dir = "unused"
            [destinations.ads]
            type = "blackhole"
            [warehouses.main]
            driver = "sqlite"
            uri = "unused"
            [models.m]
            warehouse = "main"
            query = "select 1"
            unique_id = "id"
            consent = { Ads = "ads" }
            event = { userId = "$id" }
        "#;
        let checked = config::parse("test.toml", text.as_bytes());
        Blank::new(&checked.unwrap_or_else(|wrong| panic!("{wrong}")).config.models[0])
    }

    fn change(key: u8, granted: u64, line: &[u8]) -> Change<'_> {
        Change {
            what: What::Add,
            kind: Kind::Added,
            key: [key; 16],
            hash: [2; 16],
            message: [3; 16],
            granted: [granted, 0, 0, 0],
            id: b"7",
            line,
        }
    }

    /// The event that stands for each change.
    fn events(note: &[u8]) -> Vec<Option<String>> {
        let (events, changes) = read(note);
        let event = |change: &Change<'_>| {
            let number = u32::from_le_bytes(change.line.try_into().ok()?);
            Some(String::from_utf8(events[number as usize].to_vec()).unwrap())
        };
        changes.iter().map(event).collect()
    }

    #[test]
    fn every_change_finds_its_event_again() {
        let changes = [
            (change(1, 1, b"one"), true),
            (change(2, 0, b"two"), true),
            (change(3, 1, b"three"), false),
            (change(4, 1, b"four"), true),
        ];
        let noted = |blank: Option<&Blank>| {
            let mut note = Note::default();
            changes.iter().for_each(|(change, asks)| note.add(*change, *asks, blank));
            note.finish()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(events(&noted(None)), [some("one"), some("two"), None, some("four")]);
        let with_blank = noted(Some(&blank()));
        let all = events(&with_blank);
        let said = |at: usize| all[at].clone().unwrap_or_default();
        assert!(
            said(0).contains("{\"Ads\":true}") && said(1).contains("{\"Ads\":false}"),
            "{all:?}"
        );
        assert_eq!((&all[2], &all[3]), (&None, &all[0]));
        assert_eq!(read(&with_blank).0.len(), 2, "each once");
        let keys: Vec<u8> = read(&with_blank).1.iter().map(|change| change.key[0]).collect();
        assert_eq!(keys, [1, 2, 3, 4]);
        assert!(Note::default().finish().is_empty());
    }
}
