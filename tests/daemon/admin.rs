//! The admin address.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Config, Daemon, Folder, NOBODY, event, events, get, post, request};
use crate::tools;

#[test]
fn promtool_has_nothing_against_the_metrics_page() {
    let folder = Folder::new();
    let config = Config::new("allow")
        .categories(&["Ads"])
        .file(&folder, "lake", "")
        .destination("odd name: \\\"q\\\" \u{e9}", "type = \"blackhole\"\ncategories = [\"Ads\"]")
        .tcp("dead", NOBODY, "");
    let daemon = Daemon::start(&folder, &config);
    daemon.send(events("e", 100, 10, &[("Ads", true), ("Unheard", true)]) + "bad\n");
    post(daemon.source("http"), event("http", &[]));
    daemon.apply(&config);
    daemon.metrics_where("lake is served", |metrics| metrics.delivered("lake") == 101);
    let page = get(daemon.admin(), "/metrics");
    assert!(page.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));

    let mut promtool = tools::promtool();
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(page.body.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{}", page.body);

    // What the documentation promises to be there.
    for name in [
        "consentd_events_received_total{source=\"tcp\"} 101",
        "consentd_bytes_received_total{source=",
        "consentd_events_rejected_total{source=\"tcp\",reason=\"invalid_json\"} 1",
        "consentd_events_delivered_total{destination=\"lake\"} 101",
        "consentd_bytes_delivered_total{destination=\"lake\"}",
        "consentd_events_pending{destination=\"dead\"} 101",
        "consentd_destination_lag_seconds{destination=\"dead\"}",
        "consentd_delivery_attempts_total{destination=\"dead\",outcome=\"retry\"}",
        "consentd_delivery_duration_seconds_bucket{destination=\"lake\",le=",
        "consentd_end_to_end_seconds_count{destination=\"lake\"} 101",
        "consentd_unknown_categories_total{source=\"tcp\"} 100",
        "consentd_reloads_total{result=\"applied\"} 1",
        "consentd_connections{source=",
        "consentd_ingest_blocked_seconds_total",
        "process_resident_memory_bytes",
    ] {
        assert!(page.body.contains(name), "{name} is missing in\n{}", page.body);
    }
}

#[test]
fn every_path_answers_and_others_say_what_there_is() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &Config::new("allow").file(&folder, "lake", ""));
    let admin = daemon.admin();
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
        let wrong = request(admin, "POST", path, "", b"").unwrap();
        assert_eq!((wrong.status, wrong.field("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    let wrong = get(admin, "/reload");
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("POST")));
    assert_eq!(wrong.json()["code"], "method_not_allowed");
    let nothing = get(admin, "/");
    assert_eq!((nothing.status, nothing.json()["code"].as_str()), (404, Some("not_found")));
    assert_eq!(daemon.metrics().sum("consentd_reloads_total", &[]), 0);
}

/// Such requests are all that a page can do to an address that only this machine reaches.
#[test]
fn what_a_web_page_sends_changes_nothing() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &Config::new("allow").file(&folder, "lake", ""));
    let admin = daemon.admin();
    for field in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for path in ["/reload", "/erase", "/syncs/m", "/syncs/m/cancel", "/dead-letters/replay"] {
            let answer = request(admin, "POST", path, field, b"{}").unwrap();
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (403, &"forbidden".into()),
                "{path}"
            );
        }
        assert_eq!(request(admin, "GET", "/metrics", field, b"").unwrap().status, 200);
    }
    assert_eq!(daemon.metrics().sum("consentd_reloads_total", &[]), 0);
    assert_eq!(request(admin, "POST", "/reload", "", b"").unwrap().status, 200);
}
