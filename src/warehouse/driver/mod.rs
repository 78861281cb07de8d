//! Databases: connecting, asking, and the batches of the answer.
//!
//! Owns what is foreign: the SQLite that is built in, and ADBC drivers, which are shared libraries. It
//! does not look into values.
//!
//! What always holds: a secret stands in no error; a batch is bounded by what the driver makes of
//! it, and of the embedded engine by [`sqlite::BATCH_ROWS`] and [`sqlite::BATCH_BYTES`].

mod adbc;
mod advice;
mod interrupt;
mod sqlite;
mod storage;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::error::{Error, Failure};
use crate::config::Warehouse;

pub use advice::driver_help;
pub use interrupt::Interrupt;

/// An open database.
pub trait Connection {
    /// Asks; what comes back is read batch by batch.
    ///
    /// # Errors
    /// The database's own message, or that the connection is lost.
    fn query(&mut self, sql: &str) -> Result<Box<dyn Batches>, Error>;

    /// As [`Connection::query`], for somebody who wants to see so many rows: not many more are fetched
    /// at once, where the engine can be told.
    ///
    /// # Errors
    /// As [`Connection::query`].
    fn query_few(&mut self, sql: &str, rows: usize) -> Result<Box<dyn Batches>, Error>;

    /// Runs a statement that has no rows.
    ///
    /// # Errors
    /// As [`Connection::query`].
    fn execute(&mut self, sql: &str) -> Result<(), Error>;

    /// Makes a table of what a query gives: whole or not at all. Its columns are read as those of the
    /// query are.
    ///
    /// # Errors
    /// As [`Connection::query`].
    fn create_as(&mut self, table: &str, sql: &str) -> Result<(), Error>;

    /// Queries end when this says so, where the engine lets another thread end them.
    fn obey(&mut self, interrupt: &Interrupt);

    /// Whose SQL it understands.
    fn dialect(&self) -> Dialect;
}

/// The rows of a query, in the order in which the database gives them.
pub trait Batches {
    /// Names of the columns, and their types as far as they are known before the first row. A batch
    /// may have other types: SQLite's columns hold values of any.
    fn schema(&self) -> SchemaRef;

    /// The next rows.
    fn next(&mut self) -> Option<Result<RecordBatch, Error>>;
}

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL, and Redshift, which speaks its protocol.
    Postgres,
    /// DuckDB.
    DuckDb,
    /// Snowflake.
    Snowflake,
    /// BigQuery.
    BigQuery,
    /// Databricks.
    Databricks,
    /// SQL Server and its cloud forms.
    SqlServer,
    /// Something else.
    Other,
}

impl Dialect {
    /// By the name of a driver.
    #[must_use]
    pub fn of_driver(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let known = [
            ("sqlite", Self::Sqlite),
            ("postgres", Self::Postgres),
            ("redshift", Self::Postgres),
            ("duckdb", Self::DuckDb),
            ("snowflake", Self::Snowflake),
            ("bigquery", Self::BigQuery),
            ("databricks", Self::Databricks),
            ("mssql", Self::SqlServer),
            ("sqlserver", Self::SqlServer),
        ];
        let found = known.into_iter().find(|(part, _)| name.contains(part));
        found.map_or(Self::Other, |(_, dialect)| dialect)
    }
}

/// Opens the warehouse to read: where the engine can promise that nothing is written, it does. Blocks;
/// foreign code may run.
///
/// # Errors
/// The driver is missing, a secret can't be read, or the database can't be reached.
pub fn open(warehouse: &Warehouse) -> Result<Box<dyn Connection>, Error> {
    open_for(warehouse, Access::Read)
}

/// Opens the warehouse to read and to write, for state that is kept there.
///
/// # Errors
/// As [`open`].
pub fn open_to_write(warehouse: &Warehouse) -> Result<Box<dyn Connection>, Error> {
    open_for(warehouse, Access::Write)
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn open_for(warehouse: &Warehouse, access: Access) -> Result<Box<dyn Connection>, Error> {
    let uri = warehouse.uri.as_ref().map(|uri| uri.resolve()).transpose();
    let uri = uri.map_err(|error| Error::new(Failure::Config, error.to_string()))?;
    if is_embedded(warehouse) {
        let uri = uri.map_or_else(String::new, |uri| uri.into_inner());
        return Ok(Box::new(sqlite::Sqlite::open(&uri, access)?));
    }
    Ok(Box::new(adbc::Adbc::open(warehouse, uri, access)?))
}

/// Whether the engine that is built in serves this warehouse.
pub(super) fn is_embedded(warehouse: &Warehouse) -> bool {
    warehouse.driver == "sqlite" && warehouse.path.is_none()
}
