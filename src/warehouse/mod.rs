//! Rows of a warehouse: where they come from, and the events that they become.
//!
//! Owns the connection to a database (`driver/`), the reading of Arrow values as JSON (`cell/`), of
//! consent columns (`consent.rs`), the event of a row (`mapping.rs`, `row.rs`), and the tables in which the
//! database keeps what a query gave (`snapshot.rs`). It does not decide where an event goes: rows pass the
//! worker like every other event.
//!
//! What always holds: only a value that is true in a consent column grants, whatever else a row
//! holds; no value is changed on its way into an event without an error; `cell`, `consent`, `mapping`,
//! `row` and `sql` do no I/O.

mod cell;
mod consent;
mod driver;
mod error;
mod mapping;
mod row;
mod snapshot;
mod sql;

pub use consent::Granted;
pub use driver::{Batches, Connection, Dialect, Interrupt, driver_help, open, open_to_write};
pub use error::{Error, Failure};
pub use mapping::{Blank, deletion};
pub use row::{BoundBatch, RowShape};
pub use snapshot::{
    Tables, all_rows, columns, count_rows, drop_table, fresh_name, has_plain_ids, labels,
    make_index, make_table, try_table,
};
