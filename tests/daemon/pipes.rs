//! Several destinations that write to one pipe: lines stay whole.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{Config, Daemon, Folder, events, ids, lines_of};

const EVENTS: usize = 6000;

/// Batches of many times what a pipe holds.
const BATCHES: &str = "batch = { max_wait = \"20ms\", max_bytes = \"512KiB\" }\nbuffer = \"4MiB\"";

/// Reads slowly, so that the pipe is always full, until nobody writes any more.
fn read_slowly(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut received = Vec::new();
        let mut buffer = vec![0; 48 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            received.extend_from_slice(&buffer[..read]);
            thread::sleep(Duration::from_micros(500));
        }
        received
    })
}

#[track_caller]
fn assert_whole(received: &[u8]) {
    let lines = lines_of(received);
    let broken =
        lines.iter().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
    assert_eq!(broken.count(), 0, "of {} lines are broken", lines.len());
    let mut ids = ids(&lines);
    ids.sort_unstable();
    let mut twice: Vec<String> =
        (0..EVENTS).flat_map(|n| [n, n].map(|n| format!("e-{n}"))).collect();
    twice.sort_unstable();
    assert!(ids == twice, "every event twice, {} lines", lines.len());
}

#[test]
fn two_destinations_on_standard_output_do_not_mix() {
    let folder = Folder::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = format!("type = \"stdout\"\n{BATCHES}");
    let config = Config::new("allow").destination("a", &stdout).destination("b", &stdout);
    let daemon = Daemon::start_with(&folder, &config, |command| {
        command.stdout(writer);
    });
    let received = read_slowly(reader);
    daemon.send(events("e", EVENTS, 700, &[]));
    daemon.settled(EVENTS);
    assert_eq!(daemon.stop().code, Some(0));
    assert_whole(&received.join().unwrap());
}

#[test]
fn two_names_of_one_fifo_do_not_mix() {
    let folder = Folder::new();
    let fifo = folder.fifo("events");
    let link = folder.path("link");
    symlink(&fifo, &link).unwrap();
    let file = |path| format!("type = \"file\"\npath = {path:?}\n{BATCHES}");
    let config = Config::new("allow").destination("a", file(&fifo)).destination("b", file(&link));
    // Reading and writing: it never ends, and never waits.
    let keep = File::options().read(true).write(true).open(&fifo).unwrap();
    let reader = File::open(&fifo).unwrap();
    let daemon = Daemon::start(&folder, &config);
    let received = read_slowly(reader);
    daemon.send(events("e", EVENTS, 700, &[]));
    daemon.settled(EVENTS);
    assert_eq!(daemon.stop().code, Some(0));
    drop(keep);
    assert_whole(&received.join().unwrap());
}
