//! The TCP sink against real listeners.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::tcp::TcpSink;
use super::*;

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn sink(address: String) -> TcpSink {
    TcpSink::new(address, Duration::from_secs(5)).unwrap()
}

/// The next connection; a sink that never makes one fails the test instead of stopping it.
async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
    accepted.expect("no new connection").unwrap().0
}

async fn read_lines(peer: &mut TcpStream, lines: usize) -> String {
    let mut read = Vec::new();
    while read.iter().filter(|byte| **byte == b'\n').count() < lines {
        assert_ne!(peer.read_buf(&mut read).await.unwrap(), 0, "closed early");
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn batches_follow_each_other_on_one_connection_that_is_closed_cleanly() {
    let (listener, address) = listen().await;
    let mut sink = sink(address);
    for _ in 0..3 {
        assert_eq!(sink.send(&batch(&numbered(2000))).await, Outcome::Delivered);
    }
    let mut peer = accept(&listener).await;
    // What the peer says does not matter, and does not turn the goodbye into a reset.
    peer.write_all(b"hello\n").await.unwrap();
    let close = tokio::spawn(sink.close(None));
    let mut read = String::new();
    peer.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, joined(&numbered(2000)).repeat(3));
    drop(peer);
    close.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_the_peer_closed_is_noticed_before_anything_is_written() {
    let (listener, address) = listen().await;
    let mut sink = sink(address);
    assert_eq!(sink.send(&batch(&numbered(1))).await, Outcome::Delivered);
    let mut peer = accept(&listener).await;
    assert_eq!(read_lines(&mut peer, 1).await, joined(&numbered(1)));
    drop(peer);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(sink.send(&batch(&numbered(2))).await, Outcome::Delivered);
    let mut peer = accept(&listener).await;
    assert_eq!(read_lines(&mut peer, 2).await, joined(&numbered(2)));
}

#[tokio::test]
async fn after_a_broken_connection_the_whole_batch_goes_out_again() {
    let (listener, address) = listen().await;
    let sink = sink(address);
    let limits = limits(64 << 20, 1_000_000, Duration::from_millis(1));
    let rig = Rig::start(Sink::Tcp(sink), limits, patience(LONG), &[]);
    // More than fits into the buffers of both kernels.
    let lines: Vec<String> =
        (0..12_000).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(1000))).collect();
    rig.offer(&lines);
    let mut first = accept(&listener).await;
    let mut some = vec![0; 100_000];
    first.read_exact(&mut some).await.unwrap();
    drop(first);
    let mut second = accept(&listener).await;
    assert_eq!(read_lines(&mut second, 12_000).await, joined(&lines));
    drop(second);
    let (left, counters) = rig.finish(Duration::from_secs(5)).await;
    assert_eq!((left, counters.delivered.load(Relaxed)), (0, 12_000));
}

#[tokio::test]
async fn a_destination_that_is_not_there_yet_gets_everything_later() {
    let (listener, address) = listen().await;
    drop(listener);
    let limits = limits(1 << 20, 10, Duration::from_millis(1));
    let rig = Rig::start(Sink::Tcp(sink(address.clone())), limits, patience(LONG), &[]);
    rig.offer(&numbered(25));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.outlet.counters().pending.load(Relaxed), 25);
    let listener = TcpListener::bind(address).await.unwrap();
    let mut peer = accept(&listener).await;
    assert_eq!(read_lines(&mut peer, 25).await, joined(&numbered(25)));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_left_after_the_timeout() {
    let (listener, address) = listen().await;
    let mut sink = TcpSink::new(address, Duration::from_millis(200)).unwrap();
    let lines = vec![format!("{{\"x\":\"{}\"}}", "x".repeat(900_000)); 16];
    let answer = sink.send(&batch(&lines)).await;
    assert!(
        matches!(&answer, Outcome::Retry { why, .. } if why.contains("timed out")),
        "{answer:?}"
    );
    drop(listener);
}

#[test]
fn an_address_needs_a_port() {
    for wrong in ["", "host", "host:", "host:http", "host:99999"] {
        assert!(TcpSink::new(wrong.into(), LONG).is_err(), "{wrong}");
    }
    for right in ["host:1", "[::1]:80", "127.0.0.1:9"] {
        assert!(TcpSink::new(right.into(), LONG).is_ok(), "{right}");
    }
}
