//! `POST /erase`.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::server::{Answer, error, json_answer};

/// Longest body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// An erasure that somebody waits for. At least one ID is given.
pub struct EraseRequest {
    /// Erase the events with this `userId`.
    pub user: Option<String>,
    /// Erase the events with this `anonymousId`.
    pub anonymous: Option<String>,
    /// Answer only when no request is under way any more that began before.
    pub wait: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<EraseAnswer>,
}

/// What became of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum EraseAnswer {
    /// It is durable and in force. The events are being removed from the disk.
    Erased {
        /// Whether requests are under way that began before and may contain such events.
        in_flight: bool,
    },
    /// It is not done, at least not everywhere.
    Failed {
        /// The cause.
        why: String,
    },
}

/// What is to be erased: the body of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// A `userId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// An `anonymousId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous: Option<String>,
}

/// Answers a request; there are no `erasures` where there is no log.
pub(super) async fn erase(
    request: Request<Incoming>,
    erasures: Option<&mpsc::Sender<EraseRequest>>,
    wait: bool,
) -> Answer {
    let Some(erasures) = erasures else {
        let message = "the log is off, so nothing is stored; what waits in memory can't be erased";
        return error(StatusCode::CONFLICT, "no_log", message);
    };
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let subject = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let is_named = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.is_empty());
    let Some(Subject { user, anonymous }) =
        subject.filter(|subject: &Subject| is_named(&subject.user) || is_named(&subject.anonymous))
    else {
        let message = "the body is {\"user\": \"...\", \"anonymous\": \"...\"}, with one or both";
        return error(StatusCode::BAD_REQUEST, "bad_request", message);
    };
    let given = |id: Option<String>| id.filter(|id| !id.is_empty());
    let (user, anonymous) = (given(user), given(anonymous));
    let (answer, outcome) = oneshot::channel();
    let asked = EraseRequest { user, anonymous, wait, answer };
    let outcome = match erasures.send(asked).await {
        Ok(()) => outcome.await.ok(),
        Err(_) => None,
    };
    match outcome {
        Some(outcome @ EraseAnswer::Erased { .. }) => json_answer(StatusCode::OK, &json!(outcome)),
        Some(EraseAnswer::Failed { why }) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "not_erased", &why)
        }
        None => error(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the daemon is stopping"),
    }
}
