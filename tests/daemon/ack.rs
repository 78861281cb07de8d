//! `ack = true`: what a TCP client is told is settled is settled, to the line.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Config, Daemon, Folder, HttpSink, PATIENCE, Reply, event, events, get, ids, run_command,
    wait_until,
};

const SOURCES: &str = "[sources.tcp]\ntype = \"tcp\"\nlisten = \"127.0.0.1:0\"\nack = true\n\n\
                       [sources.http]\ntype = \"http\"\nlisten = \"127.0.0.1:0\"\n\n";
const AGREED: &[(&str, bool)] = &[("A", true)];
const REFUSED: &[(&str, bool)] = &[("A", false)];
const MAX_EVENT_BYTES: usize = 1024;

fn config(folder: &Folder) -> Config {
    config_with(folder, "")
}

fn config_with(folder: &Folder, log: &str) -> Config {
    Config::new("deny")
        .categories(&["A"])
        .log(folder, log)
        .daemon("max_event_bytes = 1024")
        .sources(SOURCES)
        .file(folder, "lake", "categories = [\"A\"]")
}

/// The acknowledgements of a connection.
struct Acks {
    stream: TcpStream,
    text: Vec<u8>,
    last: u64,
    /// Where it is asked what it counts if no acknowledgement comes.
    admin: Option<SocketAddr>,
}

impl Acks {
    fn of(stream: &TcpStream) -> Self {
        let stream = stream.try_clone().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, text: Vec::new(), last: 0, admin: None }
    }

    /// The next count; `None` once the daemon has closed its end.
    fn next(&mut self) -> Option<u64> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let count = std::str::from_utf8(&line).unwrap().trim_end().parse().unwrap();
                assert!(count > self.last, "{count} after {}", self.last);
                self.last = count;
                return Some(count);
            }
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer) {
                Ok(read @ 1..) => self.text.extend_from_slice(&buffer[..read]),
                Ok(0) => {
                    assert!(self.text.is_empty(), "half an acknowledgement");
                    return None;
                }
                // Killed.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => {
                    let counts = self.admin.map(|admin| get(admin, "/metrics").body);
                    panic!("no acknowledgement after {}: {error}\n{counts:?}", self.last)
                }
            }
        }
    }

    fn until(&mut self, count: u64) {
        while self.last < count {
            assert!(self.next().is_some(), "closed at {} of {count}", self.last);
        }
        assert_eq!(self.last, count, "more than there is");
    }
}

/// What a client may send, and whether it counts.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Stored,
    Refused,
    Invalid,
    TooLarge,
    /// Longer than what is kept of an unfinished line.
    Endless,
    Blank,
}

impl Sent {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Stored => event("stored", AGREED).into_bytes(),
            Self::Refused => event("refused", REFUSED).into_bytes(),
            Self::Invalid => b"{\"a\":".to_vec(),
            Self::TooLarge => vec![b'x'; MAX_EVENT_BYTES + 1],
            Self::Endless => vec![b'x'; 3 * MAX_EVENT_BYTES],
            Self::Blank => b"  \t".to_vec(),
        }
    }

    fn counts(self) -> u64 {
        u64::from(!matches!(self, Self::Blank))
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    use Sent::{Blank, Endless, Invalid, Refused, Stored, TooLarge};
    prop_oneof![
        4 => Just(Stored), 2 => Just(Refused), 1 => Just(Invalid), 1 => Just(TooLarge),
        1 => Just(Endless), 2 => Just(Blank),
    ]
}

/// The bytes on the wire; the first thing decides the form, so it is an event.
fn wire(all: &[Sent], counted: bool, ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, sent) in all.iter().enumerate() {
        let line = sent.bytes();
        if counted {
            bytes.extend_from_slice(format!("{} ", line.len()).as_bytes());
            bytes.extend_from_slice(&line);
        } else {
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(if number % 3 == 0 { b"\r\n" } else { b"\n" });
        }
    }
    if !ended {
        bytes.extend_from_slice(if counted { b"50 {\"half\"" } else { b"{\"half\"" });
    }
    bytes
}

#[test]
fn the_count_is_exact_however_the_bytes_are_cut() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let case = (vec(sent(), 0..30), any::<bool>(), any::<bool>(), vec(1usize..4000, 1..6));
    // `CONSENTD_CASES=N` is the long campaign.
    let cases = std::env::var("CONSENTD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let cases = Cases { cases, failure_persistence: None, max_shrink_iters: 0, ..Cases::default() };
    TestRunner::new(cases)
        .run(&case, |(rest, counted, ended, lengths)| {
            let all = [&[Sent::Stored], &rest[..]].concat();
            let lines: u64 = all.iter().map(|sent| sent.counts()).sum();
            let bytes = wire(&all, counted, ended);
            let mut stream = daemon.connect();
            let mut acks = Acks::of(&stream);
            acks.admin = Some(daemon.admin());
            let mut at = 0;
            for length in lengths.iter().cycle() {
                if at == bytes.len() {
                    break;
                }
                let end = bytes.len().min(at + length);
                stream.write_all(&bytes[at..end]).unwrap();
                at = end;
                thread::yield_now();
            }
            acks.until(lines);
            stream.shutdown(Shutdown::Write).unwrap();
            // Half a line is a rejected one once it is known that nothing follows.
            acks.until(lines + u64::from(!ended));
            assert_eq!(acks.next(), None);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_line_is_not_acknowledged_before_those_in_front_of_it() {
    let folder = Folder::new();
    // The first frame waits for a log without room, the line behind it is known to be too long at once.
    let daemon = Daemon::start(
        &folder,
        &config_with(&folder, "free_space_min = \"1000TiB\"")
            .daemon("shutdown_timeout = \"500ms\""),
    );
    let mut stream = daemon.connect();
    let mut acks = Acks::of(&stream);
    let line = event("first", AGREED);
    let bytes = format!("{} {line}3000 {}", line.len(), "x".repeat(3000));
    stream.write_all(bytes.as_bytes()).unwrap();
    daemon.metrics_where("the log is full", |metrics| metrics.sum("consentd_log_full", &[]) == 1);
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let unread = stream.peek(&mut [0]).unwrap_err();
    assert_eq!(unread.kind(), std::io::ErrorKind::WouldBlock, "nothing is acknowledged");
    stream.set_read_timeout(None).unwrap();
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(acks.next(), None, "nothing was stored, so nothing is acknowledged");
}

#[test]
fn a_stop_settles_and_acknowledges_what_was_read_then_closes() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config_with(&folder, "window = \"300ms\""));
    let mut stream = daemon.connect();
    let mut acks = Acks::of(&stream);
    stream.write_all(events("e", 20, 10, AGREED).as_bytes()).unwrap();
    sleep(Duration::from_millis(50));
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    acks.until(20);
    assert_eq!(acks.next(), None);
    assert_eq!(folder.delivered("lake").len(), 20);
}

/// A connection that takes little before it is read from.
fn with_little_room(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.into()
}

#[test]
fn who_never_reads_acknowledgements_is_read_no_further_and_others_are() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let stuck = with_little_room(daemon.source("tcp"));
    stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let started = Instant::now();
    // Rejected lines are settled at once, and many small reads make many acknowledgements.
    while (&stuck).write_all(b"{\n").is_ok() {
        assert!(started.elapsed() < 4 * PATIENCE, "the daemon reads on and on");
    }
    let received = daemon.metrics().received();
    let mut other = daemon.connect();
    let mut acks = Acks::of(&other);
    other.write_all(events("other", 10, 10, AGREED).as_bytes()).unwrap();
    acks.until(10);
    assert_eq!(daemon.metrics().received(), received + 10, "the other one is not read");
    // Once it reads, it goes on, and misses nothing.
    let mut late = Acks::of(&stuck);
    stuck.shutdown(Shutdown::Write).unwrap();
    while late.next().is_some() {}
    assert_eq!(late.last, daemon.metrics().received() - 10);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn who_never_reads_does_not_hold_up_a_stop() {
    let folder = Folder::new();
    let config = config(&folder).daemon("shutdown_timeout = \"20s\"");
    let daemon = Daemon::start(&folder, &config);
    let stuck = with_little_room(daemon.source("tcp"));
    stuck.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while (&stuck).write_all(b"{\n").is_ok() {}
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(8), "{:?}", ended.took);
}

#[test]
fn without_the_log_it_is_refused_with_the_reason() {
    let folder = Folder::new();
    let config = Config::new("deny").sources(SOURCES).file(&folder, "lake", "");
    let path = folder.write("consentd.toml", &config);
    let ended = run_command("check", &path);
    assert_eq!(ended.code, Some(2));
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("sources.tcp.ack"), "{said}");
    assert!(said.contains("nothing is durable"), "{said}");
}

/// Sends until the connection breaks; the names that were acknowledged.
fn send_until_killed(to: SocketAddr, prefix: &str) -> Vec<String> {
    let Ok(stream) = TcpStream::connect(to) else { return Vec::new() };
    let mut acks = Acks::of(&stream);
    let mut sent = Vec::new();
    let mut half = String::new();
    for batch in 0.. {
        // Cut in the middle of a line.
        let text = half + &events(&format!("{prefix}-{batch}"), 5, 50, AGREED);
        let (now, later) = text.split_at(text.len() - 20);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if (&stream).write_all(now.as_bytes()).is_err() {
            break;
        }
        half = later.to_owned();
        sent.extend(ids(&lines[lines.len() - 5..]));
        // The last line is half sent.
        while acks.last < sent.len() as u64 - 1 {
            if acks.next().is_none() {
                sent.truncate(acks.last as usize);
                return sent;
            }
        }
    }
    while acks.next().is_some() {}
    sent.truncate(acks.last as usize);
    sent
}

/// `CONSENTD_CYCLES=10000` is the long campaign.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged_over_tcp() {
    let cycles =
        std::env::var("CONSENTD_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let folder = Folder::new();
    let down = HttpSink::start(|_| Reply::now(503));
    let config = config(&folder).http("down", &down.url(), "categories = [\"A\"]");
    let mut acknowledged = Vec::new();
    for cycle in 0..cycles {
        let daemon = Daemon::start(&folder, &config);
        let to = daemon.source("tcp");
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                thread::spawn(move || send_until_killed(to, &format!("c{cycle}-{sender}")))
            })
            .collect();
        sleep(Duration::from_millis(20 + cycle * 7 % 60));
        // SIGKILL.
        drop(daemon);
        acknowledged.extend(senders.into_iter().flat_map(|sender| sender.join().unwrap()));
    }
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());
    down.answer(|_| Reply::now(200));
    let _daemon = Daemon::start(&folder, &config);
    let has_all = |lines: Vec<String>| {
        let arrived: HashSet<String> = ids(&lines).into_iter().collect();
        acknowledged.iter().all(|id| arrived.contains(id))
    };
    wait_until("everything arrives in the file", || has_all(folder.delivered("lake")));
    wait_until("everything arrives at the one that was down", || has_all(down.taken()));
}
