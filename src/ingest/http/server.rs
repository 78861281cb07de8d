//! Listening for HTTP, and what one connection does.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::answer::{Answer, Failure, judged};
use super::take_in::take_in;
use crate::ingest::lane::{Context, Lane};
use crate::ingest::listen::Listener;
use crate::ingest::tails::Tail;

/// How long a connection may be idle between two requests, and how long a request's head may take.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(60);

/// What one connection buffers at most, the head of a request included.
const CONNECTION_BYTES_MAX: usize = 64 * 1024;

/// After an early answer, what the client goes on sending is read for so long,
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// and so much of it: a connection closed with unread bytes is reset, and the answer lost.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Zstandard bodies that are inflated at the same time; each may take 8 MiB.
const ZSTD_BODIES_MAX: usize = 32;

/// The limits on one HTTP source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections_max: NonZeroUsize,
    /// Longest body, compressed or inflated.
    pub max_body_bytes: u64,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// An HTTP source whose address is bound.
#[derive(Debug)]
pub struct HttpSource {
    listener: Listener,
    limits: HttpLimits,
}

impl HttpSource {
    /// Binds the address, so that nothing is started if it is taken.
    ///
    /// # Errors
    /// The message names the address, the cause and what to do.
    pub fn bind(listen: SocketAddr, limits: HttpLimits) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(listen)?, limits })
    }

    /// Lets connections queue up; to be called once everything else can take them.
    ///
    /// # Errors
    /// As `bind`.
    pub fn listen(&self) -> io::Result<()> {
        self.listener.listen()
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Takes events in until `context.stop`; ends when the last request is answered.
    ///
    /// # Errors
    /// The socket cannot be used at all.
    pub async fn serve(self, context: Context) -> io::Result<()> {
        let source =
            Arc::new(Source { limits: self.limits, zstd_places: Semaphore::new(ZSTD_BODIES_MAX) });
        let connections_max = self.limits.connections_max.get();
        let connect = |socket, lane| connection(socket, Client::new(Arc::clone(&source), lane));
        self.listener.serve(connections_max, context, connect).await
    }
}

/// What the connections of one source share.
pub(super) struct Source {
    pub(super) limits: HttpLimits,
    pub(super) zstd_places: Semaphore,
}

/// One connection, as its requests see it.
pub(super) struct Client {
    pub(super) source: Arc<Source>,
    pub(super) lane: Lane,
    pub(super) tail: Tail,
    /// Cancelled by a drain, or when the pool of unfinished lines is exhausted.
    pub(super) close: CancellationToken,
    /// An answer was given before its request was read to the end.
    answered_early: AtomicBool,
}

impl Client {
    fn new(source: Arc<Source>, lane: Lane) -> Self {
        let close = lane.context.stop.child_token();
        Self {
            source,
            tail: lane.context.tails.open(close.clone()),
            close,
            answered_early: AtomicBool::new(false),
            lane,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let result = match self.admit(&request) {
            Ok(()) => take_in(self, request).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(tally) => judged(&tally),
            Err(failure) => {
                debug!(?failure, "request failed");
                self.answered_early.store(true, Relaxed);
                failure.answer()
            }
        }
    }

    fn admit(&self, request: &Request<Incoming>) -> Result<(), Failure> {
        if !matches!(request.uri().path(), "/" | "/v1/events") {
            return Err(Failure::NotFound);
        }
        if request.method() != Method::POST {
            return Err(Failure::MethodNotAllowed);
        }
        if self.close.is_cancelled() {
            return Err(Failure::ShuttingDown);
        }
        Ok(())
    }
}

async fn connection(socket: TcpStream, client: Client) {
    let client = Arc::new(client);
    let close = client.close.clone();
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        Box::pin(async move { Ok::<_, Infallible>(client.answer(request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .half_close(true)
        .max_buf_size(CONNECTION_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut closing = pin!(close.cancelled());
    let mut draining = false;
    let served = poll_fn(|cx| {
        if !draining && closing.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx)
    });
    if let Err(error) = served.await {
        debug!(%error, "connection broke");
    }
    let socket = connection.into_parts().io.into_inner();
    linger(socket, client.answered_early.load(Relaxed)).await;
}

/// Closes the connection, reading what the client still sends if it was answered early.
async fn linger(mut socket: TcpStream, answered_early: bool) {
    if socket.shutdown().await.is_err() || !answered_early {
        return;
    }
    let discard = async {
        let mut scratch = vec![0; 16 * 1024];
        let mut bytes = 0;
        while bytes < LINGER_BYTES_MAX
            && let Ok(more @ 1..) = socket.read(&mut scratch).await
        {
            bytes += more;
        }
    };
    // The client was told; what it does now is its own affair.
    let _ = timeout(LINGER_TIME_MAX, discard).await;
}
