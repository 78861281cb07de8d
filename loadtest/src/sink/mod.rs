//! The receiving ends of all destinations: TCP listeners, an HTTP server, a reader of files.
//!
//! Owns: sockets and files to deliver to, and one [`Ledger`] for each. Does not own: what ought to
//! arrive (`expect`), or when the run is over (`scenario`).
//!
//! Always: every byte that arrives is judged, also what is still unread when the run ends.

mod file;
mod http;
mod ledger;
mod output;
mod tcp;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use self::ledger::lock;
pub use self::ledger::{Ledger, Register, Tally};
pub use self::output::{Output, OutputKind};

/// How long senders may take to close their connections at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A ledger that several connections may write into.
type Account = Arc<Mutex<Ledger>>;

/// Running receivers; they stop when it is dropped.
#[derive(Debug)]
pub struct Sink {
    register: Arc<Register>,
    accounts: Vec<Account>,
    outputs: Vec<Output>,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    is_open: Arc<AtomicBool>,
    reader: Option<JoinHandle<io::Result<()>>>,
    runtime: Runtime,
}

impl Sink {
    /// Opens one output of this kind per destination. Files are expected in `directory`.
    ///
    /// # Errors
    /// When no port can be had, or no thread.
    pub fn open(
        kind: OutputKind,
        destinations: usize,
        register: Register,
        directory: &Path,
    ) -> io::Result<Self> {
        let register = Arc::new(register);
        let account = |index| Arc::new(Mutex::new(Ledger::new(index, Arc::clone(&register))));
        let mut sink = Self {
            accounts: (0..destinations).map(account).collect(),
            outputs: Vec::new(),
            connections: Arc::default(),
            is_over: Arc::default(),
            is_open: Arc::new(AtomicBool::new(true)),
            reader: None,
            runtime: Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            register,
        };
        sink.outputs = match kind {
            OutputKind::Tcp => sink.open_tcp()?,
            OutputKind::Http => sink.open_http()?,
            OutputKind::File => sink.open_files(directory),
            OutputKind::Blackhole => vec![Output::Blackhole; destinations],
        };
        Ok(sink)
    }

    fn open_tcp(&self) -> io::Result<Vec<Output>> {
        let buffer_bytes = tcp::buffer_bytes(self.accounts.len());
        let open = |account: &Account| {
            let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            let connections = Arc::clone(&self.connections);
            self.runtime.spawn(tcp::accept(
                listener,
                Arc::clone(account),
                connections,
                buffer_bytes,
            ));
            Ok(Output::Tcp(address))
        };
        self.accounts.iter().map(open).collect()
    }

    fn open_http(&self) -> io::Result<Vec<Output>> {
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let is_open = Arc::clone(&self.is_open);
        self.runtime.spawn(http::accept(listener, self.accounts.clone(), is_open));
        Ok((0..self.accounts.len())
            .map(|index| Output::Http(address, format!("/{index}")))
            .collect())
    }

    fn open_files(&mut self, directory: &Path) -> Vec<Output> {
        let path = |index| directory.join(format!("out-{index:03}.ndjson"));
        let paths: Vec<_> = (0..self.accounts.len()).map(path).collect();
        let reader = file::Reader::new(paths.clone(), self.accounts.clone());
        let is_over = Arc::clone(&self.is_over);
        self.reader = Some(thread::spawn(move || reader.follow(&is_over)));
        paths.into_iter().map(Output::File).collect()
    }

    /// Where to deliver to, in the order of the destinations.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Whether it takes what comes over HTTP; it does at first.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }

    /// Counts and latencies over all destinations.
    pub fn register(&self) -> &Arc<Register> {
        &self.register
    }

    /// Reads what is left, once nobody delivers any more, and says what arrived where.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn finish(mut self) -> io::Result<Vec<Tally>> {
        self.is_over.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| io::Error::other("the reader of files died"))??;
        }
        let give_up = Instant::now() + CLOSE_TIMEOUT;
        while self.connections.load(Ordering::Acquire) > 0 && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(self.accounts.iter().map(|account| lock(account).tally()).collect())
    }
}
