//! Tables in the warehouse that hold what a query gave, and the SQL that compares two of them.
//!
//! What always holds: a row that the comparison leaves out is, to the last byte that its event could show,
//! one of the older table, under an id that stands once in both. It may give rows that are the same after all.

use arrow_array::{Array as _, cast::AsArray as _};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::cell;
use super::driver::{Batches, Connection, Dialect};
use super::error::{Error, Failure};
use super::row::RowShape;
use super::sql;

/// Where the tables are. SQLite has no schemas: there it is the beginning of their names.
const SCHEMA: &str = "_consentd";

/// What is left of a model's name in that of a table: PostgreSQL cuts names to 63 bytes.
const NAME_CHARS: usize = 40;

/// A name for a new table of a model.
#[must_use]
pub fn fresh_name(model: &str, random: u64) -> String {
    let model: String = model.chars().take(NAME_CHARS).collect();
    format!("{model}_{random:016x}")
}

/// A table, as it stands in SQL.
fn place(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Sqlite => quoted(&format!("{SCHEMA}_{name}")),
        _ => format!("{}.{}", quoted(SCHEMA), quoted(name)),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a table of what a query gives, in the place of one that may be there; the schema, too, where it is
/// missing.
///
/// # Errors
/// The database's own message, with what its user may lack.
pub fn make_table(connection: &mut dyn Connection, name: &str, query: &str) -> Result<(), Error> {
    let dialect = connection.dialect();
    let made = make_schema(connection).and_then(|()| drop_table(connection, name));
    made.map_err(|error| advised(dialect, &error))?;
    let query = sql::one_statement(query, dialect)?.trim_end();
    connection.create_as(&place(dialect, name), query).map_err(|error| {
        let said = error.to_string();
        // Else it is the query that went wrong.
        let words = ["schema _consentd", "readonly", "read-only"];
        let is_ours = words.iter().any(|word| said.contains(word));
        if is_ours { advised(dialect, &error) } else { error }
    })
}

/// Who may not make a schema can be given one: it is not asked for where it is there.
fn make_schema(connection: &mut dyn Connection) -> Result<(), Error> {
    const IS_THERE: &str = "select cast(count(*) as varchar(20)) from information_schema.schemata \
                            where schema_name = '_consentd'";
    match connection.dialect() {
        Dialect::Sqlite => return Ok(()),
        Dialect::Postgres if text(connection, IS_THERE)? != "0" => return Ok(()),
        _ => {}
    }
    connection.execute(&format!("create schema if not exists {}", quoted(SCHEMA)))
}

fn advised(dialect: Dialect, error: &Error) -> Error {
    let advice = match dialect {
        Dialect::Sqlite => "consentd's user must be able to write to the file and its folder",
        Dialect::DuckDb => {
            "the file must be one that can be written to, and no other process may have it open"
        }
        _ => {
            "its user must be able to make tables there: `grant create on database ... to ...`, or \
             `create schema \"_consentd\" authorization ...`"
        }
    };
    let help = format!(
        "{error}; state = \"warehouse\" keeps a table in the warehouse: {advice}; or write state = \"local\""
    );
    Error::new(error.failure(), help)
}

/// Drops a table, if it is there.
///
/// # Errors
/// The database's own message.
pub fn drop_table(connection: &mut dyn Connection, name: &str) -> Result<(), Error> {
    let table = place(connection.dialect(), name);
    connection.execute(&format!("drop table if exists {table}"))
}

/// Makes a table where those of a model would be, and drops it: whether its state can be there.
///
/// # Errors
/// As [`make_table`].
pub fn try_table(connection: &mut dyn Connection, model: &str, random: u64) -> Result<(), Error> {
    let name = fresh_name(model, random);
    make_table(connection, &name, "select 1 as id")?;
    drop_table(connection, &name)
}

/// How many rows a table has.
///
/// # Errors
/// The database's own message.
pub fn count_rows(connection: &mut dyn Connection, name: &str) -> Result<u64, Error> {
    count(connection, name, "")
}

fn count(connection: &mut dyn Connection, name: &str, which: &str) -> Result<u64, Error> {
    let table = place(connection.dialect(), name);
    let sql = format!("select cast(count(*) as varchar(20)) from {table}{which}");
    let counted = text(connection, &sql)?;
    counted.parse().map_err(|_| Error::new(Failure::Query, format!("`{sql}` gave {counted:?}")))
}

/// What columns hold that their table does not: the labels of PostgreSQL's enums may be renamed, and then
/// all that is stored says something else.
///
/// # Errors
/// The database's own message.
pub fn labels(connection: &mut dyn Connection) -> Result<String, Error> {
    const ENUMS: &str = "select coalesce(md5(string_agg(oid::text || ' ' || enumlabel, ',' \
                         order by oid)), '') from pg_enum";
    match connection.dialect() {
        Dialect::Postgres => text(connection, ENUMS),
        _ => Ok(String::new()),
    }
}

/// The one text that a query gives.
fn text(connection: &mut dyn Connection, sql: &str) -> Result<String, Error> {
    let wrong = || Error::new(Failure::Query, format!("`{sql}` did not give one text"));
    let mut answer = connection.query_few(sql, 1)?;
    let batch = answer.next().ok_or_else(wrong)??;
    let column = batch.columns().first().ok_or_else(wrong)?;
    let texts = column.as_string_opt::<i32>().filter(|texts| !texts.is_empty());
    Ok(texts.ok_or_else(wrong)?.value(0).to_owned())
}

/// Whether equal ids of this column are the same id in an event, in every row of a table: only then the
/// database can tell which ids are gone.
///
/// # Errors
/// The database's own message.
pub fn has_plain_ids(
    connection: &mut dyn Connection,
    name: &str,
    id: &Field,
) -> Result<bool, Error> {
    if cell::is_json(id) {
        return Ok(false);
    }
    if connection.dialect() == Dialect::Sqlite {
        // Its columns hold values of any type.
        let which =
            format!(" where typeof({}) not in ('integer', 'text', 'null')", quoted(id.name()));
        return Ok(count(connection, name, &which)? == 0);
    }
    Ok(is_integer(id.data_type())
        || cell::is_uuid(id)
        || matches!(id.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
}

fn is_integer(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
    )
}

/// Whether the database's own equality is as fine as ours. It is not where numbers have trailing zeros, zeros
/// a sign, months thirty days, or letters no case; and some types have none at all.
fn is_exact(kind: &DataType) -> bool {
    is_integer(kind)
        || matches!(kind, DataType::Boolean | DataType::Date32 | DataType::Timestamp(..))
}

/// All rows of a table.
///
/// # Errors
/// The database's own message.
pub fn all_rows(connection: &mut dyn Connection, name: &str) -> Result<Box<dyn Batches>, Error> {
    let table = place(connection.dialect(), name);
    connection.query(&format!("select * from {table}"))
}

/// The columns of a table.
///
/// # Errors
/// The database's own message.
pub fn columns(connection: &mut dyn Connection, name: &str) -> Result<SchemaRef, Error> {
    let table = place(connection.dialect(), name);
    Ok(connection.query_few(&format!("select * from {table} limit 0"), 1)?.schema())
}

/// Makes ids quick to find where the engine would look through the whole table for each.
///
/// # Errors
/// The database's own message.
pub fn make_index(connection: &mut dyn Connection, name: &str, id: &Field) -> Result<(), Error> {
    let dialect = connection.dialect();
    if dialect != Dialect::Sqlite {
        return Ok(());
    }
    let (table, index) = (place(dialect, name), place(dialect, &format!("{name}_id")));
    connection.execute(&format!("create index {index} on {table} ({})", quoted(id.name())))
}

/// Two tables of the same columns.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'t> {
    /// What the query gave now,
    pub new: &'t str,
    /// and at the last sync.
    pub old: &'t str,
    /// Which columns are compared.
    pub shape: &'t RowShape,
    /// Those of both.
    pub schema: &'t Schema,
}

impl Tables<'_> {
    /// The rows that may differ: those that are not in the older table, and those whose id stands more
    /// than once in one of both. Each once.
    ///
    /// # Errors
    /// The database's own message.
    pub fn changed(&self, connection: &mut dyn Connection) -> Result<Box<dyn Batches>, Error> {
        if connection.dialect() == Dialect::Postgres {
            // So that the text of a number says everything, whatever the database is set to.
            connection.execute("set extra_float_digits = 3")?;
        }
        connection.query(&Comparing::new(self, connection.dialect()).changed())
    }

    /// The rows of the older table whose ids are not in the newer one.
    ///
    /// # Errors
    /// The database's own message.
    pub fn gone(&self, connection: &mut dyn Connection) -> Result<Box<dyn Batches>, Error> {
        connection.query(&Comparing::new(self, connection.dialect()).gone())
    }
}

/// The parts of what is asked.
struct Comparing {
    new: String,
    old: String,
    /// The id of both.
    id: String,
    old_id: String,
    /// That a row of both is the same.
    same: String,
}

impl Comparing {
    fn new(tables: &Tables<'_>, dialect: Dialect) -> Self {
        let Tables { shape, schema, .. } = tables;
        let id = schema.field(shape.id_at());
        let [new_id, old_id] = ["n", "o"].map(|table| id_of(dialect, table, id));
        let others = shape.tracked_at().iter().filter(|at| **at != shape.id_at());
        let others: Vec<&Field> = others.map(|at| schema.field(*at)).collect();
        Self {
            new: place(dialect, tables.new),
            old: place(dialect, tables.old),
            same: format!("{old_id} = {new_id}{}", same(dialect, &others)),
            id: new_id,
            old_id,
        }
    }

    fn changed(&self) -> String {
        let Self { new, old, id, old_id, same } = self;
        format!(
            "select n.* from {new} n where not exists (select 1 from {old} o where {same})\n\
             union all\n\
             select n.* from {new} n where {id} in (\
             select {id} from {new} n group by 1 having count(*) > 1 union all \
             select {old_id} from {old} o group by 1 having count(*) > 1) \
             and exists (select 1 from {old} o where {same})"
        )
    }

    fn gone(&self) -> String {
        let Self { new, old, id, old_id, .. } = self;
        format!(
            "select o.* from {old} o where {old_id} is not null \
             and not exists (select 1 from {new} n where {id} = {old_id})"
        )
    }
}

/// An id, such that equal ones are the same in an event.
fn id_of(dialect: Dialect, table: &str, id: &Field) -> String {
    let column = format!("{table}.{}", quoted(id.name()));
    match dialect {
        _ if is_integer(id.data_type()) || dialect == Dialect::Sqlite => column,
        _ => bytes_of(dialect, &column),
    }
}

/// A value by the bytes of its text, whatever letters a collation takes for the same.
fn bytes_of(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("{column}::text collate \"C\""),
        _ => format!("encode({column}::varchar)"),
    }
}

/// That columns are the same in both tables; `and` before each.
fn same(dialect: Dialect, columns: &[&Field]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    if dialect == Dialect::Sqlite {
        // One comparison, however many columns: an expression may not be deep there.
        let side = |table: &str| {
            let both = columns.iter().map(|field| {
                let column = format!("{table}.{}", quoted(field.name()));
                format!("{column}, typeof({column})")
            });
            both.collect::<Vec<_>>().join(", ")
        };
        return format!(" and ({}) is ({})", side("o"), side("n"));
    }
    let one = |field: &&Field| {
        let (old, new) =
            (format!("o.{}", quoted(field.name())), format!("n.{}", quoted(field.name())));
        let values = format!(" and {old} is not distinct from {new}");
        if is_exact(field.data_type()) {
            return values;
        }
        let [old, new] = [old, new].map(|column| bytes_of(dialect, &column));
        let bytes = format!(" and {old} is not distinct from {new}");
        match dialect {
            // Some types have no equality, and the texts of all say everything.
            Dialect::Postgres => bytes,
            _ => values + &bytes,
        }
    };
    columns.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_short_enough_for_every_engine() {
        let name = fresh_name(&"m".repeat(64), 0xAB);
        assert_eq!(name, format!("{}_00000000000000ab", "m".repeat(40)));
        assert!(
            name.len() < 64,
            "PostgreSQL cuts what is longer, and with it what tells tables apart"
        );
        assert_eq!(place(Dialect::Sqlite, "a-b_1"), "\"_consentd_a-b_1\"");
        assert_eq!(place(Dialect::Postgres, "a-b_1"), "\"_consentd\".\"a-b_1\"");
        assert_eq!(quoted("a\"; drop table b; --"), "\"a\"\"; drop table b; --\"");
    }

    #[test]
    fn columns_are_compared_as_finely_as_events_show_them() {
        let (number, words) =
            (Field::new("a", DataType::Int32, true), Field::new("b\"", DataType::Utf8, true));
        let columns = [&number, &words];
        for (dialect, expected) in [
            (
                Dialect::Sqlite,
                r#" and (o."a", typeof(o."a"), o."b""", typeof(o."b""")) is (n."a", typeof(n."a"), n."b""", typeof(n."b"""))"#,
            ),
            (
                Dialect::Postgres,
                r##" and o."a" is not distinct from n."a" and o."b"""::text collate "C" is not distinct from n."b"""::text collate "C""##,
            ),
            (
                Dialect::DuckDb,
                r#" and o."a" is not distinct from n."a" and o."b""" is not distinct from n."b""" and encode(o."b"""::varchar) is not distinct from encode(n."b"""::varchar)"#,
            ),
        ] {
            assert_eq!(same(dialect, &columns), expected, "{dialect:?}");
            assert_eq!(same(dialect, &[]), "", "{dialect:?}");
        }
        assert_eq!(id_of(Dialect::Sqlite, "n", &words), r#"n."b""""#);
        assert_eq!(id_of(Dialect::Postgres, "n", &number), r#"n."a""#);
        assert_eq!(id_of(Dialect::DuckDb, "n", &words), r#"encode(n."b"""::varchar)"#);
    }
}
