//! What surrounds the fields that matter: values at the edges of the grammar, just beyond them,
//! decoys of the real fields at other depths, and nesting about the limit.

use super::text::Node;
use fastrand::Rng;

/// Valid, and each a trap for some parser.
const EDGES: [&str; 22] = [
    "0",
    "-0",
    "-0.0",
    "1e400",
    "-1E+400",
    "1e-400",
    "0e0",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "1234567890123456789012345678901234567890",
    "0.1234567890123456789012345678901234567890",
    "true",
    "false",
    "null",
    "{}",
    "[]",
    "\"\"",
    r#""\ud83d\ude00""#,
    r#""\u0000\uffff\/\b\f""#,
    "\"\u{7f}\u{2028}\u{10ffff}\u{feff}\"",
];

/// Not JSON, and each accepted by some parser.
const MISTAKES: [&str; 46] = [
    "01",
    "-01",
    "00",
    "1.",
    ".5",
    "-",
    "-.5",
    "+1",
    "1e",
    "1e+",
    "1.e5",
    "0x10",
    "1_000",
    "1f",
    "- 1",
    "NaN",
    "Infinity",
    "-Infinity",
    "tru",
    "truee",
    "True",
    "nul",
    "nulll",
    "falsy",
    "undefined",
    "'a'",
    "a",
    "",
    "1 2",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{\"a\":}",
    "{a:1}",
    "{\"a\"}",
    "{1:1}",
    "/*c*/1",
    "1//c",
    r#""\x41""#,
    r#""\u12g4""#,
    "\"tab\there\"",
    "\"nul\0here\"",
    "\"open",
    "\u{feff}1",
];

/// Escapes that are no Unicode text.
const SURROGATES: [&str; 8] = [
    r#""\ud800""#,
    r#""\udc00""#,
    r#""\udfff\ud800""#,
    r#""\ud83d\ud83d""#,
    r#""\ud83dx""#,
    r#""\ud83d\n""#,
    r#""\uDBFF\u0041""#,
    r#""\ud83d\""#,
];

pub(crate) fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.usize(..choices.len())]
}

/// True in `percent` of a hundred calls.
pub(crate) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

pub(crate) fn edge(rng: &mut Rng) -> Node {
    Node::raw(pick(rng, &EDGES))
}

pub(crate) fn mistake(rng: &mut Rng) -> Node {
    if chance(rng, 25) {
        Node::raw(pick(rng, &SURROGATES))
    } else {
        Node::raw(pick(rng, &MISTAKES))
    }
}

/// Any value but an object.
pub(crate) fn not_an_object(rng: &mut Rng) -> Node {
    match rng.u8(..8) {
        0 | 1 => Node::raw("null"),
        2 => Node::raw("true"),
        3 => Node::raw("false"),
        4 => Node::raw("0"),
        5 => Node::text(pick(rng, &["", "true", "{}", "all"])),
        6 => Node::Array(Vec::new()),
        _ => Node::Array(vec![Node::Object(vec![("Ads".to_owned(), Node::raw("true"))])]),
    }
}

/// A member that consentd has no business with, whatever it looks like.
pub(crate) fn member(rng: &mut Rng) -> (String, Node) {
    let keys = [
        "properties",
        "traits",
        "timestamp",
        "x",
        "",
        "\u{e9}\u{1f600}",
        "contexts",
        "Context",
        "contex",
        "context ",
        "\"context",
        "integration",
        "TYPE",
        "userid",
    ];
    let value = match rng.u8(..6) {
        0 | 1 => edge(rng),
        2 => Node::Text(string(rng)),
        3 => decoy(rng),
        4 => Node::Array(vec![edge(rng), decoy(rng), Node::Text(string(rng))]),
        _ => Node::Object(vec![
            ("type".to_owned(), Node::text("track")),
            ("type".to_owned(), edge(rng)),
            ("deep".to_owned(), decoy(rng)),
        ]),
    };
    (pick(rng, &keys).to_owned(), value)
}

/// The real fields where they mean nothing, sometimes twice.
fn decoy(rng: &mut Rng) -> Node {
    let preferences = || Node::Object(vec![("Ads".to_owned(), Node::raw("true"))]);
    let consent = Node::Object(vec![("categoryPreferences".to_owned(), preferences())]);
    let context = Node::Object(vec![("consent".to_owned(), consent.clone())]);
    let mut members = vec![
        ("context".to_owned(), context),
        ("consent".to_owned(), consent),
        ("integrations".to_owned(), preferences()),
        ("type".to_owned(), Node::text("track")),
    ];
    members.truncate(rng.usize(1..=4));
    if rng.bool() {
        members.extend(members.clone());
    }
    Node::Object(members)
}

/// Runs of backslashes and quotes, text that looks like structure, and multi-byte characters, of
/// lengths that straddle the blocks of 64 bytes in which fast parsers work.
fn string(rng: &mut Rng) -> String {
    let pieces = [
        "\\",
        "\\\\",
        "\"",
        "\"context\":{",
        "}",
        "]",
        ",",
        ":",
        "\u{e9}",
        "\u{20ac}",
        "\u{1f600}",
        "\n",
        "\u{1}",
    ];
    let mut text = "x".repeat(rng.usize(..70));
    for _ in 0..rng.usize(..8) {
        text.push_str(pick(rng, &pieces));
    }
    text
}

/// A value so deep that, held by an object at `depth`, it ends close to the limit of 64.
pub(crate) fn nesting(rng: &mut Rng, depth: usize) -> Node {
    let mut node = if rng.bool() { edge(rng) } else { Node::Array(Vec::new()) };
    if chance(rng, 15) {
        node = mistake(rng);
    }
    for _ in 0..rng.usize(60..67).saturating_sub(depth) {
        node = if rng.bool() {
            Node::Array(vec![node])
        } else {
            Node::Object(vec![("k".to_owned(), node)])
        };
    }
    node
}
