//! What changed since the last sync, and what of it is sent.

use serde_json::{Value, json};

use crate::harness::{HttpSink, Reply};
use crate::world::{Model, PEOPLE, World, samples};

/// Four rows that grant everything.
fn four() -> String {
    format!(
        "{PEOPLE}; insert into people values (1, 'a', true, true), (2, 'b', true, true), \
         (3, 'c', true, true), (4, 'd', true, true)"
    )
}

#[test]
fn rows_are_added_updated_deleted_or_left_alone() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    assert_eq!(world.took("ads"), "1 2 3 4");
    world.sync("rows=4 unchanged=4");
    world.sql(
        "insert into people values (5, 'e', true, true); update people set plan = 'z' where id = 2;
         delete from people where id = 3",
    );
    let record = world.sync("rows=4 added=1 updated=1 deleted=1 unchanged=2 sent=3");
    assert_eq!((&record["by"], &record["full"]), (&json!("request"), &json!(false)));
    let lines = world.take("ads");
    assert_eq!(crate::world::short(&lines), "2 -3 5");
    assert_eq!(world.took("stats"), "1 2 2 3 -3 4 5", "the same as ads, of both syncs");
    let mut events: Vec<Value> = lines.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    for event in &mut events {
        let id = event.as_object_mut().unwrap().remove("messageId").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 65);
    }
    let consent = json!({ "consent": { "categoryPreferences": { "Ads": true, "Stats": true } } });
    let row = |id: u8, plan: &str| json!({ "type": "identify", "userId": id, "traits": { "plan": plan }, "context": consent });
    for expected in [row(2, "z"), row(5, "e"), json!({ "type": "delete", "userId": 3 })] {
        assert!(events.contains(&expected), "{expected} is missing in {events:?}");
    }
    world.sync("rows=4 unchanged=4");
    world.sql("delete from people");
    world.sync("deleted=4 sent=4");
    assert_eq!(world.took("ads"), "-1 -2 -4 -5");
    world.sync("");
    assert_eq!(world.took("ads"), "");
}

/// What is not sent is counted, and its state moves on.
#[test]
fn only_the_changes_that_are_asked_for_are_sent() {
    for (send, expected) in [
        ("\"added\"", ["1 2 3", "4"]),
        ("\"updated\"", ["", "2"]),
        ("\"deleted\"", ["", ""]),
        ("\"added\", \"deleted\"", ["1 2 3", "-3 4"]),
        ("\"updated\", \"deleted\"", ["", "2"]),
        ("\"added\", \"updated\", \"deleted\"", ["1 2 3", "2 -3 4"]),
    ] {
        let model = Model::new().set("send", format!("[{send}]")).without("on_withdrawal");
        let rows = "insert into people values (1, 'a', true, true), (2, 'b', true, true), (3, 'c', true, true)";
        let mut world = World::simple(&format!("{PEOPLE}; {rows}"), model);
        let record = world.run("");
        assert_eq!(record["added"], 3, "{send}: {record}");
        assert_eq!(world.took("ads"), expected[0], "{send}");
        world.sql(
            "insert into people values (4, 'd', true, true); update people set plan = 'z' where id = 2;
             delete from people where id = 3",
        );
        let record = world.run("");
        let counted = (&record["added"], &record["updated"], &record["deleted"]);
        assert_eq!(counted, (&json!(1), &json!(1), &json!(1)), "{send}");
        assert_eq!(world.took("ads"), expected[1], "{send}");
        world.sync("rows=3 unchanged=3");
        assert_eq!(world.took("ads"), "", "{send}");
    }
}

#[test]
fn columns_that_are_not_tracked_make_no_update() {
    let table =
        "create table people (id integer, plan text, city text, ads boolean, stats boolean);
                 insert into people values (1, 'a', 'x', true, true), (2, 'b', 'y', true, true)";
    let event = "{ type = \"identify\", userId = \"$id\", traits = { plan = \"$plan\", city = \"$city\" } }";
    let model = Model::new().set("track_columns", "[\"plan\"]").set("event", event);
    let mut world = World::simple(table, model);
    world.sync("rows=2 added=2 sent=2");
    world.take("stats");
    world.sql("update people set city = 'z'");
    world.sync("rows=2 unchanged=2");
    world.sql("update people set plan = 'c' where id = 1");
    world.sync("rows=2 updated=1 unchanged=1 sent=1");
    let line = world.take("stats").pop().unwrap();
    assert!(line.contains("\"city\":\"z\""), "the row as it is now: {line}");
    // Consent always counts.
    world.sql("update people set ads = false where id = 2");
    world.sync("rows=2 updated=1 unchanged=1 withdrawn=1 refused=1 sent=2");
    assert_eq!(world.took("stats"), "2");
}

/// Nobody knows which of several rows is the right one, or which row is gone.
#[test]
fn rows_whose_id_is_null_or_stands_twice_are_reported_and_left_as_they_are() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    // 2 stands twice, one of them as it was; 3 three times, all new; 5 was never there.
    world.sql(
        "insert into people values (null, 'n', true, true), (2, 'x', true, true), (5, 'e', true, true),
         (5, 'f', true, true), (3, 'x', false, false), (3, 'x', false, false);
         update people set plan = 'y', ads = null where id = 3; update people set plan = 'q' where id = 1",
    );
    let record = world.sync("rows=10 updated=1 unchanged=1 withdrawn=1 skipped=8 sent=2");
    // Not all of those that say 3 grant it.
    assert_eq!(world.took("ads"), "1 -3");
    let samples = samples(&record);
    for expected in
        ["id is NULL", "id 2 stands 2 times", "id 3 stands 3 times", "id 5 stands 2 times"]
    {
        assert!(samples.contains(expected), "{expected} is missing in {samples}");
    }
    // Each id once again: rows are compared with what was sent last.
    world.sql(
        "delete from people where id is null; delete from people where id = 2 and plan = 'x';
         delete from people where id = 5 and plan = 'e'; delete from people where id = 3",
    );
    world.sync("rows=4 added=1 deleted=1 unchanged=3 sent=1");
    assert_eq!(world.took("ads"), "5");
}

/// There are as many rows as before, and each of them was there.
#[test]
fn a_row_that_comes_twice_does_not_stand_for_one_that_is_gone() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    world.sql("delete from people where id in (3, 4); insert into people select * from people");
    let record = world.sync("rows=4 deleted=2 skipped=4 sent=2");
    assert_eq!(world.took("ads"), "-3 -4");
    let samples = samples(&record);
    assert!(samples.contains("id 1 stands 2 times") && samples.contains("id 2 stands 2 times"));
}

#[test]
fn rows_that_are_too_long_are_reported_and_left_as_they_are() {
    let model = Model::new().set("limits", "{ row_bytes = \"2KiB\" }");
    let mut world = World::simple(&four(), model);
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    world.sql(
        "update people set plan = printf('%.3000c', 'x') where id = 2;
         insert into people values (5, printf('%.3000c', 'x'), true, true)",
    );
    let record = world.sync("rows=5 unchanged=3 skipped=2");
    let samples = samples(&record);
    assert!(
        samples.contains("id 2: an event of 3") && samples.contains("more than 2048"),
        "{samples}"
    );
    assert_eq!(world.took("ads"), "");
    world.sql("update people set plan = 'z' where id in (2, 5)");
    world.sync("rows=5 added=1 updated=1 unchanged=3 sent=2");
    assert_eq!(world.took("ads"), "2 5");
}

/// Nothing that can't be sent keeps a consent alive.
#[test]
fn a_withdrawal_in_a_row_that_is_left_out_is_told_once() {
    let model = Model::new().set("limits", "{ row_bytes = \"2KiB\" }");
    let mut world = World::simple(&four(), model);
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    world.sql(
        "update people set plan = printf('%.3000c', 'x') where id in (1, 2);
         update people set ads = false where id = 2; insert into people values (3, 'x', null, true)",
    );
    world.sync("rows=5 unchanged=1 withdrawn=2 skipped=4 sent=2");
    assert_eq!(world.took("ads"), "-2 -3");
    // It is not told again, and nobody gets what is not right yet.
    world.sync("rows=5 unchanged=1 skipped=4");
    assert_eq!(world.took("ads"), "");
    // As they were before: they are sent to who was told that they are gone, and to nobody else.
    world.sql(
        "delete from people where plan = 'x';
         update people set plan = (select plan from people where id = 4) where id in (1, 2);
         update people set ads = true where id = 2",
    );
    let record = world.run("");
    assert_eq!((&record["state"], &record["withdrawn"]), (&"done".into(), &0.into()), "{record}");
    assert!(world.took("ads").contains("2 3"), "{record}");
}

/// Every row counts once.
#[test]
fn rows_that_are_too_long_and_stand_twice_are_left_out_once() {
    let model = Model::new().set("limits", "{ row_bytes = \"2KiB\" }");
    let mut world = World::simple(&four(), model);
    world.sql("insert into people values (4, printf('%.3000c', 'x'), true, true)");
    world.sync("rows=5 added=3 skipped=2 sent=3");
    assert_eq!(world.took("ads"), "1 2 3");
}

/// Whoever sorts out repeated messages must not miss it.
#[test]
fn a_row_that_comes_back_as_it_was_has_another_message_id() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    let first = world.take("ads");
    world.sql("create table aside as select * from people; delete from people");
    world.sync("deleted=4 sent=4");
    let gone = world.take("ads");
    world.sql("insert into people select * from aside");
    world.sync("rows=4 added=4 sent=4");
    let again = world.take("ads");
    assert_eq!(crate::world::short(&again), "1 2 3 4");
    assert!(!again.iter().any(|line| first.contains(line)), "{again:?}");
    world.sql("delete from people");
    world.sync("deleted=4 sent=4");
    let gone_again = world.take("ads");
    assert!(!gone_again.iter().any(|line| gone.contains(line)), "{gone_again:?}");
}

#[test]
fn limits_on_columns_and_rows_end_a_sync_before_anything_is_sent() {
    for (limits, expected) in [("columns = 3", "limits.columns"), ("rows = 3", "limits.rows")] {
        let model = Model::new().set("limits", format!("{{ {limits} }}"));
        let mut world = World::simple(&four(), model);
        let error = world.fails();
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.took("ads"), "");
    }
}

#[test]
fn columns_come_and_go_between_syncs() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    // Other columns are other contents.
    world.sql("alter table people add column city text");
    world.sync("rows=4 updated=4 sent=4");
    world.sync("rows=4 unchanged=4");
    world.sql("alter table people drop column city");
    world.sync("rows=4 updated=4 sent=4");
    assert_eq!(world.took("ads"), "1 1 2 2 3 3 4 4");
    world.take("stats");
    for (change, column) in [
        ("alter table people rename column ads to adverts", "`ads`"),
        (
            "alter table people rename column adverts to ads; alter table people drop column plan",
            "`plan`",
        ),
        (
            "alter table people add column plan text; alter table people rename column id to number",
            "`id`",
        ),
    ] {
        world.sql(change);
        let error = world.fails();
        assert!(error.contains("does not return the column") && error.contains(column), "{error}");
        assert_eq!(world.took("ads") + &world.took("stats"), "");
    }
    // What failed has moved nothing: with the same columns in another order, rows are as they were.
    world.sql(
        "alter table people rename column number to id; update people set plan = char(96 + id)",
    );
    world.sync("rows=4 unchanged=4");
}

#[test]
fn a_full_sync_sends_every_row_as_an_added_one() {
    let mut world = World::simple(&four(), Model::new());
    world.sync("rows=4 added=4 sent=4");
    let first = world.take("ads");
    world.sql("delete from people where id = 4; update people set ads = false where id = 3");
    world.sync_with("?full=1", "rows=3 added=3 deleted=1 withdrawn=1 refused=1 sent=5");
    let second = world.take("ads");
    assert_eq!(crate::world::short(&second), "1 2 -3 -4");
    assert!(!second.iter().any(|line| first.contains(line)), "the same messageId again");
    world.sync("rows=3 unchanged=3");
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let rejecting = HttpSink::start(|lines| {
        Reply::now(if lines.iter().any(|line| line.contains("bad")) { 400 } else { 200 })
    });
    let url = rejecting.url();
    let mut world = World::new(&four(), Model::new(), move |folder, config| {
        config.file(folder, "ads", "categories = [\"Ads\"]").http(
            "strict",
            &url,
            "categories = [\"Stats\"]",
        )
    });
    world.sync_with("?dry_run=1", "rows=4 added=4 sent=4");
    assert_eq!(world.took("ads"), "");
    world.sync("rows=4 added=4 sent=4");
    world.take("ads");
    world.sql(
        "insert into people values (5, 'e', false, true), (5, 'x', true, true), (6, 'bad', true, true);
         update people set plan = 'z' where id = 2; update people set ads = false where id = 1;
         delete from people where id = 3",
    );
    let received = world.daemon().metrics().received();
    let dry =
        "rows=6 added=1 updated=2 deleted=1 unchanged=1 withdrawn=1 refused=1 skipped=2 sent=3";
    world.sync_with("?dry_run=1", dry);
    world.sync_with("?dry_run=1", dry);
    assert_eq!(world.took("ads"), "");
    assert_eq!(world.daemon().metrics().received(), received, "judged only, and not counted");
    // For real, two deletions are sent beside the rows.
    world.sync(
        "rows=6 added=1 updated=2 deleted=1 unchanged=1 withdrawn=1 refused=1 skipped=2 sent=5",
    );
    assert_eq!(world.took("ads"), "-1 2 -3 6");
    // A dry run sees that a row was rejected, and leaves the next one to see it, too.
    let dry = world.sync_with("?dry_run=1", "rows=6 unchanged=4 failed=1 skipped=2 sent=1");
    assert!(samples(&dry).contains("id 6: rejected by strict"), "{dry}");
    assert_eq!(dry["dry_run"], true);
    world.sync("rows=6 unchanged=4 failed=1 skipped=2 sent=1");
}

/// Every kind of value that SQLite has, in columns that promise something or nothing.
#[test]
fn values_of_every_kind_arrive_as_they_are() {
    let table = "create table people (id text, ads boolean, stats boolean, i integer, r real, t text, b blob, \
                 n numeric, any, d date, at timestamp, j json);
        insert into people values
        ('a', true, true, 9223372036854775807, 0.1, 'x\"\u{e9}', x'00ff', 12.50, 'free', '2024-02-29', \
         '2024-02-29 12:34:56', '{\"k\":[1]}'),
        ('b', true, true, -1, -1e300, '', x'', 7, 5, null, null, null),
        ('c', true, true, null, null, null, null, null, null, null, null, null)";
    let names = ["i", "r", "t", "b", "n", "any", "d", "at", "j"];
    let traits: Vec<String> = names.iter().map(|name| format!("{name} = \"${name}\"")).collect();
    let event = format!(
        "{{ type = \"identify\", userId = \"$id\", traits = {{ {} }} }}",
        traits.join(", ")
    );
    let mut world = World::simple(table, Model::new().set("event", event));
    world.sync("rows=3 added=3 sent=3");
    let traits: std::collections::BTreeMap<String, Value> = world
        .take("ads")
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| (event["userId"].as_str().unwrap().to_owned(), event["traits"].clone()))
        .collect();
    assert_eq!(traits["a"]["i"].to_string(), "9223372036854775807");
    let same = json!({ "r": 0.1, "t": "x\"\u{e9}", "b": "AP8=", "n": 12.5, "any": "free" });
    for (name, value) in same.as_object().unwrap() {
        assert_eq!(&traits["a"][name], value, "{name}");
    }
    assert_eq!(traits["b"]["b"], "");
    assert_eq!((&traits["b"]["r"], &traits["b"]["any"]), (&json!(-1e300), &json!(5)));
    assert!(traits["a"]["d"].as_str().is_some_and(|d| d.starts_with("2024-02-29")), "{traits:?}");
    assert!(traits["a"]["at"].as_str().is_some_and(|at| at.contains("12:34:56")), "{traits:?}");
    assert!(names.iter().all(|name| traits["c"][name].is_null()), "{traits:?}");
    // A change of the kind alone is a change.
    world
        .sql("update people set any = '5' where id = 'b'; update people set t = '' where id = 'c'");
    world.sync("rows=3 updated=2 unchanged=1 sent=2");
}

/// 1 and "1" are two rows, as they are two users to whoever gets them.
#[test]
fn ids_of_another_kind_are_other_ids() {
    let table = "create table people (id, plan text, ads boolean, stats boolean);
                 insert into people values (1, 'a', true, true), ('1', 'b', true, true)";
    let mut world = World::simple(table, Model::new());
    world.sync("rows=2 added=2 sent=2");
    assert_eq!(world.took("ads"), "\"1\" 1");
    world.sql("delete from people where typeof(id) = 'text'");
    world.sync("rows=1 deleted=1 unchanged=1 sent=1");
    assert_eq!(world.took("ads"), "-\"1\"");
}
