//! A receiver of lines.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::lines_of;

/// Reads whatever comes, connection by connection.
pub(crate) struct TcpSink {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TcpSink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = Arc::clone(&sink.received);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = {
                    let mut received = received.lock().unwrap();
                    received.push(Vec::new());
                    received.len() - 1
                };
                let received = Arc::clone(&received);
                thread::spawn(move || take(stream, &received, number));
            }
        });
        sink
    }

    /// All whole lines, in the order of the connections.
    pub(crate) fn lines(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let whole = |bytes: &Vec<u8>| {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            lines_of(&bytes[..end])
        };
        received.iter().flat_map(whole).collect()
    }
}

fn take(mut stream: TcpStream, received: &Mutex<Vec<Vec<u8>>>, number: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        received.lock().unwrap()[number].extend_from_slice(&buffer[..read]);
    }
}
