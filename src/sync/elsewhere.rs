//! State in the warehouse: a table there holds what the query gave at the last sync, and the database says
//! which rows may differ from it. Only those cross.
//!
//! The table is a filter and nothing else: what comes is compared with the local state as always, and who has
//! which row is known there alone.
//!
//! What always holds: rows are left out only if the table holds what the local state knows of them. From the
//! moment when a sync begins to send until it is completed the table does not count as that. A table is noted
//! before it is made, and until it is dropped.

use std::thread;
use std::time::{Duration, Instant};

use arrow_schema::Schema;
use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::LOOK;
use super::compare::too_many_rows;
use super::fetch::{Fetched, Rows};
use super::link::{Ended, Link};
use super::store::Store;
use crate::config::{ConsentCast, Model, ModelConsent, Warehouse};
use crate::warehouse::{self, Batches, Connection, Error, Failure, Interrupt, RowShape};

/// How long a sync that is done otherwise waits for tables to be dropped.
const DROP_TIME_MAX: Duration = Duration::from_secs(30);

/// Tables that could not be dropped so far: with so many, a sync does not make another one.
const OLD_MAX: usize = 8;

/// The tables of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tables {
    current: Option<Table>,
    /// That of a sync which is not completed; it may be there or not.
    next: Option<String>,
    /// They are to be dropped.
    old: Vec<String>,
}

/// A table that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    name: String,
    rows: u64,
    /// A hash of what makes its rows comparable with those of another.
    basis: String,
    /// Whether it holds what the local state knows.
    is_true: bool,
}

/// What a sync makes of them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    model: Model,
    generation: u32,
    /// The name of the table that is made.
    next: String,
    /// The table that it is compared with, if it may be.
    current: Option<Table>,
    /// Those that have to be dropped before.
    surplus: Vec<String>,
}

/// A table that was made and filled.
#[derive(Debug)]
pub(super) struct Made {
    rows: u64,
    basis: String,
    /// Whether only rows come that may differ.
    is_partial: bool,
}

impl Made {
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// How many rows there are of which `fetched` have come.
    pub(super) fn others(&self, fetched: u64) -> u64 {
        if self.is_partial { self.rows.saturating_sub(fetched) } else { 0 }
    }
}

impl Tables {
    /// Those that the local state knows of.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn read(store: &Store) -> Result<Self, Ended> {
        // Of what can't be read nothing is compared with.
        Ok(serde_json::from_slice(&store.tables()?).unwrap_or_default())
    }

    /// For the state.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // It has no keys but texts.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn write(&self, store: &Store) -> Result<(), Ended> {
        Ok(store.set_tables(&self.bytes())?)
    }

    /// Notes the name of a new table. It is compared with the last one unless `takes_all` rows.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn plan(
        &mut self,
        store: &Store,
        model: &Model,
        generation: u32,
        takes_all: bool,
    ) -> Result<Plan, Ended> {
        // One that a dead sync has left is made anew.
        let fresh = || warehouse::fresh_name(&model.name, fastrand::u64(..));
        let next = self.next.get_or_insert_with(fresh).clone();
        self.write(store)?;
        let current = self.current.clone().filter(|table| table.is_true && !takes_all);
        let surplus = if self.old.len() < OLD_MAX { Vec::new() } else { self.old.clone() };
        Ok(Plan { model: model.clone(), generation, next, current, surplus })
    }

    /// The local state is about to move on: rows that become again what they are in the table have to come,
    /// whatever happens before this sync is completed.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn distrust(&mut self, store: &Store) -> Result<(), Ended> {
        match &mut self.current {
            Some(table) if table.is_true => table.is_true = false,
            _ => return Ok(()),
        }
        self.write(store)
    }

    /// A sync is completed, in which this table was made. If the state `is_behind` it, it is of no use.
    pub(super) fn complete(&mut self, made: Option<Made>, is_behind: bool) {
        self.old.extend(self.current.take().map(|table| table.name));
        let Some(name) = self.next.take() else { return };
        match made.filter(|_| !is_behind) {
            Some(Made { rows, basis, .. }) => {
                self.current = Some(Table { name, rows, basis, is_true: true });
            }
            None => self.old.push(name),
        }
    }

    /// A sync has failed: its table is of no use.
    pub(super) fn give_up(&mut self) {
        self.old.extend(self.next.take());
    }

    /// Drops those that are of no use. What can't be dropped stays noted.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn clean_up<T>(
        &mut self,
        store: &Store,
        warehouse: &Warehouse,
        link: &mut Link<T>,
    ) -> Result<(), Ended> {
        if self.old.is_empty() || !drop_all(warehouse, &self.old, link) {
            return Ok(());
        }
        self.old.clear();
        self.write(store)
    }
}

/// Whether all of these are dropped. A database may let one wait who asks for it: that is done on a thread.
fn drop_all<T>(warehouse: &Warehouse, names: &[String], link: &mut Link<T>) -> bool {
    let (sender, dropped) = bounded(1);
    let (its_warehouse, its_names) = (warehouse.clone(), names.to_vec());
    let spawned = thread::Builder::new().name("warehouse".to_owned()).spawn(move || {
        let done = warehouse::open_to_write(&its_warehouse).and_then(|mut connection| {
            its_names.iter().try_for_each(|name| warehouse::drop_table(connection.as_mut(), name))
        });
        // Whoever does not wait any more does not want to know.
        let _ = sender.send(done);
    });
    let until = Instant::now() + DROP_TIME_MAX;
    let why = match spawned {
        Err(error) => error.to_string(),
        Ok(_) => loop {
            match dropped.recv_timeout(LOOK) {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => break error.to_string(),
                Err(RecvTimeoutError::Timeout) if link.look().is_err() => return false,
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => break "the database does not do it".to_owned(),
            }
        },
    };
    let names = names.join(", ");
    warn!("tables of earlier syncs are not dropped yet: {names} of _consentd: {why}");
    false
}

/// Makes the table, and fetches what may differ, or everything.
///
/// # Errors
/// Why it can't be had. The table is dropped then, if that is possible.
pub(super) fn ask(
    warehouse: &Warehouse,
    sql: &str,
    plan: &Plan,
    interrupt: &Interrupt,
    to: &Sender<Fetched>,
) -> Result<(), Error> {
    let mut connection = warehouse::open_to_write(warehouse)?;
    let connection = connection.as_mut();
    connection.obey(interrupt);
    for name in &plan.surplus {
        warehouse::drop_table(connection, name)?;
    }
    let done = plan.fill(connection, &warehouse.driver, sql, to);
    // What follows is to be done to its end.
    interrupt.over();
    if !matches!(done, Ok(true)) {
        // If this fails, too, it stays noted.
        let _ = warehouse::drop_table(connection, &plan.next);
    }
    done.map(drop)
}

impl Plan {
    /// Whether everything was taken.
    fn fill(
        &self,
        connection: &mut dyn Connection,
        driver: &str,
        sql: &str,
        to: &Sender<Fetched>,
    ) -> Result<bool, Error> {
        let Self { model, next, .. } = self;
        warehouse::make_table(connection, next, sql)?;
        let schema = warehouse::columns(connection, next)?;
        let shape = RowShape::new(model, &schema)?;
        warehouse::make_index(connection, next, schema.field(shape.id_at()))?;
        let rows = warehouse::count_rows(connection, next)?;
        if rows > model.limits.rows {
            return Err(Error::new(Failure::Rows, too_many_rows(model)));
        }
        let labels = warehouse::labels(connection)?;
        let basis = self.basis(driver, sql, &schema, &labels);
        if to.send(Ok(Rows::Columns(schema.clone()))).is_err() {
            return Ok(false);
        }
        let mut changed = None;
        if let Some(current) = self.comparable(connection, &basis, &schema, &shape)? {
            let tables =
                warehouse::Tables { new: next, old: &current.name, shape: &shape, schema: &schema };
            match differences(connection, &tables, to) {
                Ok(Some(batches)) => changed = Some(batches),
                Ok(None) => return Ok(false),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => warn!("the database can't compare, so that every row comes: {error}"),
            }
        }
        let made = Made { rows, basis, is_partial: changed.is_some() };
        if to.send(Ok(Rows::Made(made))).is_err() {
            return Ok(false);
        }
        let batches = match changed {
            Some(batches) => batches,
            None => warehouse::all_rows(connection, next)?,
        };
        pass_on(batches, to, Rows::Batch)
    }

    /// The table to compare with: one that is there as it was left, and has the same columns.
    fn comparable(
        &self,
        connection: &mut dyn Connection,
        basis: &str,
        schema: &Schema,
        shape: &RowShape,
    ) -> Result<Option<&Table>, Error> {
        let Some(table) = self.current.as_ref().filter(|table| table.basis == basis) else {
            return Ok(None);
        };
        match warehouse::columns(connection, &table.name) {
            Err(error) if error.is_transient() => return Err(error),
            Ok(columns) if *columns == *schema => {}
            // It may have been dropped.
            Ok(_) | Err(_) => return Ok(None),
        }
        if warehouse::count_rows(connection, &table.name)? != table.rows {
            return Ok(None);
        }
        let id = schema.field(shape.id_at());
        for name in [&table.name, &self.next] {
            if !warehouse::has_plain_ids(connection, name, id)? {
                return Ok(None);
            }
        }
        Ok(Some(table))
    }

    /// Two tables with another basis are of rows that are not comparable.
    fn basis(&self, driver: &str, sql: &str, schema: &Schema, labels: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        let model = &self.model;
        let generation = self.generation.to_string();
        [driver, sql, labels, &generation, &model.unique_id].into_iter().for_each(&mut add);
        add(if model.consent_cast == ConsentCast::Lenient { "lenient" } else { "strict" });
        if let ModelConsent::Columns(columns) = &model.consent {
            for (category, column) in columns {
                add(category);
                add(column);
            }
        }
        add("tracked");
        model.track_columns.iter().flatten().for_each(|column| add(column));
        add("columns");
        for field in schema.fields() {
            // What a column is made of is compared with the other table's.
            let kind = field.data_type();
            add(field.name());
            add(&if kind.is_nested() { "nested".to_owned() } else { kind.to_string() });
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Passes on the rows that are gone, and asks for those that may differ; `None` if nobody wants them.
fn differences(
    connection: &mut dyn Connection,
    tables: &warehouse::Tables<'_>,
    to: &Sender<Fetched>,
) -> Result<Option<Box<dyn Batches>>, Error> {
    if !pass_on(tables.gone(connection)?, to, Rows::Gone)? {
        return Ok(None);
    }
    tables.changed(connection).map(Some)
}

/// Whether all were taken.
fn pass_on(
    mut batches: Box<dyn Batches>,
    to: &Sender<Fetched>,
    kind: fn(arrow_array::RecordBatch) -> Rows,
) -> Result<bool, Error> {
    while let Some(batch) = batches.next() {
        if to.send(Ok(kind(batch?))).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
