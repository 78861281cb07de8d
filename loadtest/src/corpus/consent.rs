//! The consent object in its many forms, its decoys, and the `integrations` object.

use fastrand::Rng;

use super::json::Json;
use super::words::{CATEGORIES, INTEGRATIONS, PREFERENCE_UPDATED};

/// Puts the event's consent into its context, in one of the forms that senders use.
pub(super) fn put(context: &mut Json, without_per_mille: u32, rng: &mut Rng) {
    if rng.u32(..1000) < without_per_mille {
        return;
    }
    match rng.u32(..1000) {
        // The early form, alone or beside the one that goes first.
        0..30 => context.push("consentCategories", preferences(rng)),
        30..35 => {
            context.push("consentCategories", preferences(rng));
            context.push("consent", Json::object([("categoryPreferences", preferences(rng))]));
        }
        35..45 => context.push("consent", Json::object([])),
        45..50 => context.push("consent", Json::object([("provider", "OneTrust".into())])),
        50..55 => {
            let preferences = [Json::Literal("null".into()), Json::Array(vec![]), "all".into()];
            let preferences = pick_json(preferences, rng);
            context.push("consent", Json::object([("categoryPreferences", preferences)]));
        }
        55..60 => {
            let consent = [Json::Literal("null".into()), true.into(), "all".into()];
            context.push("consent", pick_json(consent, rng));
        }
        60..70 => context.push("consent", Json::object([("categoryPreferences", odd_values(rng))])),
        70..80 => {
            let mut strangers = preferences(rng);
            strangers.push("C0099", rng.bool());
            strangers.push("advertising", true);
            context.push("consent", Json::object([("categoryPreferences", strangers)]));
        }
        80..200 => context.push(
            "consent",
            Json::object([
                ("categoryPreferences", preferences(rng)),
                ("provider", "OneTrust".into()),
                ("collectedAt", "2026-11-20T08:14:03.417Z".into()),
            ]),
        ),
        _ => context.push("consent", Json::object([("categoryPreferences", preferences(rng))])),
    }
}

/// 5 to 10 categories, each granted in two of three cases: of all ten, half are granted.
pub(super) fn preferences(rng: &mut Rng) -> Json {
    let mut categories = CATEGORIES;
    rng.shuffle(&mut categories);
    let mentioned = rng.usize(5..=CATEGORIES.len());
    let mut preferences = Json::object([]);
    for category in &categories[..mentioned] {
        preferences.push(category, rng.u8(..3) < 2);
    }
    preferences
}

/// Preferences whose values are not all booleans: whatever is not `true` refuses.
fn odd_values(rng: &mut Rng) -> Json {
    let mut preferences = preferences(rng);
    if let Json::Object(members) = &mut preferences {
        let odd = ["true", "\"true\"", "1", "null", "0", "{}", "[true]"];
        for (_, value) in members {
            *value = Json::Literal(odd[rng.usize(..odd.len())].into());
        }
    }
    preferences
}

/// Turns an event into the one that tells of changed preferences; its consent stays as it is.
pub(super) fn make_preference_event(event: &mut Json) {
    for key in ["type", "event", "name"] {
        event.remove(key);
    }
    event.push("type", "track");
    event.push("event", PREFERENCE_UPDATED);
}

/// The same, with preferences that are valid whatever the event carried before.
pub(super) fn make_valid_preference_event(event: &mut Json, rng: &mut Rng) {
    make_preference_event(event);
    if let Some(context) = event.get_mut("context") {
        context.remove("consent");
        context.remove("consentCategories");
        context.push("consent", Json::object([("categoryPreferences", preferences(rng))]));
    }
}

/// A consent object that grants everything where no reader may look.
pub(super) fn put_decoy(event: &mut Json, rng: &mut Rng) {
    let mut granted = Json::object([]);
    CATEGORIES.iter().for_each(|category| granted.push(category, true));
    let consent = Json::object([("categoryPreferences", granted.clone())]);
    match rng.u8(..6) {
        0 => push_into(event, "properties", "consent", consent),
        1 => {
            push_into(event, "properties", "context", Json::object([("consent", consent)]));
        }
        2 => push_into(event, "traits", "consentCategories", granted),
        3 => event.push("consent", consent),
        4 => event.push("categoryPreferences", granted),
        _ => {
            let protocols = Json::object([("context", Json::object([("consent", consent)]))]);
            push_into(event, "context", "protocols", protocols);
        }
    }
}

fn push_into(event: &mut Json, object: &str, key: &str, value: Json) {
    if let Some(inner @ Json::Object(_)) = event.get_mut(object) {
        inner.push(key, value);
    } else if event.get_mut(object).is_none() {
        event.push(object, Json::object([(key, value)]));
    }
}

/// An `integrations` object: empty, for all, for some.
pub(super) fn integrations(rng: &mut Rng) -> Json {
    let mut integrations = Json::object([]);
    match rng.u8(..10) {
        0..3 => return integrations,
        3..6 => integrations.push("All", true),
        6 => integrations.push("All", false),
        _ => {}
    }
    if rng.bool() {
        let mut names = INTEGRATIONS;
        rng.shuffle(&mut names);
        for name in &names[..rng.usize(1..4)] {
            let value = match rng.u8(..8) {
                0..3 => true.into(),
                3..6 => false.into(),
                6 => Json::object([("clientId", "1033501218.1368477527".into())]),
                _ => Json::Literal("null".into()),
            };
            integrations.push(name, value);
        }
    }
    integrations
}

fn pick_json<const N: usize>(choices: [Json; N], rng: &mut Rng) -> Json {
    choices[rng.usize(..N)].clone()
}
