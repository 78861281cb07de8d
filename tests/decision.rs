//! The decision, judged twice: by the crate, and by an oracle that was written from the design alone.
//!
//! `CONSENTD_CASES=n` tries more than a million generated cases, `CONSENTD_SEED=n` other ones (or the
//! same again), `CONSENTD_CASE=n` only that one of a seed.

mod oracle;

use fastrand::Rng;
use oracle::decide::{self, Outcome, Verdict};
use oracle::model::{Model, Policy};
use oracle::subject::Subject;
use oracle::{cases, events, generate};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Compiling a table costs more than judging an event: each serves this many cases.
const CASES_PER_MODEL: u64 = 128;

#[test]
fn the_oracle_follows_the_hand_written_cases() {
    for case in cases::all() {
        let outcome = decide::decide(case.event.as_bytes(), case.source, &case.model);
        let found = cases::render(&outcome, &case.model);
        assert_eq!(found, case.expected, "{}", case.event);
    }
}

#[test]
fn the_crate_follows_the_hand_written_cases() {
    for case in cases::all() {
        let outcome =
            Subject::compile(&case.model).decide(case.event.as_bytes(), case.source, &case.model);
        let found = cases::render(&outcome, &case.model);
        assert_eq!(found, case.expected, "{}", case.event);
    }
}

#[test]
fn the_crate_and_the_oracle_never_disagree() {
    let seed = number_from_env("CONSENTD_SEED").unwrap_or(1);
    if let Some(index) = number_from_env("CONSENTD_CASE") {
        let model = model_of(seed, index);
        compare(&mut Subject::compile(&model), &model, seed, index);
        return;
    }
    let count = number_from_env("CONSENTD_CASES").unwrap_or(1_000_000);
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let start = next.fetch_add(CASES_PER_MODEL, Ordering::Relaxed);
            if start >= count {
                return;
            }
            let model = model_of(seed, start);
            // One judge for many events: what an event leaves behind must not touch the next.
            let mut subject = Subject::compile(&model);
            for index in start..count.min(start + CASES_PER_MODEL) {
                compare(&mut subject, &model, seed, index);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

/// An agreement about nothing proves nothing: each outcome has to be met often.
#[test]
fn the_generators_reach_every_outcome() {
    let mut seen = BTreeMap::<&str, usize>::new();
    let count = 20_000;
    for index in 0..count {
        let model = model_of(7, index);
        let (line, source) = case_of(7, index, &model);
        match decide::decide(&line, source, &model) {
            Outcome::Rejected(reason) => *seen.entry(reason).or_default() += 1,
            Outcome::Accepted(accepted) => {
                *seen.entry(accepted.consent).or_default() += 1;
                for verdict in accepted.verdicts {
                    let name = match verdict {
                        Verdict::Deliver => "deliver",
                        Verdict::Drop(reason) => reason,
                    };
                    *seen.entry(name).or_default() += 1;
                }
            }
        }
    }
    for outcome in [
        "invalid_json",
        "too_deep",
        "duplicate_key",
        "preferences_missing",
        "preferences_invalid",
        "given",
        "not_provided",
        "malformed",
        "deliver",
        "disabled",
        "source",
        "consent",
        "integrations",
        "filtered",
    ] {
        let times = seen.get(outcome).copied().unwrap_or(0);
        assert!(times > count as usize / 200, "{outcome}: {times} of {seen:?}");
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn model_of(seed: u64, index: u64) -> Model {
    generate::model(&mut rng_of(!seed, index / CASES_PER_MODEL))
}

fn case_of(seed: u64, index: u64, model: &Model) -> (Vec<u8>, Option<&str>) {
    let mut rng = rng_of(seed, index);
    let source = generate::source(&mut rng, model);
    (events::event(&mut rng, model), source)
}

fn rng_of(seed: u64, index: u64) -> Rng {
    let mut seeds = Rng::with_seed(seed);
    Rng::with_seed(seeds.u64(..) ^ index)
}

fn compare(subject: &mut Subject, model: &Model, seed: u64, index: u64) {
    let (line, source) = case_of(seed, index, model);
    if decide::decide(&line, source, model) == subject.decide(&line, source, model) {
        return;
    }
    let disagrees = |line: &[u8], model: &Model| {
        decide::decide(line, source, model) != Subject::compile(model).decide(line, source, model)
    };
    if !disagrees(&line, model) {
        panic!("seed {seed}, case {index}: only after earlier events\n{}", line.escape_ascii());
    }
    let line_least = shrink(line.clone(), |line| disagrees(line, model));
    let model_least = shrink_model(model.clone(), |model| disagrees(&line_least, model));
    let by_oracle = decide::decide(&line_least, source, &model_least);
    let by_crate = Subject::compile(&model_least).decide(&line_least, source, &model_least);
    panic!(
        "CONSENTD_SEED={seed} CONSENTD_CASE={index}\nevent:  {}\nleast:  {}\nsource: {source:?}\n\
         oracle: {}\ncrate:  {}\n{model_least:#?}",
        line.escape_ascii(),
        line_least.escape_ascii(),
        cases::render(&by_oracle, &model_least),
        cases::render(&by_crate, &model_least),
    );
}

/// Leaves out destinations, and the categories that nobody needs any more.
fn shrink_model(mut model: Model, disagrees: impl Fn(&Model) -> bool) -> Model {
    for i in (0..model.destinations.len()).rev() {
        let mut less = model.clone();
        less.destinations.remove(i);
        if disagrees(&less) {
            model = less;
        }
    }
    for i in (0..model.categories.len()).rev() {
        let mut less = model.clone();
        let id = less.categories.remove(i).id;
        let is_needed = less.destinations.iter().any(|d| d.categories.contains(&id));
        if !is_needed && disagrees(&less) {
            model = less;
        }
    }
    model
}

/// Removes spans, long ones first, for as long as the disagreement stays.
fn shrink(mut line: Vec<u8>, disagrees: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    loop {
        let before = line.len();
        let halves = (6..16).rev().map(|power| 1 << power);
        for span in halves.chain((1..64).rev()) {
            let mut at = 0;
            while at + span <= line.len() {
                let mut less = line.clone();
                less.drain(at..at + span);
                if disagrees(&less) {
                    line = less;
                } else {
                    at += 1;
                }
            }
        }
        if line.len() == before {
            return line;
        }
    }
}

#[test]
fn the_conformance_matrix_holds() {
    let matrix = include_str!("conformance/consent_matrix.jsonl");
    for row in matrix.lines() {
        let row: serde_json::Value = serde_json::from_str(row).expect("a row is JSON");
        let model = model_of_row(&row);
        let event = row["event"].to_string();
        let by_oracle = decide::decide(event.as_bytes(), None, &model);
        let by_crate = Subject::compile(&model).decide(event.as_bytes(), None, &model);
        assert_eq!(verdicts(&by_oracle, &model), expected_of_row(&row), "oracle: {row}");
        assert_eq!(verdicts(&by_crate, &model), expected_of_row(&row), "crate: {row}");
    }
    assert!(matrix.lines().count() >= 20);
}

/// Every destination of a row, `missing` and `unmapped` allowed as the rows assume.
fn model_of_row(row: &serde_json::Value) -> Model {
    let categories = row["categories"].as_object().expect("categories");
    let mut ids = Vec::new();
    let mut destinations: Vec<(&str, Vec<&str>)> = Vec::new();
    for (id, members) in categories {
        ids.push(id.as_str());
        for name in texts(members) {
            match destinations.iter_mut().find(|(there, _)| *there == name) {
                Some((_, listed)) => listed.push(id),
                None => destinations.push((name, vec![id])),
            }
        }
    }
    destinations.extend(texts(&row["unmapped"]).map(|name| (name, Vec::new())));
    let lines: Vec<String> =
        destinations.iter().map(|(name, listed)| format!("{name}: {}", listed.join(" "))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Model::parse(&ids.join(" "), &lines)
}

fn texts(list: &serde_json::Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
}

fn expected_of_row(row: &serde_json::Value) -> BTreeMap<String, String> {
    let dropped = row["drop"].as_object().expect("drop");
    texts(&row["deliver"])
        .map(|name| (name.to_owned(), "deliver".to_owned()))
        .chain(
            dropped.iter().map(|(name, reason)| {
                (name.clone(), reason.as_str().expect("a reason").to_owned())
            }),
        )
        .collect()
}

fn verdicts(outcome: &Outcome, model: &Model) -> BTreeMap<String, String> {
    let Outcome::Accepted(accepted) = outcome else {
        return BTreeMap::new();
    };
    model
        .destinations
        .iter()
        .zip(&accepted.verdicts)
        .map(|(destination, verdict)| {
            let text = match verdict {
                Verdict::Deliver => "deliver",
                Verdict::Drop(reason) => reason,
            };
            (destination.name.clone(), text.to_owned())
        })
        .collect()
}

/// Every set of categories, in both modes, against every combination of switched-on categories and
/// every combination of granted ones, by the formula of the design and without the oracle. The four
/// categories stand at the edges of bytes, words and of the largest table.
#[test]
fn every_mask_of_a_small_table_decides_by_the_formula() {
    for first in [0, 6, 62, 126, 252] {
        for on in 0..16u32 {
            for unmapped in [Policy::Allow, Policy::Deny] {
                every_mask_granted(first, on, unmapped);
            }
        }
    }
}

fn every_mask_granted(first: usize, on: u32, unmapped: Policy) {
    let bits = |mask: u32| (0..4).filter(move |bit| mask >> bit & 1 == 1);
    let ids: Vec<String> = (0..first + 4)
        .map(|i| {
            let is_off = i >= first && on >> (i - first) & 1 == 0;
            if is_off { format!("(c{i})") } else { format!("c{i}") }
        })
        .collect();
    let named =
        |mask: u32| -> String { bits(mask).map(|bit| format!(" c{}", first + bit)).collect() };
    let lines: Vec<String> = (0..32u32)
        .map(|d| format!("d{d}:{}{}", ["", " any"][d as usize / 16], named(d % 16)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut model = Model::parse(&ids.join(" "), &lines);
    model.unmapped = unmapped;
    let mut subject = Subject::compile(&model);

    for granted in 0..16u32 {
        let members: Vec<String> =
            bits(granted).map(|bit| format!("\"c{}\":true", first + bit)).collect();
        let event = format!(r#"{{"context":{{"consentCategories":{{{}}}}}}}"#, members.join(","));
        let Outcome::Accepted(accepted) = subject.decide(event.as_bytes(), None, &model) else {
            panic!("{event} was rejected");
        };
        for (d, verdict) in (0..32u32).zip(accepted.verdicts) {
            let required = (d % 16) & on;
            let delivered = match (required, d / 16) {
                (0, _) => unmapped == Policy::Allow,
                (_, 0) => required & !granted == 0,
                _ => required & granted != 0,
            };
            let expected = if delivered { Verdict::Deliver } else { Verdict::Drop("consent") };
            assert_eq!(
                verdict, expected,
                "{} on {on:04b}, {event}",
                model.destinations[d as usize].name
            );
        }
    }
}

/// Names are found by hash, and an index that loses one of two would ignore a user's `false`.
#[test]
fn short_names_are_never_taken_for_each_other() {
    let letters = ["0", "1", "2", "3", "C", "a", "b", "c"];
    let mut names = vec![String::new()];
    for _ in 0..3 {
        let longer = names.iter().flat_map(|name| letters.map(|letter| format!("{name}{letter}")));
        names = longer.chain(names.iter().cloned()).collect();
        names.sort();
        names.dedup();
    }
    names.retain(|name| !name.is_empty());
    // Pairs first: in a large table a search for a better hash may hide what they would show.
    for long in names.iter().filter(|name| name.len() > 1) {
        told_apart(&[long[..long.len() - 1].to_owned(), long.clone()]);
    }
    names.retain(|name| name.starts_with('C'));
    told_apart(&names);
}

/// As integrations, as categories, and as types.
fn told_apart(names: &[String]) {
    let rows = |write: &dyn Fn(&String) -> String| -> Model {
        let lines: Vec<String> = names.iter().map(write).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Model::parse(&names.join(" "), &lines)
    };
    let integrations = rows(&|name| format!("{name}:"));
    let categories = rows(&|name| format!("of-{name}: {name}"));
    let types = rows(&|name| format!("on-{name}: types={name}"));
    for chosen in names {
        let members = |value: bool| -> String {
            let value = |name: &String| if name == chosen { value } else { !value };
            let members = names.iter().map(|name| format!("\"{name}\":{}", value(name)));
            members.collect::<Vec<_>>().join(",")
        };
        let off = format!(r#"{{"integrations":{{{}}}}}"#, members(false));
        let granted = format!(r#"{{"context":{{"consentCategories":{{{}}}}}}}"#, members(true));
        let kind = format!(r#"{{"type":"{chosen}"}}"#);
        for (model, event) in [(&integrations, off), (&categories, granted), (&types, kind)] {
            let by_oracle = decide::decide(event.as_bytes(), None, model);
            let by_crate = Subject::compile(model).decide(event.as_bytes(), None, model);
            let by_oracle = cases::render(&by_oracle, model);
            assert_eq!(cases::render(&by_crate, model), by_oracle, "{event}");
        }
    }
}

/// The oracle's reader and serde_json are strangers: they have to agree on what is JSON, but for
/// the depth and for numbers out of range.
#[test]
fn the_reader_of_the_oracle_agrees_with_serde_json() {
    let mut compared = 0;
    for index in 0..50_000 {
        let model = model_of(3, index);
        let (line, _) = case_of(3, index, &model);
        let read = oracle::json::read_event(&line);
        match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&line) {
            Err(error) if error.to_string().contains("out of range") => continue,
            _ if read == Err(oracle::json::Refusal::TooDeep) => continue,
            result => assert_eq!(read.is_ok(), result.is_ok(), "{}", line.escape_ascii()),
        }
        compared += 1;
    }
    assert!(compared > 40_000);
}
