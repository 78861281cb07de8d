//! `/syncs`: the syncs of the models.

use std::pin::Pin;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::server::{Answer, error, json_answer, not_allowed};

/// Samples that are kept of a sync.
pub const SAMPLES_MAX: usize = 10;
/// Bytes of each.
pub const SAMPLE_BYTES_MAX: usize = 200;
/// Bytes of an error.
pub const ERROR_BYTES_MAX: usize = 2000;

/// How a sync stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It goes on.
    #[default]
    Running,
    /// Everything was sent.
    Done,
    /// It ended before that; `error` says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl SyncState {
    /// The name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How far a sync is, or how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// How it stands.
    pub state: SyncState,
    /// What it does: `query` or `send`.
    pub phase: String,
    /// Rows that the query gave.
    pub rows: u64,
    /// Rows that came from the warehouse: fewer, where it is the warehouse that compares them.
    pub fetched: u64,
    /// New rows.
    pub added: u64,
    /// Rows of which something differs.
    pub updated: u64,
    /// Rows that are gone.
    pub deleted: u64,
    /// Rows as they were.
    pub unchanged: u64,
    /// Rows whose consent for some destination ended.
    pub withdrawn: u64,
    /// Rows that consent keeps from some destination.
    pub refused: u64,
    /// Rows that were rejected.
    pub failed: u64,
    /// Rows without an id, with one that others have too, or over a limit.
    pub skipped: u64,
    /// Events that were sent.
    pub sent: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Rows that were not sent: their ids, and why.
    pub samples: Vec<String>,
}

impl Counts {
    /// The numbers by the change that they count.
    #[must_use]
    pub fn by_change(&self) -> [(&'static str, u64); 8] {
        [
            ("added", self.added),
            ("updated", self.updated),
            ("deleted", self.deleted),
            ("unchanged", self.unchanged),
            ("withdrawn", self.withdrawn),
            ("refused", self.refused),
            ("failed", self.failed),
            ("skipped", self.skipped),
        ]
    }

    /// The same with texts of bounded length.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.samples.truncate(SAMPLES_MAX);
        self.samples.iter_mut().for_each(|sample| cut(sample, SAMPLE_BYTES_MAX));
        self.error.iter_mut().for_each(|error| cut(error, ERROR_BYTES_MAX));
        cut(&mut self.phase, SAMPLE_BYTES_MAX);
        self
    }
}

/// Cuts a text to so many bytes, at the border of a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// A sync that went on, or goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// Its ID.
    pub sync: String,
    /// `schedule` or `request`.
    pub by: String,
    /// Whether the state of the last sync was forgotten before.
    pub full: bool,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// When it began (RFC 3339).
    pub start: String,
    /// When it ended.
    pub end: Option<String>,
    /// How far it came.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A model, as far as its syncs are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub model: String,
    /// When syncs start, for people.
    pub schedule: String,
    /// When the next one starts (RFC 3339), if one is scheduled.
    pub next: Option<String>,
    /// The one that goes on.
    pub running: Option<SyncRecord>,
    /// The ones that ended, newest first.
    pub history: Vec<SyncRecord>,
}

/// What is asked about syncs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRequest {
    /// Every model, with its last sync.
    List,
    /// One model, with all that is remembered.
    Show(String),
    /// Start a sync.
    Start {
        /// Of this model.
        model: String,
        /// Forget the state of the last one.
        full: bool,
        /// Send nothing.
        dry_run: bool,
    },
    /// Cancel the one that goes on.
    Cancel(String),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncAnswer {
    /// What was asked for.
    Models(Vec<ModelStatus>),
    /// The sync with this ID was started, or is asked to stop.
    Accepted(String),
    /// There is no such model.
    Unknown,
    /// It can't be done now; why.
    Conflict(String),
    /// The daemon stops.
    Stopping,
}

/// What carries it out.
pub type Syncs =
    Box<dyn Fn(SyncRequest) -> Pin<Box<dyn Future<Output = SyncAnswer> + Send>> + Send + Sync>;

/// Answers a request whose path is `/syncs`, or begins with `/syncs/`: `rest` is what follows.
pub(super) async fn syncs(
    method: &Method,
    rest: &str,
    query: Option<&str>,
    syncs: &Syncs,
) -> Answer {
    let reading = method == Method::GET || method == Method::HEAD;
    let (model, action) =
        rest.split_once('/').map_or((rest, ""), |(model, action)| (model, action));
    let asked = match (model, action) {
        ("", "") if reading => SyncRequest::List,
        ("", "") => return not_allowed("GET, HEAD"),
        (model, "") if reading => SyncRequest::Show(model.to_owned()),
        (model, "") if method == Method::POST => match flags(query.unwrap_or_default()) {
            Ok((full, dry_run)) => SyncRequest::Start { model: model.to_owned(), full, dry_run },
            Err(why) => return error(StatusCode::BAD_REQUEST, "bad_request", why),
        },
        (_, "") => return not_allowed("GET, HEAD, POST"),
        (model, "cancel") if method == Method::POST => SyncRequest::Cancel(model.to_owned()),
        (_, "cancel") => return not_allowed("POST"),
        _ => {
            let message = "there is /syncs, /syncs/MODEL and /syncs/MODEL/cancel";
            return error(StatusCode::NOT_FOUND, "not_found", message);
        }
    };
    let is_list = asked == SyncRequest::List;
    match syncs(asked).await {
        SyncAnswer::Models(models) if is_list => {
            json_answer(StatusCode::OK, &json!({ "models": models }))
        }
        SyncAnswer::Models(models) => {
            json_answer(StatusCode::OK, &models.first().map_or(Value::Null, |one| json!(one)))
        }
        SyncAnswer::Accepted(sync) => json_answer(StatusCode::ACCEPTED, &json!({ "sync": sync })),
        SyncAnswer::Unknown => {
            error(StatusCode::NOT_FOUND, "no_such_model", "the daemon runs no model of that name")
        }
        SyncAnswer::Conflict(why) => error(StatusCode::CONFLICT, "conflict", &why),
        SyncAnswer::Stopping => {
            error(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the daemon is stopping")
        }
    }
}

/// `full` and `dry_run`. What is misspelt is refused: a sync for real must not start by mistake.
fn flags(query: &str) -> Result<(bool, bool), &'static str> {
    let (mut full, mut dry_run) = (false, false);
    for flag in query.split('&').filter(|flag| !flag.is_empty()) {
        let (name, value) = flag.split_once('=').unwrap_or((flag, "1"));
        let value = match value {
            "1" | "true" => true,
            "0" | "false" => false,
            _ => return Err("full and dry_run are 1 or 0"),
        };
        match name {
            "full" => full = value,
            "dry_run" => dry_run = value,
            _ => return Err("there is full and dry_run"),
        }
    }
    Ok((full, dry_run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_refused() {
        for (query, flags_are) in [
            ("", Ok((false, false))),
            ("full=1", Ok((true, false))),
            ("dry_run=1&full=0", Ok((false, true))),
            ("full&dry_run=true", Ok((true, true))),
        ] {
            assert_eq!(flags(query), flags_are, "{query}");
        }
        assert!(flags("dryrun=1").is_err() && flags("dry_run=yes").is_err());
    }

    #[test]
    fn texts_of_a_sync_are_bounded() {
        let long = "\u{e9}".repeat(2000);
        let samples = vec![long.clone(); 20];
        let counts = Counts { error: Some(long), samples, ..Counts::default() }.bounded();
        assert_eq!(counts.samples.len(), SAMPLES_MAX);
        assert!(counts.samples.iter().all(|sample| sample.len() <= SAMPLE_BYTES_MAX));
        assert!(counts.error.is_some_and(|error| error.len() <= ERROR_BYTES_MAX));
    }
}
