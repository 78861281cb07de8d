//! Rows that were being sent when a sync died: it had noted which, but not what became of them.
//!
//! Some destinations may have such a row in a version that the state does not know. So it counts as
//! changed, whatever it is now, and who would have got that version is taken to have it: if the row goes
//! or refuses, they are told.

use std::collections::HashMap;

use super::change::{Change, What};
use super::failed::{EVERYWHERE, Failed};
use super::known::{Key, Known, UNCERTAIN};
use super::link::{Ended, Link, Outcome};
use super::part::both;
use super::send::Mark;
use super::store::{Group, Store};

/// Makes the state say what may have happened since it was noted.
///
/// # Errors
/// [`Ended`]; what was under way stays so.
pub(super) fn recover(store: &mut Store, link: &mut Link<Mark>) -> Result<(), Ended> {
    let parts = store.under_way()?;
    if parts.is_empty() {
        return Ok(());
    }
    let failed = store.failed(usize::MAX)?;
    let generation = store.generation(false)?;
    for first in parts {
        let bytes = store.under_way_of(first)?;
        let mut rest = bytes.as_slice();
        let changes: Vec<Change<'_>> = std::iter::from_fn(|| Change::read(&mut rest)).collect();
        let mut group = store.snapshot()?.group(first)?;
        let reached = who_would_get(&changes, link)?;
        for change in changes {
            let reached = reached.get(&change.key).map_or(&[][..], Vec::as_slice);
            let failed = failed.get(&change.key).map_or(&[][..], Vec::as_slice);
            apply(&change, reached, failed, generation, &mut group);
        }
        store.put_under_way(first, None);
        store.save([&mut group].into_iter())?;
    }
    Ok(())
}

/// Asks the daemon for whom these events would be stored.
fn who_would_get(
    changes: &[Change<'_>],
    link: &mut Link<Mark>,
) -> Result<HashMap<Key, Vec<u32>>, Ended> {
    let mut reached = HashMap::new();
    let mut settled = |mark, outcome: &Outcome| {
        if let Mark::UnderWay(key) = mark {
            reached.insert(key, outcome.stored.clone());
        }
    };
    for change in changes.iter().filter(|change| !change.line.is_empty()) {
        link.send("#judge", change.line, Mark::UnderWay(change.key), &mut settled)?;
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
