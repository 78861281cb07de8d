//! Bad lines: rejected with the right reason, and nobody else notices.

use std::collections::BTreeMap;
use std::io::Write;

use crate::harness::{Config, Daemon, Folder, event, ids, post};

/// Lines that are no events, and why.
fn bad_lines() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!("{{\"a\":{open}{close}}}").into_bytes()
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let mut lines: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for invalid in [
        "hello",
        "{",
        "{\"a\":1}}",
        "{\"a\":1}{\"b\":2}",
        "{\"a\":1} x",
        "[]",
        "null",
        "\"{}\"",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "\u{feff}{\"a\":1}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"\\ud800\":1}",
        "\0",
        "{\"a\":\0}",
        "{\"a\":\"\0\"}",
        "{\"a\":1}\0",
    ] {
        lines.push(("invalid_json", text(invalid)));
    }
    lines.push(("invalid_json", b"{\"a\":\"\xff\"}".to_vec()));
    lines.push(("invalid_json", b"{\"a\":\"\xc0\xaf\"}".to_vec()));
    lines.push(("invalid_json", b"{\"a\":\"\xed\xa0\x80\"}".to_vec()));
    lines.push(("too_deep", nested(65)));
    lines.push(("too_deep", nested(5000)));
    lines.push(("invalid_json", text(&"[".repeat(50_000))));
    for duplicate in [
        r#"{"context":{},"context":{}}"#,
        r#"{"context":{"consent":{},"c\u006fnsent":{}}}"#,
        r#"{"context":{"consent":{"categoryPreferences":{},"categoryPreferences":{}}}}"#,
        r#"{"context":{"consent":{"categoryPreferences":{"Ads":false,"\u0041ds":true}}}}"#,
        r#"{"type":"track","\u0074ype":"page"}"#,
        r#"{"integrations":{"All":false,"All":true}}"#,
        r#"{"messageId":"a","messageId":"b"}"#,
    ] {
        lines.push(("duplicate_key", text(duplicate)));
    }
    lines.push(("too_large", format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)).into_bytes()));
    lines
}

fn config(folder: &Folder) -> Config {
    Config::new("allow")
        .daemon("max_event_bytes = \"64KiB\"")
        .categories(&["Ads"])
        .file(folder, "lake", "")
}

fn reasons() -> BTreeMap<&'static str, u64> {
    let mut reasons = BTreeMap::new();
    for (reason, _) in bad_lines() {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

#[test]
fn over_tcp_each_is_counted_by_reason_and_the_connection_goes_on() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let mut connection = daemon.connect();
    let mut good = Vec::new();
    for (number, (_, line)) in bad_lines().into_iter().enumerate() {
        let id = format!("good-{number}");
        connection.write_all(&line).unwrap();
        connection.write_all(format!("\n{}\r\n\n \r\n", event(&id, &[])).as_bytes()).unwrap();
        good.push(id);
    }
    let metrics = daemon.settled(good.len() * 2);
    for (reason, events) in reasons() {
        assert_eq!(metrics.rejected(reason), events, "{reason}");
    }
    assert_eq!(metrics.all_rejected(), good.len() as u64);
    assert_eq!(ids(&folder.delivered("lake")), good);
    assert_eq!(metrics.sum("consentd_connections", &[("source", "tcp")]), 1);
}

#[test]
fn over_http_each_is_answered_with_its_line_and_reason() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let (mut body, mut expected) = (Vec::new(), Vec::new());
    for (number, (reason, line)) in bad_lines().into_iter().enumerate() {
        body.extend_from_slice((event(&format!("good-{number}"), &[]) + "\n").as_bytes());
        body.extend_from_slice(&line);
        body.push(b'\n');
        expected.push(serde_json::json!({"line": number * 2 + 2, "reason": reason}));
    }
    let answer = post(daemon.source("http"), body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let accepted = expected.len();
    let expected = serde_json::json!({"accepted": accepted, "rejected": expected});
    assert_eq!(answer.json(), expected);
    let metrics = daemon.settled(accepted * 2);
    for (reason, events) in reasons() {
        assert_eq!(metrics.rejected(reason), events, "{reason}");
    }
    assert_eq!(folder.delivered("lake").len(), accepted);
}

/// A CR ends lines for many readers, so a destination must never see one that is not before an LF,
/// and no part of a line may become a line of its own.
#[test]
fn no_form_of_input_makes_a_line_that_was_not_judged() {
    let folder = Folder::new();
    let config = Config::new("allow").categories(&["Ads"]).file(&folder, "lake", "").file(
        &folder,
        "crm",
        "categories = [\"Ads\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    let hidden = event("hidden", &[("Ads", false)]);
    let granted = r#"{"context":{"consent":{"categoryPreferences":{"Ads":true}}}"#;

    // Within a string a raw CR is no JSON; between tokens it is white space of one event.
    let in_string = format!("{granted},\"a\":\"\r{}\"}}", hidden.replace('"', "'"));
    let between = format!("{granted},\"a\":1\r,\"b\":2}}");
    let two = format!("{granted}}}\r{hidden}");
    daemon.send(format!("{in_string}\n{between}\n{two}\n"));
    let metrics = daemon.settled(3);
    assert_eq!(metrics.rejected("invalid_json"), 2);

    // Octet counts and arrays may hold line ends between tokens.
    let framed = format!("{granted},\n\"c\":\r\n3}}");
    daemon.send(format!("{} {framed}{} {framed}", framed.len(), framed.len()));
    let array = format!("[{granted},\n\"d\":\r4}},\r\n{granted},\"e\":5}}\n]");
    let answer = post(daemon.source("http"), array);
    assert_eq!(answer.body, r#"{"accepted":2,"rejected":[]}"#);
    let metrics = daemon.settled(7);
    assert_eq!((metrics.delivered("lake"), metrics.delivered("crm")), (5, 5));

    for name in ["lake", "crm"] {
        let lines = folder.delivered(name);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        for line in lines {
            // A reader that takes CR for a line end finds nothing that is an event by itself.
            for part in line.split('\r').filter(|part| *part != line) {
                let parsed = serde_json::from_str::<serde_json::Value>(part);
                assert!(parsed.is_err(), "{part:?} of {line:?}");
            }
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
            assert!(!line.contains("hidden"), "{line:?}");
        }
    }
}
