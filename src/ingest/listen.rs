//! Listening and accepting, for every kind of source.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::buffers::read_buffers;
use super::lane::{Context, Lane};
use crate::buffer::Buffers;
use crate::metrics::SourceCounters;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 1024;

/// Waits after an accept that failed for want of descriptors or memory; they double.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// A bound address. Nobody can connect before [`Listener::listen`].
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// The message names the address, the cause and what to do.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address).map_err(|error| named(address, &error))?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket, address })
    }

    /// Lets connections queue up in the kernel.
    ///
    /// # Errors
    /// As [`Listener::bind`]: somebody else may have bound the address, too, and listened first.
    pub(super) fn listen(&self) -> io::Result<()> {
        self.socket.listen(BACKLOG).map_err(|error| named(self.address, &error))
    }

    /// The address, with the port that was chosen if it was bound to port 0.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until the context's stop, then waits for those that are open. To be called
    /// after [`Listener::listen`].
    ///
    /// # Errors
    /// The socket cannot be used at all.
    pub(super) async fn serve<C>(
        self,
        connections_max: usize,
        context: Context,
        connection: impl Fn(TcpStream, Lane) -> C,
    ) -> io::Result<()>
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(self.socket.into())?;
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        let open = TaskTracker::new();
        // Whoever gives up waiting for the connections drops this future, and with it the guard: then
        // they are cut. A peer that never reads its answers must not keep the daemon alive.
        let cut = CancellationToken::new();
        let _guard = cut.clone().drop_guard();
        let lanes = Lanes::new(context);
        let stop = lanes.context.stop.clone();
        let accepting = async {
            let mut backoff = Backoff::new(self.address);
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let socket = backoff.accept(&listener).await;
                let counted = Counted::new(&lanes.context.counters);
                let task = connection(socket, lanes.next());
                let cut = cut.clone();
                open.spawn(async move {
                    tokio::select! {
                        () = task => {}
                        () = cut.cancelled() => {}
                    }
                    drop((counted, place));
                });
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop(listener);
        open.close();
        open.wait().await;
        Ok(())
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise connections of the last run that are not forgotten yet would stop a restart.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    let message = format!("cannot listen on {address}: {error}{}", advice(error));
    io::Error::new(error.kind(), message)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop the process that listens there (`ss -ltnp` shows it), or change `listen`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have the address, change `listen`"
        }
        io::ErrorKind::PermissionDenied => {
            "; choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// Gives each connection a shard, in turns.
struct Lanes {
    context: Arc<Context>,
    buffers: Buffers,
    next: AtomicUsize,
}

impl Lanes {
    fn new(context: Context) -> Self {
        Self { context: Arc::new(context), buffers: read_buffers(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> Lane {
        Lane {
            context: Arc::clone(&self.context),
            buffers: self.buffers.clone(),
            shard: self.next.fetch_add(1, Relaxed) % self.context.workers.shards().max(1),
        }
    }
}

/// An open connection in the gauge.
pub(super) struct Counted(Arc<SourceCounters>);

impl Counted {
    pub(super) fn new(counters: &Arc<SourceCounters>) -> Self {
        counters.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Accepts through transient errors, and says so once when they begin and once when they end.
struct Backoff {
    address: SocketAddr,
    wait: Option<Duration>,
}

impl Backoff {
    fn new(address: SocketAddr) -> Self {
        Self { address, wait: None }
    }

    async fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    if self.wait.take().is_some() {
                        info!(address = %self.address, "accepting connections again");
                    }
                    debug!(%peer, "connected");
                    set_options(&socket);
                    return socket;
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn back_off(&mut self, error: &io::Error) {
        let (first, max) = BACKOFF;
        if self.wait.is_none() {
            warn!(address = %self.address, %error, "cannot accept connections, trying again");
        }
        let wait = self.wait.map_or(first, |wait| (wait * 2).min(max));
        self.wait = Some(wait);
        tokio::time::sleep(wait).await;
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Keep-alive finds peers that vanished without a word; without it they would hold a place forever.
fn set_options(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let result =
        socket.set_nodelay(true).and_then(|()| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = result {
        debug!(%error, "cannot set socket options");
    }
}
