//! Events from a seed, hostile towards the rules of consent: every field that matters in every wrong
//! shape, among members that look like it, in many notations, and then sometimes damaged.

use super::decide::segments;
use super::generate::TYPES;
use super::model::Model;
use super::mutate;
use super::noise::{self, chance, pick};
use super::text::{self, Node};
use fastrand::Rng;

type Members = Vec<(String, Node)>;

const PREFERENCE_EVENT: &str = "Segment Consent Preference Updated";

pub(crate) fn event(rng: &mut Rng, model: &Model) -> Vec<u8> {
    let is_preference_event = chance(rng, 12);
    let mut event = Members::new();
    push(&mut event, "type", kind(rng, is_preference_event));
    push(&mut event, "event", name(rng, is_preference_event));
    push(&mut event, "context", context(rng, model, is_preference_event));
    push(&mut event, "integrations", integrations(rng, model));
    for key in ["userId", "anonymousId", "messageId"] {
        if chance(rng, 30) {
            event.push((key.to_owned(), Node::text("u-1")));
        }
    }
    for _ in 0..rng.usize(..4) {
        event.push(noise::member(rng));
    }
    if rng.usize(..2000) == 0 {
        let long = "\u{e9}x".repeat(rng.usize(..40_000));
        event.push(("long".to_owned(), Node::Text(long)));
    }
    rng.shuffle(&mut event);

    let mut tree = Node::Object(event);
    if chance(rng, 8) {
        repeat_a_key(&mut tree, rng);
    }
    if chance(rng, 3) {
        let value = noise::mistake(rng);
        plant(&mut tree, value, rng);
    }
    if chance(rng, 4) {
        let value = noise::nesting(rng, 1);
        plant(&mut tree, value, rng);
    }
    let mut line = text::write(&tree, rng);
    if chance(rng, 20) {
        mutate::damage(&mut line, rng);
    }
    line
}

fn push(members: &mut Members, key: &str, value: Option<Node>) {
    members.extend(value.map(|value| (key.to_owned(), value)));
}

fn kind(rng: &mut Rng, is_preference_event: bool) -> Option<Node> {
    match rng.u8(..20) {
        0 => None,
        1 => Some(noise::not_an_object(rng)),
        2 => Some(Node::Object(vec![("type".to_owned(), Node::text("track"))])),
        3 => Some(Node::text(pick(rng, &["track ", "trac", "tracks", ""]))),
        _ if is_preference_event => Some(Node::text("track")),
        _ => Some(Node::text(pick(rng, &TYPES))),
    }
}

fn name(rng: &mut Rng, is_preference_event: bool) -> Option<Node> {
    match rng.u8(..10) {
        0 => None,
        1 => Some(noise::not_an_object(rng)),
        2 => Some(Node::text("segment consent preference updated")),
        _ if is_preference_event => Some(Node::text(PREFERENCE_EVENT)),
        _ => Some(Node::text("Order Completed")),
    }
}

fn context(rng: &mut Rng, model: &Model, all_boolean: bool) -> Option<Node> {
    match rng.u8(..30) {
        0 | 1 => return None,
        2 => return Some(Node::raw("null")),
        3 => return Some(noise::not_an_object(rng)),
        _ => {}
    }
    let mut context = Members::new();
    for location in &model.locations {
        let (first, second) = segments(location);
        if chance(rng, 30) {
            continue;
        }
        let value = match second {
            _ if chance(rng, 6) => noise::not_an_object(rng),
            None => preferences(rng, model, all_boolean),
            Some(second) => around(rng, model, second, all_boolean),
        };
        // Two locations may share their first name: join them, as a sender would.
        match (context.iter_mut().find(|(key, _)| key == first), value) {
            (Some((_, Node::Object(there))), Node::Object(members)) => {
                for member in members {
                    if !there.iter().any(|(key, _)| *key == member.0) {
                        there.push(member);
                    }
                }
            }
            (Some((_, there)), value) => *there = value,
            (None, value) => context.push((first.to_owned(), value)),
        }
    }
    for _ in 0..rng.usize(..3) {
        let (key, value) = noise::member(rng);
        if !context.iter().any(|(there, _)| *there == key) {
            context.push((key, value));
        }
    }
    rng.shuffle(&mut context);
    Some(Node::Object(context))
}

/// The object between `context` and the preferences.
fn around(rng: &mut Rng, model: &Model, second: &str, all_boolean: bool) -> Node {
    let mut members = Members::new();
    if chance(rng, 75) {
        let value = if chance(rng, 8) {
            noise::not_an_object(rng)
        } else {
            preferences(rng, model, all_boolean)
        };
        members.push((second.to_owned(), value));
    }
    if chance(rng, 20) {
        members.push(("CategoryPreferences".to_owned(), Node::Object(Vec::new())));
    }
    rng.shuffle(&mut members);
    Node::Object(members)
}

fn preferences(rng: &mut Rng, model: &Model, all_boolean: bool) -> Node {
    let odd_percent = if all_boolean { 2 } else { 12 };
    let granted_percent = [10, 50, 80, 100][rng.usize(..4)];
    let listed_percent = [20, 80, 100][rng.usize(..3)];
    let mut members = Members::new();
    for category in &model.categories {
        if chance(rng, listed_percent) {
            let value = preference(rng, granted_percent, odd_percent);
            members.push((category.id.clone(), value));
        }
    }
    for id in ["C0099", "ADS", "Ads ", "", "Advertising2"] {
        if chance(rng, 6) {
            members.push((id.to_owned(), preference(rng, 50, odd_percent)));
        }
    }
    crowd(&mut members, rng);
    rng.shuffle(&mut members);
    Node::Object(members)
}

fn preference(rng: &mut Rng, granted_percent: u32, odd_percent: u32) -> Node {
    if chance(rng, odd_percent) {
        return match rng.u8(..4) {
            0 => Node::text(pick(rng, &["true", "TRUE", "yes", ""])),
            1 => Node::Object(vec![("Ads".to_owned(), Node::raw("true"))]),
            2 => Node::Array(vec![Node::raw("true")]),
            _ => noise::edge(rng),
        };
    }
    Node::raw(if chance(rng, granted_percent) { "true" } else { "false" })
}

fn integrations(rng: &mut Rng, model: &Model) -> Option<Node> {
    match rng.u8(..20) {
        0..=9 => return None,
        10 => return Some(noise::not_an_object(rng)),
        11 => return Some(Node::Object(Vec::new())),
        _ => {}
    }
    let mut members = Members::new();
    if chance(rng, 45) {
        members.push(("All".to_owned(), switch(rng)));
    }
    for name in ["all", "Shared", "D1", "d", "nobody"] {
        if chance(rng, 12) {
            members.push((name.to_owned(), switch(rng)));
        }
    }
    for destination in model.destinations.iter().take(rng.usize(..30)) {
        let name = &destination.integration;
        if chance(rng, 30) && !members.iter().any(|(key, _)| key == name) {
            members.push((name.clone(), switch(rng)));
        }
    }
    crowd(&mut members, rng);
    rng.shuffle(&mut members);
    Some(Node::Object(members))
}

/// Now and then so many keys that looking for repeated ones takes a real search.
fn crowd(members: &mut Members, rng: &mut Rng) {
    if rng.usize(..300) == 0 {
        let count = rng.usize(1..400);
        members.extend((0..count).map(|i| (format!("k{i}"), Node::raw("true"))));
    }
}

fn switch(rng: &mut Rng) -> Node {
    match rng.u8(..8) {
        0..=2 => Node::raw("true"),
        3 | 4 => Node::raw("false"),
        5 => Node::Object(vec![("pixelId".to_owned(), noise::edge(rng))]),
        _ => noise::edge(rng),
    }
}

/// Repeats a member of any object, at any depth, often with another value.
fn repeat_a_key(tree: &mut Node, rng: &mut Rng) {
    with_an_object(tree, rng, |members, rng| {
        if members.is_empty() {
            return;
        }
        let (key, mut value) = members[rng.usize(..members.len())].clone();
        if rng.bool() {
            value = Node::raw("true");
        }
        members.insert(rng.usize(..=members.len()), (key, value));
    });
}

/// Puts `value` in some object: in place of a member, or as a new one.
fn plant(tree: &mut Node, value: Node, rng: &mut Rng) {
    with_an_object(tree, rng, |members, rng| {
        let at = rng.usize(..=members.len());
        if at < members.len() && rng.bool() {
            members[at].1 = value;
        } else {
            members.insert(at, ("planted".to_owned(), value));
        }
    });
}

/// Walks down at random, so that the upper levels, where the rules are, are met most often.
fn with_an_object(tree: &mut Node, rng: &mut Rng, act: impl FnOnce(&mut Members, &mut Rng)) {
    let Node::Object(members) = tree else {
        return;
    };
    let below: Vec<usize> =
        (0..members.len()).filter(|i| matches!(members[*i].1, Node::Object(_))).collect();
    if below.is_empty() || chance(rng, 35) {
        return act(members, rng);
    }
    let chosen = below[rng.usize(..below.len())];
    with_an_object(&mut members[chosen].1, rng, act);
}
