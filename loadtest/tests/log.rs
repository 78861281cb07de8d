//! The campaigns about the log, each for a moment: what they are about must hold however short they are,
//! how fast it is they say only when they run alone.

#![allow(clippy::unwrap_used)]

mod bench;

use std::path::PathBuf;

use bench::bench;
use loadtest::round::Findings;
use loadtest::scenario::{Case, Scenario};
use loadtest::subject::DaemonOptions;
use loadtest::{acknowledge, catch_up, troubled};

const DESTINATIONS: usize = 4;

/// With the log. The daemon stands beside the load test, as everything of one build does.
fn daemon() -> DaemonOptions {
    let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_loadtest"));
    binary.set_file_name("consentd");
    assert!(binary.exists(), "build the whole workspace: {} is missing", binary.display());
    DaemonOptions {
        binary,
        workers: None,
        memory_max: None,
        buffer: None,
        max_wait: Some("20ms".to_owned()),
        log: Some("commit".to_owned()),
        log_window: None,
        retry_max: Some("200ms".to_owned()),
        when_full: None,
    }
}

fn assert_sound(findings: &Findings) {
    assert_eq!((findings.violations, findings.missing), (0, 0), "{findings:?}");
    // How fast it was is not looked at here, what the daemon counted is.
    let is_about_counts = |breach: &&String| breach.contains(" delivered, ");
    let counts: Vec<_> = findings.breaches.iter().filter(is_about_counts).collect();
    assert!(counts.is_empty(), "{counts:?}");
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn healthy_destinations_get_everything_beside_those_in_trouble() {
    let scratch = scratch();
    let case = Case { scenario: Scenario::HttpToHttp, destinations: DESTINATIONS, seconds: 1 };
    let report = troubled::run(&bench(), case, &daemon(), scratch.path()).unwrap();
    assert_sound(&report.findings);
    assert!(report.troubled_answers > 0, "nobody was in trouble");
}

#[test]
fn a_destination_that_was_down_catches_up_with_everything() {
    let scratch = scratch();
    // With more room everything would wait in memory.
    let daemon = DaemonOptions { buffer: Some("256KiB".to_owned()), ..daemon() };
    let report = catch_up::run(&bench(), DESTINATIONS, &daemon, scratch.path()).unwrap();
    assert_sound(&report.findings);
}

#[test]
fn what_is_acknowledged_arrives() {
    let scratch = scratch();
    let shape = acknowledge::Shape { destinations: DESTINATIONS, connections: 8, seconds: 1 };
    let report = acknowledge::run(&bench(), shape, &daemon(), scratch.path()).unwrap();
    assert_sound(&report.findings);
}
