//! The engine that is built in.

use std::path::Path;

use consentd::warehouse::{self, RowShape};

use super::model::{config, rows};

/// A database made of SQL, and the body of its `[warehouses.main]`.
fn database(folder: &Path, sql: &str) -> String {
    let path = folder.join("test.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    format!("driver = \"sqlite\"\nuri = \"{}\"", path.display())
}

#[test]
fn rows_become_events_with_their_consent() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = database(
        folder.path(),
        "create table customers (id integer, email text, ads boolean, analytics boolean);
         insert into customers values (1, 'ann@example.com', 1, 0), (2, null, null, 1), (null, 'x', 2, 1)",
    );
    let config = config(
        &warehouse,
        r#"query = "select * from customers"
           unique_id = "id"
           consent = { Advertising = "ads", Analytics = "analytics" }
           event = { type = "identify", userId = "$id", traits = { email = "$email" } }"#,
    );
    let seen = rows(&config).unwrap();
    let ids: Vec<Option<&str>> = seen.iter().map(|row| row.id.as_deref()).collect();
    assert_eq!(ids, [Some("1"), Some("2"), None]);
    let granted: Vec<&[bool]> = seen.iter().map(|row| row.granted.as_slice()).collect();
    assert_eq!(granted, [[true, false], [false, true], [false, true]]);
    assert_eq!(
        seen[0].event,
        r#"{"type":"identify","userId":1,"traits":{"email":"ann@example.com"},"context":{"consent":{"categoryPreferences":{"Advertising":true,"Analytics":false}}},"messageId":"m"}"#
    );
    assert!(seen[1].event.contains(r#""email":null"#), "{}", seen[1].event);
}

#[test]
fn a_file_that_may_only_be_read_keeps_no_state_and_says_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path(), "create table customers (id integer)");
    let path = folder.path().join("test.sqlite");
    let warehouse = format!("driver = \"sqlite\"\nuri = \"file:{}?mode=ro\"", path.display());
    let model = "query = \"select id from customers\"\nunique_id = \"id\"\nconsent = \"none\"\n\
                 event = { id = \"$id\" }\nstate = \"warehouse\"";
    let config = config(&warehouse, model);
    let mut connection = warehouse::open_to_write(&config.warehouses[0]).unwrap();
    let error =
        warehouse::make_table(connection.as_mut(), "m_1", "select 1").unwrap_err().to_string();
    for expected in ["readonly", "must be able to write to the file", "state = \"local\""] {
        assert!(error.contains(expected), "{expected} is missing: {error}");
    }
}

#[test]
fn a_query_is_one_statement() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse =
        database(folder.path(), "create table t (id integer); insert into t values (1)");
    let ask = |query: &str| {
        let model = format!(
            "query = \"{query}\"\nunique_id = \"id\"\nconsent = \"none\"\nevent = {{ id = \"$id\" }}"
        );
        rows(&config(&warehouse, &model)).map(|rows| rows.len()).map_err(|error| error.to_string())
    };
    assert_eq!(ask("select id from t; -- all"), Ok(1));
    assert_eq!(ask("select id from t where ';' <> '' -- all;"), Ok(1));
    let refused = ask("select id from t; select 2 as id").unwrap_err();
    assert!(refused.contains("more than one statement"), "{refused}");
}

/// A sync that is about to send notes one event for all that grant the same, where grants alone decide: it
/// must not take that for granted where a row can decide otherwise.
#[test]
fn grants_alone_decide_unless_the_row_stands_where_the_decision_looks() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = database(
        folder.path(),
        "create table t (id integer, kind text, note json, ads boolean);
         insert into t values (1, 'track', '{\"a\":1}', 1)",
    );
    let columns = "consent = { Advertising = \"ads\" }";
    for (consent, columns, event, expected) in [
        (columns, "id, kind, ads", r#"{ type = "identify", traits = { kind = "$kind" } }"#, true),
        (columns, "id, kind, ads", r#"{ type = "track", context = { ip = "$kind" } }"#, true),
        (columns, "id, kind, ads", r#"{ type = "$kind" }"#, false),
        (columns, "id, kind, ads", r#"{ type = "track", event = "$kind" }"#, false),
        (columns, "id, kind, ads", r#"{ integrations = { All = true, x = "$kind" } }"#, false),
        (columns, "id, kind, ads", r#"{ integrations = { All = true } }"#, true),
        // JSON may be nested as deep as an event must not be.
        (columns, "id, note, ads", r#"{ traits = { note = "$note" } }"#, false),
        ("consent = \"none\"", "id, kind", r#"{ traits = { kind = "$kind" } }"#, true),
        ("consent = \"none\"", "id, kind", r#"{ context = { ip = "$kind" } }"#, false),
    ] {
        let model = format!(
            "query = \"select {columns} from t\"\nunique_id = \"id\"\n{consent}\nevent = {event}"
        );
        let config = config(&warehouse, &model);
        let mut connection = warehouse::open(&config.warehouses[0]).unwrap();
        let mut batches = connection.query(&config.models[0].sql().unwrap()).unwrap();
        let shape = RowShape::new(&config.models[0], &batches.schema()).unwrap();
        let batch = batches.next().unwrap().unwrap();
        assert_eq!(shape.bind(&batch).unwrap().is_decided_by_grants(), expected, "{event}");
    }
}
