//! The thread at the warehouse: a driver may block for as long as it likes.
//!
//! What always holds: a query of which nobody wants the rows any more is ended in the database, too, as
//! soon as the driver can.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use crossbeam::channel::{Receiver, Sender, bounded, never};

use super::elsewhere::{self, Made, Plan};
use super::link::Ended;
use crate::config::Warehouse;
use crate::warehouse::{self, Interrupt};

/// Batches of rows that are fetched ahead.
const BATCHES_AHEAD: usize = 2;

/// How long a sync waits for the end of a query that nobody wants any more: less than the daemon gives it
/// when it stops.
const END_TIME_MAX: Duration = Duration::from_secs(3);

/// How often the database is asked to end it.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// What the thread gives.
pub(super) type Fetched = Result<Rows, warehouse::Error>;

pub(super) enum Rows {
    /// First.
    Columns(SchemaRef),
    /// Rows that are gone, where the warehouse compares,
    Gone(RecordBatch),
    /// and behind them, where it keeps rows.
    Made(Made),
    Batch(RecordBatch),
    /// Last.
    End,
}

/// A query that is asked. If it is dropped before its end, it ends.
pub(super) struct Fetching {
    rows: Receiver<Fetched>,
    interrupt: Interrupt,
    thread: JoinHandle<()>,
}

impl Fetching {
    /// Asks; with a plan, for what is made of rows that are kept there.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(
        warehouse: &Warehouse,
        sql: String,
        plan: Option<Plan>,
    ) -> Result<Self, Ended> {
        let (warehouse, interrupt) = (warehouse.clone(), Interrupt::default());
        let (sender, rows) = bounded(BATCHES_AHEAD);
        let asking = interrupt.clone();
        let thread = thread::Builder::new()
            .name("warehouse".to_owned())
            .spawn(move || {
                let fetched = match &plan {
                    Some(plan) => elsewhere::ask(&warehouse, &sql, plan, &asking, &sender),
                    None => ask(&warehouse, &sql, &asking, &sender),
                };
                asking.over();
                // A sync that has ended does not want to know.
                let _ = sender.send(fetched.map(|()| Rows::End));
            })
            .map_err(|error| Ended::Lost(format!("cannot start a thread: {error}")))?;
        Ok(Self { rows, interrupt, thread })
    }

    pub(super) fn rows(&self) -> &Receiver<Fetched> {
        &self.rows
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        // Whoever waits until rows are taken waits no more.
        self.rows = never();
        if self.thread.is_finished() {
            return;
        }
        // On a thread of its own: the network may be what is in the way.
        let interrupt = self.interrupt.clone();
        let asking = thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
            while interrupt.end() {
                thread::sleep(ASK_AGAIN);
            }
        });
        let Ok(asking) = asking else { return };
        let until = Instant::now() + END_TIME_MAX;
        while !self.thread.is_finished() && !asking.is_finished() && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }
}

fn ask(
    warehouse: &Warehouse,
    sql: &str,
    interrupt: &Interrupt,
    to: &Sender<Fetched>,
) -> Result<(), warehouse::Error> {
    let mut connection = warehouse::open(warehouse)?;
    connection.obey(interrupt);
    let mut batches = connection.query(sql)?;
    if to.send(Ok(Rows::Columns(batches.schema()))).is_err() {
        return Ok(());
    }
    while let Some(batch) = batches.next() {
        if to.send(Ok(Rows::Batch(batch?))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
