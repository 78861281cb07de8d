//! The talk with systemd, as sd_notify(3) has it: datagrams on a socket.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Config, Daemon, Folder, NOBODY, PATIENCE, events, get, wait_for};

/// systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
}

impl Systemd {
    fn new(folder: &Folder) -> Self {
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    fn start(&self, folder: &Folder, config: &Config, watchdog: Option<Duration>) -> Daemon {
        Daemon::start_with(folder, config, |command| {
            command.env("NOTIFY_SOCKET", folder.path("notify"));
            if let Some(every) = watchdog {
                command.env("WATCHDOG_USEC", every.as_micros().to_string());
            }
        })
    }

    /// The next message that is no sign of life.
    fn next(&self) -> String {
        wait_for("a message to systemd", || {
            Some(self.any()).filter(|message| !has(message, "WATCHDOG=1"))
        })
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

fn has(message: &str, assignment: &str) -> bool {
    message.lines().any(|line| line == assignment)
}

#[test]
fn ready_reloading_ready_stopping() {
    let folder = Folder::new();
    let systemd = Systemd::new(&folder);
    let config = Config::new("allow").file(&folder, "lake", "");
    let mut daemon = systemd.start(&folder, &config, None);
    let ready = systemd.next();
    assert!(has(&ready, "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=serving 2 sources and 1 destinations"), "{ready}");

    daemon.write_config(config.clone().file(&folder, "more", ""));
    daemon.signal(Signal::HUP);
    let reloading = systemd.next();
    assert!(has(&reloading, "RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let ready = systemd.next();
    assert!(has(&ready, "READY=1") && ready.contains("2 destinations"), "{ready}");

    // A refused reload ends too: systemd must not wait for it.
    daemon.write_config("nonsense");
    daemon.signal(Signal::HUP);
    assert!(has(&systemd.next(), "RELOADING=1"));
    let ready = systemd.next();
    assert!(has(&ready, "READY=1") && ready.contains("2 destinations"), "{ready}");

    daemon.signal(Signal::TERM);
    let stopping = systemd.next();
    assert!(has(&stopping, "STOPPING=1"), "{stopping}");
    assert_eq!(daemon.ended(Instant::now()).code, Some(0));
}

#[test]
fn ready_is_said_when_the_ports_are_open() {
    let folder = Folder::new();
    let systemd = Systemd::new(&folder);
    let daemon = systemd.start(&folder, &Config::new("allow").file(&folder, "lake", ""), None);
    assert!(has(&systemd.next(), "READY=1"));
    daemon.connect();
    assert_eq!(get(daemon.admin(), "/readyz").status, 200);
}

#[test]
fn workers_that_wait_for_a_full_destination_keep_feeding_the_watchdog() {
    let folder = Folder::new();
    let systemd = Systemd::new(&folder);
    let config = Config::new("allow")
        .daemon("ingest_bytes_max = \"512KiB\"\nmax_event_bytes = \"128KiB\"\nworkers = 2\nshutdown_timeout = \"1s\"")
        .tcp("dead", NOBODY, "buffer = \"64KiB\"");
    let daemon = systemd.start(&folder, &config, Some(Duration::from_secs(3)));
    assert!(has(&systemd.any(), "READY=1"));
    let flood = events("e", 4000, 500, &[]);
    // One connection per worker.
    let sockets = [daemon.connect(), daemon.connect()];
    std::thread::scope(|scope| {
        for mut socket in sockets {
            let flood = &flood;
            scope.spawn(move || {
                use std::io::Write;
                socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
                // Back-pressure: it does not all get through.
                let _ = socket.write_all(flood.as_bytes());
            });
        }
    });
    daemon.metrics_where("intake waits", |metrics| metrics.pending("dead") > 0);
    let blocked = Instant::now();
    let mut signs = 0;
    while signs < 3 {
        assert!(has(&systemd.any(), "WATCHDOG=1"));
        signs += 1;
    }
    // More often than systemd wants to hear it.
    assert!(blocked.elapsed() < Duration::from_secs(9), "{:?}", blocked.elapsed());
}
