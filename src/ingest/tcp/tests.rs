use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;
use crate::ingest::testing::{Judges, context, eventually};
use crate::parse::RejectReason;

const MIB: usize = 1024 * 1024;

struct Started {
    judges: Arc<Judges>,
    context: Context,
    address: SocketAddr,
    serving: JoinHandle<io::Result<()>>,
}

impl Started {
    fn new(connections_max: usize, budget_bytes: usize, tail_bytes: usize) -> Self {
        Self::with(connections_max, budget_bytes, tail_bytes, false)
    }

    /// One that acknowledges.
    fn acknowledging() -> Self {
        Self::with(10, MIB, MIB, true)
    }

    fn with(
        connections_max: usize,
        budget_bytes: usize,
        tail_bytes: usize,
        acknowledges: bool,
    ) -> Self {
        let judges = Arc::new(Judges::default());
        let context = context(&judges, budget_bytes, tail_bytes);
        let any = "127.0.0.1:0".parse().unwrap();
        let connections_max = NonZeroUsize::new(connections_max).unwrap();
        let source = TcpSource::bind(any, connections_max, acknowledges).unwrap();
        source.listen().unwrap();
        Self {
            address: source.address(),
            serving: tokio::spawn(source.serve(context.clone())),
            judges,
            context,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn lines(&self, count: usize) -> Vec<String> {
        let what = format!("{count} lines");
        eventually(&what, || self.judges.lines().len() >= count).await;
        self.judges.lines()
    }

    fn nothing_is_taken(&self) -> bool {
        self.context.budget.taken_bytes() == 0 && self.context.tails.taken_bytes() == 0
    }
}

#[tokio::test]
async fn lines_across_writes_and_a_last_one_without_an_end() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peer = daemon.connect().await;
    for piece in ["{\"a\":1}\n{\"b\"", ":2}\r\n", "\n{\"c\":3}"] {
        peer.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(peer);
    let lines = daemon.lines(3).await;
    assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    eventually("all room is given back", || daemon.nothing_is_taken()).await;
}

#[tokio::test]
async fn octet_counted_messages() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peer = daemon.connect().await;
    peer.write_all(b"7 {\"a\":1}8 {\"a\":\n2}10 {\"a\"").await.unwrap();
    peer.write_all(b":333}\n").await.unwrap();
    let lines = daemon.lines(3).await;
    assert_eq!(lines, ["{\"a\":1}", "{\"a\": 2}", "{\"a\":333}"]);
}

#[tokio::test]
async fn an_idle_connection_holds_nothing_and_the_next_goes_to_another_shard() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peers = [daemon.connect().await, daemon.connect().await];
    for peer in [0, 1, 0] {
        let lines = daemon.judges.lines().len();
        peers[peer].write_all(b"{}\n").await.unwrap();
        daemon.lines(lines + 1).await;
    }
    assert_eq!(daemon.judges.shards_seen(), [0, 1, 0]);
    eventually("room is given back", || daemon.nothing_is_taken()).await;
    assert_eq!(daemon.context.counters.connections.load(Relaxed), 2);
}

#[tokio::test]
async fn an_endless_line_is_counted_once_and_the_next_ones_are_read() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peer = daemon.connect().await;
    for _ in 0..20 {
        peer.write_all(&[b'x'; 100_000]).await.unwrap();
    }
    peer.write_all(b"\r\n{}\n").await.unwrap();
    assert_eq!(daemon.lines(1).await, ["{}"]);
    let counters = &daemon.context.counters;
    assert_eq!(counters.received.load(Relaxed), 1);
    assert_eq!(counters.bytes.load(Relaxed), 2_000_000);
    assert_eq!(counters.rejected(RejectReason::TooLarge), 1);
}

#[tokio::test]
async fn a_short_read_takes_little_room() {
    let daemon = Started::new(10, MIB, MIB);
    daemon.judges.stalled.store(true, Relaxed);
    let mut peer = daemon.connect().await;
    peer.write_all(b"{}\n").await.unwrap();
    let little = || (1..=2 * 4096).contains(&daemon.context.budget.taken_bytes());
    eventually("little room is taken", little).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(little());
}

#[tokio::test]
async fn when_nothing_is_judged_reading_stops_and_then_goes_on() {
    let daemon = Started::new(10, MIB, MIB);
    daemon.judges.stalled.store(true, Relaxed);
    let mut peer = daemon.connect().await;
    let line = format!("{{{}}}\n", "x".repeat(900));
    let count = 40_000;
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            peer.write_all(line.as_bytes()).await.unwrap();
        }
    });
    let full = || daemon.context.budget.taken_bytes() > MIB / 2;
    eventually("the budget is taken", full).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!sending.is_finished(), "the sender does not feel it");
    assert!(daemon.context.budget.taken_bytes() <= MIB);
    daemon.judges.resume();
    assert_eq!(daemon.lines(count).await.len(), count);
    assert!(daemon.context.budget.blocked_seconds() > 0.2);
    eventually("room is given back", || daemon.nothing_is_taken()).await;
}

#[tokio::test]
async fn a_budget_smaller_than_a_read_is_enough() {
    let daemon = Started::new(10, 1, MIB);
    let mut peer = daemon.connect().await;
    let lines = format!("{{{}}}\n", "x".repeat(900)).repeat(100);
    peer.write_all(lines.as_bytes()).await.unwrap();
    assert_eq!(daemon.lines(100).await.len(), 100);
}

#[tokio::test]
async fn a_drain_takes_what_was_sent_and_the_unfinished_line() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peer = daemon.connect().await;
    peer.write_all(b"{}\n{\"half\":").await.unwrap();
    daemon.lines(1).await;
    peer.write_all(b"1}\n{\"last\":1").await.unwrap();
    daemon.context.stop.cancel();
    daemon.serving.await.unwrap().unwrap();
    let lines = daemon.judges.lines();
    assert_eq!(lines, ["{}", "{\"half\":1}", "{\"last\":1"]);
    assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(TcpStream::connect(daemon.address).await.is_err());
    assert_eq!(daemon.context.counters.connections.load(Relaxed), 0);
}

#[tokio::test]
async fn a_reset_connection_still_counts_its_unfinished_line() {
    let daemon = Started::new(10, MIB, MIB);
    let mut peer = daemon.connect().await;
    peer.write_all(b"{}\n{\"half\":").await.unwrap();
    daemon.lines(1).await;
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(daemon.lines(2).await, ["{}", "{\"half\":"]);
}

#[tokio::test]
async fn too_many_unfinished_lines_close_the_connection_that_stalled_longest() {
    let daemon = Started::new(10, MIB, 2000);
    let mut peers = Vec::new();
    for number in 0..3 {
        let mut peer = daemon.connect().await;
        let half = format!("{{}}\n{{\"{number}{}", "x".repeat(800));
        peer.write_all(half.as_bytes()).await.unwrap();
        daemon.lines(number + 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        peers.push(peer);
    }
    // The first is closed, and what it had sent is judged.
    assert_eq!(peers[0].read(&mut [0; 1]).await.unwrap(), 0);
    assert!(daemon.lines(4).await[3].starts_with("{\"0"));
    peers[2].write_all(b"\"}\n").await.unwrap();
    assert!(daemon.lines(5).await[4].ends_with("\"}"));
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let daemon = Started::new(1, MIB, MIB);
    let first = daemon.connect().await;
    let mut second = daemon.connect().await;
    second.write_all(b"{}\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(daemon.judges.lines().len(), 0);
    drop(first);
    assert_eq!(daemon.lines(1).await, ["{}"]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let daemon = Started::new(1, MIB, MIB);
    let error = TcpSource::bind(daemon.address, NonZeroUsize::MIN, false).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(&daemon.address.to_string()), "{message}");
    assert!(message.contains("change `listen`"), "{message}");
}

/// What the peer is told next.
async fn told(peer: &mut TcpStream, what: &str) {
    let mut text = vec![0; what.len()];
    let told = timeout(Duration::from_secs(5), peer.read_exact(&mut text));
    told.await.unwrap_or_else(|_| panic!("never told {what:?}")).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), what);
}

#[tokio::test]
async fn a_connection_whose_last_lines_are_blank_is_closed_when_they_are_settled() {
    let daemon = Started::acknowledging();
    let mut peer = daemon.connect().await;
    peer.write_all(b"{}\n").await.unwrap();
    told(&mut peer, "1\n").await;
    daemon.judges.stalled.store(true, Relaxed);
    peer.write_all(b" \n").await.unwrap();
    eventually("it is being judged", || daemon.judges.waiting() == 1).await;
    peer.shutdown().await.unwrap();
    // So that the end is seen before the report.
    tokio::time::sleep(Duration::from_millis(50)).await;
    daemon.judges.resume();
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(5), peer.read_to_end(&mut rest));
    assert_eq!(end.await.expect("it is closed").unwrap(), 0);
}

#[tokio::test]
async fn blank_lines_that_stopped_the_reading_let_it_go_on_when_they_are_settled() {
    let daemon = Started::acknowledging();
    let mut peer = daemon.connect().await;
    daemon.judges.stalled.store(true, Relaxed);
    // Until no more is read.
    for frames in 1..=ack::FRAMES_OPEN_MAX {
        peer.write_all(b"\t\n").await.unwrap();
        eventually("it is being judged", || daemon.judges.waiting() == frames).await;
    }
    peer.write_all(b"{}\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(daemon.judges.waiting(), ack::FRAMES_OPEN_MAX, "it is read no further");
    daemon.judges.resume();
    told(&mut peer, "1\n").await;
}
