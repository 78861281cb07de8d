//! Which rows reach a destination, and what it is told when consent ends.

use std::thread::sleep;
use std::time::Duration;

use crate::world::{Model, PEOPLE, World, samples};

const FOUR: &str = "insert into people values (1, 'a', true, true), (2, 'b', true, false), \
                    (3, 'c', false, true), (4, 'd', null, null)";

fn table() -> String {
    format!("{PEOPLE}; {FOUR}")
}

#[test]
fn a_destination_gets_the_rows_that_grant_and_no_others() {
    let mut world = World::new(&table(), Model::new(), |folder, config| {
        config
            .file(folder, "ads", "categories = [\"Ads\"]")
            .file(folder, "stats", "categories = [\"Stats\"]")
            .file(folder, "both", "categories = [\"Ads\", \"Stats\"]")
            .file(folder, "any", "categories = [\"Ads\", \"Stats\"]\nmatch = \"any\"")
            .file(folder, "exempt", "categories = [\"Ads\"]\nenforce = false")
            .file(folder, "unmapped", "")
    });
    world.sync("rows=4 added=4 refused=3 sent=4");
    for (destination, expected) in [
        ("ads", "1 2"),
        ("stats", "1 3"),
        ("both", "1"),
        ("any", "1 2 3"),
        ("exempt", "1 2 3 4"),
        ("unmapped", "1 2 3 4"),
    ] {
        assert_eq!(world.took(destination), expected, "{destination}");
    }
}

#[test]
fn a_category_that_the_model_does_not_map_refuses_every_row() {
    let model = Model::new().set("consent", "{ Ads = \"ads\" }");
    let mut world = World::simple(&table(), model);
    world.sync("rows=4 added=4 refused=4 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 2".to_owned(), String::new()));
}

/// Only what is true grants; a column that is not boolean never does, unless the model says so.
#[test]
fn only_true_grants() {
    let table = "create table people (id integer, plan text, ads boolean, stats);
        insert into people values (1, 'a', 1, 'true'), (2, 'b', 0, 't'), (3, 'c', null, '1'), (4, 'd', 1, 1),
        (5, 'e', 0, 'yes'), (6, 'f', 0, 2), (7, 'g', 0, null), (8, 'h', 0, ' true'), (9, 'i', 0, 'false'), \
        (10, 'j', 0, x'31')";
    for (cast, stats) in [("strict", ""), ("lenient", "1 2 3 4")] {
        let model = Model::new().set("consent_cast", format!("\"{cast}\""));
        let mut world = World::simple(table, model);
        let record = world.run("");
        assert_eq!(record["state"], "done", "{record}");
        assert_eq!(world.took("ads"), "1 4", "{cast}");
        assert_eq!(world.took("stats"), stats, "{cast}: {}", samples(&record));
    }
}

/// `consent.missing` of this config is "deny".
#[test]
fn rows_without_consent_go_where_none_is_needed() {
    let model = Model::new().set("consent", "\"none\"");
    let mut world = World::new(&table(), model, |folder, config| {
        config.file(folder, "ads", "categories = [\"Ads\"]").file(folder, "unmapped", "")
    });
    world.sync("rows=4 added=4 refused=4 sent=4");
    assert_eq!(world.took("ads"), "");
    let lines = world.take("unmapped");
    assert_eq!(lines.len(), 4);
    assert!(!lines.iter().any(|line| line.contains("consent")), "{lines:?}");
}

#[test]
fn a_model_reaches_the_destinations_that_it_names_and_no_others() {
    let model = Model::new().set("destinations", "[\"stats\"]");
    let mut world = World::simple(&table(), model.clone());
    world.sync("rows=4 added=4 refused=2 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), "1 3".to_owned()));
    // Nor do deletions.
    world.sql("delete from people");
    world.sync("deleted=4 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), "-1 -3".to_owned()));
}

#[test]
fn a_withdrawal_is_told_once_to_those_who_have_the_row() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("ads");
    world.take("stats");
    world.sql("update people set ads = false where id in (1, 3); update people set ads = null where id = 2");
    // 3 grants what it granted, and nobody has to be told of it.
    world.sync("rows=4 updated=2 unchanged=2 withdrawn=2 refused=2 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1 -2".to_owned(), "1".to_owned()));
    world.sync("rows=4 unchanged=4");
    // Nor is it told again with later changes, or when the row goes.
    world.sql("update people set plan = 'z'");
    world.sync("rows=4 updated=4 refused=4 sent=2");
    world.sql("delete from people");
    world.sync("deleted=4 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), "1 -1 3 -3".to_owned()));
}

/// Whether they are told or not, rows are not sent any more to whom they refuse.
#[test]
fn a_withdrawal_that_is_not_to_be_told_is_not() {
    let model = Model::new().without("on_withdrawal");
    let mut world = World::simple(&table(), model);
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("ads");
    world.sql("update people set ads = false");
    world.sync("rows=4 updated=3 unchanged=1 refused=3 sent=1");
    assert_eq!(world.took("ads"), "");
    // Who has a row is told when it goes.
    world.sql("delete from people where id = 1");
    world.sync("rows=3 deleted=1 unchanged=3 sent=1");
    assert_eq!(world.took("ads"), "-1");
}

#[test]
fn a_consent_that_is_granted_again_sends_the_row_as_an_added_one() {
    for send in ["[\"added\"]", "[\"added\", \"updated\", \"deleted\"]"] {
        let mut world = World::simple(&table(), Model::new().set("send", send));
        world.sync("rows=4 added=4 refused=3 sent=3");
        let first = world.take("ads");
        world.sql("update people set ads = false where id = 1");
        let record = world.run("");
        assert_eq!((&record["updated"], &record["withdrawn"]), (&1.into(), &1.into()), "{send}");
        assert_eq!(world.took("ads"), "-1", "{send}");
        world.sql("update people set ads = true where id in (1, 4)");
        world.sync("rows=4 added=2 unchanged=2 refused=1 sent=2");
        let again = world.take("ads");
        assert_eq!(crate::world::short(&again), "1 4", "{send}");
        assert!(
            !first.contains(&again[0]) && !first.contains(&again[1]),
            "the same messageId again"
        );
    }
}

/// With updates left out, too, whoever must not have a row any more is told.
#[test]
fn a_withdrawal_is_told_where_updates_are_not_sent() {
    for send in ["[\"added\"]", "[\"deleted\"]", "[\"added\", \"deleted\"]"] {
        let mut world = World::simple(&table(), Model::new());
        world.sync("rows=4 added=4 refused=3 sent=3");
        world.become_model(Model::new().set("send", send));
        world.take("ads");
        world.sql("update people set ads = false, plan = 'z' where id = 1; update people set plan = 'y' where id = 2");
        let record = world.run("");
        assert_eq!(record["updated"], 2, "{send}: {record}");
        assert_eq!(
            (world.took("ads"), world.took("stats")),
            ("-1".to_owned(), "1 3".to_owned()),
            "{send}"
        );
        world.sync("rows=4 unchanged=4");
    }
}

fn with_stats_off(
    enabled: bool,
) -> impl Fn(&crate::harness::Folder, crate::harness::Config) -> crate::harness::Config {
    move |folder, config| {
        config.file(folder, "ads", "categories = [\"Ads\"]").file(
            folder,
            "stats",
            format!("categories = [\"Stats\"]\nenabled = {enabled}"),
        )
    }
}

#[test]
fn a_destination_that_was_off_while_a_row_went_is_told_when_it_is_on_again() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("stats");
    world.finish_with(with_stats_off(false));
    world.sql("delete from people where id in (1, 3)");
    world.sync("rows=2 deleted=2 unchanged=2 sent=1");
    world.sync("rows=2 unchanged=2");
    assert_eq!(world.took("stats"), "");
    world.finish_with(with_stats_off(true));
    world.sync("rows=2 unchanged=2 sent=2");
    assert_eq!(world.took("stats"), "-1 -3");
    world.sync("rows=2 unchanged=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 -1 2".to_owned(), String::new()));
}

#[test]
fn a_destination_that_was_off_while_consent_ended_is_told_when_it_is_on_again() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("stats");
    world.finish_with(with_stats_off(false));
    world.sql("update people set stats = false where id in (1, 3)");
    assert_eq!(world.run("")["state"], "done");
    world.finish_with(with_stats_off(true));
    assert_eq!(world.run("")["state"], "done");
    assert_eq!(world.took("stats"), "-1 -3");
    world.sync("rows=4 unchanged=4");
    assert_eq!(world.took("stats"), "");
}

/// Without the type, no deletion can reach it: it keeps its rows, which is said, and none is sent in vain.
#[test]
fn a_destination_whose_types_leave_deletions_out_is_told_when_they_do_not_any_more() {
    let with_types = |types: &'static str| {
        move |folder: &crate::harness::Folder, config: crate::harness::Config| {
            let stats = format!("categories = [\"Stats\"]\ntypes = [{types}]");
            config.file(folder, "ads", "categories = [\"Ads\"]").file(folder, "stats", stats)
        }
    };
    let mut world = World::new(&table(), Model::new(), with_types("\"identify\""));
    world.sync("rows=4 added=4 refused=3 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 2".to_owned(), "1 3".to_owned()));
    world.sql("delete from people where id = 1; update people set stats = false where id = 3");
    let record = world.sync("rows=3 updated=1 deleted=1 unchanged=2 refused=1 sent=1");
    assert_eq!(
        samples(&record),
        "stats keeps what it has: its `types` or integrations leave deletions out"
    );
    let record = world.sync("rows=3 unchanged=3");
    assert_eq!(samples(&record), "");
    world.sql("update people set plan = 'x' where id = 3");
    world.sync("rows=3 updated=1 unchanged=2 refused=1");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1".to_owned(), String::new()));
    // That of `ads`, which is not meant for it.
    assert_eq!(world.daemon().metrics().dropped("stats", "filtered"), 1, "none is sent in vain");

    world.finish_with(with_types("\"identify\", \"delete\""));
    world.sync("rows=3 unchanged=3 withdrawn=1 refused=1 sent=2");
    assert_eq!(world.took("stats"), "-1 -3");
    world.sync("rows=3 unchanged=3");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), String::new()));
}

#[test]
fn a_deletion_whose_integrations_switch_a_destination_off_waits_for_another() {
    let model = |on: bool| {
        let deletion =
            format!("{{ type = \"delete\", userId = \"$id\", integrations = {{ stats = {on} }} }}");
        Model::new().set("deletion", deletion)
    };
    let mut world = World::simple(&table(), model(false));
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("stats");
    world.sql("delete from people where id = 3");
    world.sync("rows=3 deleted=1 unchanged=3");
    world.sync("rows=3 unchanged=3");
    assert_eq!(world.took("stats"), "");
    world.become_model(model(true));
    world.sync("rows=3 unchanged=3 sent=1");
    assert_eq!(world.took("stats"), "-3");
}

/// The process of a sync reads the config that is in the file, not the one that is in force.
#[test]
fn a_deletion_that_the_config_in_force_refuses_is_told_after_the_reload() {
    let types = "types = [\"identify\"]";
    let mut world = World::new(&table(), Model::new(), move |folder, config| {
        config.file(folder, "stats", format!("categories = [\"Stats\"]\n{types}"))
    });
    world.sync("rows=4 added=4 refused=2 sent=2");
    world.take("stats");
    let path = world.folder.path("consentd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("types = [\"identify\"]", "")).unwrap();
    world.sql("delete from people where id = 1; update people set stats = false where id = 3");
    world.sync("rows=3 updated=1 deleted=1 unchanged=2 withdrawn=1 refused=1");
    assert_eq!(world.took("stats"), "");
    world.finish_with(|folder, config| config.file(folder, "stats", "categories = [\"Stats\"]"));
    world.sync("rows=3 unchanged=3 withdrawn=1 refused=1 sent=2");
    assert_eq!(world.took("stats"), "-1 -3");
    world.sync("rows=3 unchanged=3");
}

/// The columns may stay as they are: what counts is what they are said to mean.
#[test]
fn another_mapping_of_consent_columns_is_a_withdrawal_where_it_refuses() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("ads");
    world.take("stats");
    world.become_model(Model::new().set("consent", "{ Ads = \"stats\", Stats = \"ads\" }"));
    assert_eq!(world.run("")["state"], "done");
    assert_eq!(
        (world.took("ads"), world.took("stats")),
        ("1 -2 3".to_owned(), "1 2 -3".to_owned())
    );
}

/// Starts a sync that waits for the database, makes other rules meanwhile, and lets it go on.
fn sync_while(world: &mut World, sql: &str, change: impl FnOnce(&mut World)) {
    let writer = world.connection();
    writer.execute_batch(&format!("begin exclusive; {sql}")).unwrap();
    let sync = world.begin("");
    // By then it has been told which destinations there are.
    sleep(Duration::from_millis(500));
    change(world);
    writer.execute_batch("commit").unwrap();
    let record = world.ended(&sync);
    assert_eq!(record["state"], "done", "{record}");
}

#[test]
fn a_destination_that_is_switched_off_during_a_sync_is_told_when_it_is_on_again() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("stats");
    let change = "delete from people where id = 1; update people set stats = false where id = 3";
    sync_while(&mut world, change, |world| world.finish_with(with_stats_off(false)));
    assert_eq!(world.took("stats"), "");
    world.finish_with(with_stats_off(true));
    assert_eq!(world.run("")["state"], "done");
    assert_eq!(world.took("stats"), "-1 -3");
    world.sync("rows=3 unchanged=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 -1 2".to_owned(), String::new()));
}

/// The rows are as they were, and so is what they grant: what it takes to have them is more now.
#[test]
fn a_destination_that_needs_another_consent_is_told_of_the_rows_that_refuse_it() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("ads");
    world.take("stats");
    world.finish_with(|folder, config| {
        config.file(folder, "ads", "categories = [\"Ads\"]").file(
            folder,
            "stats",
            "categories = [\"Stats\", \"Ads\"]",
        )
    });
    world.sync("rows=4 unchanged=4 withdrawn=1 refused=1 sent=1");
    assert_eq!((world.took("ads"), world.took("stats")), (String::new(), "-3".to_owned()));
    world.sync("rows=4 unchanged=4");
}

/// Rows that are read by other rules than they are judged by would all seem to refuse.
#[test]
fn categories_that_are_not_in_force_yet_withdraw_nothing() {
    let mut world = World::simple(&table(), Model::new());
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.take("ads");
    let model = Model::new().set("consent", "{ Adverts = \"ads\", Stats = \"stats\" }");
    let renamed = |folder: &crate::harness::Folder, config: crate::harness::Config| {
        config.categories(&["Adverts"]).file(folder, "ads", "categories = [\"Adverts\"]").file(
            folder,
            "stats",
            "categories = [\"Stats\"]",
        )
    };
    world.write_config(model, renamed);
    let error = world.fails();
    assert!(error.contains("reload"), "{error}");
    assert_eq!(world.took("ads"), "");
    world.finish_with(renamed);
    assert_eq!(world.run("")["state"], "done");
    assert_eq!(world.took("ads"), "1 2");
}

#[test]
fn withdrawals_that_were_ignored_are_told_once_they_are_not() {
    let with = |rule: &str| Model::new().set("on_withdrawal", format!("{rule:?}"));
    let mut world = World::simple(&table(), with("ignore"));
    world.sync("rows=4 added=4 refused=3 sent=3");
    world.sql("update people set ads = false where id = 1");
    world.sync("rows=4 updated=1 unchanged=3 refused=1 sent=1");
    assert_eq!(world.took("ads"), "1 2");
    world.become_model(with("delete"));
    let record = world.run("");
    assert_eq!((&record["withdrawn"], &record["sent"]), (&1.into(), &1.into()), "{record}");
    assert_eq!(world.took("ads"), "-1");
    world.sync("rows=4 unchanged=4");
    // Once is enough.
    world.become_model(with("ignore"));
    world.sync("rows=4 unchanged=4");
    world.become_model(with("delete"));
    assert_eq!(world.run("")["withdrawn"], 0);
    assert_eq!(world.took("ads"), "");
}
