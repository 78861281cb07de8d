//! Asking the running daemon, at its admin address.

use std::net::SocketAddr;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a daemon may take to answer: it may have to wait for requests that are under way.
const TIMEOUT: Duration = Duration::from_secs(80);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nobody listens there: most likely no daemon runs.
    Refused(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

/// Posts `body` to `path`; the answer's status and body.
///
/// # Errors
/// [`NoAnswer`], a sentence.
pub(super) fn post(
    admin: SocketAddr,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    ask(admin, Method::POST, path, body)
}

/// Gets what is at `path`: status and body.
///
/// # Errors
/// [`NoAnswer`], a sentence.
pub(super) fn get(admin: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), NoAnswer> {
    ask(admin, Method::GET, path, Vec::new())
}

fn ask(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| NoAnswer::Failed(format!("cannot start: {error}")))?;
    let asked = runtime
        .block_on(async { tokio::time::timeout(TIMEOUT, send(admin, method, path, body)).await });
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let why = format!("cannot ask the daemon at {admin}: {error}; does it run?");
            let cause = error.downcast_ref::<io::Error>();
            let is_refused =
                cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
            Err(if is_refused { NoAnswer::Refused(why) } else { NoAnswer::Failed(why) })
        }
        Err(_) => Err(NoAnswer::Failed(format!(
            "the daemon at {admin} did not answer within {TIMEOUT:?}"
        ))),
    }
}

async fn send(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, admin.to_string())
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok((status, body))
}
