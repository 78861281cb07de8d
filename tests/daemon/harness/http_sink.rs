//! A receiver of batches that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::lines_of;

/// An answer to a batch.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) after: Duration,
}

impl Reply {
    pub(crate) fn now(status: u16) -> Self {
        Self { status, after: Duration::ZERO }
    }
}

type Script = Box<dyn Fn(&[String]) -> Reply + Send + Sync>;

/// Keeps the lines of batches that it answered with 200, and the number of all batches.
pub(crate) struct HttpSink {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    script: Mutex<Arc<Script>>,
    taken: Mutex<Vec<String>>,
    attempts: Mutex<u64>,
}

impl HttpSink {
    /// Answers with what `script` gives for the lines of a batch.
    pub(crate) fn start(script: impl Fn(&[String]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            script: Mutex::new(Arc::new(Box::new(script))),
            taken: Mutex::default(),
            attempts: Mutex::default(),
        });
        let sink = Self { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        sink
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Answers differently from now on.
    pub(crate) fn answer(&self, script: impl Fn(&[String]) -> Reply + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(Box::new(script));
    }

    /// The lines it took.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.state.taken.lock().unwrap().clone()
    }

    /// The lines it took since the last time; they are forgotten.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state.taken.lock().unwrap())
    }

    /// The batches it was asked to take.
    pub(crate) fn attempts(&self) -> u64 {
        *self.state.attempts.lock().unwrap()
    }
}

fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let lines = lines_of(&body);
    *state.attempts.lock().unwrap() += 1;
    let script = Arc::clone(&state.script.lock().unwrap());
    let reply = script(&lines);
    thread::sleep(reply.after);
    if reply.status == 200 {
        state.taken.lock().unwrap().extend(lines);
    }
    let answer = format!("HTTP/1.1 {} Scripted\r\nContent-Length: 0\r\n\r\n", reply.status);
    (&*stream).write_all(answer.as_bytes()).ok()
}
