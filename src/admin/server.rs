//! A small HTTP server.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::guard::refuses;
use super::replay::{Replay, replay};
use super::syncs::{Syncs, syncs};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::erase::{EraseRequest, erase};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 128;
/// How long a client may take for its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection lives: long enough for a reload that waits, short enough that clients that
/// do not read can't take every place for good.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(90);

/// What the admin address shows and asks for.
pub struct Control {
    /// The page of `/metrics`.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Whether events are taken and can be delivered.
    pub ready: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Replays dead letters.
    pub replay: Replay,
    /// Answers about syncs, starts and cancels them.
    pub syncs: Syncs,
    /// Where erasures are asked for; there is nothing to erase without a log.
    pub erasures: Option<mpsc::Sender<EraseRequest>>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Events are taken.
    Ready,
    /// They are not; why.
    NotReady(String),
}

/// A reload that somebody waits for.
pub struct ReloadRequest {
    /// Answer only when nothing that an older table permitted is being delivered any more.
    pub wait: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<ReloadAnswer>,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ReloadAnswer {
    /// The new config is in force.
    Applied {
        /// Version of the table in force.
        version: u64,
        /// Hash of the table in force.
        table: String,
        /// What changed, a sentence each.
        changes: Vec<String>,
        /// Keys that changed in the file and take effect only after a restart.
        restart_needed: Vec<String>,
        /// What is odd about the config.
        warnings: Vec<String>,
        /// What waits for destinations, where something does.
        waiting: Vec<Waiting>,
    },
    /// The config is wrong; the running one stays.
    Refused {
        /// Every mistake.
        errors: Vec<String>,
    },
}

/// What waited for a destination when a reload was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its name.
    pub destination: String,
    /// Events that wait for it.
    pub events: u64,
    /// How many of them the new rules refuse and the ones before did not: they are dropped when it is
    /// their turn. `None` where there is no log to look in.
    pub refused: Option<u64>,
    /// Whether there was time to look at all of them; else there may be more.
    pub complete: bool,
    /// Events in requests under way, which the rules before permitted.
    pub in_flight: u64,
}

/// The admin address, bound. Nobody can connect before it serves.
#[derive(Debug)]
pub struct Admin {
    socket: TcpSocket,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Binds the address.
    ///
    /// # Errors
    /// As `bind`.
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = match listen {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Otherwise connections of the last run that are not forgotten yet would stop a restart.
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        Ok(Self { socket })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// As `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Listens; gives what serves until `stop`.
    ///
    /// # Errors
    /// As `listen`: somebody else may have bound the address, too, and listened first.
    pub fn listen(self) -> io::Result<Listening> {
        Ok(Listening { listener: self.socket.listen(BACKLOG)? })
    }
}

/// The admin address, to which clients can connect.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
}

impl Listening {
    /// Serves until `stop`.
    pub async fn serve(self, control: Arc<Control>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely; the next accept would fail at once, too.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let control = Arc::clone(&control);
            let stop = stop.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let control = Arc::clone(&control);
                    async move { Ok::<_, Infallible>(answer(request, &control).await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                let connection = http.serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    // What goes wrong on a connection concerns its client alone.
                    _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection) => {}
                    () = stop.cancelled() => {}
                }
                drop(permit);
            });
        }
    }
}

async fn answer(request: Request<Incoming>, control: &Control) -> Answer {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    if let Some(why) = refuses(&method, request.headers()) {
        return error(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let reading = matches!(method, Method::GET | Method::HEAD);
    let wait = || {
        uri.query().is_some_and(|query| {
            query.split('&').any(|pair| matches!(pair, "wait" | "wait=1" | "wait=true"))
        })
    };
    match uri.path() {
        "/metrics" if reading => {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (control.metrics)())
        }
        "/healthz" if reading => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" if reading => match (control.ready)() {
            Readiness::Ready => text(StatusCode::OK, "text/plain", "ready\n".to_owned()),
            Readiness::NotReady(why) => error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &why),
        },
        "/reload" if method == Method::POST => reload(control, wait()).await,
        "/erase" if method == Method::POST => {
            erase(request, control.erasures.as_ref(), wait()).await
        }
        "/dead-letters/replay" if method == Method::POST => replay(request, &control.replay).await,
        path if path == "/syncs" || path.starts_with("/syncs/") => {
            let rest = path.trim_start_matches("/syncs").trim_start_matches('/');
            syncs(&method, rest, uri.query(), &control.syncs).await
        }
        "/metrics" | "/healthz" | "/readyz" => not_allowed("GET, HEAD"),
        "/reload" | "/erase" | "/dead-letters/replay" => not_allowed("POST"),
        _ => error(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is /metrics, /healthz, /readyz, /reload, /erase, /syncs and /dead-letters/replay",
        ),
    }
}

async fn reload(control: &Control, wait: bool) -> Answer {
    let (answer, outcome) = oneshot::channel();
    let sent = control.reloads.send(ReloadRequest { wait, answer }).await;
    let outcome = match sent {
        Ok(()) => outcome.await.ok(),
        Err(_) => None,
    };
    match outcome {
        Some(outcome @ ReloadAnswer::Applied { .. }) => {
            json_answer(StatusCode::OK, &json!(outcome))
        }
        Some(ReloadAnswer::Refused { errors }) => json_answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({
                "result": "refused",
                "code": "config_refused",
                "message": "the config is wrong; the running one stays in force",
                "errors": errors,
            }),
        ),
        None => error(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the daemon is stopping"),
    }
}

pub(super) fn not_allowed(allow: &'static str) -> Answer {
    let message = format!("this path takes {allow}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "code": code, "message": message }))
}

pub(super) fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    text(status, "application/json", format!("{body}\n"))
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
