//! Bad requests: answered with a status, a code and a message; nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::{Config, Daemon, Folder, event, get, ids, post, request};

fn config(folder: &Folder) -> Config {
    Config::new("allow").file(folder, "lake", "").sources(
        "[sources.http]\ntype = \"http\"\nlisten = \"127.0.0.1:0\"\nmax_body_bytes = \"1MiB\"\n\
         request_timeout = \"1s\"\n\n",
    )
}

/// Compresses with the system's gzip.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        let mut packed = Vec::new();
        gzip.stdout.take().unwrap().read_to_end(&mut packed).unwrap();
        assert!(gzip.wait().unwrap().success());
        packed
    })
}

#[test]
fn every_refusal_has_a_status_a_code_and_a_message() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let to = daemon.source("http");
    let line = event("e", &[]);
    let large = "x".repeat(2 << 20);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let gzipped = "Content-Encoding: gzip\r\n";
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let cases: [Case<'_>; 9] = [
        ("POST", "/v2", "", line.as_bytes(), 404, "not_found"),
        ("GET", "/v1/events", "", b"", 405, "method_not_allowed"),
        ("PUT", "/", "", line.as_bytes(), 405, "method_not_allowed"),
        ("POST", "/", "Content-Encoding: br\r\n", b"x", 415, "unsupported_encoding"),
        ("POST", "/", gzipped, b"not gzip at all, by any means", 400, "invalid_encoding"),
        ("POST", "/", "", large.as_bytes(), 413, "body_too_large"),
        ("POST", "/", gzipped, &bomb, 413, "body_too_large"),
        ("POST", "/", "", b"nonsense", 400, "no_acceptable_event"),
        ("POST", "/", "", b"\n", 400, "empty_body"),
    ];
    for (method, path, fields, body, status, code) in cases {
        let answer = request(to, method, path, fields, body).unwrap();
        let place = format!("{method} {path} {fields}: {}", answer.body);
        assert_eq!(answer.status, status, "{place}");
        let json = answer.json();
        assert_eq!(json["code"], code, "{place}");
        assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
        assert_eq!(answer.field("allow").is_some(), status == 405, "{place}");
    }
    let answer = request(to, "POST", "/", gzipped, &gzip(line.as_bytes())).unwrap();
    assert_eq!(answer.body, r#"{"accepted":1,"rejected":[]}"#);
    let metrics = daemon.settled(2);
    assert_eq!(metrics.rejected("invalid_json"), 1);
    assert_eq!(ids(&folder.delivered("lake")), ["e"]);
    let peak = daemon.peak_rss_bytes();
    assert!(peak < 128 << 20, "{peak} bytes");
}

#[test]
fn a_bomb_of_valid_events_is_cut_off_at_the_limit() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let bomb = gzip("{\"a\":1}\n".repeat(8 << 20).as_bytes());
    let answer =
        request(daemon.source("http"), "POST", "/", "Content-Encoding: gzip\r\n", &bomb).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.body);
    let peak = daemon.peak_rss_bytes();
    assert!(peak < 128 << 20, "{peak} bytes");
    // What was read before the limit stays judged, and arrives.
    assert_eq!(daemon.stop().code, Some(0));
    assert!((1..=(1 << 20) / 8).contains(&folder.delivered("lake").len()));
}

#[test]
fn at_most_a_hundred_rejected_lines_are_listed_and_all_are_counted() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let body = format!("{}\n{}", event("e", &[]), "nonsense\n".repeat(5000));
    let answer = post(daemon.source("http"), body).json();
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 100);
    assert_eq!(answer["rejected"][99], serde_json::json!({"line": 101, "reason": "invalid_json"}));
    assert_eq!(daemon.settled(5001).rejected("invalid_json"), 5000);
}

#[test]
fn clients_that_never_finish_hold_nobody_up() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let slow: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(daemon.source("http")).unwrap();
            // Half of them in the head, half of them in the body.
            let end = if number % 2 == 0 { "" } else { "Content-Length: 900000\r\n\r\n{\"a\":" };
            write!(stream, "POST / HTTP/1.1\r\nHost: x\r\n{end}").unwrap();
            stream
        })
        .collect();
    for number in 0..20 {
        let answer = post(daemon.source("http"), event(&format!("e-{number}"), &[]));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(daemon.settled(20).delivered("lake"), 20);
    // A body that does not come within `request_timeout` is not waited for.
    let mut answer = [0; 12];
    (&slow[1]).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(get(daemon.admin(), "/readyz").status, 200);
}

#[test]
fn one_array_is_split_into_its_elements() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let (one, two) = (event("one", &[]), event("two", &[]));
    let body = format!(" [ {one} ,\n 7 , {two}]\n");
    let answer = post(daemon.source("http"), body);
    let expected = serde_json::json!(
        {"accepted": 2, "rejected": [{"line": 2, "reason": "invalid_json"}]}
    );
    assert_eq!(answer.json(), expected);
    daemon.settled(3);
    assert_eq!(ids(&folder.delivered("lake")), ["one", "two"]);
}
