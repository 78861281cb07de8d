//! Answers: what went wrong to status and code, and the JSON of every body.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::tally::{RejectedLine, Tally};

/// A complete answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NotFound,
    MethodNotAllowed,
    UnsupportedEncoding,
    BodyTooLarge,
    /// The body is not what `Content-Encoding` says.
    InvalidEncoding,
    /// The client went away, or broke the rules of HTTP.
    IncompleteBody,
    /// The client took too long to send.
    RequestTimeout,
    /// The daemon took too long to find room or to judge.
    Overloaded,
    /// The log takes no more, so nothing can be acknowledged.
    LogFull,
    ShuttingDown,
}

impl Failure {
    /// Status, code and message: the one place that knows them.
    fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotFound => {
                (StatusCode::NOT_FOUND, "not_found", "events are taken at / and /v1/events")
            }
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "events are sent with POST")
            }
            Self::UnsupportedEncoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_encoding",
                "Content-Encoding must be one of identity, gzip, zstd, deflate",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "the body, compressed or inflated, is longer than max_body_bytes of this source",
            ),
            Self::InvalidEncoding => (
                StatusCode::BAD_REQUEST,
                "invalid_encoding",
                "the body is damaged or not compressed as Content-Encoding says",
            ),
            Self::IncompleteBody => (
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "the body ended before it was complete",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the body was not sent within request_timeout of this source",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "destinations are slower than the events come in, send this again later",
            ),
            Self::LogFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "log_full",
                "the log is full or its disk nearly is, send this again later",
            ),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting_down",
                "the daemon is shutting down, send this again later",
            ),
        }
    }

    /// The header field that goes with the status.
    fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::MethodNotAllowed => Some((ALLOW, HeaderValue::from_static("POST"))),
            Self::UnsupportedEncoding => {
                Some((ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, deflate, identity")))
            }
            Self::Overloaded => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::LogFull | Self::ShuttingDown => {
                Some((RETRY_AFTER, HeaderValue::from_static("5")))
            }
            Self::NotFound
            | Self::BodyTooLarge
            | Self::InvalidEncoding
            | Self::IncompleteBody
            | Self::RequestTimeout => None,
        }
    }

    /// The answer. The connection ends with it, because the rest of the body was not read.
    pub(super) fn answer(self) -> Answer {
        let (status, code, message) = self.describe();
        let mut answer = json(status, &ErrorBody { code, message, lines: None });
        let headers = answer.headers_mut();
        headers.extend(self.header());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(flatten)]
    lines: Option<Lines<'a>>,
}

#[derive(Serialize)]
struct Lines<'a> {
    accepted: u64,
    rejected: &'a [RejectedLine],
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_total: Option<u64>,
}

/// The answer to a body that was read and judged to its end.
pub(super) fn judged(tally: &Tally) -> Answer {
    let lines = Lines {
        accepted: tally.accepted,
        rejected: &tally.listed,
        rejected_total: (tally.rejected > tally.listed.len() as u64).then_some(tally.rejected),
    };
    if tally.accepted > 0 {
        return json(StatusCode::OK, &lines);
    }
    let (code, message) = if tally.rejected == 0 {
        ("empty_body", "the body holds no event")
    } else {
        ("no_acceptable_event", "every event of the body was rejected")
    };
    let body = ErrorBody { code, message, lines: Some(lines) };
    json(StatusCode::BAD_REQUEST, &body)
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // Strings and numbers: there is nothing that could fail.
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
