//! Every event is accounted for, at every destination, with the right reason.

use std::collections::BTreeMap;
use std::thread;

use crate::harness::{Config, Daemon, Folder, post};

/// Destinations of [`config`], in its order.
const NAMES: [&str; 10] =
    ["all", "ads", "ads-named", "ads-tracks", "both", "either", "off", "web", "exempt", "told"];

/// Two of a class with names of their own in `integrations`; one of the same categories that filters;
/// `all` and `any` of two categories; and one for each other rule.
fn config(folder: &Folder) -> Config {
    Config::new("deny")
        .consent("unmapped = \"allow\"")
        .categories(&["Ads", "Stats"])
        .file(folder, "all", "")
        .file(folder, "ads", "categories = [\"Ads\"]")
        .file(folder, "ads-named", "categories = [\"Ads\"]\nintegration = \"Named\"")
        .file(folder, "ads-tracks", "categories = [\"Ads\"]\ntypes = [\"track\"]")
        .file(folder, "both", "categories = [\"Ads\", \"Stats\"]")
        .file(folder, "either", "categories = [\"Ads\", \"Stats\"]\nmatch = \"any\"")
        .file(folder, "off", "enabled = false")
        .file(folder, "web", "sources = [\"http\"]")
        .file(folder, "exempt", "categories = [\"Ads\"]\nenforce = false")
        .file(folder, "told", "categories = [\"Stats\"]\nreceives_preferences = true")
}

/// An event, and what becomes of it at each of [`NAMES`]: `+` delivered, else the first letter of
/// the reason. `s` stands for `+` if it came over HTTP. Rejected if there is none.
struct Kind {
    event: &'static str,
    fate: Result<[&'static str; NAMES.len()], &'static str>,
}

fn kinds() -> Vec<Kind> {
    let kind = |event, fate: &'static str| {
        let fate: Vec<&str> = fate.split(' ').collect();
        Kind { event, fate: Ok(fate.try_into().unwrap()) }
    };
    let rejected = |event, reason| Kind { event, fate: Err(reason) };
    // In the order of NAMES.
    vec![
        kind(
            r#"{"type":"track","context":{"consent":{"categoryPreferences":{"Ads":true,"Stats":true}}}}"#,
            "+ + + + + + d s + +",
        ),
        kind(
            r#"{"type":"track","context":{"consent":{"categoryPreferences":{"Ads":true,"Stats":false}}}}"#,
            "+ + + + c + d s + c",
        ),
        kind(
            r#"{"type":"page","context":{"consent":{"categoryPreferences":{"Ads":true}}}}"#,
            "+ + + f c + d s + c",
        ),
        // Integrations are tested before types: `ads-tracks` is off for both reasons.
        kind(
            r#"{"type":"page","context":{"consent":{"categoryPreferences":{"Ads":true}}},"integrations":{"Named":false,"ads-tracks":false,"off":false,"web":false}}"#,
            "+ + i i c + d w + c",
        ),
        // Consent is tested before integrations: `both` is off for both reasons.
        kind(
            r#"{"type":"track","context":{"consent":{"categoryPreferences":{"Ads":true}}},"integrations":{"All":false,"ads":true,"told":true}}"#,
            "i + i i c i d w i c",
        ),
        kind(r#"{"type":"track","event":"no consent object"}"#, "+ c c c c c d s + c"),
        kind(r#"{"type":"track","context":{"consent":"broken"}}"#, "+ c c c c c d s + c"),
        kind(
            r#"{"type":"track","event":"Segment Consent Preference Updated","context":{"consent":{"categoryPreferences":{"Stats":false}}}}"#,
            "+ c c c c c d s + +",
        ),
        rejected(r#"{"type":"track""#, "invalid_json"),
        rejected(r#"["type","track"]"#, "invalid_json"),
        rejected(r#"{"type":"track","type":"page"}"#, "duplicate_key"),
        rejected(
            r#"{"type":"track","event":"Segment Consent Preference Updated"}"#,
            "preferences_missing",
        ),
        rejected(
            r#"{"type":"track","event":"Segment Consent Preference Updated","context":{"consent":{"categoryPreferences":{"Ads":1}}}}"#,
            "preferences_invalid",
        ),
    ]
}

/// What must be counted for one destination.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    delivered: u64,
    drops: BTreeMap<String, u64>,
}

impl Expected {
    fn add(&mut self, fate: &str, over_http: bool, times: u64) {
        let reason = match (fate, over_http) {
            ("+", _) | ("s", true) => return self.delivered += times,
            ("i", _) | ("w", true) => "integrations",
            ("s" | "w", false) => "source",
            ("c", _) => "consent",
            ("d", _) => "disabled",
            ("f", _) => "filtered",
            other => panic!("{other:?}"),
        };
        *self.drops.entry(reason.to_owned()).or_default() += times;
    }
}

/// `rounds` of all kinds; kind *k* comes `k + 1` times, so that no two can be mistaken.
fn stream(kinds: &[Kind], rounds: usize) -> String {
    let mut one_of_each = String::new();
    for repeat in 0..kinds.len() {
        for kind in &kinds[repeat..] {
            one_of_each += kind.event;
            one_of_each.push('\n');
        }
    }
    one_of_each.repeat(rounds)
}

#[test]
fn every_reason_is_counted_where_it_belongs() {
    const ROUNDS: u64 = 40;
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &config(&folder));
    let kinds = kinds();
    let sent = stream(&kinds, ROUNDS as usize);
    let lines = sent.lines().count();
    thread::scope(|scope| {
        // Four connections over TCP and two requests over HTTP, at the same time.
        for _ in 0..4 {
            scope.spawn(|| daemon.send(&sent));
        }
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(post(daemon.source("http"), &sent).status, 200));
        }
    });
    let metrics = daemon.settled(lines * 6);

    let mut rejected: BTreeMap<&str, u64> = BTreeMap::new();
    for (position, name) in NAMES.iter().enumerate() {
        let mut expected = Expected::default();
        for (times, kind) in (1..).zip(&kinds) {
            match kind.fate {
                Ok(fate) => {
                    expected.add(fate[position], false, times * ROUNDS * 4);
                    expected.add(fate[position], true, times * ROUNDS * 2);
                }
                Err(reason) if position == 0 => {
                    *rejected.entry(reason).or_default() += times * ROUNDS * 6;
                }
                Err(_) => {}
            }
        }
        let counted = Expected { delivered: metrics.delivered(name), drops: metrics.drops(name) };
        assert_eq!(counted, expected, "{name}");
        assert_eq!(folder.delivered(name).len() as u64, expected.delivered, "lines of {name}");
    }
    for (reason, events) in &rejected {
        assert_eq!(metrics.rejected(reason), *events, "{reason}");
    }
    assert_eq!(metrics.all_rejected(), rejected.values().sum::<u64>());
}

#[test]
fn what_arrives_is_what_was_sent_byte_for_byte() {
    let folder = Folder::new();
    let config = Config::new("allow").file(&folder, "all", "");
    let daemon = Daemon::start(&folder, &config);
    // Order of keys, spaces, escapes, numbers that lose digits in a double, unknown members.
    let lines = [
        r#"{ "b" : 1 , "a" : 2 }"#,
        r#"{"e":"\u00e9\/\ud83d\ude00 \t","é":"😀","n":123456789012345678901234567890.10}"#,
        "\t{\"tab\":\"before and after\"}\t",
        r#"{"x":{"x":[1e400,-0.0,{"x":null}]},"x":1}"#,
        "{}",
    ];
    daemon.send(lines.join("\n") + "\n");
    daemon.settled(lines.len());
    assert_eq!(folder.delivered("all"), lines);
}
