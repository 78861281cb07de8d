use super::*;
use crate::corpus::{Corpus, Profile};

/// Destinations as `name: categories`, separated by `;`.
fn plan(destinations: &str, missing_allows: bool) -> Plan {
    let categories = ["Advertising", "Analytics", "Functional"].map(str::to_owned).to_vec();
    let rule = |text: &str| {
        let (name, demands) = text.split_once(':').unwrap();
        let index = |id: &str| categories.iter().position(|category| category == id).unwrap();
        Rule {
            name: name.trim().to_owned(),
            categories: demands.split_whitespace().map(index).collect(),
            mode: Match::All,
            integration: name.trim().to_owned(),
            types: Vec::new(),
            receives_preferences: false,
        }
    };
    let rules = destinations.split(';').map(rule).collect();
    Plan { categories, missing_allows, rules }
}

/// The names of the destinations that the event reaches, or `rejected`.
fn reached(line: &str, plan: &Plan) -> String {
    let Some(reading) = Reading::of(line.as_bytes()) else {
        return "rejected".to_owned();
    };
    let granted = reading.granted(plan);
    let rules = plan.rules.iter().filter(|rule| reading.reaches(rule, &granted));
    rules.map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn consent_decides() {
    let plan = plan("facebook: Advertising; crm: Advertising Analytics; lake:", true);
    for (context, expected) in [
        (r#"{}"#, "facebook crm lake"),
        (r#"null"#, "facebook crm lake"),
        (r#"{"consent":{}}"#, "facebook crm lake"),
        (r#"{"page":{"consent":{"categoryPreferences":{}}}}"#, "facebook crm lake"),
        (r#"[]"#, "lake"),
        (r#"{"consent":"all"}"#, "lake"),
        (r#"{"consent":null}"#, "lake"),
        (r#"{"consent":{"categoryPreferences":null}}"#, "lake"),
        (r#"{"consent":{"categoryPreferences":{}}}"#, "lake"),
        (r#"{"consent":{"categoryPreferences":{"Advertising":true}}}"#, "facebook lake"),
        (r#"{"consent":{"categoryPreferences":{"advertising":true}}}"#, "lake"),
        (r#"{"consent":{"categoryPreferences":{"Advertising":"true"}}}"#, "lake"),
        (
            r#"{"consent":{"categoryPreferences":{"Advertising":true,"C0099":false}}}"#,
            "facebook lake",
        ),
        (
            r#"{"consent":{"categoryPreferences":{"Advertising":true,"Analytics":true}}}"#,
            "facebook crm lake",
        ),
        (r#"{"consentCategories":{"Advertising":true}}"#, "facebook lake"),
        (r#"{"consent":{},"consentCategories":{"Advertising":true}}"#, "facebook lake"),
        (
            r#"{"consentCategories":{"Advertising":true},"consent":{"categoryPreferences":{}}}"#,
            "lake",
        ),
        (r#"{"c\u006fnsent":{"categoryPreferences":{"Advertising":true}}}"#, "facebook lake"),
    ] {
        let event = format!(r#"{{"type":"track","context":{context}}}"#);
        assert_eq!(reached(&event, &plan), expected, "{context}");
    }
}

#[test]
fn missing_consent_is_refused_where_the_plan_says_so() {
    let plan = plan("facebook: Advertising; lake:", false);
    assert_eq!(reached(r#"{"type":"track"}"#, &plan), "lake");
    assert_eq!(reached(r#"{"context":{"consent":{}},"integrations":{}}"#, &plan), "lake");
}

#[test]
fn integrations_take_away_what_consent_allowed() {
    let plan = plan("facebook: Advertising; crm:", true);
    for (integrations, expected) in [
        (r#"{}"#, "facebook crm"),
        (r#"null"#, "facebook crm"),
        (r#"{"All":null}"#, "facebook crm"),
        (r#"{"All":false}"#, ""),
        (r#"{"All":false,"facebook":{"pixel":"1"}}"#, "facebook"),
        (r#"{"facebook":false}"#, "crm"),
        (r#"{"facebook":null,"All":true}"#, "crm"),
        (r#"{"Facebook":false}"#, "facebook crm"),
    ] {
        let event = format!(r#"{{"type":"track","integrations":{integrations}}}"#);
        assert_eq!(reached(&event, &plan), expected, "{integrations}");
    }
    let beside_empty_consent = r#"{"context":{"consent":{}},"integrations":{"facebook":true}}"#;
    assert_eq!(reached(beside_empty_consent, &plan), "crm");
}

#[test]
fn modes_types_and_preference_events() {
    let mut plan = plan("any: Advertising Analytics; typed:; told: Advertising", true);
    plan.rules[0].mode = Match::Any;
    plan.rules[1].types = vec!["page".to_owned()];
    plan.rules[2].receives_preferences = true;
    let event = |kind: &str, name: &str, preferences: &str| {
        format!(r#"{{"type":"{kind}","event":"{name}","context":{{"consent":{{{preferences}}}}}}}"#)
    };
    let analytics = r#""categoryPreferences":{"Analytics":true}"#;
    assert_eq!(reached(&event("page", "", analytics), &plan), "any typed");
    assert_eq!(reached(&event("track", PREFERENCE_UPDATED, analytics), &plan), "any told");
    assert_eq!(reached(&event("page", PREFERENCE_UPDATED, analytics), &plan), "any typed");
    assert_eq!(reached(&event("track", PREFERENCE_UPDATED, ""), &plan), "rejected");
    let odd = r#""categoryPreferences":{"Analytics":1}"#;
    assert_eq!(reached(&event("track", PREFERENCE_UPDATED, odd), &plan), "rejected");
}

#[test]
fn what_is_not_one_unambiguous_object_is_rejected() {
    let deepest = format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63));
    assert!(Reading::of(deepest.as_bytes()).is_some());
    let too_deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    for line in [
        too_deep.as_str(),
        "[]",
        "1",
        "{} {}",
        r#"{"a":"\ud800"}"#,
        r#"{"type":"track","type":"page"}"#,
        r#"{"context":{"consent":{},"c\u006fnsent":{}}}"#,
        r#"{"context":{"consent":{"x":1,"x":1}}}"#,
        r#"{"context":{"consent":{"categoryPreferences":{"A":true,"A":true}}}}"#,
        r#"{"context":{"consent":{"categoryPreferences":{}},"consentCategories":{"A":1,"A":1}}}"#,
        r#"{"integrations":{"All":true,"All":false}}"#,
    ] {
        assert!(Reading::of(line.as_bytes()).is_none(), "{line}");
    }
    for line in [r#"{"a":1,"a":2}"#, r#"{"context":{"page":1,"page":2}}"#] {
        assert!(Reading::of(line.as_bytes()).is_some(), "{line}");
    }
}

#[test]
fn exactly_the_malformed_lines_of_a_corpus_are_rejected() {
    let well_formed = Corpus::new(5, Profile::well_formed()).lines(5000);
    assert!(well_formed.iter().all(|line| Reading::of(line).is_some()));

    let profile = Profile { malformed_per_mille: 1000, ..Profile::default() };
    for line in Corpus::new(5, profile).lines(2000) {
        assert!(Reading::of(&line).is_none(), "{}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn a_corpus_holds_every_state_of_consent() {
    let lines = Corpus::new(6, Profile::well_formed()).lines(5000);
    let states: Vec<_> = lines.iter().map(|line| Reading::of(line).unwrap().consent).collect();
    let count = |is: fn(&Consent) -> bool| states.iter().filter(|state| is(state)).count();
    assert!(count(|state| matches!(state, Consent::Given(_))) > 4000);
    assert!(count(|state| *state == Consent::NotProvided) > 50);
    assert!(count(|state| *state == Consent::Malformed) > 30);
}

#[test]
fn counts_follow_from_the_number_of_events_sent() {
    let lines: Vec<Vec<u8>> =
        [r#"{"type":"track"}"#, "broken", r#"{"integrations":{"All":false,"b":true}}"#]
            .map(|line| line.as_bytes().to_vec())
            .to_vec();
    let table = Expectations::by_consent(&lines, &plan("a: Advertising; b:", true));
    assert_eq!(table.deliveries(7), [3, 5]);
    assert_eq!(table.rejections(7), 2);
    assert!(table.is_rejected(4) && !table.is_rejected(5));
    assert!(table.reaches(2, 1) && !table.reaches(2, 0));
}
