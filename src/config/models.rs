//! Warehouses and models after every check.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::text::Secret;

/// `[warehouses.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Warehouse {
    /// The name.
    pub name: String,
    /// Name of the ADBC driver.
    pub driver: String,
    /// Its shared library, where it is not found by its name.
    pub path: Option<PathBuf>,
    /// The function that initialises it, where it is not the one that its name leads to.
    pub entrypoint: Option<String>,
    /// Where the database is.
    pub uri: Option<Secret>,
    /// More options of the driver.
    pub options: Vec<(String, Secret)>,
}

impl Warehouse {
    /// Whether the database is of a kind in which state can be kept. Its driver may have any name; then that
    /// of the library says what it is.
    #[must_use]
    pub fn can_keep_state(&self) -> bool {
        const ENGINES: [&str; 2] = ["postgres", "duckdb"];
        let is_one = |name: &str| {
            let name = name.to_ascii_lowercase();
            ENGINES.iter().any(|engine| name.contains(engine))
        };
        let library = self.path.as_deref().and_then(Path::file_name);
        match &self.path {
            None if self.driver == "sqlite" => true,
            _ => {
                is_one(&self.driver) || library.is_some_and(|name| is_one(&name.to_string_lossy()))
            }
        }
    }
}

/// `[models.NAME]`: a query whose rows become events. It is a source of that name.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name: letters, digits, `-` and `_`, so that it can be that of a file.
    pub name: String,
    /// Position in [`super::Config::warehouses`].
    pub warehouse: usize,
    /// What is asked.
    pub query: Query,
    /// The column that tells rows apart.
    pub unique_id: String,
    /// Where consent is.
    pub consent: ModelConsent,
    /// Which values of consent columns grant.
    pub consent_cast: ConsentCast,
    /// Keys from the event to its consent object: the first location at which the routing table looks.
    pub consent_location: Vec<String>,
    /// When syncs start.
    pub schedule: Schedule,
    /// Which changes are sent.
    pub send: Send,
    /// The only columns that make a row an updated one, beside the id and the consent columns.
    pub track_columns: Option<Vec<String>>,
    /// What a row becomes.
    pub event: Vec<(String, Template)>,
    /// What a deletion becomes; the only column in it is the id.
    pub deletion: Vec<(String, Template)>,
    /// The only destinations that rows may go to.
    pub destinations: Option<Vec<String>>,
    /// What a destination gets when consent for it ends.
    pub on_withdrawal: OnWithdrawal,
    /// What becomes of NULL.
    pub null_values: Nulls,
    /// So many syncs try to send a rejected row again.
    pub retry_syncs: u32,
    /// For so long at most.
    pub retry_for: Duration,
    /// Where the state of the last sync is.
    pub state: StateIn,
    /// What a sync refuses to take.
    pub limits: ModelLimits,
}

impl Model {
    /// The columns that the query has to return, each with the key that names it.
    #[must_use]
    pub fn columns(&self) -> Vec<(String, &str)> {
        let mut columns = vec![("unique_id".to_owned(), self.unique_id.as_str())];
        if let ModelConsent::Columns(consent) = &self.consent {
            let key = |category: &String| format!("consent.{category}");
            columns.extend(consent.iter().map(|(category, column)| (key(category), &column[..])));
        }
        let tracked = self.track_columns.iter().flatten();
        columns.extend(tracked.map(|column| ("track_columns".to_owned(), column.as_str())));
        let fields = self.event.iter();
        fields.for_each(|(field, part)| part.columns(&format!("event.{field}"), &mut columns));
        columns
    }

    /// The SQL text; reads the file of `query_file`.
    ///
    /// # Errors
    /// For people: the file can't be read, or the text is empty or longer than `limits.query_chars`.
    pub fn sql(&self) -> Result<String, String> {
        let key = format!("models.{}.query", self.name);
        let sql = match &self.query {
            Query::Text(sql) => return Ok(sql.clone()),
            Query::File(path) => read_query(path, self.limits.query_chars).map_err(|error| {
                format!("{key}_file: {} can't be read: {error}", path.display())
            })?,
        };
        match query_problem(&sql, self.limits.query_chars) {
            None => Ok(sql),
            Some(problem) => Err(format!("{key}_file: {problem}")),
        }
    }
}

/// Not more of the file than shows that it is too long.
fn read_query(path: &Path, chars_max: usize) -> io::Result<String> {
    use io::Read as _;
    let bytes_max = chars_max as u64 * 4 + 4;
    let mut sql = String::new();
    std::fs::File::open(path)?.take(bytes_max).read_to_string(&mut sql)?;
    Ok(sql)
}

/// Why `sql` can't be a query.
pub(super) fn query_problem(sql: &str, chars_max: usize) -> Option<String> {
    if sql.trim().is_empty() {
        return Some("the query is empty".to_owned());
    }
    let chars = sql.chars().count();
    (chars > chars_max).then(|| {
        format!("the query has {chars} characters or more, limits.query_chars is {chars_max}")
    })
}

/// `query` or `query_file`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// In the config.
    Text(String),
    /// In a file.
    File(PathBuf),
}

/// `consent` of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelConsent {
    /// Category IDs and columns, in the order of the file; at least one.
    Columns(Vec<(String, String)>),
    /// Rows have none: `consent.missing` decides.
    None,
}

/// `consent_cast`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentCast {
    /// Only true of a boolean column grants.
    Strict,
    /// Texts and numbers, too.
    Lenient,
}

/// `every`, `cron` or neither
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Somebody starts every sync.
    ByHand,
    /// So often.
    Every(Duration),
    /// Five fields: minute, hour, day of the month, month, day of the week.
    Cron(String),
}

/// `send`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Rows whose id is new.
    pub added: bool,
    /// Rows of which a column differs.
    pub updated: bool,
    /// Rows that are gone.
    pub deleted: bool,
}

/// A part of an event that is made of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// The value of this column.
    Column(String),
    /// Text as it is.
    Text(String),
    /// A number or a boolean.
    Value(serde_json::Value),
    /// An array.
    List(Vec<Template>),
    /// An object, in the order of the file.
    Table(Vec<(String, Template)>),
}

impl Template {
    fn columns<'t>(&'t self, key: &str, into: &mut Vec<(String, &'t str)>) {
        match self {
            Self::Column(column) => into.push((key.to_owned(), column)),
            Self::Text(_) | Self::Value(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.columns(key, into)),
            Self::Table(fields) => fields
                .iter()
                .for_each(|(field, part)| part.columns(&format!("{key}.{field}"), into)),
        }
    }
}

/// `on_withdrawal`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWithdrawal {
    /// The destination keeps what it has.
    Ignore,
    /// It gets one deletion.
    Delete,
}

/// `null_values`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// As `null`.
    Send,
    /// Left out.
    Omit,
}

/// `state` of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateIn {
    /// Under `daemon.data_dir`.
    Local,
    /// In the warehouse, as far as it is what rows looked like.
    Warehouse,
}

/// `limits`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Characters of the query.
    pub query_chars: usize,
    /// Columns of its result.
    pub columns: usize,
    /// Bytes of a row's event.
    pub row_bytes: usize,
    /// Rows of a sync.
    pub rows: u64,
}
