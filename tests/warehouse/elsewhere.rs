//! State that is kept in PostgreSQL and in DuckDB: they say which rows differ, and only those come. What is
//! found has to be what is found where the state is local.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::harness::{request, wait_until};
use super::model::config;
use super::postgres::{Database, PASSWORD, warehouse};
use super::world::{PEOPLE, World, counts};
use crate::tools;

fn kept() -> String {
    format!("{PEOPLE}state = \"warehouse\"\n")
}

/// `people` with its state in the warehouse, and `local`, the same with local state.
fn both(model: &str) -> String {
    format!("{model}state = \"warehouse\"\n\n[models.local]\nwarehouse = \"main\"\n{model}")
}

/// A sync of both, which must find the same; how many rows came to the first.
#[track_caller]
fn sync_both(world: &World, what: &str) -> (u64, String) {
    let run = |model: &str| world.ended(model, &world.begin(model));
    let (kept, local) = (run("people"), run("local"));
    assert_eq!(
        (&kept["state"], &local["state"]),
        (&"done".into(), &"done".into()),
        "{what}: {kept} {local}"
    );
    assert_eq!(counts(&kept), counts(&local), "{what}: {kept}");
    (kept["fetched"].as_u64().unwrap(), counts(&kept))
}

/// A sync of `people` with these counts, for which so many rows came.
#[track_caller]
fn sync(world: &World, fetched: u64, expected: &str) -> Value {
    let record = world.sync(expected);
    assert_eq!(record["fetched"], fetched, "{record}");
    record
}

fn tables(database: &Database) -> usize {
    let named = "select count(*) from pg_tables where schemaname = '_consentd'";
    database.sql(named).parse().unwrap()
}

fn people() -> Database {
    Database::new(
        "create table people (id integer primary key, plan varchar(10), ads boolean, stats boolean);
         insert into people values (1, 'free', true, true), (2, 'pro', true, false), (3, null, null, true);",
    )
}

fn owner(database: &Database) -> String {
    warehouse(&database.uri_of("postgres"))
}

#[test]
fn postgres_says_what_differs() {
    let database = people();
    let mut world = World::new(&owner(&database), kept());
    sync(&world, 3, "rows=3 added=3 refused=2 sent=3");
    sync(&world, 0, "rows=3 unchanged=3");
    world.took("ads");
    database.sql("update people set plan = 'team' where id = 1; insert into people values (4, 'x', true, true)");
    sync(&world, 2, "rows=4 added=1 updated=1 unchanged=2 sent=2");
    database.sql(
        "update people set plan = null where id = 1; update people set plan = plan where id = 2",
    );
    sync(&world, 1, "rows=4 updated=1 unchanged=3 sent=1");
    database.sql("update people set ads = null where id = 2; delete from people where id = 4");
    sync(&world, 1, "rows=3 updated=1 deleted=1 unchanged=2 withdrawn=1 refused=1 sent=2");
    assert_eq!((world.took("ads"), tables(&database)), ("1 1 -2 4 -4".into(), 1));
    // Dropped by hand, with what is in it.
    database.sql("drop schema _consentd cascade; delete from people where id = 1");
    sync(&world, 2, "rows=2 deleted=1 unchanged=2 sent=1");
    sync(&world, 0, "rows=2 unchanged=2");
    // The same values in wider types are the same, but not comparable there.
    database.sql("alter table people alter id type bigint");
    sync(&world, 2, "rows=2 unchanged=2");
    database.sql("alter table people alter plan type text");
    sync(&world, 2, "rows=2 unchanged=2");
    sync(&world, 0, "rows=2 unchanged=2");
}

#[test]
fn few_of_many_rows_come_from_postgres() {
    let database = Database::new(
        "create table people (id bigint, plan text, ads boolean, stats boolean);
         insert into people select id, 'plan ' || id, id % 3 > 0, true from generate_series(1, 100000) id",
    );
    let world = World::new(&owner(&database), kept());
    sync(&world, 100_000, "rows=100000 added=100000 refused=33333 sent=100000");
    database.sql(
        "update people set plan = 'other' where id % 10000 = 1; delete from people where id = 77",
    );
    sync(&world, 10, "rows=99999 updated=10 deleted=1 unchanged=99989 refused=3 sent=11");
}

/// What PostgreSQL takes for equal, or can't compare at all, and an event shows as something else.
#[test]
fn values_that_postgres_takes_for_equal_are_told_apart() {
    const PAIRS: &[(&str, &str)] = &[
        ("numeric", "'1.0', '1.00'"),
        ("citext", "'a', 'A'"),
        ("interval", "'1 month', '30 days'"),
        ("double precision", "'0', '-0'"),
        ("double precision", "'0.1', '0.10000000000000002'"),
        ("real", "'16777216', '16777217.5'"),
        ("jsonb", "'1.1', '1.10'"),
        ("json", "'{\"a\":1}', '{\"a\":2}'"),
        ("xml", "'<a/>', '<b/>'"),
        ("point", "'(1,2)', '(1,3)'"),
        ("numeric[]", "'{1.0}', '{1.00}'"),
        ("text collate loose", "'a', 'A'"),
        ("bytea", r"'\x00', '\x0000'"),
        ("bit varying", "'1', '10'"),
        ("mood", "'sad', 'happy'"),
        ("timestamptz", "'2026-10-25 02:30:00+01', '2026-10-25 02:30:00+02'"),
        ("timestamp", "'2026-01-01', '2026-01-01 00:00:00.000001'"),
        ("date", "'2026-01-01', 'infinity'"),
        ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"),
        ("pair", "'(1,a)', '(1,b)'"),
        ("inet", "'10.0.0.1', '10.0.0.1/8'"),
        ("char(4)", "'a', 'b'"),
    ];
    let mut sql = String::from(
        "create extension citext; create type mood as enum ('sad', 'happy'); create type pair as (x integer, y text);
         create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
    );
    // Without it, texts of numbers would be short of digits.
    write!(sql, "do $$ begin execute 'alter database ' || current_database() || ' set extra_float_digits = 0'; end $$;").unwrap();
    let columns: Vec<String> =
        PAIRS.iter().zip(0..).map(|((kind, _), at)| format!("v{at} {kind}")).collect();
    write!(
        sql,
        "create table people (id integer, plan text, ads boolean, stats boolean, {});",
        columns.join(", ")
    )
    .unwrap();
    for id in 1..4 {
        let values: Vec<&str> =
            PAIRS.iter().map(|(_, pair)| pair.split(", ").next().unwrap()).collect();
        write!(sql, "insert into people values ({id}, 'a', true, true, {});", values.join(", "))
            .unwrap();
    }
    let database = Database::new(&sql);
    let world = World::new(&owner(&database), both(PEOPLE));
    assert_eq!(sync_both(&world, "first").0, 3);
    assert_eq!(sync_both(&world, "second").0, 0);
    for (at, (kind, pair)) in PAIRS.iter().enumerate() {
        let other = pair.split(", ").nth(1).unwrap();
        database.sql(&format!("update people set v{at} = {other} where id = 2"));
        let (fetched, _) = sync_both(&world, &format!("{kind} {pair}"));
        assert_eq!(fetched, 1, "{kind} {pair}");
        assert_eq!(sync_both(&world, kind).0, 0, "{kind}");
    }
    // Nothing in the table changes, and every row says something else.
    database.sql("alter type mood rename value 'happy' to 'glad'");
    let (fetched, found) = sync_both(&world, "another label");
    assert_eq!((fetched, found.contains("updated=1")), (3, true), "{found}");
}

/// Random changes of ids and values; what is found is the same as where the state is local.
fn random_changes(world: &World, change: impl Fn(&str), seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let mut fetched = 0;
    let mut rows = 0;
    for round in 0..14 {
        let mut sql = String::new();
        for _ in 0..rng.usize(0..9) {
            let id = match rng.usize(0..12) {
                0 => "null".to_owned(),
                1 => "'A'".to_owned(),
                2 => "'a'".to_owned(),
                3 => "'a '".to_owned(),
                number => format!("'user {number}'"),
            };
            let plan = ["null", "'x'", "'X'", "''", "'y'"][rng.usize(0..5)];
            let grant = |rng: &mut Rng| ["true", "true", "false", "null"][rng.usize(0..4)];
            let (ads, stats) = (grant(rng), grant(rng));
            let where_id =
                if id == "null" { "id is null".to_owned() } else { format!("id = {id}") };
            match rng.usize(0..4) {
                0 => writeln!(sql, "delete from people where {where_id};"),
                1 => writeln!(sql, "update people set plan = {plan}, ads = {ads} where {where_id};"),
                _ if rng.u8(..) < 200 => writeln!(
                    sql,
                    "delete from people where {where_id};\ninsert into people values ({id}, {plan}, {ads}, {stats});"
                ),
                _ => writeln!(sql, "insert into people values ({id}, {plan}, {ads}, {stats});"),
            }
            .unwrap();
        }
        if !sql.is_empty() {
            change(&sql);
        }
        let (came, found) = sync_both(world, &format!("seed {seed}, round {round}: {sql}"));
        fetched += came;
        let all = found.split(' ').find_map(|it| it.strip_prefix("rows=")).unwrap_or("0");
        rows += all.parse::<u64>().unwrap();
    }
    println!("seed {seed}: {fetched} of {rows} rows came");
    assert!(fetched * 5 < rows * 4, "hardly a row was left out: {fetched} of {rows}");
}

#[test]
fn random_changes_in_postgres_are_found_as_with_local_state() {
    for (seed, id) in (0..).zip(["text", "varchar(10) collate loose", "text collate loose"]) {
        // Letters that the database takes for the same are different ids.
        let database = Database::new(&format!(
            "create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table people (id {id}, plan varchar(5), ads boolean, stats boolean)"
        ));
        let world = World::new(&owner(&database), both(PEOPLE));
        random_changes(&world, |sql| drop(database.sql(sql)), seed);
        assert_eq!(tables(&database), 1);
    }
}

#[test]
fn whoever_may_only_read_is_told_what_is_needed_and_a_schema_of_their_own_is_enough() {
    let database = people();
    let world = World::new(&database.warehouse(), kept());
    let error = world.fails();
    for expected in
        ["permission denied for database", "grant create on database", "state = \"local\""]
    {
        assert!(error.contains(expected), "{expected} is missing: {error}");
    }
    assert!(!error.contains(PASSWORD), "{error}");
    let check = || {
        let config = world.folder.path("consentd.toml");
        let mut check = super::harness::consentd();
        let done = check.args(["warehouses", "check", "--config"]).arg(config).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    for expected in [
        "model people: the query works",
        "its state can't be kept here",
        "grant create on database",
    ] {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
    database.sql("create schema _consentd authorization reader");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("its state can be kept here"), "{said}");
    assert_eq!(tables(&database), 0);
    sync(&world, 3, "rows=3 added=3 refused=2 sent=3");
    sync(&world, 0, "rows=3 unchanged=3");
    // What is wrong with the query is no matter of rights to write.
    world.apply(&database.warehouse(), kept().replace("from people", "from pg_authid"));
    let error = world.fails();
    assert!(error.contains("permission denied for table pg_authid"), "{error}");
    assert!(!error.contains("grant") && !error.contains("select"), "{error}");
    assert_eq!(tables(&database), 1);
}

/// A query that waits in the database.
fn waiting() -> Database {
    Database::new(
        "create table people (id integer, plan text, ads boolean, stats boolean);
         insert into people values (1, 'a', true, true), (2, 'b', true, true);
         create table gate (state text);
         create function pass(id integer) returns integer language plpgsql volatile as $$
         begin
           while (select count(*) from gate) = 0 loop perform pg_sleep(0.01); end loop;
           return id;
         end $$;",
    )
}

fn gated() -> String {
    kept().replace("select * from people", "select pass(id) as id, plan, ads, stats from people")
}

fn waits(database: &Database) -> bool {
    let asked = "select count(*) from pg_stat_activity where query like '%pass(id)%' and pid <> pg_backend_pid()";
    database.sql(asked) != "0"
}

#[test]
fn what_a_dead_sync_has_asked_for_is_not_left_in_postgres() {
    let database = waiting();
    let world = World::new(&owner(&database), gated());
    let sync_id = world.begin("people");
    wait_until("the database works", || waits(&database));
    let asked = Instant::now();
    request(world.daemon.admin(), "POST", "/syncs/people/cancel", "", b"").unwrap();
    assert_eq!(world.ended("people", &sync_id)["state"], "cancelled");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // The server goes on with it until it finds out.
    database.sql("insert into gate values ('open')");
    wait_until("it has ended", || !waits(&database));
    assert_eq!(tables(&database), 0);
    sync(&world, 2, "rows=2 added=2 sent=2");
    assert_eq!(tables(&database), 1);
}

#[test]
fn a_connection_that_is_ended_while_postgres_fills_the_table_is_asked_again() {
    let database = waiting();
    let world = World::new(&owner(&database), gated());
    let sync_id = world.begin("people");
    wait_until("the database works", || waits(&database));
    database.sql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where query like '%pass(id)%' and pid <> pg_backend_pid()",
    );
    wait_until("it is said", || world.daemon.stderr().contains("asked again in 1 s"));
    database.sql("insert into gate values ('open')");
    let record = world.ended("people", &sync_id);
    assert_eq!(counts(&record), "rows=2 added=2 sent=2", "{record}");
    assert_eq!(tables(&database), 1);
    sync(&world, 0, "rows=2 unchanged=2");
}

/// A table that somebody reads can't be dropped: the sync does not hang, and the next one does it.
#[test]
fn a_table_that_is_in_use_is_dropped_later() {
    let database = people();
    let world = World::new(&owner(&database), kept());
    sync(&world, 3, "rows=3 added=3 refused=2 sent=3");
    let table =
        database.sql("select quote_ident(tablename) from pg_tables where schemaname = '_consentd'");
    database.sql(&format!(
        "revoke all on _consentd.{table} from postgres; alter table _consentd.{table} rename to elsewhere;
         create view _consentd.{table} as select * from _consentd.elsewhere"
    ));
    // What can't be dropped, for it is no table, does not keep anybody from syncing.
    sync(&world, 0, "rows=3 unchanged=3");
    wait_until("it is said", || world.daemon.stderr().contains("are not dropped yet"));
    database.sql(&format!("drop view _consentd.{table}; drop table _consentd.elsewhere"));
    sync(&world, 0, "rows=3 unchanged=3");
    sync(&world, 0, "rows=3 unchanged=3");
    assert_eq!(tables(&database), 1);
}

/// A file of DuckDB, and what changes it.
struct Duck {
    folder: tempfile::TempDir,
}

impl Duck {
    fn new(sql: &str) -> Self {
        let duck = Self { folder: tempfile::tempdir().unwrap() };
        duck.sql(sql);
        duck
    }

    fn warehouse(&self) -> String {
        let (library, path) =
            (tools::driver("libduckdb.so"), self.folder.path().join("people.duckdb"));
        format!("driver = \"duckdb\"\npath = {library:?}\nuri = {path:?}")
    }

    fn sql(&self, sql: &str) {
        let model = "query = \"select 1\"\nunique_id = \"id\"\nconsent = \"none\"\nevent = { id = \"$id\" }";
        let config = config(&self.warehouse(), model);
        let mut connection = consentd::warehouse::open_to_write(&config.warehouses[0]).unwrap();
        for statement in sql.split(';').filter(|it| !it.trim().is_empty()) {
            connection.execute(statement).unwrap();
        }
    }
}

#[test]
fn duckdb_says_what_differs() {
    let duck = Duck::new(
        "create table people (id integer, plan varchar, ads boolean, stats boolean);
         insert into people values (1, 'free', true, true), (2, 'pro', true, false), (3, null, null, true)",
    );
    let mut world = World::new(&duck.warehouse(), kept());
    sync(&world, 3, "rows=3 added=3 refused=2 sent=3");
    sync(&world, 0, "rows=3 unchanged=3");
    world.took("ads");
    duck.sql("update people set plan = 'team' where id = 1; insert into people values (4, 'x', true, true), (null, 'n', true, true)");
    sync(&world, 3, "rows=5 added=1 updated=1 unchanged=2 skipped=1 sent=2");
    duck.sql("update people set ads = null where id = 2; delete from people where id = 4");
    sync(
        &world,
        2,
        "rows=4 updated=1 deleted=1 unchanged=2 withdrawn=1 refused=1 skipped=1 sent=2",
    );
    assert_eq!(world.took("ads"), "1 -2 4 -4");
    duck.sql("drop schema _consentd cascade; delete from people where id is null");
    sync(&world, 3, "rows=3 unchanged=3");
    sync(&world, 0, "rows=3 unchanged=3");
}

#[test]
fn few_of_many_rows_come_from_duckdb() {
    let duck = Duck::new(
        "create table people as select i as id, 'plan ' || i as plan, i % 3 > 0 as ads, true as stats \
         from range(1, 100001) r (i)",
    );
    let world = World::new(&duck.warehouse(), kept());
    sync(&world, 100_000, "rows=100000 added=100000 refused=33333 sent=100000");
    duck.sql(
        "update people set plan = 'other' where id % 10000 = 1; delete from people where id = 77",
    );
    sync(&world, 10, "rows=99999 updated=10 deleted=1 unchanged=99989 refused=3 sent=11");
}

#[test]
fn values_that_duckdb_takes_for_equal_are_told_apart() {
    const PAIRS: &[(&str, &str)] = &[
        ("double", "'0', '-0'"),
        ("float", "'0', '-0'"),
        ("interval", "'1 month', '30 days'"),
        ("varchar collate nocase", "'a', 'A'"),
        ("decimal(9, 2)", "'1.10', '1.11'"),
        ("json", "'{\"a\":1}', '{\"a\":2}'"),
        ("varchar[]", "'[a]', '[A]'"),
        ("double[]", "'[0.0]', '[-0.0]'"),
        ("struct(x integer, y varchar)", "{'x': 1\\, 'y': 'a'}, {'x': 1\\, 'y': 'A'}"),
        ("varchar[]", "[null], ['NULL']"),
        ("blob", r"'\x00', '\x00\x00'"),
        ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"),
        ("timestamptz", "'2026-10-25 02:30:00+01', '2026-10-25 02:30:00+02'"),
        ("timestamp_ns", "'2026-01-01', '2026-01-01 00:00:00.000000001'"),
        ("time with time zone", "'12:00:00+01', '11:00:00+00'"),
        ("hugeint", "'1', '170141183460469231731687303715884105727'"),
        ("enum('sad', 'happy')", "'sad', 'happy'"),
        ("map(varchar, integer)", "map {'a': 1}, map {'a': 2}"),
    ];
    let value = |pair: &str, at: usize| {
        let parts: Vec<String> =
            pair.replace("\\,", "\u{1}").split(", ").map(|it| it.replace('\u{1}', ",")).collect();
        parts[at].clone()
    };
    let columns: Vec<String> =
        PAIRS.iter().zip(0..).map(|((kind, _), at)| format!("v{at} {kind}")).collect();
    let mut sql = format!(
        "create table people (id integer, plan text, ads boolean, stats boolean, {});",
        columns.join(", ")
    );
    for id in 1..4 {
        let values: Vec<String> = PAIRS.iter().map(|(_, pair)| value(pair, 0)).collect();
        write!(sql, "insert into people values ({id}, 'a', true, true, {});", values.join(", "))
            .unwrap();
    }
    let duck = Duck::new(&sql);
    let world = World::new(&duck.warehouse(), both(PEOPLE));
    assert_eq!(sync_both(&world, "first").0, 3);
    assert_eq!(sync_both(&world, "second").0, 0);
    for (at, (kind, pair)) in PAIRS.iter().enumerate() {
        duck.sql(&format!("update people set v{at} = {} where id = 2", value(pair, 1)));
        let (fetched, _) = sync_both(&world, &format!("{kind} {pair}"));
        assert!(fetched <= 1, "{kind} {pair}");
        assert_eq!(sync_both(&world, kind).0, 0, "{kind}");
    }
}

#[test]
fn random_changes_in_duckdb_are_found_as_with_local_state() {
    for (seed, id) in (10..).zip(["varchar", "varchar collate nocase"]) {
        let duck = Duck::new(&format!(
            "create table people (id {id}, plan varchar, ads boolean, stats boolean)"
        ));
        let world = World::new(&duck.warehouse(), both(PEOPLE));
        random_changes(&world, |sql| duck.sql(sql), seed);
    }
}

#[test]
fn many_columns_are_compared() {
    let names: Vec<String> = (0..508).map(|at| format!("c{at} double precision")).collect();
    let sql = format!(
        "create table people (id integer, plan varchar, ads boolean, stats boolean, {});
         insert into people (id, ads, stats) values (1, true, true), (2, true, true)",
        names.join(", ")
    );
    let (database, duck) = (Database::new(&sql), Duck::new(&sql));
    let change = "update people set c507 = 5 where id = 2";
    for (warehouse, engine) in [(owner(&database), "PostgreSQL"), (duck.warehouse(), "DuckDB")] {
        let world = World::new(&warehouse, kept());
        sync(&world, 2, "rows=2 added=2 sent=2");
        if engine == "DuckDB" {
            duck.sql(change);
        } else {
            database.sql(change);
        }
        sync(&world, 1, "rows=2 updated=1 unchanged=1 sent=1");
    }
}
