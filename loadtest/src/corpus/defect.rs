//! Lines that must be rejected: each has exactly one thing wrong with it.

use fastrand::Rng;

use super::consent;
use super::json::Json;

/// Damage that is done to the tree before it is written.
pub(super) fn damage_tree(event: &mut Json, rng: &mut Rng) -> Option<ByteDamage> {
    match rng.u8(..16) {
        0..4 => duplicate_key(event, rng),
        4 => event.push("deep", Json::Literal("[".repeat(70) + &"]".repeat(70))),
        5 => event.push("deep", Json::Literal("{\"a\":".repeat(64) + "1" + &"}".repeat(64))),
        6 => event.push("emoji", Json::Literal("\"\\ud83d\"".into())),
        7 => event.push("emoji", Json::Literal("\"\\ude00\\ud83d\"".into())),
        8 => event.push("control", Json::Literal("\"tab\there, nul\0there\"".into())),
        9 => {
            let wrong = ["01", "NaN", "1.", "+1", "tru", "'x'", "[1,]", "{\"a\" 1}", "\"\\x\"", ""];
            event.push("wrong", Json::Literal(wrong[rng.usize(..wrong.len())].into()));
        }
        10 => preference_event(event, rng),
        11 => return Some(ByteDamage::Truncated),
        12 => return Some(ByteDamage::Trailing),
        13 => return Some(ByteDamage::InvalidUtf8),
        14 => return Some(ByteDamage::ByteOrderMark),
        _ => return Some(ByteDamage::BehindNull),
    }
    None
}

/// Damage that is done to the written line.
#[derive(Debug, Clone, Copy)]
pub(super) enum ByteDamage {
    Truncated,
    Trailing,
    InvalidUtf8,
    ByteOrderMark,
    BehindNull,
}

impl ByteDamage {
    /// `id_end` is where the line's id ends: the id survives, so that a sink can name the line.
    pub(super) fn apply(self, line: &mut Vec<u8>, id_end: usize, rng: &mut Rng) {
        match self {
            Self::Truncated => line.truncate(rng.usize(id_end..line.len())),
            Self::Trailing => line.extend_from_slice(b"{}"),
            Self::InvalidUtf8 => {
                let end = line.len() - 1;
                line.splice(end.., *b",\"latin\":\"caf\xe9\"}");
            }
            Self::ByteOrderMark => {
                line.splice(..0, *b"\xef\xbb\xbf");
            }
            Self::BehindNull => {
                // Not in brackets: an HTTP body that begins with one is an array of events.
                line.splice(0..0, *b"null ");
            }
        }
    }
}

/// A key that consentd reads, twice in its object; sometimes spelled differently.
fn duplicate_key(event: &mut Json, rng: &mut Rng) {
    let preferences = || Json::object([("Advertising", true.into())]);
    match rng.u8(..8) {
        0 => event.push("type", "track"),
        1 => event.push("messageId", "another"),
        2 => event.push("context", Json::object([])),
        3 => {
            event.remove("integrations");
            event.push("integrations", Json::object([("All", true.into()), ("All", false.into())]));
        }
        4 => put_consent(event, |context| {
            context.push("consent", Json::object([("categoryPreferences", preferences())]));
            context.push("c\\u006fnsent", Json::object([]));
        }),
        5 => put_consent(event, |context| {
            context.push(
                "consent",
                Json::object([
                    ("categoryPreferences", preferences()),
                    ("categoryPreferences", preferences()),
                ]),
            );
        }),
        6 => put_consent(event, |context| {
            let twice = [("Analytics", true.into()), ("\\u0041nalytics", false.into())];
            context.push("consent", Json::object([("categoryPreferences", Json::object(twice))]));
        }),
        _ => put_consent(event, |context| {
            context.push("consentCategories", preferences());
            context.push("consentCategories", preferences());
        }),
    }
}

/// The event that tells of changed preferences, but without any, or with invalid ones.
fn preference_event(event: &mut Json, rng: &mut Rng) {
    consent::make_preference_event(event);
    put_consent(event, |context| {
        if rng.bool() {
            let mut preferences = consent::preferences(rng);
            preferences.push("C0100", "true");
            context.push("consent", Json::object([("categoryPreferences", preferences)]));
        }
    });
}

fn put_consent(event: &mut Json, put: impl FnOnce(&mut Json)) {
    if let Some(context) = event.get_mut("context") {
        context.remove("consent");
        context.remove("consentCategories");
        put(context);
    }
}
