//! One well-formed Segment-spec call.

use fastrand::Rng;

use super::json::{Json, Style};
use super::words::{
    CITIES, ESCAPED, LOCALES, NAMES, PATHS, TIME_ZONES, TITLES, TRACKED, USER_AGENTS,
};
use super::{Profile, consent};

/// An event as a tree, in a fixed order of keys: shuffling comes after defects.
pub(super) fn event(id: String, profile: &Profile, rng: &mut Rng) -> Json {
    let kind = kind(rng);
    let mut event = Json::object([
        ("type", kind.into()),
        ("messageId", id.into()),
        ("anonymousId", token(36, rng).into()),
        ("timestamp", timestamp(rng).into()),
        ("context", context(profile, rng)),
    ]);
    if rng.u8(..10) < 7 {
        event.push("userId", format!("user-{}", rng.u32(..5_000_000)));
    }
    if rng.bool() {
        event.push("originalTimestamp", timestamp(rng));
    }
    if rng.u8(..10) < 3 {
        event.push("channel", if rng.bool() { "client" } else { "server" });
        event.push("version", 2u32);
    }
    put_body(&mut event, kind, rng);
    if rng.u32(..1000) < profile.integrations_per_mille {
        event.push("integrations", consent::integrations(rng));
    }
    if rng.u32(..1000) < profile.decoys_per_mille {
        consent::put_decoy(&mut event, rng);
    }
    event
}

/// How the line is spelled; the share of lines with a backslash is the profile's.
pub(super) fn style(event: &mut Json, profile: &Profile, rng: &mut Rng) -> Style {
    let mut style = Style { spaced: rng.u8(..12) == 0, ..Style::default() };
    if rng.u32(..1000) < profile.escapes_per_mille {
        event.push("note", pick(&ESCAPED, rng));
        match rng.u8(..10) {
            0..3 => style.escape_slash = true,
            3..6 => style.escape_unicode = true,
            6 => style.escape_keys = true,
            _ => {}
        }
    }
    style
}

fn kind(rng: &mut Rng) -> &'static str {
    match rng.u8(..20) {
        0..11 => "track",
        11..15 => "page",
        15..17 => "identify",
        17..19 => "screen",
        _ => "group",
    }
}

fn put_body(event: &mut Json, kind: &str, rng: &mut Rng) {
    match kind {
        "track" => {
            event.push("event", pick(&TRACKED, rng));
            event.push("properties", properties(rng));
        }
        "page" | "screen" => {
            event.push("name", pick(&TITLES, rng));
            event.push("properties", page(rng));
        }
        "group" => {
            event.push("groupId", token(12, rng));
            event.push("traits", traits(rng));
        }
        _ => event.push("traits", traits(rng)),
    }
}

fn properties(rng: &mut Rng) -> Json {
    let mut properties = Json::object([
        ("order_id", token(16, rng).into()),
        ("currency", "EUR".into()),
        ("revenue", decimal(rng)),
        ("quantity", rng.u32(1..9).into()),
        ("first_time", rng.bool().into()),
    ]);
    if rng.u8(..10) < 4 {
        let products = (0..rng.u8(1..4)).map(|_| product(rng)).collect();
        properties.push("products", Json::Array(products));
    }
    if rng.u8(..8) == 0 {
        properties.push("experiments", nested(rng.u8(1..12), rng));
    }
    properties
}

fn product(rng: &mut Rng) -> Json {
    Json::object([
        ("product_id", token(24, rng).into()),
        ("sku", token(8, rng).into()),
        ("name", pick(&TITLES, rng).into()),
        ("price", decimal(rng)),
        ("coupon", Json::Literal("null".into())),
    ])
}

/// Objects and arrays inside each other, far from the depth limit.
fn nested(depth: u8, rng: &mut Rng) -> Json {
    (0..depth).fold(Json::Literal("-1.5e-3".into()), |inner, _| {
        if rng.bool() {
            Json::Array(vec![inner, rng.bool().into()])
        } else {
            Json::object([("variant", inner), ("bucket", rng.u32(..100).into())])
        }
    })
}

fn traits(rng: &mut Rng) -> Json {
    let name = pick(&NAMES, rng);
    Json::object([
        ("name", name.into()),
        ("email", format!("{}@example.com", token(9, rng)).into()),
        ("plan", "enterprise".into()),
        ("logins", rng.u32(..4000).into()),
        ("createdAt", timestamp(rng).into()),
        (
            "address",
            Json::object([
                ("city", pick(&CITIES, rng).into()),
                ("postalCode", format!("{:05}", rng.u32(..99_999)).into()),
            ]),
        ),
    ])
}

fn context(profile: &Profile, rng: &mut Rng) -> Json {
    let mut context = Json::object([
        ("ip", format!("203.0.113.{}", rng.u8(..)).into()),
        ("locale", pick(&LOCALES, rng).into()),
        ("timezone", pick(&TIME_ZONES, rng).into()),
        ("userAgent", pick(&USER_AGENTS, rng).into()),
        (
            "library",
            Json::object([
                ("name", "@segment/analytics-next".into()),
                ("version", format!("1.{}.{}", rng.u8(60..90), rng.u8(..9)).into()),
            ]),
        ),
    ]);
    if rng.u8(..10) < 7 {
        context.push("page", page(rng));
    } else {
        put_device(&mut context, rng);
    }
    if rng.u8(..10) < 2 {
        context.push(
            "campaign",
            Json::object([
                ("name", "autumn-2026".into()),
                ("source", "newsletter".into()),
                ("medium", "email".into()),
                ("content", pick(&TITLES, rng).into()),
            ]),
        );
    }
    if rng.u8(..10) < 1 {
        context.push("traits", traits(rng));
    }
    consent::put(&mut context, profile.without_consent_per_mille, rng);
    context
}

fn page(rng: &mut Rng) -> Json {
    let path = pick(&PATHS, rng);
    Json::object([
        ("path", path.into()),
        ("url", format!("https://shop.example.com{path}?ref={}", token(10, rng)).into()),
        ("referrer", "https://www.example.org/".into()),
        ("search", format!("?ref={}", token(10, rng)).into()),
        ("title", pick(&TITLES, rng).into()),
    ])
}

fn put_device(context: &mut Json, rng: &mut Rng) {
    context.push(
        "device",
        Json::object([
            ("id", token(36, rng).into()),
            ("manufacturer", "Google".into()),
            ("model", "Pixel 8".into()),
            ("type", "android".into()),
        ]),
    );
    context.push(
        "os",
        Json::object([("name", "Android".into()), ("version", rng.u32(10..16).into())]),
    );
    context
        .push("network", Json::object([("wifi", rng.bool().into()), ("carrier", "ACME".into())]));
    context.push(
        "screen",
        Json::object([
            ("width", 1080u32.into()),
            ("height", 2400u32.into()),
            ("density", Json::Literal("2.625".into())),
        ]),
    );
}

fn decimal(rng: &mut Rng) -> Json {
    Json::Literal(format!("{}.{:02}", rng.u32(..900), rng.u8(..100)))
}

fn timestamp(rng: &mut Rng) -> String {
    let (hour, minute, second) = (rng.u8(..24), rng.u8(..60), rng.u8(..60));
    format!(
        "2026-11-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        rng.u8(1..30),
        rng.u16(..1000)
    )
}

fn token(length: usize, rng: &mut Rng) -> String {
    (0..length).map(|_| rng.alphanumeric()).collect()
}

fn pick<'a>(words: &[&'a str], rng: &mut Rng) -> &'a str {
    words[rng.usize(..words.len())]
}
