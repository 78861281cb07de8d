//! The process of one sync.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tracing::{info, warn};

/// The environment variable that names another program to run: tests play the child.
const INSTEAD: &str = "CONSENTD_SYNC_CHILD";

/// This very program, even if its file was replaced since it was started.
const OURSELVES: &str = "/proc/self/exe";

/// What systemd gives the daemon alone. What a child says goes through the daemon, not to the journal.
const TALK: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "JOURNAL_STREAM"];

/// Longest line of the child that is passed on.
const LINE_BYTES_MAX: usize = 2000;

/// Lines that are passed on at once,
const LINES_AT_ONCE: f64 = 200.0;
/// and in the long run per second.
const LINES_PER_SECOND: f64 = 10.0;

/// How long it may take to take its errand.
const ERRAND_TIME_MAX: Duration = Duration::from_secs(10);

/// Starts the child and gives it its errand, one line; what it says is passed on to the daemon's log. It
/// is killed when it is dropped.
///
/// # Errors
/// It can't be started, or ends at once.
pub(super) async fn start(config: &Path, model: &str, errand: &str) -> io::Result<Child> {
    let mut command = program()?;
    command.args(["sync-child", "--config"]).arg(config);
    // The talk with systemd is the daemon's.
    for name in TALK {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A signal that somebody at a terminal sends is for the daemon, which ends its children in order.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(pass_on(stderr, model.to_owned()));
    }
    if let Some(mut stdin) = child.stdin.take() {
        let given = async {
            stdin.write_all(errand.as_bytes()).await?;
            stdin.write_all(b"\n").await?;
            stdin.shutdown().await
        };
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(ERRAND_TIME_MAX, given).await.map_err(|_| late())??;
    }
    Ok(child)
}

fn program() -> io::Result<Command> {
    if let Some(other) = std::env::var_os(INSTEAD) {
        return Ok(Command::new(other));
    }
    let own: OsString = match Path::new(OURSELVES).exists() {
        true => OURSELVES.into(),
        false => std::env::current_exe()?.into(),
    };
    let mut command = Command::new(own);
    command.arg0("consentd");
    Ok(command)
}

/// How a process ended, in words.
pub(super) fn ended(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("its process ended with code {code} and did not say how the sync went");
    }
    let signal = status.signal().unwrap_or(0);
    let dumped = if status.core_dumped() { ", core dumped" } else { "" };
    format!("its process was ended by signal {signal}{}{dumped}", name(signal))
}

/// The signals that end processes in practice.
fn name(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: by somebody, or for want of memory)",
        11 => " (SIGSEGV: a driver crashed, most likely)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS: a call that the sandbox forbids)",
        _ => "",
    }
}

/// Passes on what the child says, as long as it says something; what is too much is read and left out.
async fn pass_on(stderr: impl AsyncRead + Unpin, model: String) {
    let mut reader = BufReader::new(stderr);
    let mut allowance = Allowance::new(Instant::now());
    let mut left_out = 0_u64;
    let (mut line, mut is_cut) = (Vec::new(), false);
    while let Ok(read) = reader.fill_buf().await {
        if read.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', read);
        let part = &read[..end.unwrap_or(read.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        is_cut |= part.len() > room;
        let used = end.map_or(read.len(), |end| end + 1);
        reader.consume(used);
        if end.is_none() {
            continue;
        }
        if allowance.take(Instant::now()) {
            tell(&model, &line, is_cut);
        } else {
            left_out += 1;
        }
        line.clear();
        is_cut = false;
    }
    if !line.is_empty() {
        tell(&model, &line, is_cut);
    }
    if left_out > 0 {
        warn!(model, lines = left_out, "the sync said more than is passed on");
    }
}

fn tell(model: &str, line: &[u8], is_cut: bool) {
    // Nothing that a terminal would obey.
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    info!(model, "sync: {text}{}", if is_cut { " ..." } else { "" });
}

/// How many lines may still be passed on.
struct Allowance {
    lines: f64,
    at: Instant,
}

impl Allowance {
    fn new(at: Instant) -> Self {
        Self { lines: LINES_AT_ONCE, at }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.lines = (self.lines + passed * LINES_PER_SECOND).min(LINES_AT_ONCE);
        self.at = now;
        let may = self.lines >= 1.0;
        self.lines -= f64::from(u8::from(may));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_passed_on_slowly() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let passed = (0..1000).filter(|_| allowance.take(start)).count();
        assert_eq!(passed, 200);
        let later = start + Duration::from_secs(3);
        assert_eq!((0..1000).filter(|_| allowance.take(later)).count(), 30);
    }

    #[test]
    fn ends_are_told_in_words() {
        let killed = ended(ExitStatus::from_raw(11));
        assert!(killed.contains("signal 11 (SIGSEGV"), "{killed}");
        let failed = ended(ExitStatus::from_raw(3 << 8));
        assert!(failed.contains("code 3"), "{failed}");
    }
}
