//! `[warehouses.NAME]` and `[models.NAME]`

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults::{self, size, time};
use super::{At, ConsentColumns, Interval, Named, SecretValue, Size, Template};

/// `[warehouses.NAME]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Warehouse {
    /// Name of the ADBC driver, as its manifest or library is called: `postgresql` (Redshift too),
    /// `snowflake`, `bigquery`, `duckdb`, `mssql`, ... `sqlite` is built in.
    #[schemars(required)]
    pub(in crate::config) driver: Option<At<String>>,
    /// Where the database is, in the driver's own form: `postgresql://user:password@host/database`; for
    /// `sqlite` the path of the file.
    pub(in crate::config) uri: Option<At<SecretValue>>,
    /// The driver's shared library, where it is not found by its name.
    pub(in crate::config) path: Option<At<String>>,
    /// The function that initialises the driver, where it is not the one that its name leads to.
    pub(in crate::config) entrypoint: Option<At<String>>,
    /// More options of the driver, by name; the values are secrets.
    pub(in crate::config) options: Option<At<Named<At<SecretValue>>>>,
}

/// `[models.NAME]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Model {
    /// The warehouse that is asked.
    #[schemars(required)]
    pub(in crate::config) warehouse: Option<At<String>>,
    /// The SQL query: one row for each thing that is sent. This or `query_file` is required.
    pub(in crate::config) query: Option<At<String>>,
    /// A file that holds the query; a relative path begins at the folder of the config.
    pub(in crate::config) query_file: Option<At<String>>,
    /// The column that tells rows apart. Rows where it is NULL or not unique are reported and not sent.
    #[schemars(required)]
    pub(in crate::config) unique_id: Option<At<String>>,
    /// Category IDs and the columns that say whether a row's user granted them, such as
    /// `{ Advertising = "ads" }`; categories that are not named are refused. `"none"`: rows carry no
    /// consent, and `consent.missing` decides about every one.
    #[schemars(required)]
    pub(in crate::config) consent: Option<At<ConsentColumns>>,
    /// Which values of a consent column grant.
    #[schemars(extend("default" = "strict"))]
    pub(in crate::config) consent_cast: Option<At<ConsentCast>>,
    /// Syncs start so often. Without this and `cron`, only by hand.
    pub(in crate::config) every: Option<At<Interval>>,
    /// Syncs start at these times: minute, hour, day of the month, month, day of the week, such as
    /// `0 6 * * mon-fri`, in UTC.
    pub(in crate::config) cron: Option<At<String>>,
    /// Which changes since the last sync are sent.
    #[schemars(extend("default" = ["added", "updated"]))]
    pub(in crate::config) send: Option<At<Vec<At<Change>>>>,
    /// A row counts as updated only if one of these columns differs; without the key, any. The id and
    /// the consent columns always count.
    pub(in crate::config) track_columns: Option<At<Vec<At<String>>>>,
    /// The event that a row becomes: a table, in which `"$name"` is the value of that column. `$$` is a
    /// dollar. `messageId` and the consent object are set by consentd.
    #[schemars(required)]
    pub(in crate::config) event: Option<At<Template>>,
    /// The event that a deletion becomes; it can hold no column but the id. Without the key, `type =
    /// "delete"` and those fields at the top of `event` that are the id, or else `userId`.
    pub(in crate::config) deletion: Option<At<Template>>,
    /// The only destinations that rows may go to; without the key, all.
    pub(in crate::config) destinations: Option<At<Vec<At<String>>>>,
    /// What a destination gets when a row's consent for it turns from granted to refused.
    #[schemars(extend("default" = "ignore"))]
    pub(in crate::config) on_withdrawal: Option<At<OnWithdrawal>>,
    /// What becomes of fields whose column is NULL.
    #[schemars(extend("default" = "send"))]
    pub(in crate::config) null_values: Option<At<NullValues>>,
    /// So many syncs try to send a row again that a destination rejected.
    #[schemars(range(max = 1000), extend("default" = defaults::RETRY_SYNCS))]
    pub(in crate::config) retry_syncs: Option<At<u64>>,
    /// For so long at most.
    #[schemars(extend("default" = time(defaults::RETRY_FOR)))]
    pub(in crate::config) retry_for: Option<At<Interval>>,
    /// Where what rows looked like at the last sync is kept, and compared.
    #[schemars(extend("default" = "local"))]
    pub(in crate::config) state: Option<At<StateIn>>,
    /// What a sync refuses to take.
    pub(in crate::config) limits: Option<At<Limits>>,
}

/// `limits`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Characters of the query.
    #[schemars(range(min = 1, max = 16_777_216), extend("default" = defaults::QUERY_CHARS))]
    pub(in crate::config) query_chars: Option<At<u64>>,
    /// Columns of its result.
    #[schemars(range(min = 1, max = 16_384), extend("default" = defaults::COLUMNS))]
    pub(in crate::config) columns: Option<At<u64>>,
    /// A row whose event is larger is reported and not sent.
    #[schemars(extend("default" = size(defaults::ROW_BYTES)))]
    pub(in crate::config) row_bytes: Option<At<Size>>,
    /// Rows of a sync; one with more fails.
    #[schemars(range(min = 1), extend("default" = defaults::ROWS))]
    pub(in crate::config) rows: Option<At<u64>>,
}

/// `consent_cast`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ConsentCast {
    /// Only the value `true` of a boolean column grants.
    Strict,
    /// The texts `true`, `t` and `1` (upper or lower case) and the number 1 grant, too.
    Lenient,
}

/// What may have happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Change {
    /// Its id is new.
    Added,
    /// One of its columns differs.
    Updated,
    /// Its id is gone.
    Deleted,
}

/// `on_withdrawal`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnWithdrawal {
    /// Nothing: it keeps what it has.
    Ignore,
    /// One deletion, if it received the row.
    Delete,
}

/// `null_values`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum NullValues {
    /// They are sent as `null`.
    Send,
    /// They are left out.
    Omit,
}

/// `state`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum StateIn {
    /// Under `daemon.data_dir`: a user of the warehouse that may only read is enough.
    Local,
    /// In a table of the schema `_consentd`, which the user of the warehouse must be able to write: the
    /// database finds what differs, and only that crosses. SQLite (built in), PostgreSQL, DuckDB.
    Warehouse,
}
