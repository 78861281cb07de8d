//! Drivers that are missing, that crash, and that are not the database's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Folder, consentd, run_to_end};
use super::model::{config, rows};
use super::world::{PEOPLE, World};
use crate::tools;

/// A shared library made of C, with ADBC's entry point.
fn library(folder: &Path, body: &str) -> PathBuf {
    let (source, path) = (folder.join("driver.c"), folder.join("driver.so"));
    let text = format!(
        "#include <stdlib.h>\n#include <unistd.h>\n\
         unsigned char AdbcDriverInit(int version, void *driver, void *error) {{ {body} return 0; }}\n"
    );
    fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&path, &source]).status();
    assert!(made.unwrap().success(), "cc is needed");
    path
}

#[test]
fn a_driver_that_crashes_costs_one_sync() {
    for (body, what) in [
        ("*(volatile int *)version = 1;", "signal 11"),
        ("abort();", "signal 6"),
        // What ends well and has said nothing has not ended well.
        ("_exit(0);", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = library(folder.path(), body);
        let database = folder.path().join("people.db");
        let people = "create table people (id integer, plan text, ads boolean, stats boolean);
                      insert into people values (1, 'x', 1, 0)";
        rusqlite::Connection::open(&database).unwrap().execute_batch(people).unwrap();
        let other = format!(
            "{PEOPLE}\n[warehouses.lite]\ndriver = \"sqlite\"\nuri = {database:?}\n\n\
             [models.other]\nwarehouse = \"lite\"\n{PEOPLE}"
        );
        let mut world = World::new(&format!("driver = \"mine\"\npath = {path:?}"), other);
        let error = world.fails();
        assert!(error.contains(what) && !error.is_empty(), "{body}: {error}");
        world.sync_of("other", "rows=1 added=1 refused=1 sent=1");
        assert_eq!(world.took("ads"), "1");
        let again = world.fails();
        assert_eq!(error, again, "the next sync starts");
        assert_eq!(world.daemon.stop().code, Some(0), "{body}");
    }
}

#[test]
fn a_driver_that_is_none_or_refuses_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let refusing = library(folder.path(), "return 1;");
    let nothing = folder.path().join("nothing.so");
    for (path, words) in [
        (text, "is there but can't be used"),
        (refusing, "is there but can't be used"),
        (nothing, "is not there"),
    ] {
        let model = "query = \"select 1\"\nunique_id = \"id\"\nconsent = \"none\"\nevent = { id = \"$id\" }";
        let error =
            rows(&config(&format!("driver = \"mine\"\npath = {path:?}"), model)).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(words) && said.contains(path.to_str().unwrap()), "{said}");
        assert!(!error.is_transient(), "{said}");
    }
}

#[test]
fn duckdb_reads_files_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        path("people.csv"),
        "id,plan,ads,stats,born,paid\n1,free,true,false,2001-02-03,1.50\n2,,,true,,\n3,pro,true,true,1999-12-31,12345678901234.25\n",
    )
    .unwrap();
    let library = tools::driver("libduckdb.so");
    let warehouse = format!("driver = \"duckdb\"\npath = {library:?}");
    let model = |file: &str| {
        PEOPLE
            .replace("select * from people", &format!("select * from '{}'", path(file)))
            .replace("plan = \"$plan\"", "plan = \"$plan\", born = \"$born\", paid = \"$paid\"")
    };
    let mut world = World::new(&warehouse, model("people.csv"));
    world.sync("rows=3 added=3 refused=2 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 3".into(), "2 3".into()));
    let delivered = world.folder.delivered("ads");
    let first = delivered.iter().find(|line| line.contains("\"userId\":1,")).unwrap();
    assert!(
        first.contains(r#""traits":{"plan":"free","born":"2001-02-03","paid":1.5}"#),
        "{first}"
    );

    // The same rows in another form are the same rows.
    let copied = format!(
        "copy (select * from '{}') to '{}' (format parquet)",
        path("people.csv"),
        path("people.parquet")
    );
    let writer = config(
        &warehouse,
        "query = \"select 1\"\nunique_id = \"id\"\nconsent = \"none\"\nevent = { id = \"$id\" }",
    );
    consentd::warehouse::open_to_write(&writer.warehouses[0]).unwrap().execute(&copied).unwrap();
    world.apply(&warehouse, model("people.parquet"));
    world.sync("rows=3 unchanged=3");

    fs::write(
        path("people.csv"),
        "id,plan,ads,stats,born,paid\n1,free,false,false,2001-02-03,1.50\n2,,,true,,\n",
    )
    .unwrap();
    world.apply(&warehouse, model("people.csv"));
    let record = world.ended("people", &world.begin("people"));
    assert_eq!(record["state"], "done", "{record}");
    assert_eq!(world.took("ads"), "-1 -3");
}

#[test]
fn sqlite_through_its_adbc_driver_is_another_way_to_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.db");
    let people = "create table people (id integer, plan text, ads boolean, stats boolean);
                  insert into people values (1, 'x', 1, 0), (2, null, null, 1)";
    rusqlite::Connection::open(&path).unwrap().execute_batch(people).unwrap();
    let library = tools::driver("libadbc_driver_sqlite.so");
    let warehouse = format!("driver = \"sqlite\"\npath = {library:?}\nuri = {path:?}");
    // Its booleans are numbers.
    let mut world = World::new(&warehouse, format!("{PEOPLE}\nconsent_cast = \"lenient\""));
    world.sync("rows=2 added=2 refused=2 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1".into(), "2".into()));
    world.sync("rows=2 unchanged=2");
}

#[test]
fn bigquerys_driver_loads_and_says_what_it_lacks() {
    let library = tools::driver("libadbc_driver_bigquery.so");
    let secret = "correct-horse-battery";
    let check = |options: &str| {
        let folder = Folder::new();
        let warehouse = format!("driver = \"bigquery\"\npath = {library:?}\n{options}");
        let config = folder.write("c.toml", World::config(&folder, &warehouse, PEOPLE));
        let ended = run_to_end(consentd().args(["warehouses", "check", "--config"]).arg(config));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{ended:?}");
        ended.stdout
    };
    let said = check("");
    assert!(said.contains("ProjectID is empty"), "{said}");
    assert!(said.contains("look at warehouses.main.uri and its options"), "{said}");
    // Without a way to the network: what was given as credentials is none.
    let credentials = format!(
        "options = {{ \"adbc.bigquery.sql.project_id\" = \"p\", \
         \"adbc.bigquery.sql.auth_type\" = \"adbc.bigquery.sql.auth_type.json_credential_string\", \
         \"adbc.bigquery.sql.auth_credentials\" = '{{\"type\": \"{secret}\"}}' }}"
    );
    let said = check(&credentials);
    assert!(said.contains("credentials: unsupported filetype \"***\""), "{said}");
    assert!(said.contains("look at warehouses.main.uri and its options"), "{said}");
}
