//! ADBC drivers: shared libraries that are found by name, by manifest or by path.

use std::ffi::c_char;
use std::path::Path;

use adbc_core::error::{Error as AdbcError, Status};
use adbc_core::options::{
    AdbcVersion, OptionConnection, OptionDatabase, OptionStatement, OptionValue,
};
use adbc_core::{
    Connection as _, Database as _, Driver as _, LOAD_FLAG_DEFAULT, Optionable as _, Statement as _,
};
use adbc_driver_manager::{ManagedConnection, ManagedDatabase, ManagedDriver, ManagedStatement};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};

use super::advice;
use super::{Access, Batches, Connection, Dialect, Interrupt};
use crate::config::{Resolved, Warehouse};
use crate::warehouse::error::{Error, Failure};
use crate::warehouse::sql;

/// What a driver should put into a batch, where it can be told,
const BATCH_BYTES_HINT: i64 = 4 << 20;
/// and where only a few rows are wanted.
const FEW_BYTES_HINT: i64 = 64 << 10;

/// A connection through a driver.
pub(super) struct Adbc {
    connection: ManagedConnection,
    dialect: Dialect,
    secrets: Secrets,
    interrupt: Interrupt,
}

impl Adbc {
    pub(super) fn open(
        warehouse: &Warehouse,
        uri: Option<Resolved>,
        access: Access,
    ) -> Result<Self, Error> {
        let mut secrets = Secrets::default();
        let dialect = dialect(warehouse);
        let mut options: Vec<(OptionDatabase, OptionValue)> = Vec::new();
        if let Some(uri) = uri {
            secrets.add_uri(uri.expose());
            options.push((uri_option(dialect), uri.into_inner().into()));
        }
        for (name, value) in &warehouse.options {
            let value = value.resolve();
            let value = value.map_err(|error| Error::new(Failure::Config, error.to_string()))?;
            secrets.add(value.expose());
            options.push((name.as_str().into(), value.into_inner().into()));
        }
        if access == Access::Read && dialect == Dialect::DuckDb && has_file(&options) {
            options.push(("access_mode".into(), "READ_ONLY".into()));
        }
        let mut driver = load(warehouse)?;
        let failed = |error: AdbcError| secrets.failed(&warehouse.driver, &error, true);
        let database: ManagedDatabase = driver.new_database_with_opts(options).map_err(failed)?;
        let connection = database.new_connection().map_err(failed)?;
        let mut adbc = Self { connection, dialect, secrets, interrupt: Interrupt::default() };
        if dialect == Dialect::Postgres {
            // A server that is busy with a query would not see that whoever asked is gone. Before version
            // 14 it never does.
            let _ = adbc.execute("set client_connection_check_interval = '5s'");
        }
        if access == Access::Read {
            adbc.forbid_writing();
        }
        Ok(adbc)
    }

    /// Asks for a session that can't write. Where neither way is known, the rights of the database's
    /// user are what is left.
    fn forbid_writing(&mut self) {
        let option = self.connection.set_option(OptionConnection::ReadOnly, true.into());
        if option.is_err() && self.dialect == Dialect::Postgres {
            let _ = self.execute("set session characteristics as transaction read only");
        }
    }

    fn statement(&mut self, sql: &str, batch_bytes: i64) -> Result<ManagedStatement, AdbcError> {
        let mut statement = self.connection.new_statement()?;
        if self.dialect == Dialect::Postgres {
            // A driver that does not know the hint has batches of its own size.
            let hint = OptionStatement::Other("adbc.postgresql.batch_size_hint_bytes".to_owned());
            let _ = statement.set_option(hint, batch_bytes.into());
        }
        statement.set_sql_query(sql)?;
        Ok(statement)
    }

    fn ask(&mut self, sql: &str, batch_bytes: i64) -> Result<Box<dyn Batches>, Error> {
        // Drivers put the query into another statement, where an end or a comment would be in the way.
        let sql = format!("{}\n", sql::one_statement(sql, self.dialect)?.trim_end());
        let secrets = self.secrets.clone();
        let failed = |error: AdbcError| secrets.failed("the database", &error, false);
        let mut statement = self.statement(&sql, batch_bytes).map_err(failed)?;
        if !self.interrupt.begin(statement.get_cancel_handle()) {
            return Err(ended());
        }
        let reader = statement.execute().map_err(failed)?;
        Ok(Box::new(AdbcBatches { reader, secrets, over: false, _statement: statement }))
    }
}

impl Adbc {
    /// Runs a statement that has no rows; one that `may_be_ended` may take as long as a query does.
    fn run(&mut self, sql: &str, may_be_ended: bool) -> Result<(), Error> {
        let secrets = self.secrets.clone();
        let failed = |mut error: AdbcError| {
            // A driver may repeat what it was asked in front of what the database says, however long it is.
            error.message = error.message.replace(sql, "...");
            secrets.failed("the database", &error, false)
        };
        let mut statement = self.statement(sql, BATCH_BYTES_HINT).map_err(failed)?;
        if may_be_ended && !self.interrupt.begin(statement.get_cancel_handle()) {
            return Err(ended());
        }
        statement.execute_update().map(drop).map_err(failed)
    }
}

impl Connection for Adbc {
    fn query(&mut self, sql: &str) -> Result<Box<dyn Batches>, Error> {
        self.ask(sql, BATCH_BYTES_HINT)
    }

    fn query_few(&mut self, sql: &str, _rows: usize) -> Result<Box<dyn Batches>, Error> {
        self.ask(sql, FEW_BYTES_HINT)
    }

    fn execute(&mut self, sql: &str) -> Result<(), Error> {
        self.run(sql, false)
    }

    fn create_as(&mut self, table: &str, sql: &str) -> Result<(), Error> {
        // The query may end with a comment.
        let create = format!("create table {table} as\n{sql}\n");
        if self.dialect != Dialect::Postgres {
            return self.run(&create, true);
        }
        // The server goes on with what a client has asked that is dead: without its commit it is undone.
        self.execute("begin")?;
        let done = self.run(&create, true).and_then(|()| self.execute("commit"));
        if done.is_err() {
            // If this fails, too, the connection is lost, and with it the transaction.
            let _ = self.execute("rollback");
        }
        done
    }

    fn obey(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
    }

    fn dialect(&self) -> Dialect {
        self.dialect
    }
}

/// The reader stands before the statement that it reads from, so that it is dropped first.
struct AdbcBatches {
    reader: Box<dyn RecordBatchReader + Send>,
    secrets: Secrets,
    over: bool,
    _statement: ManagedStatement,
}

impl Batches for AdbcBatches {
    fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        if self.over {
            return None;
        }
        let batch = self.reader.next()?;
        self.over = batch.is_err();
        Some(batch.map_err(|error| self.secrets.broken(&error)))
    }
}

fn ended() -> Error {
    Error::new(Failure::Query, "the query was ended before it began")
}

/// By the driver's name, or by that of its library where the name is the user's own.
fn dialect(warehouse: &Warehouse) -> Dialect {
    let library = warehouse.path.as_deref().and_then(Path::file_name);
    match Dialect::of_driver(&warehouse.driver) {
        Dialect::Other => {
            library.map_or(Dialect::Other, |library| Dialect::of_driver(&library.to_string_lossy()))
        }
        known => known,
    }
}

fn uri_option(dialect: Dialect) -> OptionDatabase {
    match dialect {
        Dialect::DuckDb => "path".into(),
        _ => OptionDatabase::Uri,
    }
}

/// DuckDB refuses to open a database in memory for reading only.
fn has_file(options: &[(OptionDatabase, OptionValue)]) -> bool {
    let has = |wanted: &str, test: &dyn Fn(&str) -> bool| {
        options.iter().any(|(name, value)| {
            let value = match value {
                OptionValue::String(value) => value.as_str(),
                _ => "",
            };
            name.as_ref() == wanted && test(value)
        })
    };
    has("path", &|path| !path.is_empty() && !path.starts_with(":memory:"))
        && !has("access_mode", &|_| true)
}

/// The library of the driver, of ADBC 1.1 if it can, else of 1.0.
fn load(warehouse: &Warehouse) -> Result<ManagedDriver, Error> {
    let mut problems: Vec<AdbcError> = Vec::new();
    for version in [AdbcVersion::V110, AdbcVersion::V100] {
        for candidate in advice::candidates(warehouse) {
            let entrypoint = candidate.entrypoint.as_deref().map(str::as_bytes);
            let loaded = match &warehouse.path {
                Some(path) if path.extension().is_some_and(|end| end != "toml") => {
                    ManagedDriver::load_dynamic_from_filename(path, entrypoint, version)
                }
                _ => ManagedDriver::load_from_name(
                    &candidate.name,
                    entrypoint,
                    version,
                    LOAD_FLAG_DEFAULT,
                    None,
                ),
            };
            match loaded {
                Ok(driver) => return Ok(driver),
                Err(problem) => problems.push(problem),
            }
        }
    }
    Err(Error::new(Failure::Driver, advice::not_loaded(warehouse, &problems)))
}

/// What must not stand in an error.
#[derive(Clone, Default)]
struct Secrets(Vec<String>);

impl Secrets {
    /// Short values are words that an error needs, such as the name of a role. Of credentials that are a
    /// JSON object, drivers repeat the values in it.
    fn add(&mut self, secret: &str) {
        if secret.len() >= 6 {
            self.push(secret);
        }
        if secret.trim_start().starts_with('{')
            && let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(secret)
        {
            fields.values().filter_map(|value| value.as_str()).for_each(|value| self.add(value));
        }
    }

    /// The longest first, so that no part of one is left.
    fn push(&mut self, secret: &str) {
        self.0.push(secret.to_owned());
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The whole of it, and its password.
    fn add_uri(&mut self, uri: &str) {
        let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let password = authority
            .split('/')
            .next()
            .and_then(|authority| authority.rsplit_once('@'))
            .and_then(|(user, _)| user.split_once(':'))
            .map(|(_, password)| password);
        let parameters = uri.split(['?', '&', ' ', ';']);
        let named = parameters.filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let name = name.to_ascii_lowercase();
            ["password", "token", "pwd", "secret", "key"]
                .iter()
                .any(|it| name.contains(it))
                .then_some(value)
        });
        for secret in password.into_iter().chain(named).filter(|secret| !secret.is_empty()) {
            self.push(secret);
        }
        if uri.contains("://") {
            self.add(uri);
        }
    }

    fn hide(&self, message: &str) -> String {
        self.0.iter().fold(message.trim().to_owned(), |text, secret| text.replace(secret, "***"))
    }

    fn failed(&self, who: &str, error: &AdbcError, connecting: bool) -> Error {
        let state = sqlstate(error);
        // Some drivers repeat the query, however long it is.
        let said = error.message.split("\n\nQuery was:").next().unwrap_or_default();
        let message = self.hide(said);
        let lost = match error.status {
            Status::IO | Status::Timeout | Status::Cancelled => {
                state.is_none() || state.as_deref().is_some_and(is_lost)
            }
            _ => state.as_deref().is_some_and(is_lost) || connecting && state.is_none(),
        };
        // Drivers tell only in words why nobody was let in.
        let refused = ["authentication failed", "does not exist", "invalid", "constructing client"];
        let refused = connecting && refused.iter().any(|words| message.contains(words));
        let failure = match error.status {
            _ if refused => Failure::Config,
            Status::Unauthenticated | Status::Unauthorized if connecting => Failure::Config,
            Status::InvalidArguments | Status::NotImplemented if connecting => Failure::Config,
            _ if lost => Failure::Connection,
            _ => Failure::Query,
        };
        let state = state.map(|state| format!(" (SQLSTATE {state})")).unwrap_or_default();
        Error::new(failure, format!("{who}: {message}{state}"))
    }

    /// An error in the middle of the rows has words only.
    fn broken(&self, error: &ArrowError) -> Error {
        let message = self.hide(&error.to_string());
        let lower = message.to_lowercase();
        let lost =
            ["connection", "terminat", "timed out", "timeout", "reset", "broken pipe", "eof"]
                .iter()
                .any(|word| lower.contains(word));
        let failure = if lost { Failure::Connection } else { Failure::Query };
        Error::new(failure, format!("the database, in the middle of the rows: {message}"))
    }
}

fn sqlstate(error: &AdbcError) -> Option<String> {
    let byte = |&c: &c_char| c.to_ne_bytes()[0];
    let bytes: Vec<u8> = error.sqlstate.iter().map(byte).collect();
    let given = bytes.iter().all(u8::is_ascii_alphanumeric) && bytes.iter().any(|&b| b != b'0');
    given.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a SQLSTATE says that the same may work at another time: connections, resources, restarts,
/// and transactions that met.
fn is_lost(state: &str) -> bool {
    ["08", "53", "57P", "40"].iter().any(|class| state.starts_with(class))
}
