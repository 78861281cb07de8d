//! One sync of a model: rows of the warehouse against the last state, and what changed to the daemon.
//!
//! Runs in a process of its own (`consentd sync-child`), which the daemon starts. Owns the state of the
//! last sync (`store.rs`, `save.rs`), the comparison (`compare.rs`, `aside.rs`), what of it the warehouse can do (`elsewhere.rs`),
//! the order in which changes are sent (`part.rs`, `announce.rs`, `send.rs`) and what becomes of those that a
//! dead sync had under way (`under_way.rs`). It decides nothing about consent: what it sends goes through the daemon's worker like
//! every event, and the daemon says what became of each line.
//!
//! What always holds: nothing is sent before the query has ended well; the state of a row moves on only
//! when its event is settled, so that a sync that ends in the middle is gone on with by the next one, which
//! knows what may have been sent;
//! memory does not depend on the number of rows.

mod announce;
mod aside;
mod change;
mod compare;
mod deaf;
mod elsewhere;
mod failed;
mod fetch;
mod group;
mod known;
mod link;
mod part;
mod save;
mod scatter;
mod send;
mod slice;
mod store;
mod told;
mod under_way;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use serde::Deserialize;
use tracing::warn;

pub use self::compare::{ID_BYTES_MAX, first_message_id};

use self::change::read_message_id;
use self::compare::{Basis, Comparison, Window};
use self::elsewhere::{Made, Plan, Tables};
use self::failed::{Failed, Patience};
use self::fetch::{Fetched, Fetching, Rows};
use self::known::{Digest, Key};
use self::link::{Ended, Link, Named, Rejection, Welcome};
use self::send::{Around, Mark, PROGRESS, Sending};
use self::slice::Slicing;
use self::store::{Heard, Store};
use self::told::Told;
use crate::admin::{Counts, SyncState};
use crate::config::{Config, Model, ModelConsent, OnWithdrawal, StateIn, Warehouse};
use crate::warehouse::{self, RowShape};

/// Windows of rows that wait to be compared, beside the one that comes in.
const WINDOWS_AHEAD: usize = 0;

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
    // The file may be newer than what is in force: then every row would seem to refuse.
    if welcome.words != config.table_spec(0).words() {
        return Err(Ended::Lost(
            "the config has other categories or consent.locations than are in force: reload the daemon"
                .to_owned(),
        ));
    }
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
    // In force only once the query has ended well: if it fails, nothing is forgotten.
    let generation = store.generation()?.wrapping_add(errand.full.into());
    let categories = categories(model);
    let same_categories = store.has_categories(&categories)?;
    let max_event_bytes = welcome.max_event_bytes;
    let begun = store.begun()?;
    let ids = |named: &[Named]| named.iter().map(|named| named.id).collect::<Vec<u32>>();
    let on: HashSet<u32> = ids(&welcome.destinations).into_iter().collect();
    let names = deaf::deaf(config, model);
    let deaf: HashMap<u32, String> = {
        let deaf = welcome.destinations.iter().filter(|named| names.contains(&named.name));
        deaf.map(|named| (named.id, named.name.clone())).collect()
    };
    let heard_before = store.heard()?;
    // Whom deletions can't reach is told later, too, as one that is off.
    let hears = welcome.destinations.iter().filter(|named| !deaf.contains_key(&named.id));
    let mut heard: Heard = hears.map(|named| (named.id, rules_of(model, named))).collect();
    let (still, new): (Heard, Heard) =
        heard.iter().partition(|(id, consent)| heard_before.get(id) == Some(consent));
    let newly_on: Vec<u32> = new.into_keys().collect();
    let warehouse = &config.warehouses[model.warehouse];
    let mut tables = Tables::read(&store)?;
    let plan = if model.state == StateIn::Warehouse && !errand.dry_run {
        let is_due = |one: &Failed| patience.is_left(one, now);
        let is_any_due = failed.values().flatten().any(is_due);
        let takes_all = errand.full || !same_categories || !newly_on.is_empty() || is_any_due;
        Some(tables.plan(&store, model, generation, takes_all)?)
    } else {
        None
    };
    let mut query = Query { model, warehouse, link, told, plan, made: None };
    let compared = query.run(|| {
        let (failed, on) = (&failed, &on);
        let newly_on = newly_on.clone();
        let basis = Basis {
            model,
            generation,
            same_categories,
            failed,
            patience,
            now,
            on,
            max_event_bytes,
            begun,
            newly_on,
        };
        Ok(Comparison::new(store.snapshot()?, basis, &errand.state_dir))
    })?;
    let made = query.made.take();
    told.counts.phase = "send".to_owned();
    if !errand.dry_run {
        tables.distrust(&store)?;
        if errand.full {
            store.begin_generation(generation)?;
        }
        // Whether or not this one ends: what is noted from now on the others have not heard.
        store.note_heard(&still, same_categories.then_some(&*categories))?;
    }
    let around = Around {
        patience,
        now,
        generation,
        begun,
        on: on.clone(),
        off: ids(&welcome.others).into_iter().collect(),
        deaf,
        same_categories,
        dry_run: errand.dry_run,
    };
    let sent = Sending::new(model, &mut store, told, &failed, around).run(&compared, link);
    let sent = match sent {
        Ok(_) if errand.dry_run => return Ok(()),
        Ok(untold) => {
            heard.retain(|id, _| !untold.contains(id));
            tables.complete(made, told.is_behind);
            store.complete(&heard, &categories, &tables.bytes())?;
            Ok(())
        }
        // Whoever cancels does not wait.
        Err(Ended::Cancelled) => return Err(Ended::Cancelled),
        Err(lost) => {
            tables.give_up();
            Err(lost)
        }
    };
    tables.clean_up(&store, warehouse, link)?;
    sent
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
    let mut rejected: Vec<(Key, Digest, u32)> = Vec::new();
    for Rejection { message_id, destination } in &welcome.rejections {
        if let Some((key, message)) = read_message_id(message_id) {
            rejected.push((key, message, *destination));
        }
    }
    // One group of rows in memory at a time.
    let slice = |(key, ..): &(Key, Digest, u32)| Slicing::FINEST.of(key);
    rejected.sort_by_key(slice);
    for of_group in rejected.chunk_by(|one, other| slice(one) == slice(other)) {
        let mut group = store.snapshot()?.group(slice(&of_group[0]))?;
        for (key, message, destination) in of_group {
            // A newer version has its own fate.
            let Some(known) = group.get(key).filter(|known| known.message == *message) else {
                continue;
            };
            let mut known = known.clone();
            let named = welcome.destinations.iter().find(|named| named.id == *destination);
            let name = named.map_or("a destination that is gone", |named| named.name.as_str());
            told.fail(format!("{}: rejected by {name}", told.id(&known.id)));
            let list = all.entry(*key).or_default();
            failed::add(list, *destination, now);
            store.put_failed(*key, list.clone());
            if known.fresh.contains(destination) {
                // It never had the row.
                known.held.retain(|id| id != destination);
                known.fresh.retain(|id| id != destination);
                group.put(*key, Some(known));
            }
        }
        if !dry_run {
            store.save(std::iter::once(&mut group))?;
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
        store.save(std::iter::empty())?;
    }
    Ok(all)
}

/// Names what a destination is told of: under other rules, it has not heard what it should.
fn rules_of(model: &Model, named: &Named) -> u64 {
    match model.on_withdrawal {
        OnWithdrawal::Ignore => named.consent,
        OnWithdrawal::Delete => !named.consent,
    }
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
    /// If its rows are kept in the warehouse, what is made there,
    plan: Option<Plan>,
    /// and what was.
    made: Option<Made>,
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
        let fetching = Fetching::start(self.warehouse, sql, self.plan.clone())?;
        let rows = fetching.rows();
        let Rows::Columns(columns) = self.next(rows)? else {
            return Err(Ended::Lost("the driver gives no columns".to_owned()).into());
        };
        let shape = RowShape::new(self.model, &columns).map_err(Broken::Warehouse)?;
        for remark in shape.remarks() {
            warn!("{remark}");
            self.told.sample(remark.clone());
        }
        if self.plan.is_some() {
            self.take_table(rows, &shape, comparison)?;
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
            Ok::<_, Broken>(())
        })?;
        let counts = &mut self.told.counts;
        counts.fetched = counts.rows;
        let others = self.made.as_ref().map_or(0, |made| made.others(counts.fetched));
        counts.rows += others;
        counts.unchanged += others;
        Ok(())
    }

    /// What is told of a table that was made, before its rows.
    fn take_table(
        &mut self,
        rows: &Receiver<Fetched>,
        shape: &RowShape,
        comparison: &mut Comparison<'m>,
    ) -> Result<(), Broken> {
        loop {
            match self.next(rows)? {
                Rows::Gone(batch) => {
                    comparison.take_gone(&shape.bind(&batch).map_err(Broken::Warehouse)?)?;
                }
                Rows::Made(made) => {
                    if made.is_partial() {
                        comparison.be_partial();
                    }
                    self.made = Some(made);
                    return Ok(());
                }
                Rows::Columns(_) | Rows::Batch(_) | Rows::End => {
                    let why = "the warehouse's thread says nothing of its table".to_owned();
                    return Err(Ended::Lost(why).into());
                }
            }
        }
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
