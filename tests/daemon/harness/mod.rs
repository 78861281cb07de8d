//! What the tests share: the daemon as a process, configs, clients, receivers, metrics.
//!
//! Owns processes, sockets and threads, and ends them when a test ends. Judges nothing about consent.
//! What always holds: ports are chosen by the system at the moment they are bound, so tests that run
//! side by side never meet.

mod config;
mod events;
mod http_client;
mod http_sink;
mod metrics;
mod mount;
mod process;
mod sender;
mod strace;
mod tcp_sink;
pub(crate) mod warehouse;

pub(crate) use config::{Config, Folder, lines_of};
pub(crate) use events::{event, events, ids, marked};
pub(crate) use http_client::{Answer, get, post, request};
pub(crate) use http_sink::{HttpSink, Reply};
pub(crate) use metrics::Metrics;
pub(crate) use mount::{Mount, can_mount};
pub(crate) use process::{Daemon, Ended, consentd, run_command, run_to_end};
pub(crate) use sender::send_until;
pub(crate) use strace::{Fault, Tracer, When, paths_of_log};
pub(crate) use tcp_sink::TcpSink;
pub(crate) use warehouse::{Peer, Stage};

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything that must happen may take; generous, for a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An address where nobody listens: connections are refused at once.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

/// Waits until `done` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "this did not happen within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `done` is true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    wait_for(what, || done().then_some(()));
}
