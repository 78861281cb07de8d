//! Syncs of tables of PostgreSQL, by a user that may read and do nothing else.

use super::postgres::Database;
use super::world::{PEOPLE, World};

fn people() -> Database {
    Database::new(
        "create table people (id integer primary key, plan varchar(10), ads boolean, stats boolean);
         insert into people values (1, 'free', true, true), (2, 'pro', true, false), (3, null, null, true);",
    )
}

#[test]
fn what_changed_is_sent_from_sync_to_sync() {
    let database = people();
    let mut world = World::new(&database.warehouse(), PEOPLE);
    world.sync("rows=3 added=3 refused=2 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 2".into(), "1 3".into()));
    world.sync("rows=3 unchanged=3");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), String::new()));

    database.sql("update people set plan = 'team' where id = 1; insert into people values (4, 'x', true, true)");
    world.sync("rows=4 added=1 updated=1 unchanged=2 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 4".into(), "1 4".into()));

    // A value that becomes NULL, and one that is replaced by itself.
    database.sql(
        "update people set plan = null where id = 1; update people set plan = plan where id = 2",
    );
    world.sync("rows=4 updated=1 unchanged=3 sent=1");
    assert_eq!((world.took("ads"), world.took("stats")), ("1".into(), "1".into()));

    database.sql("delete from people where id = 1; delete from people where id = 2");
    world.sync("rows=2 deleted=2 unchanged=2 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1 -2".into(), "-1".into()));
    world.sync("rows=2 unchanged=2");
}

#[test]
fn a_consent_that_ends_is_told_to_the_one_that_had_it_and_back_again_is_an_addition() {
    let database = people();
    let mut world = World::new(&database.warehouse(), PEOPLE);
    world.sync("rows=3 added=3 refused=2 sent=3");
    world.took("ads");
    world.took("stats");
    // NULL is a refusal, too; 3 never had it.
    database.sql(
        "update people set ads = null where id = 1; update people set ads = false where id = 3",
    );
    world.sync("rows=3 updated=2 unchanged=1 withdrawn=1 refused=2 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1".into(), "1 3".into()));
    database.sql("update people set ads = true where id = 1");
    world.sync("rows=3 added=1 unchanged=2 sent=1");
    assert_eq!((world.took("ads"), world.took("stats")), ("1".into(), "1".into()));
}

#[test]
fn columns_may_come_go_and_change_their_types_between_syncs() {
    let database = people();
    let mut world = World::new(&database.warehouse(), PEOPLE);
    world.sync("rows=3 added=3 refused=2 sent=3");
    // The same values in wider types.
    database.sql("alter table people alter plan type text, alter id type bigint");
    world.sync("rows=3 unchanged=3");
    // Another column is another content of every row.
    database.sql("alter table people add column extra jsonb");
    world.sync("rows=3 updated=3 refused=2 sent=3");
    database.sql("alter table people drop column extra");
    world.sync("rows=3 updated=3 refused=2 sent=3");
    let before = (world.took("ads"), world.took("stats"));
    assert_eq!(before, ("1 1 1 2 2 2".into(), "1 1 1 3 3 3".into()));

    // Without a column of consent nothing is sent, deletions neither.
    database.sql(
        "alter table people rename column ads to advertising; delete from people where id = 1",
    );
    let error = world.fails();
    assert!(
        error.contains("consent.Ads") && error.contains("does not return the column `ads`"),
        "{error}"
    );
    // One that is text now grants nothing.
    database.sql("alter table people add column ads text; update people set ads = 'true'");
    let record = world.sync("rows=2 updated=2 deleted=1 withdrawn=1 refused=2 sent=3");
    let said = record["samples"].to_string();
    assert!(said.contains("the consent column `ads` has the type Utf8, not boolean"), "{said}");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1 -2".into(), "-1 3".into()));
}

#[test]
fn ids_that_are_null_or_repeated_are_not_sent() {
    let database = Database::new(
        "create table people (id text, plan text, ads boolean, stats boolean);
         insert into people values ('a', 'x', true, true), (null, 'x', true, true), ('b', '1', true, true),
           ('b', '2', false, false), ('', 'x', true, true);",
    );
    let mut world = World::new(&database.warehouse(), PEOPLE);
    let record = world.sync("rows=5 added=2 skipped=3 sent=2");
    let said = record["samples"].to_string();
    assert!(said.contains("id is NULL") && said.contains("stands 2 times"), "{said}");
    assert_eq!(world.took("ads"), "\"\" \"a\"");
}

#[test]
fn a_user_that_may_only_read_one_view_is_enough() {
    let database = people();
    database.sql(
        "create role viewer login password 'correct-horse-battery';
         create view shown as select * from people where id < 3; grant select on shown to viewer",
    );
    let warehouse = super::postgres::warehouse(&database.uri_of("viewer"));
    let mut world = World::new(&warehouse, PEOPLE.replace("from people", "from shown"));
    world.sync("rows=2 added=2 refused=1 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 2".into(), "1".into()));
    world.apply(&warehouse, PEOPLE);
    let error = world.fails();
    assert!(
        error.contains("permission denied for table people") && error.contains("42501"),
        "{error}"
    );
    world.apply(&warehouse, PEOPLE.replace("from people", "from shown"));
    world.sync("rows=2 unchanged=2");
}
