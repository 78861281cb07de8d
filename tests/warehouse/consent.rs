//! What grants in a consent column of PostgreSQL, and what only looks like it.

use consentd::config;

use super::model::{self, rows};
use super::postgres::Database;

/// An expression, and whether it grants: strictly, leniently.
const VALUES: &[(&str, bool, bool)] = &[
    ("true", true, true),
    ("true::yes", true, true),
    ("false", false, false),
    ("null::boolean", false, false),
    ("null", false, false),
    ("'true'::text", false, true),
    ("'TRUE'::varchar(4)", false, true),
    ("'t'::char(1)", false, true),
    ("'T'::citext", false, true),
    ("'true'::answer", false, true),
    ("'1'::text", false, true),
    ("'false'::text", false, false),
    ("'false'::answer", false, false),
    ("'f'::text", false, false),
    ("'0'::text", false, false),
    ("''::text", false, false),
    ("' true'::text", false, false),
    ("'true '::char(5)", false, false),
    ("'yes'::text", false, false),
    ("'on'::text", false, false),
    ("'y'::text", false, false),
    ("'null'::text", false, false),
    ("null::text", false, false),
    ("1::smallint", false, true),
    ("1::integer", false, true),
    ("1::bigint", false, true),
    ("1::numeric", false, true),
    ("1::real", false, true),
    ("1::double precision", false, true),
    ("0", false, false),
    ("2", false, false),
    ("-1", false, false),
    ("257::smallint", false, false),
    ("4294967297::bigint", false, false),
    ("0.9999999999999999999::numeric", false, false),
    ("0.5::real", false, false),
    ("'NaN'::double precision", false, false),
    ("'Infinity'::double precision", false, false),
    ("null::integer", false, false),
    ("array[true]", false, false),
    ("'true'::jsonb", false, false),
    ("'{\"ads\": true}'::jsonb", false, false),
    ("B'1'", false, false),
    (r"'\x01'::bytea", false, false),
    ("now()", false, false),
];

/// Which of the values each of three rows grants: every value is a consent column of its own.
fn granted(warehouse: &str, cast: &str, given: impl Fn(&str) -> String) -> Vec<Vec<bool>> {
    let all = || VALUES.iter().map(|(value, ..)| value).zip(0..);
    let columns: Vec<String> = all().map(|(it, at)| format!("{} as c{at}", given(it))).collect();
    let categories: Vec<String> =
        all().map(|(_, at)| format!("[[categories]]\nid = \"C{at}\"")).collect();
    let consent: Vec<String> = all().map(|(_, at)| format!("C{at} = \"c{at}\"")).collect();
    let text = format!(
        "[daemon]\ndata_dir = \"unused\"\n[consent]\nmissing = \"deny\"\n{}\n\
         [destinations.any]\ntype = \"blackhole\"\n[warehouses.main]\n{warehouse}\n\
         [models.m]\nwarehouse = \"main\"\nunique_id = \"id\"\nconsent_cast = \"{cast}\"\n\
         query = '''select id, {} from generate_series(1, 3) id order by id'''\n\
         consent = {{ {} }}\nevent = {{ id = \"$id\" }}\n",
        categories.join("\n"),
        columns.join(", "),
        consent.join(", ")
    );
    let parsed = config::parse("test.toml", text.as_bytes());
    let rows = rows(&parsed.unwrap_or_else(|wrong| panic!("{wrong}")).config);
    let rows = rows.unwrap_or_else(|error| panic!("{error}"));
    for row in &rows {
        for (at, granted) in row.granted.iter().enumerate() {
            let says = format!("\"C{at}\":{granted}");
            assert!(row.event.contains(&says), "{says}: {}", row.event);
        }
    }
    rows.into_iter().map(|row| row.granted).collect()
}

#[test]
fn only_what_is_listed_grants() {
    let database = Database::new(
        "create extension citext; create domain yes as boolean;
         create type answer as enum ('true', 'false');",
    );
    let strict: Vec<bool> = VALUES.iter().map(|(_, strict, _)| *strict).collect();
    let lenient: Vec<bool> = VALUES.iter().map(|(.., lenient)| *lenient).collect();
    for (cast, expected) in [("strict", strict), ("lenient", lenient)] {
        // As constants, and between two rows of NULL.
        let always = granted(&database.warehouse(), cast, str::to_owned);
        let seldom = |value: &str| format!("case when id = 2 then {value} end");
        let seldom = granted(&database.warehouse(), cast, seldom);
        for (at, (value, ..)) in VALUES.iter().enumerate() {
            let seen: Vec<bool> = always.iter().chain(&seldom).map(|row| row[at]).collect();
            let wanted = expected[at];
            assert_eq!(seen, [wanted, wanted, wanted, false, wanted, false], "{cast}: {value}");
        }
    }
}

#[test]
fn a_consent_column_that_is_not_there_is_named_before_the_first_row() {
    let database = Database::new("create table people (id integer, marketing boolean);");
    let keys = "query = \"select * from people\"\nunique_id = \"id\"\nevent = { id = \"$id\" }\n\
                 consent = { Advertising = \"marketting\" }";
    let error = rows(&model::config(&database.warehouse(), keys)).unwrap_err().to_string();
    assert!(error.contains("the query does not return the column `marketting`"), "{error}");
    assert!(error.contains("consent.Advertising") && error.contains("marketing"), "{error}");
}
