//! The rules as hand-written cases, for the oracle and for the daemon alike: each line is a clause
//! of the design, or one step beyond it.

use super::decide::{Outcome, Verdict};
use super::model::{Model, Policy};

pub(crate) struct Case {
    pub(crate) event: String,
    pub(crate) model: Model,
    pub(crate) source: Option<&'static str>,
    /// As [`render`] writes it.
    pub(crate) expected: &'static str,
}

/// One line for an outcome: `given(Ads): ads lake; ana=consent`, or the reason of a rejection.
pub(crate) fn render(outcome: &Outcome, model: &Model) -> String {
    let accepted = match outcome {
        Outcome::Rejected(reason) => return (*reason).to_owned(),
        Outcome::Accepted(accepted) => accepted,
    };
    let mut text = format!("{}({}):", accepted.consent, accepted.granted.join(","));
    let mut dropped = String::new();
    for (destination, verdict) in model.destinations.iter().zip(&accepted.verdicts) {
        match verdict {
            Verdict::Deliver => text.push_str(&format!(" {}", destination.name)),
            Verdict::Drop(reason) => dropped.push_str(&format!(" {}={reason}", destination.name)),
        }
    }
    if !dropped.is_empty() {
        text = format!("{text};{dropped}");
    }
    if accepted.unknown_categories > 0 {
        text.push_str(&format!("; unknown {}", accepted.unknown_categories));
    }
    text
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    reading(&mut cases);
    duplicates(&mut cases);
    preference_events(&mut cases);
    destinations(&mut cases);
    json(&mut cases);
    depth(&mut cases);
    cases
}

/// One destination under a category, one under none.
fn two() -> Model {
    Model::parse("Ads", &["ads: Ads", "lake"])
}

fn table(cases: &mut Vec<Case>, model: &Model, rows: &[(&str, &'static str)]) {
    cases.extend(rows.iter().map(|(event, expected)| Case {
        event: (*event).to_owned(),
        model: model.clone(),
        source: None,
        expected,
    }));
}

const GIVEN: &str = "given(Ads): ads lake";
const REFUSED: &str = "given(): lake; ads=consent";
const NOT_PROVIDED: &str = "not_provided(): ads lake";
const MALFORMED: &str = "malformed(): lake; ads=consent";

fn reading(cases: &mut Vec<Case>) {
    #[rustfmt::skip]
    table(cases, &two(), &[
        (r#"{}"#, NOT_PROVIDED),
        (r#"{"context":null}"#, NOT_PROVIDED),
        (r#"{"context":null,"integrations":{"x":true}}"#, NOT_PROVIDED),
        (r#"{"context":{}}"#, NOT_PROVIDED),
        (r#"{"context":{},"integrations":{"x":true}}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{}}}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{"other":1}},"integrations":{}}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{}},"integrations":[1]}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{}},"integrations":{"x":false}}"#, MALFORMED),
        (r#"{"context":{"consent":{"other":1}},"integrations":{"x":null}}"#, MALFORMED),
        (r#"{"context":3}"#, MALFORMED),
        (r#"{"context":[]}"#, MALFORMED),
        (r#"{"context":"null"}"#, MALFORMED),
        (r#"{"context":{"consent":null}}"#, MALFORMED),
        (r#"{"context":{"consent":[]}}"#, MALFORMED),
        (r#"{"context":{"consent":{"categoryPreferences":null}}}"#, MALFORMED),
        (r#"{"context":{"consent":{"categoryPreferences":[{"Ads":true}]}}}"#, MALFORMED),
        (r#"{"context":{"consentCategories":"Ads"}}"#, MALFORMED),
        (r#"{"context":{"consent":{"categoryPreferences":{}}}}"#, REFUSED),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":true}}}}"#, GIVEN),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":false}}}}"#, REFUSED),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":1}}}}"#, REFUSED),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":"true"}}}}"#, REFUSED),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":{"Ads":true}}}}}"#, REFUSED),
        (r#"{"context":{"consent":{"categoryPreferences":{"\u0041ds":true}}}}"#, GIVEN),
        (r#"{"conte\u0078t":{"consen\u0074":{"categor\u0079Preferences":{"Ads":true}}}}"#, GIVEN),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":true,"ads":true,"B":0}}}}"#,
            "given(Ads): ads lake; unknown 2"),
        // The early form, alone, after one that exists, and after one that is malformed.
        (r#"{"context":{"consentCategories":{"Ads":true}}}"#, GIVEN),
        (r#"{"context":{"consent":{},"consentCategories":{"Ads":true}},"integrations":{"x":true}}"#, GIVEN),
        (r#"{"context":{"consentCategories":{"Ads":true},"consent":{"categoryPreferences":{"Ads":false}}}}"#, REFUSED),
        (r#"{"context":{"consentCategories":7,"consent":{"categoryPreferences":{"Ads":true}}}}"#, GIVEN),
        (r#"{"context":{"consentCategories":{"Ads":true},"consent":null}}"#, MALFORMED),
        (r#"{"context":{"consentCategories":{"Ads":true},"consent":{"categoryPreferences":0}}}"#, MALFORMED),
        // Decoys.
        (r#"{"consent":{"categoryPreferences":{"Ads":false}},"traits":{"context":{"consent":3}}}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{"x":{"categoryPreferences":{"Ads":true}},"categoryPreferences":{}}}}"#, REFUSED),
    ]);
}

fn duplicates(cases: &mut Vec<Case>) {
    #[rustfmt::skip]
    table(cases, &two(), &[
        (r#"{"type":"a","type":"a"}"#, "duplicate_key"),
        (r#"{"event":1,"event":1}"#, "duplicate_key"),
        (r#"{"userId":1,"userI\u0064":1}"#, "duplicate_key"),
        (r#"{"anonymousId":1,"anonymousId":1}"#, "duplicate_key"),
        (r#"{"messageId":1,"messageId":1}"#, "duplicate_key"),
        (r#"{"context":null,"context":null}"#, "duplicate_key"),
        (r#"{"integrations":0,"integrations":0}"#, "duplicate_key"),
        (r#"{"context":{"consent":{},"c\u006fnsent":{}}}"#, "duplicate_key"),
        (r#"{"context":{"consentCategories":1,"consentCategories":1}}"#, "duplicate_key"),
        (r#"{"context":{"consent":{"a":1,"\u0061":1}}}"#, "duplicate_key"),
        (r#"{"context":{"consent":{"categoryPreferences":{"a":1,"a":1}}}}"#, "duplicate_key"),
        (r#"{"integrations":{"a":1,"a":1}}"#, "duplicate_key"),
        // Not used, yet located.
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":true}},"consentCategories":{"a":1,"a":1}}}"#, "duplicate_key"),
        (r#"{"context":{"consent":0,"consentCategories":{"a":1,"a":1}}}"#, "duplicate_key"),
        // None of our business.
        (r#"{"traits":1,"traits":1,"x":{"type":1,"type":1}}"#, NOT_PROVIDED),
        (r#"{"context":{"ip":1,"ip":2,"x":{"consent":1,"consent":1}}}"#, NOT_PROVIDED),
        (r#"{"consent":1,"consent":1,"consentCategories":1,"consentCategories":1}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":{"x":{"a":1,"a":1}}}}"#, NOT_PROVIDED),
        (r#"{"context":{"consent":[{"a":1,"a":1}]}}"#, MALFORMED),
        (r#"{"context":{"consent":{"categoryPreferences":{"Ads":true,"x":{"a":1,"a":1}}}}}"#,
            "given(Ads): ads lake; unknown 1"),
        (r#"{"integrations":{"x":{"a":1,"a":1}}}"#, NOT_PROVIDED),
        (r#"{"integrations":[{"a":1,"a":1}]}"#, NOT_PROVIDED),
        // What is not JSON outranks a repeated key, wherever it stands.
        (r#"{"type":1,"type":1,}"#, "invalid_json"),
        (r#"{"context":{},"context":{"consent":{"a":1,"a":1}},"#, "invalid_json"),
    ]);
}

fn preference_events(cases: &mut Vec<Case>) {
    let model = Model::parse("Ads", &["ads: Ads", "told: told Ads"]);
    let mut row = |rest: &str, expected| {
        let name = "Segment Consent Preference Updated";
        let event = format!(r#"{{"event":"{name}",{rest}}}"#);
        table(cases, &model, &[(&event, expected)]);
    };
    row(r#""type":"track""#, "preferences_missing");
    row(r#""type":"track","context":null"#, "preferences_missing");
    row(r#""type":"track","context":5"#, "preferences_missing");
    row(r#""type":"track","context":{"consent":{}}"#, "preferences_missing");
    row(r#""type":"track","context":{"consent":5}"#, "preferences_missing");
    row(
        r#""type":"track","context":{"consent":{"categoryPreferences":null}}"#,
        "preferences_invalid",
    );
    row(
        r#""type":"track","context":{"consent":{"categoryPreferences":{"Ads":true,"B":1}}}"#,
        "preferences_invalid",
    );
    row(r#""type":"track","context":{"consentCategories":[]}"#, "preferences_invalid");
    row(
        r#""type":"track","context":{"consent":{"categoryPreferences":{"Ads":false}}}"#,
        "given(): told; ads=consent",
    );
    row(r#""type":"tr\u0061ck","context":{"consentCategories":{}}"#, "given(): told; ads=consent");
    row(
        r#""type":"track","context":{"consent":5,"consentCategories":{"Ads":true}}"#,
        "malformed(): told; ads=consent",
    );
    row(
        r#""type":"track","context":{"consent":{"categoryPreferences":{"Ads":false}}},"integrations":{"All":false}"#,
        "given():; ads=consent told=integrations",
    );
    row(r#""type":"track","type":"track""#, "duplicate_key");
    row(r#""type":"track","context":{"consentCategories":{"Ads":null}}"#, "preferences_invalid");
    row(r#""type":"Track""#, "not_provided(): ads told");
    row(r#""type":null"#, "not_provided(): ads told");
    row(r#""type":"page","context":{"consent":[]}"#, "malformed():; ads=consent told=consent");

    // Nor does `unmapped = "deny"` keep the news from whoever asked for it.
    let mut model = Model::parse("", &["told: told", "lake"]);
    model.unmapped = Policy::Deny;
    #[rustfmt::skip]
    table(cases, &model, &[
        (r#"{"type":"track","event":"Segment Consent Preference Updated","context":{"consentCategories":{}}}"#,
            "given(): told; lake=consent"),
        (r#"{"type":"track","event":"Order Completed","context":{"consentCategories":{}}}"#,
            "given():; told=consent lake=consent"),
    ]);
}

fn destinations(cases: &mut Vec<Case>) {
    let mut model = Model::parse(
        "Ads Ana (Old)",
        &[
            "both: Ads Ana",
            "any: any Ads Ana",
            "old: Old",
            "part: Old Ads",
            "exempt: exempt Ads",
            "off: disabled",
            "web: sources=web",
            "tracks: types=track,page",
            "named: integration=Google",
        ],
    );
    let source = |name: &str, missing| super::model::Source { name: name.to_owned(), missing };
    model.sources = vec![source("web", Some(Policy::Allow)), source("tcp", None)];
    let ads = r#"{"type":"page","context":{"consentCategories":{"Ads":true,"Old":true}}}"#;
    #[rustfmt::skip]
    table(cases, &model, &[
        (ads, "given(Ads): any old part exempt web tracks named; both=consent off=disabled"),
        (r#"{"context":[],"integrations":{"Google":0}}"#,
            "malformed(): old exempt web; both=consent any=consent part=consent off=disabled tracks=filtered named=integrations"),
        (r#"{"type":"Page","integrations":{"All":false,"Google":{},"any":true,"both":null,"google":true}}"#,
            "not_provided(): any named; both=integrations old=integrations part=integrations \
             exempt=integrations off=disabled web=integrations tracks=integrations"),
        (r#"{"type":"page","integrations":{"any":[],"web":"true","part":1}}"#,
            "not_provided(): both old exempt tracks named; any=integrations part=integrations off=disabled web=integrations"),
        (r#"{"type":["track"],"integrations":{"All":null}}"#,
            "not_provided(): both any old part exempt web named; off=disabled tracks=filtered"),
    ]);
    model.unmapped = Policy::Deny;
    model.missing = Policy::Deny;
    for (source, event, expected) in [
        (
            None,
            ads,
            "given(Ads): any part exempt; both=consent old=consent off=disabled web=consent \
             tracks=consent named=consent",
        ),
        (
            Some("web"),
            "{}",
            "not_provided(): both any part exempt; old=consent off=disabled web=consent \
             tracks=consent named=consent",
        ),
        (
            Some("tcp"),
            "{}",
            "not_provided(): exempt; both=consent any=consent old=consent part=consent \
             off=disabled web=source tracks=consent named=consent",
        ),
    ] {
        cases.push(Case { event: event.to_owned(), model: model.clone(), source, expected });
    }
}

fn json(cases: &mut Vec<Case>) {
    #[rustfmt::skip]
    let valid = [
        "1e400", "-0", "0e0", "18446744073709551616", "-9223372036854775809",
        "1234567890123456789012345678901234567890", "\"\u{7f}\u{2028}\"", r#""\ud83d\uDE00""#,
        r#""\u0000""#, " \t\r1\r", "[ ]", "{\r}",
    ];
    #[rustfmt::skip]
    let invalid = [
        "01", "-01", "1.", ".5", "-", "+1", "1e", "NaN", "tru", "nulls", "", "'a'", "[1,]", "[,]",
        "{\"a\":1,}", "{1:1}", "/**/1", "\"\t\"", "\"\0\"", "\"\u{1f}\"", r#""\x""#, r#""\u12g4""#,
        r#""\ud800""#, r#""\udc00""#, r#""\ud83d\ud83d""#, r#""\ud83d\""#, "\"", "\u{feff}1", "1\0",
        "\u{a0}1", "1}", "1},{\"a\":1",
    ];
    for value in valid {
        table(cases, &two(), &[(&format!("{{\"k\":{value}}}"), NOT_PROVIDED)]);
    }
    for value in invalid {
        table(cases, &two(), &[(&format!("{{\"k\":{value}}}"), "invalid_json")]);
    }
    for line in ["[]", "[{}]", "1", "null", "\"{}\"", "{}{}", "{},", "\u{feff}{}", "{}\0", "{", "}"]
    {
        table(cases, &two(), &[(line, "invalid_json")]);
    }
}

fn depth(cases: &mut Vec<Case>) {
    let arrays = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    #[rustfmt::skip]
    table(cases, &two(), &[
        (&objects(64), NOT_PROVIDED),
        (&objects(65), "too_deep"),
        (&format!("{{\"a\":{}}}", arrays(63)), NOT_PROVIDED),
        (&format!("{{\"a\":{}}}", arrays(64)), "too_deep"),
        (&format!("{{\"a\":{}", "[".repeat(64)), "too_deep"),
        (&format!("{{\"a\":{}", "[".repeat(63)), "invalid_json"),
        // Whichever comes first from the left.
        (&format!("{{\"a\":01,\"b\":{}}}", arrays(64)), "invalid_json"),
        (&format!("{{\"a\":{},\"b\":01}}", arrays(64)), "too_deep"),
        (&format!("{{\"type\":1,\"type\":1,\"b\":{}}}", arrays(64)), "too_deep"),
        (&arrays(70), "invalid_json"),
        (&format!("{{\"a\":\"{}\"}}", arrays(70)), NOT_PROVIDED),
    ]);
}
