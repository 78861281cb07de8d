//! The process under load: the daemon or the relay, started and stopped like any other program.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::{self, Settings, WhenFull};
use crate::http_client;
use crate::law::Counts;
use crate::measure::Meter;
use crate::plan::Plan;
use crate::relay::Input;
use crate::send::Entry;
use crate::sink::Output;

/// HTTP senders at a time, for daemon and relay alike.
const HTTP_CONNECTIONS: usize = 4;

const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Longer than the `shutdown_timeout` of the config.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

const LOG: &str = "stderr.log";

/// What a user may set about the daemon.
#[derive(Debug, Clone)]
pub struct DaemonOptions {
    /// The executable.
    pub binary: PathBuf,
    /// Worker threads.
    pub workers: Option<usize>,
    /// Bound of all buffers.
    pub memory_max: Option<String>,
    /// Bound of one destination's.
    pub buffer: Option<String>,
    /// The longest that an event waits for its batch.
    pub max_wait: Option<String>,
    /// See [`Settings::log`].
    pub log: Option<String>,
    /// See [`Settings::log_window`].
    pub log_window: Option<String>,
    /// See [`Settings::retry_max`].
    pub retry_max: Option<String>,
    /// Of every destination.
    pub when_full: Option<WhenFull>,
}

/// A running process; killed when it is dropped without having been stopped.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    admin: Option<SocketAddr>,
    entry: Entry,
    log: PathBuf,
}

impl Subject {
    /// Starts the daemon in `directory` and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time; with what it said.
    pub fn daemon(
        options: &DaemonOptions,
        plan: &Plan,
        outputs: &[Output],
        input: Input,
        directory: &Path,
    ) -> io::Result<Self> {
        let [admin, tcp, http] = free_addresses()?;
        let settings = Settings {
            admin,
            tcp,
            http,
            data_dir: directory.join("state"),
            workers: options.workers,
            memory_max: options.memory_max.clone(),
            buffer: options.buffer.clone(),
            max_wait: options.max_wait.clone(),
            log: options.log.clone(),
            log_window: options.log_window.clone(),
            retry_max: options.retry_max.clone(),
            when_full: options.when_full,
        };
        fs::create_dir_all(&settings.data_dir)?;
        let config = directory.join("consentd.toml");
        fs::write(&config, config::toml(plan, outputs, &settings))?;
        let mut command = Command::new(&options.binary);
        command.arg("run").arg("--config").arg(config);
        let address = if input == Input::Tcp { tcp } else { http };
        let mut subject = Self::spawn(command, Some(admin), input, address, directory)?;
        subject.wait_until("ready", || {
            http_client::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(subject)
    }

    /// Starts `binary relay`.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time; with what it said.
    pub fn relay(
        binary: &Path,
        input: Input,
        outputs: &[Output],
        directory: &Path,
    ) -> io::Result<Self> {
        let [address] = free_addresses()?;
        let mut command = Command::new(binary);
        let input_name = if input == Input::Tcp { "tcp" } else { "http" };
        command.args(["relay", "--input", input_name, "--listen", &address.to_string()]);
        for output in outputs {
            command.args(["--output", &output.to_string()]);
        }
        let mut subject = Self::spawn(command, None, input, address, directory)?;
        subject.wait_until("listening", || TcpStream::connect(address).is_ok())?;
        Ok(subject)
    }

    fn spawn(
        mut command: Command,
        admin: Option<SocketAddr>,
        input: Input,
        address: SocketAddr,
        directory: &Path,
    ) -> io::Result<Self> {
        let log = directory.join(LOG);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program:?}: {error}")))?;
        let entry = match input {
            Input::Tcp => Entry::Tcp(address),
            Input::Http => Entry::Http(address, HTTP_CONNECTIONS),
        };
        Ok(Self { child, admin, entry, log })
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn() -> bool) -> io::Result<()> {
        let give_up = Instant::now() + READY_TIMEOUT;
        while !is_so() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > give_up {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(io::Error::other(format!("not {what}, {ended:?}; it said:\n{said}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where events go in.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// As [`Self::entry`], over so many connections where they are HTTP.
    pub fn entry_over(&self, connections: usize) -> Entry {
        match self.entry {
            Entry::Tcp(address) => Entry::Tcp(address),
            Entry::Http(address, _) => Entry::Http(address, connections),
        }
    }

    /// What it uses.
    pub fn meter(&self) -> Meter {
        Meter::of(self.child.id())
    }

    /// The daemon's counts; a relay has none.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn counts(&self) -> io::Result<Option<Counts>> {
        let Some(admin) = self.admin else {
            return Ok(None);
        };
        let answer = http_client::get(admin, "/metrics")?;
        Ok(Some(Counts::of(&String::from_utf8_lossy(&answer.body))))
    }

    /// Asks it to stop; `false` when it had to be killed or did not end well.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub fn stop(mut self) -> io::Result<bool> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let give_up = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses that nobody uses at the moment; all are held until the last is found.
fn free_addresses<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut listeners = Vec::new();
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}
