//! Programs that people use to send events: every line arrives as it stood in their file.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Config, Daemon, Folder, marked};
use crate::tools;

const LINES: usize = 500;

/// Lines that shippers might be tempted to change.
fn sent() -> Vec<String> {
    let odd = [
        r#","a":"é 😀 \u00e9 \ud83d\ude00""#,
        r#","b":"tab \t, quote \", backslash \\, percent %s %d $MSG ${HOST} <13>""#,
        r#" , "c" : [ 1 , 2.50 , 1e400 , null ] "#,
        r##","d":"#1 [x] <b>{y}</b> 2026-01-01T00:00:00Z host app[1]:""##,
    ];
    (0..LINES)
        .map(|n| {
            let padding = format!(",\"long\":\"{}\"", "y".repeat(n * 40));
            marked(&format!("e-{n}"), &[("Ads", true)], &(odd[n % odd.len()].to_owned() + &padding))
        })
        .collect()
}

/// A daemon with one file destination, and the input of a sender.
struct Scene {
    folder: Folder,
    daemon: Daemon,
    input: PathBuf,
    lines: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let folder = Folder::new();
        let config = Config::new("deny").categories(&["Ads"]);
        let config = config.file(&folder, "lake", "categories = [\"Ads\"]");
        let daemon = Daemon::start(&folder, &config);
        let lines = sent();
        let input = folder.write("input.ndjson", lines.join("\n") + "\n");
        Self { folder, daemon, input, lines }
    }

    fn port(&self, source: &str) -> String {
        self.daemon.source(source).port().to_string()
    }

    /// Every line, once, in order, byte for byte.
    #[track_caller]
    fn assert_arrived(&self) {
        self.daemon.settled(LINES);
        let arrived = self.folder.delivered("lake");
        for (arrived, sent) in arrived.iter().zip(&self.lines) {
            assert_eq!(arrived, sent);
        }
        assert_eq!(arrived.len(), LINES);
    }

    /// Starts a shipper with a config from `tests/senders`.
    fn shipper(&self, template: &str, values: &[(&str, &str)]) -> PathBuf {
        let text = tools::sender_config(template, values);
        self.folder.write("sender.conf", text)
    }
}

/// Ends a shipper with the test.
struct Shipper(Child);

impl Shipper {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn curl(scene: &Scene, more: &[&str]) {
    let url = format!("http://{}/v1/events", scene.daemon.source("http"));
    let mut curl = tools::curl();
    curl.args(["--silent", "--show-error", "--fail-with-body"]).args(more).arg(url);
    let output = curl.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, format!("{{\"accepted\":{LINES},\"rejected\":[]}}"));
}

#[test]
fn curl_with_a_file() {
    let scene = Scene::new();
    let body = format!("@{}", scene.input.display());
    curl(&scene, &["--data-binary", &body]);
    scene.assert_arrived();
}

#[test]
fn curl_with_a_compressed_file() {
    let scene = Scene::new();
    let packed = Command::new("gzip").arg("--stdout").arg(&scene.input).output().unwrap();
    let path = scene.folder.path("input.gz");
    fs::write(&path, packed.stdout).unwrap();
    let body = format!("@{}", path.display());
    curl(&scene, &["--header", "Content-Encoding: gzip", "--data-binary", &body]);
    scene.assert_arrived();
}

#[test]
fn curl_with_chunks() {
    let scene = Scene::new();
    let body = format!("{}", scene.input.display());
    let chunked = ["--request", "POST", "--header", "Transfer-Encoding: chunked"];
    curl(&scene, &[&chunked[..], &["--upload-file", &body]].concat());
    scene.assert_arrived();
}

#[test]
fn nc() {
    let scene = Scene::new();
    let input = fs::File::open(&scene.input).unwrap();
    let mut nc = tools::nc();
    let status = nc.args(["-N", "127.0.0.1", &scene.port("tcp")]).stdin(input).status().unwrap();
    assert!(status.success(), "{status}");
    scene.assert_arrived();
}

fn rsyslog(framing: &str) {
    let scene = Scene::new();
    let (input, dir) = (scene.input.display().to_string(), scene.folder.path(""));
    let values = [
        ("INPUT", input.as_str()),
        ("PORT", &scene.port("tcp")),
        ("FRAMING", framing),
        ("DIR", dir.to_str().unwrap()),
    ];
    let config = scene.shipper("rsyslog.conf.in", &values);
    let mut rsyslogd = tools::rsyslogd();
    rsyslogd.args(["-n", "-C", "-f"]).arg(config).arg("-i").arg(scene.folder.path("pid"));
    let _shipper = Shipper::start(&mut rsyslogd);
    scene.assert_arrived();
}

#[test]
fn rsyslog_with_lines() {
    rsyslog("traditional");
}

#[test]
fn rsyslog_with_octet_counts() {
    rsyslog("octet-counted");
}

fn syslog_ng(template: &str, source: &str) {
    let scene = Scene::new();
    let input = scene.input.display().to_string();
    let values = [("INPUT", input.as_str()), ("PORT", &scene.port(source))];
    let config = scene.shipper(template, &values);
    let mut syslog_ng = tools::syslog_ng();
    syslog_ng.args(["-F", "--no-caps", "-f"]).arg(config);
    for (option, file) in [("-R", "persist"), ("-c", "control"), ("-p", "pid")] {
        syslog_ng.arg(option).arg(scene.folder.path(file));
    }
    let _shipper = Shipper::start(&mut syslog_ng);
    scene.assert_arrived();
}

#[test]
fn syslog_ng_over_tcp() {
    syslog_ng("syslog-ng-network.conf.in", "tcp");
}

#[test]
fn syslog_ng_over_http() {
    syslog_ng("syslog-ng-http.conf.in", "http");
}
