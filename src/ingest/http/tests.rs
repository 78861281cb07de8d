use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_compression::tokio::write::{GzipEncoder, ZlibEncoder, ZstdEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{HttpLimits, HttpSource};
use crate::ingest::lane::Context;
use crate::ingest::testing::{Judges, context, eventually};
use crate::parse::RejectReason;

const MIB: usize = 1024 * 1024;
const BODY_BYTES_MAX: usize = 2 * MIB;

struct Started {
    judges: Arc<Judges>,
    context: Context,
    address: SocketAddr,
    serving: JoinHandle<io::Result<()>>,
}

/// A client's connection.
struct Peer(TcpStream);

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: Value,
}

impl Started {
    fn new() -> Self {
        Self::with(Duration::from_secs(20), MIB)
    }

    fn with(request_timeout: Duration, tail_bytes: usize) -> Self {
        let judges = Arc::new(Judges::default());
        let context = context(&judges, MIB, tail_bytes);
        let limits = HttpLimits {
            connections_max: NonZeroUsize::new(10).unwrap(),
            max_body_bytes: BODY_BYTES_MAX as u64,
            request_timeout,
        };
        let source = HttpSource::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        source.listen().unwrap();
        Self {
            address: source.address(),
            serving: tokio::spawn(source.serve(context.clone())),
            judges,
            context,
        }
    }

    async fn connect(&self) -> Peer {
        Peer(TcpStream::connect(self.address).await.unwrap())
    }

    async fn post(&self, head: &str, body: &[u8]) -> Answered {
        let mut peer = self.connect().await;
        let _ = peer.post(head, body).await;
        peer.answer().await
    }
}

impl Peer {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request; an error says that it was answered, and the connection closed, before its
    /// end.
    async fn post(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{head}\r\n");
        self.send(head).await;
        self.0.write_all(body).await
    }

    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().to_lowercase()
    }

    async fn answer(&mut self) -> Answered {
        let head = self.head().await;
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Answered {
            status: head[9..12].parse().unwrap(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            head,
        }
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}

impl Answered {
    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.body["code"], code, "{self:?}");
        assert!(self.body["message"].is_string(), "{self:?}");
    }
}

async fn compressed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    macro_rules! encode {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(&mut out);
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
        }};
    }
    match encoding {
        "gzip" => encode!(GzipEncoder),
        "zstd" => encode!(ZstdEncoder),
        "deflate" => encode!(ZlibEncoder),
        _ => panic!("{encoding}"),
    }
    out
}

#[tokio::test]
async fn lines_are_numbered_as_they_stand_in_the_body() {
    let daemon = Started::new();
    let check = async |body: &str, answer: Value| {
        let answered = daemon.post("", body.as_bytes()).await;
        assert_eq!((answered.status, answered.body), (200, answer), "{body:?}");
        assert!(answered.head.contains("content-type: application/json"));
    };
    check("{}", json!({"accepted": 1, "rejected": []})).await;
    check("{}\r\n{}\n", json!({"accepted": 2, "rejected": []})).await;
    let one = |line, reason| json!({"accepted": 1, "rejected": [{"line": line, "reason": reason}]});
    check("\n \r\n{}\r\n\n\nx", one(6, "invalid_json")).await;
    check("[{},\n\n{\"a\":\n1},3]", {
        json!({"accepted": 2, "rejected": [{"line": 3, "reason": "invalid_json"}]})
    })
    .await;
    let long = "x".repeat(BODY_BYTES_MAX / 2);
    check(&format!("\n\n{long}\n{{}}"), one(3, "too_large")).await;
    check(&format!("[\"{long}\",{{}}]"), one(1, "too_large")).await;
    check(&format!("{{}}\n{long}"), one(2, "too_large")).await;
    let too_large = daemon.context.counters.rejected(RejectReason::TooLarge);
    assert_eq!(too_large, 3, "those that no worker saw");
}

#[tokio::test]
async fn at_most_a_hundred_rejected_lines_are_listed() {
    let daemon = Started::new();
    let body = format!("{{}}\n{}", "x\n".repeat(250));
    let answered = daemon.post("", body.as_bytes()).await;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.body["rejected"].as_array().unwrap().len(), 100);
    assert_eq!(answered.body["rejected"][99]["line"], 101);
    assert_eq!(answered.body["rejected_total"], 250);
}

#[tokio::test]
async fn bodies_without_an_acceptable_event() {
    let daemon = Started::new();
    let mut peer = daemon.connect().await;
    for body in ["", "\n\r\n", "[]"] {
        peer.post("", body.as_bytes()).await.unwrap();
        peer.answer().await.is(400, "empty_body");
    }
    peer.post("", b"\nx").await.unwrap();
    let answered = peer.answer().await;
    answered.is(400, "no_acceptable_event");
    assert_eq!(answered.body["rejected"][0]["line"], 2);
    assert_eq!(answered.body["accepted"], 0);
}

#[tokio::test]
async fn one_connection_many_requests_chunked_ones_too() {
    let daemon = Started::new();
    let mut peer = daemon.connect().await;
    for _ in 0..3 {
        peer.post("", b"{}\n{}").await.unwrap();
        assert_eq!(peer.answer().await.body["accepted"], 2);
        peer.send("POST /v1/events?x=y HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for chunk in ["3\r\n{}\n\r\n", "4\r\n{\"a\"\r\n", "3\r\n:1}\r\n", "0\r\n\r\n"] {
            peer.send(chunk).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(peer.answer().await.body["accepted"], 2);
    }
    assert_eq!(daemon.judges.lines().len(), 12);
    assert_eq!(daemon.judges.lines()[3], "{\"a\":1}");
    assert!(daemon.judges.shards_seen().iter().all(|shard| *shard == 0));
    assert_eq!(daemon.context.budget.taken_bytes(), 0);
    assert_eq!(daemon.context.tails.taken_bytes(), 0);
}

#[tokio::test]
async fn http_1_0_and_expect_continue() {
    let daemon = Started::new();
    let mut peer = daemon.connect().await;
    peer.send("POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(peer.answer().await.status, 200);
    assert!(peer.is_closed().await);

    let mut peer = daemon.connect().await;
    peer.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    assert!(peer.head().await.starts_with("http/1.1 100"));
    peer.send("{}").await;
    assert_eq!(peer.answer().await.status, 200);
}

#[tokio::test]
async fn compressed_bodies() {
    let daemon = Started::new();
    let text = "{\"text\":\"some text\"}\n".repeat(50_000);
    for encoding in ["gzip", "zstd", "deflate"] {
        let head = format!("content-encoding: {encoding}\r\n");
        let body = compressed(encoding, text.as_bytes()).await;
        let answered = daemon.post(&head, &body).await;
        assert_eq!(answered.status, 200, "{encoding} {answered:?}");
        assert_eq!(answered.body["accepted"], 50_000, "{encoding}");

        let bomb = compressed(encoding, &vec![b'\n'; 100 * MIB]).await;
        assert!(bomb.len() < 200_000);
        let answered = daemon.post(&head, &bomb).await;
        answered.is(413, "body_too_large");

        for damaged in [&b"this is not compressed"[..], &body[..body.len() / 2]] {
            let answered = daemon.post(&head, damaged).await;
            answered.is(400, "invalid_encoding");
        }
    }
    let members =
        [compressed("gzip", b"{}\n{\"a\"").await, compressed("gzip", b":1}").await].concat();
    let answered = daemon.post("content-encoding: GZIP\r\n", &members).await;
    assert_eq!(answered.body["accepted"], 2, "{answered:?}");
    assert_eq!(daemon.context.budget.taken_bytes(), 0);
}

#[tokio::test]
async fn what_is_not_served() {
    let daemon = Started::new();
    let ask = async |request: &str| {
        let mut peer = daemon.connect().await;
        peer.send(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        peer.answer().await
    };
    ask("POST /v1/event").await.is(404, "not_found");
    ask("GET /metrics").await.is(404, "not_found");
    let answered = ask("GET /").await;
    answered.is(405, "method_not_allowed");
    assert!(answered.head.contains("allow: post"));
    ask("PUT /v1/events").await.is(405, "method_not_allowed");

    for encoding in ["br", "gzip, gzip", "gzip\r\ncontent-encoding: gzip"] {
        let head = format!("content-encoding: {encoding}\r\n");
        let answered = daemon.post(&head, b"{}").await;
        answered.is(415, "unsupported_encoding");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_although_it_is_still_being_sent() {
    let daemon = Started::new();
    let body = vec![b'\n'; 4 * BODY_BYTES_MAX];
    let mut peer = daemon.connect().await;
    let sent = peer.post("", &body).await;
    assert!(sent.is_ok(), "the connection was reset: {sent:?}");
    let answered = peer.answer().await;
    answered.is(413, "body_too_large");
    assert!(answered.head.contains("connection: close"));

    let mut peer = daemon.connect().await;
    peer.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    peer.send(format!("{:x}\r\n", body.len())).await;
    let _ = peer.0.write_all(&body).await;
    peer.answer().await.is(413, "body_too_large");
}

#[tokio::test]
async fn a_slow_client_is_told_so() {
    let daemon = Started::with(Duration::from_millis(300), MIB);
    let mut peer = daemon.connect().await;
    peer.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}\n{\"a").await;
    peer.answer().await.is(408, "request_timeout");
    assert_eq!(daemon.judges.lines(), ["{}"], "what was whole was judged");
    assert_eq!(daemon.context.tails.taken_bytes(), 0);
}

#[tokio::test]
async fn slow_workers_are_an_overload() {
    let daemon = Started::with(Duration::from_millis(300), MIB);
    daemon.judges.stalled.store(true, Relaxed);
    let answered = daemon.post("", b"{}").await;
    answered.is(503, "overloaded");
    assert!(answered.head.contains("retry-after: 1"));
    let budget = &daemon.context.budget;
    let _rest = budget.room(MIB - budget.taken_bytes()).await;
    daemon.post("", b"{}").await.is(503, "overloaded");
    assert!(budget.blocked_seconds() > 0.2);
}

#[tokio::test]
async fn the_oldest_unfinished_line_is_refused_when_they_take_too_much() {
    let daemon = Started::with(Duration::from_secs(20), 1500);
    let begin = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{{\"{}",
        "x".repeat(800)
    );
    let mut first = daemon.connect().await;
    first.send(&begin).await;
    eventually("it takes memory", || daemon.context.tails.taken_bytes() > 0).await;
    let mut second = daemon.connect().await;
    second.send(&begin).await;
    first.answer().await.is(503, "overloaded");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let daemon = Started::new();
    let mut peer = daemon.connect().await;
    peer.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}\n{\"a").await;
    eventually("a line is judged", || !daemon.judges.lines().is_empty()).await;
    drop(peer);
    let counters = &daemon.context.counters;
    eventually("it is closed", || counters.connections.load(Relaxed) == 0).await;
    assert_eq!(daemon.judges.lines(), ["{}"]);
    assert_eq!(daemon.context.tails.taken_bytes(), 0);
    assert_eq!(daemon.context.budget.taken_bytes(), 0);
}

#[tokio::test]
async fn a_drain_answers_what_is_under_way() {
    let daemon = Started::new();
    daemon.judges.stalled.store(true, Relaxed);
    let mut idle = daemon.connect().await;
    let mut judged = daemon.connect().await;
    judged.post("", b"{}").await.unwrap();
    let mut sending = daemon.connect().await;
    sending.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await;
    eventually("both are under way", || {
        daemon.context.budget.taken_bytes() > 0 && daemon.context.tails.taken_bytes() > 0
    })
    .await;
    let started = Instant::now();
    daemon.context.stop.cancel();
    assert!(idle.is_closed().await);
    daemon.judges.resume();
    assert_eq!(judged.answer().await.status, 200);
    let answered = sending.answer().await;
    answered.is(503, "shutting_down");
    assert!(answered.head.contains("retry-after: 5"));
    drop(sending);
    daemon.serving.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}
