//! A blocking HTTP/1.1 connection: requests one after the other, kept alive.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// No answer of a working server takes this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Drives its own connection, on the thread that uses it.
#[derive(Debug)]
pub struct Connection {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// What a server said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 100 to 599.
    pub status: u16,
    /// Whole.
    pub body: Bytes,
    /// The number under `accepted` when the body is a JSON object that has one.
    pub accepted: Option<u64>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            // Its errors show at the request that they concern.
            tokio::spawn(connection);
            io::Result::Ok(sender)
        })?;
        Ok(Self { runtime, sender, host: address.to_string() })
    }

    /// `POST /` of one body.
    ///
    /// # Errors
    /// When the connection breaks or no answer comes.
    pub fn post(&mut self, body: &[u8]) -> io::Result<Answer> {
        self.request(Method::POST, "/", Bytes::copy_from_slice(body))
    }

    /// `GET`.
    ///
    /// # Errors
    /// When the connection breaks or no answer comes.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request(Method::GET, path, Bytes::new())
    }

    fn request(&mut self, method: Method, path: &str, body: Bytes) -> io::Result<Answer> {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let exchange = async {
            self.sender.ready().await.map_err(io::Error::other)?;
            let response = self.sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body = response.collect().await.map_err(io::Error::other)?.to_bytes();
            let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let accepted = json.and_then(|json| json.get("accepted")?.as_u64());
            Ok(Answer { status, body, accepted })
        };
        self.runtime.block_on(async { timeout(ANSWER_TIMEOUT, exchange).await? })
    }
}

/// One `GET` on a connection of its own.
///
/// # Errors
/// When nobody listens, the connection breaks, or no answer comes.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    Connection::open(address)?.get(path)
}
