//! A TCP port that leads to the server, and can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::postgres;

/// The port; connections are cut as long as the test says so.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    connections: AtomicUsize,
    cuts_left: AtomicUsize,
    /// Bytes of the server that one which will be cut lets pass.
    bytes: usize,
}

impl Proxy {
    /// Cuts so many connections, each after so many bytes of the server's answers.
    pub(crate) fn start(cuts: usize, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state =
            State { connections: AtomicUsize::new(0), cuts_left: AtomicUsize::new(cuts), bytes };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&shared));
                state.connections.fetch_add(1, SeqCst);
                thread::spawn(move || serve(client, &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }
}

/// Until one side ends, or it is cut.
fn serve(client: TcpStream, state: &State) {
    let mut server = UnixStream::connect(postgres::socket()).unwrap();
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        // Either way, nothing more comes.
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut passed, mut buffer, mut client) = (0, [0; 4096], client);
    while let Ok(read @ 1..) = server.read(&mut buffer) {
        passed += read;
        let cut = |left: usize| left.checked_sub(1);
        if passed > state.bytes && state.cuts_left.fetch_update(SeqCst, SeqCst, cut).is_ok() {
            break;
        }
        if client.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // It may be gone already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
