//! The engine that is built in: SQLite, one thread for each query that is read.
//!
//! A statement borrows its connection and the rows borrow the statement, so a query has a thread that
//! owns all three; batches come over a channel for at most [`BATCHES_AHEAD`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use crossbeam::channel::{Receiver, Sender, bounded};
use rusqlite::{OpenFlags, Statement, TransactionBehavior, ffi};

use super::storage::{Declared, Storage};
use super::{Access, Batches, Connection, Dialect, Interrupt};
use crate::warehouse::error::{Error, Failure};
use crate::warehouse::sql;

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;
/// Bytes of text and binary values after which a batch is handed over.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait to be taken.
const BATCHES_AHEAD: usize = 2;
/// How long a query waits for somebody who writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A SQLite database in a file.
pub(super) struct Sqlite {
    path: String,
    access: Access,
    connection: rusqlite::Connection,
}

impl Sqlite {
    pub(super) fn open(path: &str, access: Access) -> Result<Self, Error> {
        let connection = connect(path, access)?;
        // SQLite opens anything; whether it is a database shows when it is read.
        let schema = connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()));
        schema.map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), access, connection })
    }
}

fn connect(path: &str, access: Access) -> Result<rusqlite::Connection, Error> {
    if !path.starts_with("file:") && !Path::new(path).is_file() {
        let message = format!("there is no database at {path}; `uri` is the path of its file");
        return Err(Error::new(Failure::Config, message));
    }
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let opened = rusqlite::Connection::open_with_flags(path, flags);
    let connection = opened.map_err(|error| failed(path, &error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failed(path, &error))?;
    Ok(connection)
}

impl Connection for Sqlite {
    fn query(&mut self, sql: &str) -> Result<Box<dyn Batches>, Error> {
        self.query_few(sql, BATCH_ROWS)
    }

    fn query_few(&mut self, sql: &str, batch_rows: usize) -> Result<Box<dyn Batches>, Error> {
        let batch_rows = batch_rows.clamp(1, BATCH_ROWS);
        // SQLite would read the first, and nothing behind it.
        let sql = sql::one_statement(sql, Dialect::Sqlite)?;
        let connection = connect(&self.path, self.access)?;
        let (sender, batches) = bounded(BATCHES_AHEAD);
        let (schema_sender, schema) = bounded(1);
        let (path, sql) = (self.path.clone(), sql.to_owned());
        let thread = std::thread::Builder::new().name("sqlite".to_owned());
        let query = Query { path, sql, batch_rows };
        let spawned = thread.spawn(move || query.read(&connection, &schema_sender, &sender));
        spawned.map_err(|error| Error::new(Failure::Driver, format!("no thread: {error}")))?;
        let ended = || Error::new(Failure::Driver, "SQLite ended without an answer");
        let schema = schema.recv().map_err(|_| ended())??;
        Ok(Box::new(SqliteBatches { schema, batches, is_over: false }))
    }

    fn execute(&mut self, sql: &str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(|error| failed(&self.path, &error))
    }

    fn create_as(&mut self, table: &str, sql: &str) -> Result<(), Error> {
        create_as(&mut self.connection, table, sql).map_err(|error| failed(&self.path, &error))
    }

    /// The thread of a query ends when nobody takes its rows any more, and with the process.
    fn obey(&mut self, _: &Interrupt) {}

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
}

/// `create table ... as` would forget which columns are boolean, and turn values into other ones.
fn create_as(
    connection: &mut rusqlite::Connection,
    table: &str,
    sql: &str,
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let columns: Vec<String> =
        declared(&transaction.prepare(sql)?).iter().map(Declared::kept).collect();
    transaction.execute_batch(&format!("create table {table} ({})", columns.join(", ")))?;
    transaction.execute(&format!("insert into {table}\n{sql}\n"), [])?;
    transaction.commit()
}

struct SqliteBatches {
    schema: SchemaRef,
    /// `None` comes behind the last one.
    batches: Receiver<Option<Result<RecordBatch, Error>>>,
    is_over: bool,
}

impl Batches for SqliteBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        if self.is_over {
            return None;
        }
        // Rows that a thread that died did not give must not be taken for gone.
        let died =
            || Some(Err(Error::new(Failure::Driver, "SQLite ended in the middle of the rows")));
        let batch = self.batches.recv().unwrap_or_else(|_| died());
        self.is_over = !matches!(batch, Some(Ok(_)));
        batch
    }
}

/// A query, for the thread that reads its rows.
struct Query {
    path: String,
    sql: String,
    batch_rows: usize,
}

impl Query {
    /// Ends when the rows do, or when nobody takes them any more.
    fn read(
        &self,
        connection: &rusqlite::Connection,
        schema: &Sender<Result<SchemaRef, Error>>,
        batches: &Sender<Option<Result<RecordBatch, Error>>>,
    ) {
        let mut statement = match connection.prepare(&self.sql) {
            Ok(statement) => statement,
            Err(error) => {
                // The asker has gone, or gets the reason; either way it ends here.
                let _ = schema.send(Err(failed(&self.path, &error)));
                return;
            }
        };
        let columns = declared(&statement);
        let fields: Vec<Field> = columns.iter().map(Declared::field).collect();
        if schema.send(Ok(Arc::new(Schema::new(fields)))).is_ok() {
            let read = self.rows(&mut statement, columns, batches);
            let _ = batches.send(read.err().map(Err));
        }
    }

    fn rows(
        &self,
        statement: &mut Statement<'_>,
        columns: Vec<Declared>,
        batches: &Sender<Option<Result<RecordBatch, Error>>>,
    ) -> Result<(), Error> {
        let failed = |error: rusqlite::Error| failed(&self.path, &error);
        let mut storage: Vec<Storage> = columns.into_iter().map(Storage::new).collect();
        let mut rows = statement.query([]).map_err(failed)?;
        let (mut count, mut bytes) = (0, 0);
        loop {
            let row = rows.next().map_err(failed)?;
            if let Some(row) = row {
                for (at, column) in storage.iter_mut().enumerate() {
                    bytes += column.push(row.get_ref(at).map_err(failed)?)?;
                }
                count += 1;
            }
            let full = count == self.batch_rows || bytes >= BATCH_BYTES;
            if count > 0 && (full || row.is_none()) {
                let batch = finish(&mut storage)?;
                if batches.send(Some(Ok(batch))).is_err() {
                    return Ok(());
                }
                (count, bytes) = (0, 0);
            }
            if row.is_none() {
                return Ok(());
            }
        }
    }
}

fn declared(statement: &Statement<'_>) -> Vec<Declared> {
    let columns = statement.columns();
    columns.map(|column| Declared::new(column.name(), column.decl_type())).collect()
}

fn finish(storage: &mut [Storage]) -> Result<RecordBatch, Error> {
    let mut fields = Vec::with_capacity(storage.len());
    let mut arrays = Vec::with_capacity(storage.len());
    for column in storage {
        let (field, array) = column.finish()?;
        fields.push(field);
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, arrays)
        .map_err(|error| Error::new(Failure::Rows, error.to_string()))
}

fn failed(path: &str, error: &rusqlite::Error) -> Error {
    let busy = [ffi::ErrorCode::DatabaseBusy, ffi::ErrorCode::DatabaseLocked];
    let failure = match error.sqlite_error_code() {
        Some(code) if busy.contains(&code) => Failure::Connection,
        Some(ffi::ErrorCode::CannotOpen | ffi::ErrorCode::NotADatabase) => Failure::Config,
        _ => Failure::Query,
    };
    Error::new(failure, format!("SQLite ({path}): {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was not given would be taken for gone, and deleted everywhere.
    #[test]
    fn a_thread_that_dies_is_not_the_end_of_the_rows() {
        let next = |said: Option<Option<Result<RecordBatch, Error>>>| {
            let (sender, batches) = bounded(1);
            said.into_iter().for_each(|said| sender.send(said).unwrap());
            drop(sender);
            let schema = Arc::new(Schema::empty());
            let mut batches = SqliteBatches { schema, batches, is_over: false };
            let first = batches.next();
            assert!(batches.next().is_none());
            first
        };
        assert!(next(None).is_some_and(|batch| batch.is_err()));
        assert!(next(Some(None)).is_none());
    }
}
