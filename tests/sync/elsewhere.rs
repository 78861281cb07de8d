//! State that is kept in the warehouse: the database says which rows differ, and only those come.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{HttpSink, Reply, consentd, request, wait_for, wait_until};
use crate::world::{Model, PEOPLE, World, children, counts, kill, samples, short};

/// The tables of ours in the database.
pub(crate) fn tables(world: &World) -> Vec<String> {
    let connection = world.connection();
    let named = "select name from sqlite_schema where type = 'table' and name glob '_consentd_*'";
    let mut statement = connection.prepare(named).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

fn kept() -> Model {
    Model::new().set("state", "\"warehouse\"")
}

fn four() -> String {
    format!(
        "{PEOPLE}; insert into people values (1, 'a', true, true), (2, 'b', true, true), \
         (3, 'c', true, true), (4, 'd', true, true)"
    )
}

/// A sync that ends with these counts, and so many rows that came.
#[track_caller]
fn sync(world: &World, fetched: u64, expected: &str) -> Value {
    let record = world.sync(expected);
    assert_eq!(record["fetched"], fetched, "{record}");
    record
}

#[test]
fn only_what_differs_comes() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    sync(&world, 0, "rows=4 unchanged=4");
    assert_eq!(world.took("ads"), "1 2 3 4");
    world.sql(
        "insert into people values (5, 'e', true, true); update people set plan = 'z' where id = 2;
         delete from people where id = 3",
    );
    sync(&world, 2, "rows=4 added=1 updated=1 deleted=1 unchanged=2 sent=3");
    assert_eq!(world.took("ads"), "2 -3 5");
    // NULL is another value, and so is one of another kind.
    world.sql(
        "update people set plan = null where id = 1; update people set plan = x'7a' where id = 2",
    );
    sync(&world, 2, "rows=4 updated=2 unchanged=2 sent=2");
    world.sql("update people set plan = null where id = 1");
    sync(&world, 0, "rows=4 unchanged=4");
    assert_eq!(tables(&world).len(), 1);
    world.sql("delete from people");
    sync(&world, 0, "deleted=4 sent=4");
    sync(&world, 0, "");
    world.take("ads");
    world.sql("insert into people values (1, null, true, true)");
    sync(&world, 1, "rows=1 added=1 sent=1");
    assert_eq!((world.took("ads"), tables(&world).len()), ("1".to_owned(), 1));
}

#[test]
fn few_of_many_rows_come() {
    let world = World::simple(PEOPLE, kept());
    world.sql(
        "insert into people with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000)
         select i, 'plan ' || i, i % 3 > 0, true from n",
    );
    sync(&world, 100_000, "rows=100000 added=100000 refused=33333 sent=100000");
    world.sql(
        "update people set plan = 'other' where id % 10000 = 1; delete from people where id = 77",
    );
    sync(&world, 10, "rows=99999 updated=10 deleted=1 unchanged=99989 refused=3 sent=11");
}

#[test]
fn a_withdrawal_and_a_consent_that_is_granted_again_are_seen() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.take("ads");
    world.sql("update people set ads = null where id = 1");
    sync(&world, 1, "rows=4 updated=1 unchanged=3 withdrawn=1 refused=1 sent=2");
    assert_eq!(world.took("ads"), "-1");
    sync(&world, 0, "rows=4 unchanged=4");
    world.sql("update people set ads = true where id = 1");
    sync(&world, 1, "rows=4 added=1 unchanged=3 sent=1");
    assert_eq!(world.took("ads"), "1");
}

#[test]
fn columns_that_are_not_tracked_let_no_row_come() {
    let table =
        "create table people (id integer, plan text, city text, ads boolean, stats boolean);
                 insert into people values (1, 'a', 'x', true, true), (2, 'b', 'y', true, true)";
    let mut world = World::simple(table, kept().set("track_columns", "[\"plan\"]"));
    sync(&world, 2, "rows=2 added=2 sent=2");
    world.sql("update people set city = 'z'");
    sync(&world, 0, "rows=2 unchanged=2");
    world.sql("update people set ads = false where id = 2");
    sync(&world, 1, "rows=2 updated=1 unchanged=1 withdrawn=1 refused=1 sent=2");
    // With all columns, other rows count as changed.
    world.become_model(kept());
    sync(&world, 2, "rows=2 updated=2 refused=1 sent=2");
    sync(&world, 0, "rows=2 unchanged=2");
    assert_eq!(world.took("ads"), "1 1 2 -2");
}

#[test]
fn rows_without_an_id_and_with_one_of_others_are_reported_every_time() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.take("ads");
    world.sql(
        "insert into people values (null, 'n', true, true), (null, 'n', true, true), (2, 'b', true, true),
         (3, 'x', true, true), (5, 'e', true, true), (5, 'e', true, true)",
    );
    for _ in 0..2 {
        let record = sync(&world, 8, "rows=10 unchanged=2 skipped=8");
        let said = samples(&record);
        for expected in ["id is NULL", "id 2 stands 2", "id 3 stands 2", "id 5 stands 2"] {
            assert!(said.contains(expected), "{expected} is missing in {said}");
        }
    }
    // One of each is left, as it was among the others all the time.
    world.sql(
        "delete from people where rowid in (select max(rowid) from people where id in (2, 5) group by id);
         delete from people where id = 3 and plan = 'c'",
    );
    sync(&world, 5, "rows=7 added=1 updated=1 unchanged=3 skipped=2 sent=2");
    assert_eq!(world.took("ads"), "3 5");
    // Rows that went while their id stood twice, too.
    world.sql("insert into people values (4, 'x', true, true)");
    sync(&world, 4, "rows=8 unchanged=4 skipped=4");
    world.sql("delete from people where id = 4");
    sync(&world, 2, "rows=6 deleted=1 unchanged=4 skipped=2 sent=1");
    assert_eq!(world.took("ads"), "-4");
}

/// What is left out is in the table, but nobody has it.
#[test]
fn rows_that_are_too_long_are_reported_every_time_and_sent_once_they_may_be() {
    let limited = kept().set("limits", "{ row_bytes = \"2KiB\" }");
    let mut world = World::simple(&four(), limited);
    world.sql("update people set plan = printf('%.3000c', 'x') where id = 2");
    sync(&world, 4, "rows=4 added=3 skipped=1 sent=3");
    sync(&world, 4, "rows=4 unchanged=3 skipped=1");
    assert!(tables(&world).is_empty(), "it is of no use");
    world.take("ads");
    world.become_model(kept());
    sync(&world, 4, "rows=4 added=1 unchanged=3 sent=1");
    assert_eq!(world.took("ads"), "2");
    sync(&world, 0, "rows=4 unchanged=4");
    // An id that is too long.
    world.sql("alter table people rename to others; create table people (id text, plan text, ads boolean, stats boolean);
               insert into people select * from others; update people set id = printf('%.5000c', 'x') where id = '1'");
    world.sync("rows=4 added=3 deleted=4 skipped=1 sent=7");
    sync(&world, 4, "rows=4 unchanged=3 skipped=1");
}

#[test]
fn rejected_rows_are_tried_again() {
    let sink = HttpSink::start(|lines| {
        let is_bad = |line: &String| line.contains("\"userId\":2,");
        Reply::now(if lines.iter().any(is_bad) { 400 } else { 200 })
    });
    let url = sink.url();
    let world = World::new(&four(), kept(), move |_, config| {
        config.http("strict", &url, "categories = [\"Stats\"]")
    });
    sync(&world, 4, "rows=4 added=4 sent=4");
    sync(&world, 4, "rows=4 unchanged=4 failed=1 sent=1");
    sink.answer(|_| Reply::now(200));
    sink.take();
    sync(&world, 4, "rows=4 unchanged=4 failed=1 sent=1");
    assert_eq!(short(&sink.take()), "2");
    sync(&world, 0, "rows=4 unchanged=4");
}

#[test]
fn a_destination_that_is_on_again_is_told_what_happened() {
    let with = |enabled: bool| {
        move |folder: &crate::harness::Folder, config: crate::harness::Config| {
            let stats = format!("categories = [\"Stats\"]\nenabled = {enabled}");
            config.file(folder, "ads", "categories = [\"Ads\"]").file(folder, "stats", stats)
        }
    };
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.finish_with(with(false));
    world.take("stats");
    world.sql("delete from people where id = 1; update people set stats = false where id = 2");
    assert_eq!(world.run("")["fetched"], 1);
    world.sync("rows=3 unchanged=3");
    assert_eq!(world.took("stats"), "");
    world.finish_with(with(true));
    assert_eq!(world.run("")["fetched"], 3);
    assert_eq!(world.took("stats"), "-1 -2");
    sync(&world, 0, "rows=3 unchanged=3");
}

#[test]
fn columns_that_come_and_go_let_every_row_come() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.sql("alter table people add column city text");
    sync(&world, 4, "rows=4 updated=4 sent=4");
    sync(&world, 0, "rows=4 unchanged=4");
    world.sql("alter table people rename column ads to adverts");
    assert!(world.fails().contains("does not return the column `ads`"));
    assert_eq!(tables(&world).len(), 1, "that of the failed sync is dropped");
    world.sql(
        "alter table people rename column adverts to ads; alter table people drop column city",
    );
    sync(&world, 4, "rows=4 updated=4 sent=4");
    // Another mapping of the same columns.
    world.take("ads");
    world.sql("update people set stats = false where id = 1");
    sync(&world, 1, "rows=4 updated=1 unchanged=3 withdrawn=1 refused=1 sent=2");
    world.become_model(kept().set("consent", "{ Ads = \"stats\", Stats = \"ads\" }"));
    let record = world.run("");
    assert_eq!((&record["fetched"], &record["withdrawn"]), (&4.into(), &1.into()), "{record}");
    assert_eq!(world.took("ads"), "1 -1 2 3 4");
    // As text, a consent grants nothing any more.
    world.sql("alter table people rename column stats to s; alter table people add column stats text; update people set stats = 'true'");
    let record = world.run("");
    assert!(samples(&record).contains("`stats` has the type Utf8"), "{record}");
    assert_eq!(world.took("ads"), "-2 -3 -4");
}

#[test]
fn a_full_sync_takes_every_row_and_one_whose_query_fails_changes_nothing() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.sync_with("?full=1", "rows=4 added=4 sent=4");
    sync(&world, 0, "rows=4 unchanged=4");
    world.sql("alter table people rename to aside");
    assert_eq!(world.run("?full=1")["state"], "failed");
    world.sql("alter table aside rename to people");
    sync(&world, 0, "rows=4 unchanged=4");
    world.sync_with("?full=1", "rows=4 added=4 sent=4");
    assert_eq!((world.took("ads").len(), tables(&world).len()), (23, 1));
}

#[test]
fn a_dry_run_reads_and_writes_nothing() {
    let world = World::simple(&four(), kept());
    world.sync_with("?dry_run=1", "rows=4 added=4 sent=4");
    assert!(tables(&world).is_empty());
    sync(&world, 4, "rows=4 added=4 sent=4");
    let before = tables(&world);
    world.sql("update people set plan = 'z' where id = 2; delete from people where id = 3");
    world.sync_with("?dry_run=1", "rows=3 updated=1 deleted=1 unchanged=2 sent=1");
    assert_eq!(tables(&world), before);
    sync(&world, 1, "rows=3 updated=1 deleted=1 unchanged=2 sent=2");
}

#[test]
fn a_table_that_is_dropped_or_changed_by_hand_costs_a_full_comparison() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    for spoil in ["drop table {}", "delete from {} where id = 3", "alter table {} add column x"] {
        let table = tables(&world).pop().unwrap();
        world.sql(&spoil.replace("{}", &table));
        world.sql("delete from people where id = 3");
        world.take("ads");
        sync(&world, 3, "rows=3 deleted=1 unchanged=3 sent=1");
        assert_eq!(world.took("ads"), "-3", "{spoil}");
        world.sql("insert into people values (3, 'c', true, true)");
        sync(&world, 1, "rows=4 added=1 unchanged=3 sent=1");
    }
    assert_eq!(tables(&world).len(), 1);
}

#[test]
fn without_its_data_dir_the_next_sync_is_a_first_one() {
    let world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    fs::remove_dir_all(world.folder.path("state/warehouse/people")).unwrap();
    world.sql("delete from people where id = 1");
    sync(&world, 3, "rows=3 added=3 sent=3");
    sync(&world, 0, "rows=3 unchanged=3");
    assert_eq!(tables(&world).len(), 2, "nobody knows whose the first is");
}

/// Between the two, the local state has moved on without the table.
#[test]
fn state_that_was_local_meanwhile_is_compared_in_full() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.become_model(kept().set("state", "\"local\""));
    world.sql("update people set plan = 'z' where id = 1");
    sync(&world, 4, "rows=4 updated=1 unchanged=3 sent=1");
    assert!(tables(&world).is_empty(), "they are of no use any more");
    world.become_model(kept());
    world.sql("update people set plan = 'a' where id = 1");
    sync(&world, 4, "rows=4 updated=1 unchanged=3 sent=1");
    sync(&world, 0, "rows=4 unchanged=4");
    assert_eq!(world.took("ads"), "1 1 1 2 3 4");
}

/// SQLite's columns have values of any type; what differs there differs here.
#[test]
fn values_are_kept_as_they_are_and_differ_as_they_do_in_events() {
    let table = "create table people (id, plan, j json, n numeric, t text collate nocase, ads boolean, stats boolean);
        insert into people values (1, 1, '{\"a\":1}', 1, 'a', 1, 1), ('1', '1', '[1]', 1.5, 'b', 1, 2),
        ('x', x'00', null, 'free', 'c', 1, 1)";
    let event = "{ type = \"identify\", userId = \"$id\", traits = { plan = \"$plan\", j = \"$j\", n = \"$n\", t = \"$t\" } }";
    let take = |model: Model| {
        let mut world = World::simple(table, model.set("event", event));
        world.run("");
        let lines = world.take("ads").into_iter().chain(world.take("stats"));
        let mut lines: Vec<String> =
            lines.map(|line| line.split(",\"messageId\"").next().unwrap().to_owned()).collect();
        lines.sort();
        (world, lines)
    };
    let (mut world, lines) = take(kept());
    assert_eq!(lines.len(), 5, "2 is not true: {lines:?}");
    assert_eq!(lines, take(Model::new().set("state", "\"local\"")).1);
    for (change, ids) in [
        ("update people set plan = 1.0 where id = 1", "1"),
        ("update people set plan = '1' where id = 1", "1"),
        ("update people set t = 'B' where id = '1'", "\"1\""),
        ("update people set n = 'Free' where id = 'x'", "\"x\""),
        ("update people set j = '{\"a\": 1 }' where id = 1", ""),
        ("update people set id = 'X' where id = 'x'", "\"X\" -\"x\""),
        ("delete from people where typeof(id) = 'integer'", "-1"),
    ] {
        world.sql(change);
        let record = world.run("");
        assert_eq!(world.took("ads"), ids, "{change}: {record}");
        assert!(record["fetched"].as_u64() <= Some(1), "{change}: {record}");
    }
    // Numbers with a point may be the same id in an event and two in the database.
    world.sql("update people set id = 2.5 where id = 'X'");
    world.run("");
    world.run("");
    assert_eq!(world.run("")["fetched"], 2);
    assert_eq!(world.took("ads"), "-\"X\" 2.5");
}

#[test]
fn queries_may_end_as_they_like() {
    for query in [
        "select * from people -- all of them",
        "select * from people ;\n",
        "with p as (select * from people) select * from p",
    ] {
        let world = World::simple(&four(), kept().set("query", format!("{query:?}")));
        sync(&world, 4, "rows=4 added=4 sent=4");
        sync(&world, 0, "rows=4 unchanged=4");
    }
}

#[test]
fn many_columns_are_compared() {
    let names: Vec<String> = (0..508).map(|at| format!("c{at}")).collect();
    let table = format!(
        "create table people (id integer, plan text, ads boolean, stats boolean, {});
         insert into people (id, ads, stats) values (1, true, true), (2, true, true)",
        names.join(", ")
    );
    let mut world = World::simple(&table, kept());
    sync(&world, 2, "rows=2 added=2 sent=2");
    world.take("ads");
    world.sql("update people set c507 = 'x' where id = 2");
    sync(&world, 1, "rows=2 updated=1 unchanged=1 sent=1");
    assert_eq!(world.took("ads"), "2");
}

#[test]
fn limits_hold_before_anything_is_sent() {
    for (limits, expected) in [("columns = 3", "limits.columns"), ("rows = 3", "limits.rows")] {
        let mut world = World::simple(&four(), kept().set("limits", format!("{{ {limits} }}")));
        let error = world.fails();
        assert!(error.contains(expected), "{error}");
        assert_eq!((world.took("ads"), tables(&world)), (String::new(), Vec::new()));
    }
}

/// A query that takes longer than any test.
const SLOW: &str = "\"select * from people where id > (with recursive n (i) as (select 1 union all select i + 1 from n) \
                    select count(*) from n)\"";

#[test]
fn a_cancelled_sync_ends_at_once_and_leaves_nothing_for_long() {
    let mut world = World::simple(&four(), kept());
    sync(&world, 4, "rows=4 added=4 sent=4");
    world.become_model(kept().set("query", SLOW));
    for end in ["cancel", "kill", "kill the daemon"] {
        let id = world.begin("");
        let child = wait_for("it has a process", || children(world.daemon().id()).first().copied());
        sleep(Duration::from_millis(300));
        let asked = Instant::now();
        match end {
            "cancel" => {
                request(world.daemon().admin(), "POST", "/syncs/people/cancel", "", b"").unwrap();
                assert_eq!(world.ended(&id)["state"], "cancelled");
            }
            "kill" => {
                kill(child);
                assert_eq!(world.ended(&id)["state"], "failed");
            }
            _ => {
                world.kill();
                wait_until("the sync ends without its daemon", || {
                    let stat =
                        fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                    stat.is_empty() || stat.contains(") Z ")
                });
                world.start();
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "{end}: {:?}", asked.elapsed());
    }
    world.become_model(kept());
    let record = world.run("");
    // The query is another one than that of the table, or the same: it does not matter.
    assert_eq!(counts(&record), "rows=4 unchanged=4", "{record}");
    assert_eq!(tables(&world).len(), 1);
}

#[test]
fn check_tries_a_table_and_preview_writes_nothing() {
    let world = World::simple(&four(), kept());
    let run = |command: &[&str]| {
        let config = world.folder.path("consentd.toml");
        let done = consentd().args(command).arg("--config").arg(config).output().unwrap();
        (done.status.success(), String::from_utf8(done.stdout).unwrap())
    };
    let before = fs::read(world.folder.path("people.db")).unwrap();
    let (ok, said) = run(&["preview", "people"]);
    assert!(ok && said.contains("row 4"), "{said}");
    assert_eq!(fs::read(world.folder.path("people.db")).unwrap(), before);
    let (ok, said) = run(&["warehouses", "check"]);
    assert!(ok && said.contains("model people: its state can be kept here"), "{said}");
    assert!(tables(&world).is_empty());
}
