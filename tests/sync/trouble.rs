//! Warehouses that do not answer, syncs that are ended, and daemons that are.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{request, wait_for, wait_until};
use crate::world::{Model, PEOPLE, World, children, kill};

const ROWS: &str = "insert into people values (1, 'a', true, true), (2, 'b', true, true)";

/// A query that takes longer than any test, and gives a row first or not.
const SLOW: &str = "select * from people where id > (with recursive n (i) as (select 1 union all \
                    select i + 1 from n) select count(*) from n)";

const QUICK: &str = "select * from people";

/// A world in which the query is in a file, `people.sql`.
fn world(query: &str) -> World {
    let world = World::simple(
        &format!("{PEOPLE}; {ROWS}"),
        Model::new().without("query").set("query_file", "\"people.sql\""),
    );
    ask_for(&world, query);
    world
}

fn ask_for(world: &World, query: &str) {
    world.folder.write("people.sql", query);
}

fn wait_for_child(world: &World) -> u32 {
    wait_for("the sync has a process", || children(world.daemon().id()).first().copied())
}

#[test]
fn a_query_that_fails_shows_what_the_database_says() {
    let mut world = world("select * from peeple");
    assert!(world.fails().contains("no such table: peeple"));
    ask_for(
        &world,
        "select id, plan, ads, stats from people where abs(-9223372036854775808 * (id > 1)) >= 0",
    );
    let error = world.fails();
    assert!(error.contains("integer overflow"), "in the middle of the rows: {error}");
    assert_eq!(world.took("ads"), "", "nothing is sent before the query has ended well");
    ask_for(&world, QUICK);
    world.sync("rows=2 added=2 sent=2");
    fs::remove_file(world.folder.path("people.sql")).unwrap();
    assert!(world.fails().contains("people.sql"));
}

/// What is not known to be gone is not deleted.
#[test]
fn a_database_that_is_gone_deletes_nothing() {
    let mut world = world(QUICK);
    world.sync("rows=2 added=2 sent=2");
    let (path, aside) = (world.folder.path("people.db"), world.folder.path("aside.db"));
    fs::rename(&path, &aside).unwrap();
    assert!(world.fails().contains("there is no database at"));
    fs::write(&path, "this is no database, whatever its name says".repeat(100)).unwrap();
    assert!(world.fails().contains("not a database"));
    fs::rename(&aside, &path).unwrap();
    world.sync("rows=2 unchanged=2");
    assert_eq!(world.took("ads"), "1 2");
}

#[test]
fn a_database_in_use_is_waited_for() {
    let world = world(QUICK);
    let writer = world.connection();
    writer
        .execute_batch("begin exclusive; insert into people values (3, 'c', true, true)")
        .unwrap();
    let sync = world.begin("");
    sleep(Duration::from_millis(300));
    assert_eq!(world.status()["running"]["sync"], *sync);
    writer.execute_batch("commit").unwrap();
    let record = world.ended(&sync);
    assert_eq!((&record["state"], &record["added"]), (&"done".into(), &3.into()), "{record}");
}

#[test]
fn a_second_sync_of_a_model_is_refused_while_one_goes_on_and_a_cancel_ends_it() {
    let mut world = world(SLOW);
    let sync = world.begin("");
    let child = wait_for_child(&world);
    let answer = world.ask("");
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains(&sync), "{}", answer.body);
    assert_eq!(world.ask("?dry_run=1").status, 409);
    let asked = Instant::now();
    let cancel =
        || request(world.daemon().admin(), "POST", "/syncs/people/cancel", "", b"").unwrap();
    assert_eq!(cancel().status, 202);
    let record = world.ended(&sync);
    assert_eq!((&record["state"], &record["error"]), (&"cancelled".into(), &().into()), "{record}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(!children(world.daemon().id()).contains(&child));
    assert_eq!(cancel().status, 409, "there is none any more");
    ask_for(&world, QUICK);
    world.sync("rows=2 added=2 sent=2");
    assert_eq!(world.took("ads"), "1 2");
}

#[test]
fn a_sync_whose_process_dies_has_failed_and_costs_nothing_else() {
    let mut world = world(SLOW);
    let sync = world.begin("");
    kill(wait_for_child(&world));
    let record = world.ended(&sync);
    assert_eq!(record["state"], "failed");
    assert!(record["error"].as_str().unwrap().contains("SIGKILL"), "{record}");
    ask_for(&world, QUICK);
    world.sync("rows=2 added=2 sent=2");
    assert_eq!(world.took("ads"), "1 2");
}

#[test]
fn a_daemon_that_is_killed_takes_the_sync_with_it_and_the_next_one_completes_it() {
    let mut world = world(SLOW);
    let sync = world.begin("");
    let child = wait_for_child(&world);
    world.kill();
    wait_until("the sync ends without its daemon", || {
        let comm = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        comm.is_empty() || comm.contains(") Z ")
    });
    ask_for(&world, QUICK);
    world.start();
    let history = world.status()["history"].clone();
    assert_eq!((&history[0]["sync"], &history[0]["state"]), (&sync.into(), &"failed".into()));
    world.sync("rows=2 added=2 sent=2");
    assert_eq!(world.took("ads"), "1 2");
}

/// A stop in order does not wait for a query.
#[test]
fn a_daemon_that_is_stopped_cancels_the_sync() {
    let mut world = world(SLOW);
    world.begin("");
    wait_for_child(&world);
    let ended = world.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(8), "{:?}", ended.took);
    world.start();
    assert_eq!(world.status()["history"][0]["state"], "cancelled");
}
