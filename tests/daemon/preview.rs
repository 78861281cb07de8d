//! Looking before anything is sent: what `preview` and `warehouses check` show, and the demo.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{
    Config, Daemon, Ended, Folder, consentd, request, run_to_end, wait_for, wait_until,
};

const TABLE: &str = "create table customers (id integer, email text, ads boolean, stats boolean);
     insert into customers values (1, 'ann', true, true), (2, 'ben', null, true), (3, null, false, 'yes'),
     (null, 'dan', true, true), (5, 'eve', true, true), (5, 'fay', true, true)";

/// A database, and `crm` that needs A, `ads` that needs A and B, `lake` that may have no rows.
fn config(folder: &Folder, model: &str) -> Config {
    let path = folder.path("shop.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch(TABLE).unwrap();
    Config::new("allow")
        .categories(&["A", "B"])
        .log(folder, "")
        .file(folder, "crm", "categories = [\"A\"]")
        .file(folder, "ads", "categories = [\"A\", \"B\"]")
        .destination(
            "lake",
            format!(
                "type = \"blackhole\"\n[warehouses.shop]\ndriver = \"sqlite\"\nuri = {path:?}\n\
                 [models.customers]\nwarehouse = \"shop\"\nunique_id = \"id\"\n\
                 destinations = [\"crm\", \"ads\"]\nconsent = {{ A = \"ads\", B = \"stats\" }}\n{model}"
            ),
        )
}

const MODEL: &str = "query = \"select * from customers\"\n\
     event = { type = \"identify\", userId = \"$id\", traits = { email = \"$email\" } }";

fn run(path: &Path, arguments: &[&str]) -> Ended {
    run_to_end(consentd().args(arguments).arg("--config").arg(path))
}

fn preview(path: &Path, arguments: &[&str]) -> Vec<Value> {
    let ended = run(path, &[&["preview", "customers", "--json"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_are_shown_with_their_decisions_and_nothing_is_touched() {
    let folder = Folder::new();
    let path = folder.write("c.toml", config(&folder, MODEL));
    let rows = preview(&path, &[]);
    let sent: Vec<&Value> = rows.iter().map(|row| &row["sent"]).collect();
    assert_eq!(sent, [true, true, true, false, false, false]);
    assert_eq!(rows[0]["deliver"], json!(["crm", "ads"]));
    assert_eq!(rows[0]["drop"], json!({ "lake": "source" }));
    assert_eq!(rows[1]["granted"], json!(["B"]));
    assert_eq!(rows[1]["drop"], json!({ "crm": "consent", "ads": "consent", "lake": "source" }));
    assert_eq!(rows[2]["deliver"], json!([]), "a text is no consent");
    assert_eq!(rows[3]["why"], "id is NULL");
    assert_eq!(rows[4]["why"], "id 5 stands 2 times");
    assert_eq!(rows[3]["columns"]["email"], "dan");
    assert!(!folder.path("state").exists() && !folder.path("crm.ndjson").exists());

    assert_eq!(preview(&path, &["--rows", "1"]), rows[..1]);
    let text = run(&path, &["preview", "customers", "--rows", "4"]).stdout;
    for words in [
        "row 2: id 2",
        "drop     ads: consent (needs A, B)",
        "deliver  crm",
        "not sent: id is NULL",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colour in a pipe");
}

#[test]
fn what_is_shown_is_what_a_sync_sends() {
    let folder = Folder::new();
    let config = config(&folder, MODEL);
    let path = folder.write("c.toml", &config);
    // As the lines are: a parser in between might hide a difference.
    let shown = run(&path, &["preview", "customers", "--json"]).stdout;
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(request(daemon.admin(), "POST", "/syncs/customers", "", b"").unwrap().status, 202);
    let delivered = wait_for("the row is delivered", || folder.delivered("ads").first().cloned());
    assert!(shown.contains(&format!("\"event\":{delivered},")), "{delivered}\nis not in\n{shown}");
    assert_eq!(folder.delivered("ads").len(), 1);
    wait_until("the other file has it", || folder.delivered("crm") == [delivered.clone()]);
}

#[test]
fn few_rows_are_read_for_few_rows() {
    let folder = Folder::new();
    // Whoever reads to the end never comes back.
    let endless = "query = \"with recursive n(id) as (select 1 union all select id + 1 from n) \
         select id, true as ads, true as stats from n\"\nevent = { userId = \"$id\" }";
    let path = folder.write("c.toml", config(&folder, endless));
    let rows = preview(&path, &["--rows", "3"]);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2]["columns"]["id"], 3);
    let check = run(&path, &["warehouses", "check"]);
    assert_eq!(check.code, Some(0), "{}", check.stdout);
}

#[test]
fn errors_are_for_people() {
    let folder = Folder::new();
    let good = config(&folder, MODEL);
    let path = folder.write("c.toml", &good);
    let ended = run(&path, &["preview", "custmers"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean `customers`"), "{}", ended.stderr);
    for (what, with, words) in [
        ("from customers", "from custmers", "no such table: custmers"),
        ("select *", "select id, ads", "models.customers.consent.B: the query does not return"),
        ("shop.sqlite", "none.sqlite", "there is no database at"),
    ] {
        let path = folder.write("bad.toml", good.to_string().replace(what, with));
        let ended = run(&path, &["preview", "customers"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains(words), "{words:?} is not in\n{}", ended.stderr);
    }
}

fn check(folder: &Folder, config: impl ToString, arguments: &[&str]) -> Ended {
    let path: PathBuf = folder.write("check.toml", config.to_string());
    run(&path, &[&["warehouses", "check"], arguments].concat())
}

#[test]
fn a_warehouse_that_works_and_those_that_do_not() {
    let folder = Folder::new();
    let good = config(&folder, MODEL);
    let ended = check(&folder, &good, &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("model customers: the query works, 4 columns"));

    let ended = check(&folder, &good, &["main"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no warehouse `main`"), "{}", ended.stderr);
    assert_eq!(check(&folder, Config::new("allow"), &[]).code, Some(2));

    // Every column that is not there, not only the first.
    let bad = good.to_string().replace("select *", "select id, email as mail, ads");
    let ended = check(&folder, bad, &[]);
    assert_eq!(ended.code, Some(1));
    for words in [
        "models.customers.consent.B: the query does not return the column `stats`",
        "models.customers.event.traits.email: the query does not return the column `email`; did you mean `mail`?",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} is not in\n{}", ended.stdout);
    }

    // Others are looked at although one is missing its driver.
    let bad = format!("{good}\n[warehouses.other]\ndriver = \"snowflake\"\nuri = \"u:secret@a\"\n");
    let bad = bad.replacen(
        "[warehouses.shop]",
        "[warehouses.far]\ndriver = \"no-such-driver\"\n[warehouses.shop]",
        1,
    );
    let ended = check(&folder, bad, &[]);
    assert_eq!(ended.code, Some(1));
    for words in [
        "the ADBC driver `no-such-driver` is not installed",
        "dbc install no-such-driver",
        "the query works",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} is not in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
}

#[test]
fn the_demo_shows_two_syncs_and_can_be_run_again() {
    let folder = Folder::new();
    for _ in 0..2 {
        let mut command = consentd();
        command.current_dir(folder.path("")).args(["demo", "--warehouse", "--once"]);
        let ended = run_to_end(command.env_remove("CONSENTD_SYNC_CHILD"));
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        for words in [
            "6 rows: 6 added",
            "ann@example.com   event         event         event         event",
            "2 updated, 1 deleted, 3 unchanged, 1 withdrawn",
            "ann@example.com   deletion      event         deletion      event",
            "dan@example.com   deletion      deletion      never had it  deletion",
        ] {
            assert!(ended.stdout.contains(words), "{words:?} is not in\n{}", ended.stdout);
        }
    }
    let ads = fs::read_to_string(folder.path("consentd-demo/warehouse/google-ads.ndjson")).unwrap();
    assert!(!ads.contains("eve@example.com"), "she agreed to nothing:\n{ads}");
}
