//! The HTTP sink against a real server.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::super::http::HttpSink;
use super::super::sink::HttpSpec;
use super::*;
use crate::config::{Compression, Format};
use crate::metrics::DropReason;

/// What a server got.
#[derive(Clone)]
struct Got {
    headers: HeaderMap,
    body: Vec<u8>,
}

struct Server {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<AtomicU32>,
}

/// Status, `Retry-After` and body of the answer number n.
type Answer = (u16, Option<&'static str>, Vec<u8>);

impl Server {
    async fn start(answer: impl Fn(usize, &Got) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}/in?key=s3cret", listener.local_addr().unwrap()),
            got: Arc::default(),
            connections: Arc::default(),
        };
        let (got, connections) = (Arc::clone(&server.got), Arc::clone(&server.connections));
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Relaxed);
                let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
                    async move {
                        assert_eq!(
                            (request.method().as_str(), request.uri().path()),
                            ("POST", "/in")
                        );
                        let headers = request.headers().clone();
                        let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                        let new = Got { headers, body };
                        let number = {
                            let mut got = got.lock().unwrap();
                            got.push(new.clone());
                            got.len() - 1
                        };
                        let (status, after, body) = answer(number, &new);
                        let mut response = Response::builder().status(status);
                        if let Some(after) = after {
                            response = response.header("retry-after", after);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    async fn ok() -> Self {
        Self::start(|_, _| (200, None, Vec::new())).await
    }

    fn got(&self, number: usize) -> Got {
        self.got.lock().unwrap()[number].clone()
    }
}

fn spec(url: &str) -> HttpSpec {
    HttpSpec {
        url: url.into(),
        headers: Vec::new(),
        format: Format::Ndjson,
        compression: Compression::None,
        concurrency: NonZeroUsize::MIN,
        timeout: Duration::from_secs(5),
    }
}

fn sink(spec: HttpSpec) -> HttpSink {
    HttpSink::new(spec).unwrap()
}

fn header<'g>(got: &'g Got, name: &str) -> &'g str {
    got.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn lines_are_posted_as_they_are_with_all_header_fields() {
    let server = Server::ok().await;
    let mut spec = spec(&server.url);
    spec.headers = vec![("Authorization".into(), "Bearer t0ken".into())];
    let batch = batch(&numbered(50));
    assert_eq!(sink(spec).send(&batch).await, Outcome::Delivered);
    let got = server.got(0);
    assert_eq!(got.body, joined(&numbered(50)).into_bytes());
    assert_eq!(header(&got, "content-type"), "application/x-ndjson");
    assert_eq!(header(&got, "content-length"), got.body.len().to_string());
    assert_eq!(header(&got, "authorization"), "Bearer t0ken");
    assert_eq!(header(&got, "idempotency-key"), format!("{:032x}", batch.key()));
    let agent = concat!("consentd/", env!("CARGO_PKG_VERSION"));
    assert_eq!(header(&got, "user-agent"), agent);
    assert_eq!(header(&got, "content-encoding"), "");
}

#[tokio::test]
async fn every_format_with_every_compression_holds_the_events() {
    let server = Server::ok().await;
    let lines =
        ["{\"a\" : [1,\"\\n\"]}".to_owned(), "{\"b\":\"\u{e9},\"}".to_owned(), "{}".to_owned()];
    let events: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut number = 0;
    for format in [Format::Ndjson, Format::JsonArray, Format::SegmentBatch] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let spec = HttpSpec { format, compression, ..spec(&server.url) };
            assert_eq!(sink(spec).send(&batch(&lines)).await, Outcome::Delivered);
            let got = server.got(number);
            number += 1;
            assert_eq!(header(&got, "content-length"), got.body.len().to_string());
            let (coding, body) = match compression {
                Compression::None => ("", got.body.clone()),
                Compression::Gzip => ("gzip", inflate(GzipDecoder::new(&got.body[..])).await),
                Compression::Zstd => ("zstd", inflate(ZstdDecoder::new(&got.body[..])).await),
            };
            assert_eq!(header(&got, "content-encoding"), coding);
            let body = String::from_utf8(body).unwrap();
            match format {
                Format::Ndjson => assert_eq!(body, joined(&lines)),
                Format::JsonArray => {
                    let array: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
                    assert_eq!(array, events);
                    assert_eq!(header(&got, "content-type"), "application/json");
                }
                Format::SegmentBatch => {
                    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(document["batch"].as_array(), Some(&events));
                    let sent_at: jiff::Timestamp =
                        document["sentAt"].as_str().unwrap().parse().unwrap();
                    assert!(sent_at.duration_until(jiff::Timestamp::now()).as_secs() < 60);
                }
            }
        }
    }
}

async fn inflate(mut decoder: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut inflated = Vec::new();
    decoder.read_to_end(&mut inflated).await.unwrap();
    inflated
}

#[tokio::test]
async fn answers_are_classified_and_the_connection_is_used_again() {
    let script: [Answer; 5] = [
        (503, Some("7"), b"busy".repeat(100)),
        (429, Some("soon"), Vec::new()),
        (401, None, b"no".to_vec()),
        (301, None, Vec::new()),
        (413, None, b"x".repeat(20_000)),
    ];
    let server = Server::start(move |number, _| script[number].clone()).await;
    let sink = sink(spec(&server.url));
    let batch = batch(&numbered(1));
    let retry = |seconds: Option<u64>, why: &str| Outcome::Retry {
        after: seconds.map(Duration::from_secs),
        why: why.into(),
    };
    assert_eq!(sink.send(&batch).await, retry(Some(7), "answered 503"));
    assert_eq!(sink.send(&batch).await, retry(None, "answered 429"));
    assert_eq!(sink.send(&batch).await, Outcome::hold("answered 401"));
    assert_eq!(sink.send(&batch).await, Outcome::hold("answered 301"));
    let rejected = Outcome::Reject { why: "answered 413".into() };
    assert_eq!(sink.send(&batch).await, rejected);
    assert_eq!(server.connections.load(Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_rejects_some_events_gets_all_others() {
    let server = Server::start(|_, got| match memchr::memmem::find(&got.body, b"bad").is_some() {
        true => (400, None, b"I do not like one of these".to_vec()),
        false => (200, None, Vec::new()),
    })
    .await;
    let lanes = HttpSpec { concurrency: NonZeroUsize::new(4).unwrap(), ..spec(&server.url) };
    let limits = limits(1 << 20, 25, Duration::from_millis(1));
    let rig = Rig::start(Sink::Http(sink(lanes)), limits, patience(LONG), &[]);
    let name = |n: usize| if n % 17 == 3 { "bad" } else { "good" };
    let lines: Vec<String> =
        (0..200).map(|n| format!("{{\"n\":{n},\"is\":\"{}\"}}", name(n))).collect();
    rig.offer(&lines);
    let (left, counters) = rig.finish(Duration::from_secs(20)).await;
    let (bad, good): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.contains("bad"));
    assert_eq!(left, 0);
    assert_eq!(counters.dropped(DropReason::RejectedByDestination), bad.len() as u64);
    assert_eq!(counters.delivered.load(Relaxed), good.len() as u64);
    let mut taken: Vec<String> = server
        .got
        .lock()
        .unwrap()
        .iter()
        .map(|got| String::from_utf8(got.body.clone()).unwrap())
        .filter(|body| !body.contains("bad"))
        .flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut good = good;
    taken.sort_unstable();
    good.sort_unstable();
    assert_eq!(taken, good, "every good event once, no bad one");
}

#[tokio::test]
async fn a_server_that_is_silent_or_gone_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let batch = batch(&numbered(1));
    let silent =
        HttpSpec { timeout: Duration::from_millis(100), ..spec(&format!("http://{address}/")) };
    let answer = sink(silent).send(&batch).await;
    assert_eq!(answer, Outcome::retry("no answer within 100ms"));
    let tls =
        HttpSpec { timeout: Duration::from_millis(100), ..spec(&format!("https://{address}/")) };
    assert!(matches!(sink(tls).send(&batch).await, Outcome::Retry { .. }));
    drop(listener);
    let answer = sink(spec(&format!("http://{address}/?key=s3cret"))).send(&batch).await;
    let Outcome::Retry { why, .. } = answer else { panic!("{answer:?}") };
    assert!(why.contains("refused") && !why.contains("s3cret"), "{why}");
}

#[test]
fn a_spec_that_cannot_work_is_refused_without_telling_its_secrets() {
    let url = |url: &str| HttpSink::new(spec(url)).map(|_| ()).unwrap_err().to_string();
    for wrong in
        ["", "/path", "ftp://host/s3cret", "http://", "http://me:s3cret@host/", "http://a b/s3cret"]
    {
        assert!(!url(wrong).contains("s3cret"), "{wrong}");
    }
    let field = |name: &str, value: &str| {
        let headers = vec![(name.to_owned(), value.to_owned())];
        HttpSink::new(HttpSpec { headers, ..spec("http://host/") })
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(field("x-key", "s3cret\n").contains("x-key"));
    assert!(!field("x-key", "s3cret\n").contains("s3cret"));
    assert!(field("Content-Length", "1").contains("set by consentd"));
    assert!(field("b\u{e4}d", "1").contains("valid"));
    let sink = HttpSink::new(HttpSpec {
        headers: vec![("x-key".into(), "s3cret".into())],
        ..spec("https://host/s3cret")
    });
    assert!(!format!("{sink:?}").contains("s3cret"));
}
