//! Connections that end, queries that fail, and what is said of it.

use std::time::{Duration, Instant};

use super::harness::wait_until;
use super::model::{self, rows};
use super::postgres::{Database, PASSWORD, warehouse};
use super::proxy::Proxy;
use super::world::{PEOPLE, World};
use consentd::warehouse::Failure;

/// Rows of which each fills a good part of a batch, so that many batches are on the way when
/// something happens.
const ROWS: usize = 20_000;

/// A table of so many rows, and a gate at which a query stops in the middle of them.
fn many() -> Database {
    Database::new(&format!(
        "create table people (id integer, plan text, ads boolean, stats boolean);
         insert into people select id, repeat('x', 1000), true, id % 2 = 0 from generate_series(1, {ROWS}) id;
         create table gate (state text);
         create function pass(id integer) returns integer language plpgsql volatile as $$
         begin
           while id = {ROWS} - 10 and (select count(*) from gate) = 0 loop
             perform pg_sleep(0.01);
           end loop;
           if id = {ROWS} - 10 and (select max(state) from gate) = 'broken' then
             raise exception 'the gate is broken';
           end if;
           return id;
         end $$;"
    ))
}

fn gated() -> String {
    PEOPLE.replace("select * from people", "select pass(id) as id, plan, ads, stats from people")
}

/// Waits until rows of the running sync have come.
fn wait_for_rows(world: &World) {
    wait_until("rows come", || world.status("people")["running"]["rows"].as_u64() > Some(0));
}

fn every_row_arrived_once(world: &mut World) {
    let ids: Vec<usize> = world.took("ads").split(' ').map(|id| id.parse().unwrap()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(1..=ROWS), "{} rows", ids.len());
}

#[test]
fn a_connection_that_is_ended_in_mid_query_is_asked_again() {
    let database = many();
    let mut world = World::new(&database.warehouse(), gated());
    let sync = world.begin("people");
    wait_for_rows(&world);
    let ended = database.sql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where query like 'select pass%' or query like 'COPY%pass%'",
    );
    assert_eq!(ended, "1");
    wait_until("it is said", || world.daemon.stderr().contains("asked again in 1 s"));
    database.sql("insert into gate values ('open')");
    let record = world.ended("people", &sync);
    assert_eq!(record["state"], "done", "{record}");
    assert_eq!((&record["rows"], &record["added"]), (&ROWS.into(), &ROWS.into()));
    every_row_arrived_once(&mut world);
    world.sync(&format!("rows={ROWS} unchanged={ROWS}"));
    assert!(!world.daemon.stderr().contains(PASSWORD));
}

#[test]
fn a_network_that_is_cut_in_the_middle_of_the_rows_costs_a_second_attempt() {
    let database = many();
    let proxy = Proxy::start(1, 9_000_000);
    let mut world = World::new(&warehouse(&database.uri_through(proxy.port)), PEOPLE);
    let record = world.sync(&format!("rows={ROWS} added={ROWS} refused={} sent={ROWS}", ROWS / 2));
    assert_eq!(record["state"], "done");
    // The driver has more than one for each attempt.
    assert!(proxy.connections() >= 2);
    every_row_arrived_once(&mut world);
}

#[test]
fn rows_behind_an_error_in_the_middle_are_not_taken_as_deleted() {
    let database = many();
    let mut world = World::new(&database.warehouse(), PEOPLE);
    world.sync(&format!("rows={ROWS} added={ROWS} refused={} sent={ROWS}", ROWS / 2));
    world.took("ads");
    database.sql("insert into gate values ('broken'); update people set plan = 'new' where id < 5; delete from people where id = 5");
    let broken = PEOPLE.replace(
        "select * from people",
        "select pass(id) as id, plan, ads, stats from people order by people.id",
    );
    world.apply(&database.warehouse(), broken);
    let error = world.fails();
    assert!(error.contains("the gate is broken"), "PostgreSQL's own words: {error}");
    assert_eq!(world.took("ads"), "", "nothing is sent of half a query");
    world.apply(&database.warehouse(), PEOPLE);
    let (rows, unchanged) = (ROWS - 1, ROWS - 5);
    world.sync(&format!("rows={rows} updated=4 deleted=1 unchanged={unchanged} refused=2 sent=5"));
    assert_eq!(world.took("ads"), "1 2 3 4 -5");
}

#[test]
fn a_sync_that_waits_for_the_database_can_be_cancelled() {
    let database = many();
    let world = World::new(&database.warehouse(), gated());
    let sync = world.begin("people");
    wait_for_rows(&world);
    let path = "/syncs/people/cancel";
    let asked = Instant::now();
    super::harness::request(world.daemon.admin(), "POST", path, "", b"").unwrap();
    assert_eq!(world.ended("people", &sync)["state"], "cancelled");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

/// How many sessions the server has in which a query of this test is at work.
fn busy(database: &Database) -> String {
    database.sql(
        "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active'
           and datname = current_database() and pid <> pg_backend_pid()",
    )
}

fn asleep(database: &Database) -> (World, String) {
    let query = "select 1 as id, pg_sleep(600)::text as plan, true as ads, true as stats";
    let world = World::new(&database.warehouse(), PEOPLE.replace("select * from people", query));
    let sync = world.begin("people");
    wait_until("the server is busy", || busy(database) == "1");
    (world, sync)
}

#[test]
fn a_cancelled_query_ends_in_the_database_too() {
    let database = Database::new("");
    let (world, sync) = asleep(&database);
    let asked = Instant::now();
    let path = "/syncs/people/cancel";
    super::harness::request(world.daemon.admin(), "POST", path, "", b"").unwrap();
    wait_until("the server is not busy any more", || busy(&database) == "0");
    let record = world.ended("people", &sync);
    assert_eq!((&record["state"], &record["error"]), (&"cancelled".into(), &().into()), "{record}");
    // Sooner than the server would have noticed by itself.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());

    // So it is when the daemon ends.
    let (world, _) = asleep(&database);
    assert_eq!(world.daemon.stop().code, Some(0));
    assert_eq!(busy(&database), "0");
}

#[test]
fn the_server_notices_that_a_sync_was_killed() {
    let database = Database::new("");
    let (world, sync) = asleep(&database);
    let killed = super::world::kill_children(world.daemon.id());
    assert_eq!(killed, 1);
    assert_eq!(world.ended("people", &sync)["state"], "failed");
    wait_until("the server is not busy any more", || busy(&database) == "0");
}

#[test]
fn comments_at_the_end_of_a_query_are_no_part_of_it() {
    let database = Database::new("create table people (id integer); insert into people values (1)");
    for query in [
        "select id from people -- all",
        "select id from people;",
        "select id from people; -- all",
        "select id from people /* all */ ;\n-- of /* them\n ;",
        "select id from people where ';' <> $$; -- it's$$; /* a /* b */ */",
        "-- first;\nselect id from people where 'a' <> E'\\';--'; -- all",
    ] {
        let model = format!(
            "query = '''{query}'''\nunique_id = \"id\"\nconsent = \"none\"\nevent = {{ id = \"$id\" }}"
        );
        let seen = rows(&model::config(&database.warehouse(), &model));
        assert_eq!(seen.map(|rows| rows.len()), Ok(1), "{query}");
    }
}

/// Why the rows of a query can't be had.
fn why(warehouse: &str, query: &str) -> (Failure, String) {
    let model = format!(
        "query = '''{query}'''\nunique_id = \"id\"\nconsent = \"none\"\nevent = {{ id = \"$id\" }}"
    );
    let error = rows(&model::config(warehouse, &model)).unwrap_err();
    (error.failure(), error.to_string())
}

#[test]
fn errors_are_the_databases_own_words_without_the_password() {
    let database = Database::new("create table people (id integer);");
    let good = database.uri_of("reader");
    let reader = warehouse(&good);
    let folder = good.split("host=").nth(1).unwrap().to_owned();
    let at = |uri: String| warehouse(&uri);
    let name = good.split("@/").nth(1).unwrap().split('?').next().unwrap().to_owned();
    let cases: [(String, &str, Failure, &str); 11] = [
        (
            reader.clone(),
            "select id from peeple",
            Failure::Query,
            "relation \"peeple\" does not exist",
        ),
        (reader.clone(), "select id fron people", Failure::Query, "syntax error at or near"),
        (
            reader.clone(),
            "select id, 1 / id as x from (select 0 as id) as it",
            Failure::Query,
            "division by zero",
        ),
        (
            reader.clone(),
            "select 1 as id; select 2 as id",
            Failure::Query,
            "more than one statement",
        ),
        (
            reader.clone(),
            "select pg_read_file('/etc/passwd') as id",
            Failure::Query,
            "permission denied",
        ),
        (
            at(good.replace(PASSWORD, "not-the-password")),
            "select 1 as id",
            Failure::Config,
            "password authentication failed for user \"reader\"",
        ),
        (
            at(good.replace("reader", "nobody")),
            "select 1 as id",
            Failure::Config,
            "password authentication failed for user \"nobody\"",
        ),
        (
            at(good.replace(&format!("@/{name}"), "@/nowhere")),
            "select 1 as id",
            Failure::Config,
            "database \"nowhere\" does not exist",
        ),
        (
            at(good.replace(&folder, "/nowhere")),
            "select 1 as id",
            Failure::Connection,
            "No such file or directory",
        ),
        (at(database.uri_through(1)), "select 1 as id", Failure::Connection, "Connection refused"),
        (
            at(format!("{good}&connect_timeout=soon")),
            "select 1 as id",
            Failure::Config,
            "connect_timeout",
        ),
    ];
    for (warehouse, query, failure, words) in cases {
        let (seen, said) = why(&warehouse, query);
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(seen, failure, "{said}");
        for secret in [PASSWORD, "not-the-password"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert!(said.len() < 600, "{said}");
    }
}

#[test]
fn nothing_is_written_even_by_one_who_may() {
    let database = Database::new(
        "create table people (id integer); insert into people values (1);
         create function clear() returns integer language sql as $$ delete from people returning id $$;",
    );
    let owner = warehouse(&database.uri_of("postgres"));
    for query in [
        "delete from people returning id",
        "with gone as (delete from people returning id) select * from gone",
        "select clear() as id",
        "select 1 as id into copied",
        "drop table people",
        "select nextval('numbers') as id",
    ] {
        let (_, said) = why(&owner, query);
        assert!(
            said.contains("read-only transaction") || said.contains("does not exist"),
            "{query}: {said}"
        );
    }
    assert_eq!(database.sql("select count(*) from people"), "1");
}
