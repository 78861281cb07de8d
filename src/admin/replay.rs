//! `POST /dead-letters/replay`.

use std::pin::Pin;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::server::{Answer, error, json_answer};

/// Longest request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Which dead letters are to be replayed: those for which everything that is said is so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// For this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// From this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// For this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Received then or later, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_ms: Option<u64>,
    /// Received before that, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_unix_ms: Option<u64>,
    /// No more than so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only count.
    pub dry_run: bool,
    /// Where the last answer said to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<ReplayPlace>,
}

/// Where a replay goes on, that took too long for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPlace {
    /// Per kind of dead letters, how far it came.
    pub from: [u64; 2],
    /// Per kind, where it ends: what fails once more is not replayed once more.
    pub end: [u64; 2],
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayAnswer {
    /// Letters that were put into the log for their destination, or accepted as an event of their
    /// source.
    pub replayed: u64,
    /// Letters whose destination or source does not exist any more: they stay.
    pub without_owner: u64,
    /// Letters of which only the beginning was kept: they stay.
    pub cut: u64,
    /// Lines that were rejected once more: they stay.
    pub rejected_again: u64,
    /// Where to go on, if this was not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<ReplayPlace>,
}

/// Why a replay failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// There are no dead letters, or not such ones; what was asked for makes no sense.
    Refused(String),
    /// Another one goes on.
    Busy,
    /// The daemon stops.
    Stopping,
    /// Something broke; what was replayed until then may be replayed again.
    Failed(String),
}

/// What carries a replay out.
pub type Replay = Box<
    dyn Fn(ReplayRequest) -> Pin<Box<dyn Future<Output = Result<ReplayAnswer, ReplayError>> + Send>>
        + Send
        + Sync,
>;

pub(super) async fn replay(request: Request<Incoming>, replay: &Replay) -> Answer {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
        return error(StatusCode::BAD_REQUEST, "bad_request", "the request could not be read");
    };
    let asked =
        if body.is_empty() { Ok(ReplayRequest::default()) } else { serde_json::from_slice(&body) };
    let asked = match asked {
        Ok(asked) => asked,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, "bad_request", &wrong.to_string()),
    };
    match replay(asked).await {
        Ok(answer) => json_answer(StatusCode::OK, &json!(answer)),
        Err(ReplayError::Refused(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, "refused", &why),
        Err(ReplayError::Busy) => {
            error(StatusCode::CONFLICT, "busy", "another replay goes on; ask again when it is done")
        }
        Err(ReplayError::Stopping) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the daemon is stopping")
        }
        Err(ReplayError::Failed(why)) => error(StatusCode::INTERNAL_SERVER_ERROR, "failed", &why),
    }
}
