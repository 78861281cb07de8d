//! Every type of PostgreSQL's columns on its way into an event.

use super::model::{config, rows};
use super::postgres::Database;

const TYPES: &str = "
    create extension citext;
    create type mood as enum ('sad', 'happy');
    create type pair as (x integer, y text);
    create domain positive as integer check (value > 0);
    create domain yes as boolean;";

/// An expression, and what its value is in an event, byte for byte.
const VALUES: &[(&str, &str)] = &[
    ("true", "true"),
    ("false", "false"),
    ("true::yes", "true"),
    ("'-32768'::smallint", "-32768"),
    ("'-2147483648'::integer", "-2147483648"),
    ("9223372036854775807::bigint", "9223372036854775807"),
    ("3::positive", "3"),
    (
        "12345678901234567890.123456789012345678901234567890",
        "\"12345678901234567890.123456789012345678901234567890\"",
    ),
    ("1.10::numeric(10, 2)", "\"1.10\""),
    ("-0.00001", "\"-0.00001\""),
    (
        "1e100::numeric + 1",
        concat!(
            "\"1",
            "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "1\""
        ),
    ),
    ("'NaN'::numeric", "\"nan\""),
    ("'-Infinity'::numeric", "\"-inf\""),
    ("0.1::real", "0.1"),
    ("0.1::double precision", "0.1"),
    ("1e300::double precision", "1e+300"),
    ("'NaN'::real", "null"),
    ("'NaN'::double precision", "null"),
    ("'-Infinity'::double precision", "null"),
    (r#"E'a"\\\n\U0001F600'::text"#, r#""a\"\\\n😀""#),
    ("''::text", "\"\""),
    ("'ab'::varchar(5)", "\"ab\""),
    ("'ab'::char(4)", "\"ab  \""),
    ("'Ab'::citext", "\"Ab\""),
    ("'x'::name", "\"x\""),
    ("'unknown'", "\"unknown\""),
    ("'happy'::mood", "\"happy\""),
    ("'<a/>'::xml", "\"<a/>\""),
    (r"'\x00ff'::bytea", "\"AP8=\""),
    (r"'\x'::bytea", "\"\""),
    ("date '2026-02-28'", "\"2026-02-28\""),
    ("date '0044-03-15 BC'", "\"-0043-03-15\""),
    ("date 'infinity'", "\"infinity\""),
    ("date '-infinity'", "\"-infinity\""),
    ("timestamp '2026-02-28 12:30:45.123456'", "\"2026-02-28T12:30:45.123456Z\""),
    ("timestamp '1969-12-31 23:59:59.5'", "\"1969-12-31T23:59:59.5Z\""),
    ("timestamp 'infinity'", "\"infinity\""),
    ("timestamptz '2026-02-28 12:30:45+02'", "\"2026-02-28T10:30:45Z\""),
    ("timestamptz '-infinity'", "\"-infinity\""),
    ("time '12:30:45.5'", "\"12:30:45.5\""),
    ("time '24:00'", "\"24:00:00\""),
    ("interval '1 year 2 months 3 days 04:05:06.7'", "\"P1Y2M3DT4H5M6.7S\""),
    ("interval '-1 day'", "\"P-1D\""),
    ("interval '0'", "\"PT0S\""),
    ("'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
    (r#"'{"a": [1, null]}'::json"#, r#"{"a":[1,null]}"#),
    (r#"'{"b":1, "a":"x"}'::jsonb"#, r#"{"a":"x","b":1}"#),
    ("'1.10'::jsonb", "1.10"),
    ("'null'::jsonb", "null"),
    ("array[1, null, 3]", "[1,null,3]"),
    ("'{}'::integer[]", "[]"),
    ("array['a', 'b,\"']", r#"["a","b,\""]"#),
    ("array[true, null]", "[true,null]"),
    ("array[1.50]", "[\"1.50\"]"),
    ("array['sad'::mood]", "[\"sad\"]"),
    ("array[date '2026-01-01']", "[\"2026-01-01\"]"),
    (r#"array['{"a": 1}'::jsonb]"#, r#"[{"a":1}]"#),
    (
        "array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]",
        "[\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"]",
    ),
    ("inet '10.0.0.1/8'::text", "\"10.0.0.1/8\""),
    ("money '12.34'::numeric", "\"12.34\""),
    ("4294967295::oid::bigint", "4294967295"),
    ("to_jsonb((1, 'a')::pair)", r#"{"x":1,"y":"a"}"#),
];

/// Expressions whose values the driver gives in a form that says nothing outside of the database, and
/// what is said of them.
const FOREIGN: &[(&str, &str)] = &[
    (
        "inet '10.0.0.1'",
        "PostgreSQL's type inet, of which the driver gives the inner form; cast it in the query: v::text",
    ),
    ("macaddr '08:00:2b:01:02:03'", "v::text"),
    ("timetz '12:30:45+02'", "v::text"),
    ("point '(1, 2)'", "v::text"),
    ("int4range(1, 5)", "v::text"),
    ("'a b'::tsvector", "v::text"),
    ("B'101'", "v::text"),
    ("array[inet '10.0.0.1']", "inet"),
    ("money '12.34'", "v::numeric"),
    ("4294967295::oid", "v::bigint"),
    ("(1, 'a')::pair", "to_jsonb(v) as v"),
];

fn model(event: &str, query: &str) -> String {
    format!("query = '''{query}'''\nunique_id = \"id\"\nconsent = \"none\"\nevent = {event}")
}

/// One query of all `values`, as columns `v0`, `v1`, ...; their events without the messageId.
fn events(database: &Database, rows_sql: &str, value: impl Fn(&str) -> String) -> Vec<String> {
    let columns: Vec<String> =
        VALUES.iter().zip(0..).map(|((it, _), at)| format!("{} as v{at}", value(it))).collect();
    let fields: Vec<String> = (0..VALUES.len()).map(|at| format!("v{at} = \"$v{at}\"")).collect();
    let query = format!("select id, {} from {rows_sql}", columns.join(", "));
    let model = model(&format!("{{ {} }}", fields.join(", ")), &query);
    let rows = rows(&config(&database.warehouse(), &model)).unwrap_or_else(|it| panic!("{it}"));
    let end = ",\"messageId\":\"m\"}";
    rows.iter().map(|row| row.event.strip_suffix(end).unwrap().to_owned() + "}").collect()
}

fn expected(value: impl Fn(&'static str) -> &'static str) -> String {
    let fields: Vec<String> = VALUES
        .iter()
        .zip(0..)
        .map(|((_, json), at)| format!("\"v{at}\":{}", value(json)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Says which values differ.
#[track_caller]
fn compare(event: &str, expected: &str) {
    if event == expected {
        return;
    }
    let fields = |text: &str| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(text).unwrap()
    };
    let (seen, wanted) = (fields(event), fields(expected));
    for (at, (expression, _)) in VALUES.iter().enumerate() {
        let name = format!("v{at}");
        assert_eq!(seen[&name], wanted[&name], "{expression}");
    }
    assert_eq!(event, expected);
}

#[test]
fn every_type_arrives_as_it_is_after_a_null_and_before_one() {
    let database = Database::new(TYPES);
    let given = |value: &str| format!("case when id = 2 then {value} end");
    let events = events(&database, "generate_series(1, 3) id order by id", given);
    let nulls = expected(|_| "null");
    compare(&events[0], &nulls);
    compare(&events[1], &expected(|json| json));
    compare(&events[2], &nulls);
    assert_eq!(events.len(), 3);
}

#[test]
fn columns_of_nothing_but_null_are_null_whatever_their_type() {
    let database = Database::new(TYPES);
    let given = |value: &str| format!("case when id = 0 then {value} end");
    let events = events(&database, "generate_series(1, 2) id", given);
    for event in &events {
        compare(event, &expected(|_| "null"));
    }
    assert_eq!(events.len(), 2);
}

#[test]
fn what_an_event_would_show_wrongly_is_refused_by_name() {
    let database = Database::new(TYPES);
    for (expression, said) in FOREIGN {
        let query = format!("select 1 as id, {expression} as v");
        let model = model("{ v = \"$v\" }", &query);
        let error = rows(&config(&database.warehouse(), &model)).unwrap_err().to_string();
        assert!(
            error.starts_with("the column `v` has PostgreSQL's ") && error.contains(said),
            "{error}"
        );
    }
}

#[test]
fn what_no_event_shows_may_be_of_any_type_and_is_looked_at_for_changes() {
    let database = Database::new("");
    let content = |address: &str| {
        let query = format!("select 1 as id, inet '{address}' as v");
        let rows =
            rows(&config(&database.warehouse(), &model("{ id = \"$id\" }", &query))).unwrap();
        rows[0].content.clone()
    };
    assert_ne!(content("10.0.0.1"), content("10.0.0.2"));
}

#[test]
fn a_uuid_is_an_id_as_people_write_it() {
    let database = Database::new("");
    let query = "select 'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid as id union all select null";
    let rows = rows(&config(&database.warehouse(), &model("{ userId = \"$id\" }", query))).unwrap();
    assert_eq!(rows[0].id.as_deref(), Some("\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""));
    assert_eq!(rows[1].id, None);
}
