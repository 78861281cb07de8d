//! Routing tables from a seed: every option, ids that are alike, now and then a very large one.

use super::model::{Category, DEFAULT_LOCATIONS, Destination, Match, Model, Policy, Source};
use super::noise::chance;
use fastrand::Rng;

/// Alike at the front, at the back, in case and in length: what a hurried comparison confuses.
const IDS: [&str; 16] = [
    "Ads",
    "ads",
    "Ads2",
    "Advertising",
    "Advertisin",
    "Analytics",
    "C0001",
    "C0002",
    "C1",
    "C10",
    "_",
    "R\u{e9}clame",
    "All",
    "consent",
    "Functional_and_Performance_Cookie1",
    "Functional_and_Performance_Cookie2",
];
pub(crate) const TYPES: [&str; 7] =
    ["track", "identify", "page", "screen", "group", "alias", "Track"];

pub(crate) fn model(rng: &mut Rng) -> Model {
    let large = chance(rng, 1);
    let categories = categories(rng, if large { 65..=256 } else { 0..=12 });
    let sources: Vec<Source> = ["shippers", "web", "Web"]
        .into_iter()
        .map(|name| Source { name: name.to_owned(), missing: chance(rng, 40).then(|| policy(rng)) })
        .collect();
    let count = rng.usize(if large { 101..=200 } else { 0..=20 });
    let destinations = (0..count).map(|i| destination(rng, i, &categories)).collect();
    Model {
        categories,
        locations: locations(rng),
        missing: policy(rng),
        unmapped: policy(rng),
        sources,
        destinations,
    }
}

fn policy(rng: &mut Rng) -> Policy {
    if rng.bool() { Policy::Allow } else { Policy::Deny }
}

fn categories(rng: &mut Rng, count: std::ops::RangeInclusive<usize>) -> Vec<Category> {
    let mut ids: Vec<String> = IDS.map(str::to_owned).to_vec();
    ids.extend((0..256).map(|i| format!("Category{i}")));
    let count = rng.usize(count);
    // Small tables draw from the ids that are alike.
    rng.shuffle(&mut ids[..IDS.len().max(count)]);
    ids.truncate(count);
    ids.into_iter().map(|id| Category { id, enabled: !chance(rng, 12) }).collect()
}

fn destination(rng: &mut Rng, i: usize, categories: &[Category]) -> Destination {
    let listed = if chance(rng, 20) { 0 } else { rng.usize(..5) };
    let mut ids: Vec<String> = categories.iter().map(|c| c.id.clone()).collect();
    rng.shuffle(&mut ids);
    ids.truncate(listed);
    Destination {
        enabled: !chance(rng, 6),
        sources: chance(rng, 15).then(|| some_of(rng, &["shippers", "web", "Web"])),
        enforce: !chance(rng, 8),
        categories: ids,
        match_mode: if chance(rng, 35) { Match::Any } else { Match::All },
        integration: match rng.u8(..10) {
            // Several destinations behind one name, a near miss of it, and the name with a meaning.
            0 => "Shared".to_owned(),
            1 => "shared".to_owned(),
            2 if chance(rng, 20) => "All".to_owned(),
            _ => format!("d{i}"),
        },
        receives_preferences: chance(rng, 20),
        types: chance(rng, 25).then(|| some_of(rng, &TYPES)),
        ..Destination::named(&format!("d{i}"))
    }
}

/// One to three of them, each once.
fn some_of(rng: &mut Rng, choices: &[&str]) -> Vec<String> {
    let mut chosen = choices.to_vec();
    rng.shuffle(&mut chosen);
    chosen.truncate(rng.usize(1..=3));
    chosen.into_iter().map(str::to_owned).collect()
}

fn locations(rng: &mut Rng) -> Vec<String> {
    if chance(rng, 60) {
        return DEFAULT_LOCATIONS.map(str::to_owned).to_vec();
    }
    let mut all = vec![
        "/context/consent/categoryPreferences",
        "/context/consent/preferences",
        "/context/consentCategories",
        "/context/consentCategories/all",
        "/context/privacy/categoryPreferences",
        "/context/privacy",
        "/context/type",
        "/context/context/context",
    ];
    rng.shuffle(&mut all);
    // No location may lie on the way to another.
    let mut chosen: Vec<String> = Vec::new();
    for location in all {
        let below = |upper: &str, lower: &str| lower.starts_with(&format!("{upper}/"));
        if !chosen.iter().any(|there| below(there, location) || below(location, there)) {
            chosen.push(location.to_owned());
        }
    }
    chosen.truncate(rng.usize(1..=4));
    chosen
}

/// The name of a source, or none where the caller does not know it.
pub(crate) fn source<'a>(rng: &mut Rng, model: &'a Model) -> Option<&'a str> {
    match rng.usize(..=model.sources.len()) {
        0 => None,
        i => Some(&model.sources[i - 1].name),
    }
}
