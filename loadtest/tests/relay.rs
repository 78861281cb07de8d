//! The load test judges its own relay: a program that is known to deliver everything everywhere.

#![allow(clippy::unwrap_used)]

mod bench;

use std::path::Path;
use std::sync::Arc;

use bench::bench;
use loadtest::expect::Expectations;
use loadtest::relay::Input;
use loadtest::round::{Findings, Measured, Round};
use loadtest::scenario::{Bench, Scenario};
use loadtest::sink::OutputKind;
use loadtest::subject::Subject;

fn relay(
    bench: &Bench,
    scenario: Scenario,
    expectations: &Arc<Expectations>,
) -> (Measured, Findings) {
    let scratch = tempfile::tempdir().unwrap();
    let sink = bench.sink(scenario.output(), expectations, scratch.path()).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_loadtest"));
    let subject = Subject::relay(binary, scenario.input(), sink.outputs(), scratch.path()).unwrap();
    let is_blind = scenario.output() == OutputKind::Blackhole;
    Round::new(bench.load(), expectations, subject, sink, is_blind).run(None).unwrap()
}

#[test]
fn a_relay_delivers_everything_everywhere() {
    let bench = bench();
    let everywhere = Arc::new(Expectations::everywhere(1000, 3));
    for scenario in Scenario::ALL {
        let (measured, findings) = relay(&bench, scenario, &everywhere);
        assert!(findings.is_clean() && findings.duplicates == 0, "{scenario:?}: {findings:?}");
        assert!(measured.cpu_seconds_per_million_events > 0.0, "{scenario:?}");
        let arrives_somewhere = scenario.output() != OutputKind::Blackhole;
        assert_eq!(measured.latency_ms.is_some(), arrives_somewhere, "{scenario:?}");
    }
}

#[test]
fn a_relay_violates_consent_and_the_sink_counts_every_line_of_it() {
    let bench = bench();
    let (_, expectations) = bench.plan(8);
    let (_, findings) = relay(&bench, Scenario::TcpToTcp, &expectations);
    let sent = 500 + 5000 + 5000;
    let allowed: u64 = expectations.deliveries(sent).iter().sum();
    assert_eq!(findings.violations, 8 * sent - allowed);
    assert_eq!(findings.missing, 0);
    assert!(findings.examples.iter().all(|example| example.contains("not allowed")));
}

#[test]
fn http_and_raw_bytes_do_not_mix() {
    let outputs = ["http:127.0.0.1:1/".parse().unwrap()];
    let listen = "127.0.0.1:0".parse().unwrap();
    assert!(loadtest::relay::run(Input::Tcp, listen, &outputs).is_err());
}
