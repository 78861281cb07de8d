//! One sync of a model: rows of the warehouse against the last state, and what changed to the daemon.
//!
//! Runs in a process of its own (`consentd sync-child`), which the daemon starts. Owns the state of the
//! last sync (`store.rs`), the comparison (`compare.rs`), the order in which changes are sent
//! (`part.rs`, `send.rs`) and what becomes of those that a dead sync had under way (`under_way.rs`). It decides nothing about consent: what it sends goes through the daemon's worker like
//! every event, and the daemon says what became of each line.
//!
//! What always holds: nothing is sent before the query has ended well; the state of a row moves on only
//! when its event is settled, so that a sync that ends in the middle is gone on with by the next one, which
//! knows what may have been sent;
//! memory does not depend on the number of rows.

mod change;
mod compare;
mod deaf;
mod failed;
mod fetch;
mod known;
mod link;
mod part;
mod scatter;
mod send;
mod store;
mod told;
mod under_way;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use serde::Deserialize;
use tracing::warn;

pub use self::compare::{ID_BYTES_MAX, first_message_id};

use self::change::read_message_id;
use self::compare::{Basis, Comparison, Window};
use self::failed::{Failed, Patience};
use self::fetch::{Fetched, Fetching, Rows};
use self::known::Key;
use self::link::{Ended, Link, Named, Welcome};
use self::send::{Around, Mark, PROGRESS, Sending};
use self::store::{Group, Store};
use self::told::Told;
use crate::admin::{Counts, SyncState};
use crate::config::{Config, Model, ModelConsent, Warehouse};
use crate::warehouse::{self, RowShape};

/// Windows of rows that wait to be compared.
const WINDOWS_AHEAD: usize = 1;

/// Waits after a connection to the warehouse was lost: a query is asked once more than these.
const AGAIN_AFTER: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How often a sync that waits for the warehouse looks whether it should go on.
const LOOK: Duration = Duration::from_millis(100);

/// Rejected rows that are remembered.
const FAILED_MAX: usize = 1_000_000;

/// What the daemon asks for: one line of JSON.
#[derive(Debug, Deserialize)]
pub struct Errand {
    /// The socket to connect to.
    socket: PathBuf,
    /// Good for one connection.
    token: String,
    /// The model.
    model: String,
    /// The ID of the sync.
    sync: String,
    /// Whether every row counts as changed.
    full: bool,
    /// Whether nothing is sent.
    dry_run: bool,
    /// Where the state is.
    state_dir: PathBuf,
}

/// Runs a sync to its end, and tells the daemon how it went.
///
/// # Errors
/// For people: it did not go well, or could not even begin.
pub fn run(errand: &Errand, config: &Config) -> Result<(), String> {
    let (mut link, welcome) =
        Link::open(&errand.socket, &errand.token, &errand.model, &errand.sync)?;
    let mut told = Told::default();
    told.counts.state = SyncState::Running;
    let done = sync(errand, config, &welcome, &mut link, &mut told);
    let (state, error) = match &done {
        Ok(()) => (SyncState::Done, None),
        Err(Ended::Cancelled) => (SyncState::Cancelled, None),
        Err(Ended::Lost(why)) => (SyncState::Failed, Some(why.clone())),
    };
    told.counts = Counts { state, error, ..told.counts };
    // If the daemon is gone, nobody wants to know.
    let _ = link.end(&told.counts);
    match done {
        Ok(()) => Ok(()),
        Err(Ended::Cancelled) => Err("cancelled".to_owned()),
        Err(Ended::Lost(why)) => Err(why),
    }
}

fn sync(
    errand: &Errand,
    config: &Config,
    welcome: &Welcome,
    link: &mut Link<Mark>,
    told: &mut Told,
) -> Result<(), Ended> {
    let model = config.models.iter().find(|model| model.name == errand.model);
    let model = model.ok_or_else(|| {
        Ended::Lost(format!(
            "the config has no model `{}` any more: reload the daemon",
            errand.model
        ))
    })?;
    told.id_column.clone_from(&model.unique_id);
    let patience = Patience { tries: model.retry_syncs, seconds: model.retry_for.as_secs() };
    let now = unix_seconds();
    let mut store = Store::open(&errand.state_dir)?;
    if !errand.dry_run {
        under_way::recover(&mut store, link)?;
    }
    let failed = take_rejections(&mut store, welcome, patience, now, errand.dry_run, told)?;
    if !errand.dry_run && !welcome.rejections.is_empty() {
        link.rejections_taken(welcome.rejections.len())?;
    }
    let generation = match (errand.full, errand.dry_run) {
        (true, true) => store.generation(false)?.wrapping_add(1),
        (full, _) => store.generation(full)?,
    };
    let same_categories = store.has_categories(&categories(model))?;
    let max_event_bytes = welcome.max_event_bytes;
    let begun = store.begun()?;
    let ids = |named: &[Named]| named.iter().map(|named| named.id).collect::<Vec<u32>>();
    let (on, off) = (ids(&welcome.destinations), ids(&welcome.others));
    let were_on = store.were_on()?;
    let names = deaf::deaf(config, model);
    let deaf: HashMap<u32, String> = {
        let deaf = welcome.destinations.iter().filter(|named| names.contains(&named.name));
        deaf.map(|named| (named.id, named.name.clone())).collect()
    };
    // Whom deletions can't reach is told later, too, as one that is off.
    let told_of_all: Vec<u32> = on.iter().copied().filter(|id| !deaf.contains_key(id)).collect();
    let newly_on: Vec<u32> =
        told_of_all.iter().copied().filter(|id| !were_on.contains(id)).collect();
    let mut query = Query { model, warehouse: &config.warehouses[model.warehouse], link, told };
    let compared = query.run(|| {
        let failed = &failed;
        let newly_on = newly_on.clone();
        let basis = Basis {
            generation,
            same_categories,
            failed,
            patience,
            now,
            max_event_bytes,
            begun,
            newly_on,
        };
        Ok(Comparison::new(model, store.snapshot()?, basis, &errand.state_dir))
    })?;
    told.counts.phase = "send".to_owned();
    let around = Around {
        patience,
        now,
        generation,
        begun,
        on: on.iter().copied().collect(),
        off: off.into_iter().collect(),
        deaf,
        same_categories,
        dry_run: errand.dry_run,
    };
    let still_on: Vec<u32> =
        were_on.iter().copied().filter(|id| told_of_all.contains(id)).collect();
    if !errand.dry_run && still_on.len() < were_on.len() {
        store.leave_on(&still_on)?;
    }
    let untold = Sending::new(model, &mut store, told, &failed, around).run(&compared, link)?;
    if errand.dry_run {
        return Ok(());
    }
    let on: Vec<u32> = told_of_all.into_iter().filter(|id| !untold.contains(id)).collect();
    Ok(store.complete(&on, &categories(model))?)
}

/// Notes which rows were rejected since they were sent; gives all that are remembered.
fn take_rejections(
    store: &mut Store,
    welcome: &Welcome,
    patience: Patience,
    now: u64,
    dry_run: bool,
    told: &mut Told,
) -> Result<HashMap<Key, Vec<Failed>>, Ended> {
    let mut all = store.failed(FAILED_MAX)?;
    let snapshot = store.snapshot()?;
    let mut groups: BTreeMap<u8, Group> = BTreeMap::new();
    for rejection in &welcome.rejections {
        let Some((key, message)) = read_message_id(&rejection.message_id) else { continue };
        let group = match groups.entry(key[0]) {
            Entry::Occupied(group) => group.into_mut(),
            Entry::Vacant(place) => place.insert(snapshot.group(key[0])?),
        };
        // A newer version has its own fate.
        let Some(known) = group.get(&key).filter(|known| known.message == message) else {
            continue;
        };
        let mut known = known.clone();
        let named = welcome.destinations.iter().find(|named| named.id == rejection.destination);
        let name = named.map_or("a destination that is gone", |named| named.name.as_str());
        told.fail(format!("{}: rejected by {name}", told.id(&known.id)));
        let list = all.entry(key).or_default();
        failed::add(list, rejection.destination, now);
        store.put_failed(key, list.clone());
        if known.fresh.contains(&rejection.destination) {
            // It never had the row.
            known.held.retain(|id| *id != rejection.destination);
            known.fresh.retain(|id| *id != rejection.destination);
            group.put(key, Some(known));
        }
    }
    if !dry_run {
        for (key, list) in &mut all {
            let before = list.len();
            list.retain(|one| !patience.is_over(one, now));
            if list.len() < before {
                store.put_failed(*key, list.clone());
            }
        }
        store.save(groups.values_mut())?;
    }
    Ok(all)
}

/// Which grants are kept of rows, in their order.
fn categories(model: &Model) -> Vec<u8> {
    match &model.consent {
        ModelConsent::Columns(columns) => {
            let names: Vec<&str> = columns.iter().map(|(category, _)| category.as_str()).collect();
            names.join("\n").into_bytes()
        }
        ModelConsent::None => Vec::new(),
    }
}

/// The query of a sync.
struct Query<'q, 'm> {
    model: &'m Model,
    warehouse: &'q Warehouse,
    link: &'q mut Link<Mark>,
    told: &'q mut Told,
}

/// Why a query gave nothing.
enum Broken {
    Ended(Ended),
    Warehouse(warehouse::Error),
}

impl From<Ended> for Broken {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl<'m> Query<'_, 'm> {
    /// Compares all rows; asks again if the connection was lost.
    fn run(
        &mut self,
        begin: impl Fn() -> Result<Comparison<'m>, Ended>,
    ) -> Result<Comparison<'m>, Ended> {
        let mut waits = AGAIN_AFTER.into_iter();
        let before = self.told.counts.clone();
        loop {
            self.told.counts = Counts { phase: "query".to_owned(), ..before.clone() };
            let mut comparison = begin()?;
            let error = match self.compare(&mut comparison) {
                Ok(()) => return Ok(comparison),
                Err(Broken::Ended(ended)) => return Err(ended),
                Err(Broken::Warehouse(error)) => error,
            };
            let Some(wait) = waits.next().filter(|_| error.is_transient()) else {
                return Err(Ended::Lost(error.to_string()));
            };
            warn!("{error}; asked again in {} s", wait.as_secs());
            let until = Instant::now() + wait;
            while Instant::now() < until {
                thread::sleep(LOOK);
                self.link.look()?;
            }
        }
    }

    fn compare(&mut self, comparison: &mut Comparison<'m>) -> Result<(), Broken> {
        let sql = self.model.sql().map_err(Ended::Lost)?;
        let fetching = Fetching::start(self.warehouse, sql)?;
        let rows = fetching.rows();
        let Rows::Columns(columns) = self.next(rows)? else {
            return Err(Ended::Lost("the driver gives no columns".to_owned()).into());
        };
        let shape = RowShape::new(self.model, &columns).map_err(Broken::Warehouse)?;
        for remark in shape.remarks() {
            warn!("{remark}");
            self.told.sample(remark.clone());
        }
        let (mut hashing, difference) = comparison.split();
        let like = self.told.another();
        thread::scope(|scope| {
            let (windows, waiting) = bounded::<Window<'_>>(WINDOWS_AHEAD);
            // More windows are not on their way between two looks.
            let (tell, compared) = bounded(WINDOWS_AHEAD + 4);
            scope.spawn(move || {
                for window in waiting {
                    let mut told = like.another();
                    let done = difference.compare(window, &mut told).map(|()| told);
                    if tell.send(done).is_err() {
                        return;
                    }
                }
            });
            let mut window = Window::default();
            let mut next_progress = Instant::now();
            while let Rows::Batch(batch) = self.next(rows)? {
                let bound = shape.bind(&batch).map_err(Broken::Warehouse)?;
                let bytes = batch.get_array_memory_size();
                hashing.take(bound, bytes, &mut window, self.told)?;
                if window.is_full() && windows.send(std::mem::take(&mut window)).is_err() {
                    break;
                }
                for told in compared.try_iter() {
                    self.told.add(told?);
                }
                let now = Instant::now();
                if now >= next_progress {
                    next_progress = now + PROGRESS;
                    self.link.look()?;
                    self.link.progress(&self.told.counts)?;
                }
            }
            // If it can't be sent, why not is among what is told.
            let _ = windows.send(window);
            drop(windows);
            for told in compared.iter() {
                self.told.add(told?);
            }
            Ok(())
        })
    }

    /// What the thread at the warehouse gives next; ends early if the daemon wants no more.
    fn next(&mut self, rows: &Receiver<Fetched>) -> Result<Rows, Broken> {
        loop {
            match rows.recv_timeout(LOOK) {
                Ok(fetched) => return fetched.map_err(Broken::Warehouse),
                Err(RecvTimeoutError::Timeout) => self.link.look()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Ended::Lost("the driver's thread died".to_owned()).into());
                }
            }
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
