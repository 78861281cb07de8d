//! Asking a running daemon.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why there is no answer.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Posts `body` to the admin address.
///
/// # Errors
/// It can't be reached, or does not answer in HTTP.
pub(super) async fn post(
    admin: SocketAddr,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, admin.to_string())
        .body(Full::new(body.into()))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok((status, body))
}
