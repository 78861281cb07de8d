//! The socket: who comes in.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::control::CONTROL_BYTES_MAX;
use super::link::Link;
use super::pass::{Admitted, Passes, Said};
use crate::buffer::Buffers;
use crate::ingest::buffers::read_buffers;
use crate::ingest::lane::{Context, Lane};
use crate::ingest::listen::Counted;

/// The longest path that a unix socket can have, with the zero behind it.
const PATH_BYTES_MAX: usize = 107;

/// Connections that are not admitted yet.
const STRANGERS_MAX: usize = 16;

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long it waits after it could not accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The version of what is spoken here.
const VERSION: u64 = 1;

/// The socket of all models. Whoever has it bound can be connected to.
#[derive(Debug)]
pub struct Door {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl Door {
    /// Binds the socket at `path`, in a folder that only this user may look into.
    ///
    /// # Errors
    /// The message says what to do.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(io::Error::other(format!(
                "the path {} is longer than the {PATH_BYTES_MAX} bytes that a unix socket's may have; \
                 choose a shorter daemon.data_dir",
                path.display()
            )));
        }
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(named)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(named)?;
        // The data directory is locked: it is one that a daemon left which is gone.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(named)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(named)?;
        listener.set_nonblocking(true).map_err(named)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What serves the [`Door`].
pub struct WarehouseSource {
    door: Door,
    hall: Hall,
}

/// What those who come in need.
struct Hall {
    passes: Arc<Passes>,
    /// Per model.
    lanes: HashMap<String, Lane>,
}

impl WarehouseSource {
    /// `models` has every model that can be synced, and what its events are to the daemon.
    #[must_use]
    pub fn new(door: Door, models: Vec<(String, Context)>, passes: Arc<Passes>) -> Self {
        let buffers: Buffers = read_buffers();
        let lane = |(model, context): (String, Context)| {
            // All syncs of a model on one shard: their rows stay in order.
            let shard = usize::from(context.source.0) % context.workers.shards().max(1);
            (model, Lane { context: Arc::new(context), buffers: buffers.clone(), shard })
        };
        let hall = Hall { passes, lanes: models.into_iter().map(lane).collect() };
        Self { door, hall }
    }

    /// Takes rows in until `stop`, then waits for those who are connected.
    ///
    /// # Errors
    /// The socket cannot be used at all.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let Self { door, hall } = self;
        let listener = UnixListener::from_std(door.listener)?;
        let hall = Arc::new(hall);
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        let open = TaskTracker::new();
        // Whoever gives up waiting drops this future, and with it the guard: then they are cut.
        let cut = CancellationToken::new();
        let _guard = cut.clone().drop_guard();
        let accepting = async {
            loop {
                let Ok(place) = Arc::clone(&strangers).acquire_owned().await else { return };
                let socket = match listener.accept().await {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        warn!(%error, "cannot accept a connection of a sync, trying again");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                        continue;
                    }
                };
                let (hall, cut) = (Arc::clone(&hall), cut.clone());
                open.spawn(async move {
                    let guest = async {
                        let came_in = timeout(HANDSHAKE_TIME_MAX, hall.greet(socket)).await;
                        drop(place);
                        if let Ok(Some(link)) = came_in {
                            link.run().await;
                        }
                    };
                    tokio::select! {
                        () = guest => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop(listener);
        let _ = fs::remove_file(&door.path);
        open.close();
        open.wait().await;
        Ok(())
    }
}

impl Hall {
    /// Shakes hands; `None` for whoever is not let in.
    async fn greet(&self, mut socket: UnixStream) -> Option<Link> {
        if !is_ours(&socket) {
            refuse(&mut socket, "another user may not connect").await;
            return None;
        }
        let (hello, rest) = first_line(&socket).await?;
        match self.admit(&hello) {
            Ok((admitted, lane)) => {
                let Admitted { welcome, said, cancel, close } = admitted;
                said.send(Said::Connected).await.ok()?;
                let counted = Counted::new(&lane.context.counters);
                // It may be long: a list of what was rejected is read from the disk.
                let answer = tokio::task::spawn_blocking(welcome).await.ok()?;
                Some(Link::new(socket, lane, said, cancel, close, rest, &answer, counted))
            }
            Err(why) => {
                refuse(&mut socket, why).await;
                None
            }
        }
    }

    fn admit(&self, hello: &[u8]) -> Result<(Admitted, Lane), &'static str> {
        let hello: Value =
            serde_json::from_slice(hello).map_err(|_| "the first line is no handshake")?;
        if hello["consentd"].as_u64() != Some(VERSION) {
            return Err("another version of the handshake is spoken here: 1");
        }
        let text = |key: &str| hello[key].as_str().ok_or("the first line is no handshake");
        let (model, sync, token) = (text("model")?, text("sync")?, text("token")?);
        let lane = self.lanes.get(model);
        let admitted = lane.and_then(|_| self.passes.admit(model, sync, token));
        // Which of them is wrong is nobody's business.
        lane.cloned().and_then(|lane| Some((admitted?, lane))).ok_or("no such sync is expected")
    }
}

/// Whether the peer runs as our user, or as root.
fn is_ours(socket: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    socket.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// The token is not in it.
async fn refuse(socket: &mut UnixStream, why: &'static str) {
    warn!("a connection to the socket of the syncs was refused: {why}");
    let answer = format!("{}\n", json!({ "error": why }));
    if let Err(error) = socket.write_all(answer.as_bytes()).await {
        debug!(%error, "the refused peer is gone");
    }
}

/// The first line, and what was read behind it.
async fn first_line(socket: &UnixStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        socket.readable().await.ok()?;
        match socket.try_read_buf(&mut read) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if let Some(end) = memchr::memchr(b'\n', &read) {
            let rest = read.split_off(end + 1);
            read.truncate(end);
            return Some((read, rest));
        }
        if read.len() > CONTROL_BYTES_MAX {
            return None;
        }
    }
}
