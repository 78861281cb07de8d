//! Snowflake's real driver, against an emulator of the server (fakesnow) on loopback.
//!
//! The emulator is filled over its own protocol, so that the driver does nothing here but what consentd
//! asks of it.

use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Ended, Folder, consentd, request, run_to_end, wait_for};
use super::world::{NO_PLATFORM_DETECTION, PEOPLE, World};
use crate::tools;

const PASSWORD: &str = "correct-horse-battery";

/// Runs the emulator until standard input ends, which it does whenever and however this process does.
const RUN: &str = r#""$1" -s >"$2" 2>&1 & read -r end; kill $!"#;

struct Server {
    address: SocketAddr,
    _folder: TempDir,
    _process: Child,
    /// Its end is the server's.
    _stdin: ChildStdin,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut run = Command::new("sh");
        run.args(["-c", RUN, "sh"]).arg(tools::fakesnow().get_program()).arg(&log);
        let mut process = run.stdin(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let address = wait_for("fakesnow listens", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let (_, rest) = said.split_once("running on http://")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        Self { address, _folder: folder, _process: process, _stdin: stdin }
    }
}

fn server() -> SocketAddr {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start).address
}

/// A database of its own.
struct Database {
    name: String,
    token: String,
}

impl Database {
    #[track_caller]
    fn new(statements: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("T{}", COUNT.fetch_add(1, Relaxed));
        let path = format!("/session/v1/login-request?databaseName={name}&schemaName=PUBLIC");
        let login = json!({ "data": { "SESSION_PARAMETERS": {} } });
        let answer = post(&path, "", &login);
        let token = answer["data"]["token"].as_str().unwrap().to_owned();
        let database = Self { name, token };
        statements.iter().for_each(|sql| database.sql(sql));
        database
    }

    #[track_caller]
    fn sql(&self, sql: &str) {
        let token = format!("Authorization: Snowflake Token=\"{}\"\r\n", self.token);
        let answer = post("/queries/v1/query-request", &token, &json!({ "sqlText": sql }));
        assert_eq!(answer["success"], true, "{sql}: {answer}");
    }

    /// The body of `[warehouses.main]`.
    fn warehouse(&self) -> String {
        warehouse(&format!(
            "me:{PASSWORD}@{}/{}/PUBLIC?account=fakesnow&protocol=http",
            server(),
            self.name
        ))
    }
}

fn warehouse(uri: &str) -> String {
    let library = tools::driver("libadbc_driver_snowflake.so");
    format!("driver = \"snowflake\"\npath = {library:?}\nuri = \"{uri}\"")
}

fn post(path: &str, fields: &str, body: &Value) -> Value {
    let body = body.to_string();
    let answer = request(server(), "POST", path, fields, body.as_bytes()).unwrap();
    answer.json()
}

fn people() -> Database {
    Database::new(&[
        "create table people (id integer, plan varchar, ads boolean, stats boolean)",
        "insert into people values (1, 'free', true, true), (2, 'pro', true, false), (3, null, null, true)",
    ])
}

/// [`PEOPLE`] with the names that Snowflake gives columns.
fn upper() -> String {
    let names = [("\"ads\"", "\"ADS\""), ("\"stats\"", "\"STATS\""), ("\"id\"", "\"ID\"")];
    let model = PEOPLE.replace("$id", "$ID").replace("$plan", "$PLAN");
    names.iter().fold(model, |model, (lower, upper)| model.replace(lower, upper))
}

fn run(arguments: &[&str], warehouse: &str, model: &str) -> Ended {
    let folder = Folder::new();
    let config = folder.write("c.toml", World::config(&folder, warehouse, model));
    let mut command = consentd();
    command.env(NO_PLATFORM_DETECTION.0, NO_PLATFORM_DETECTION.1);
    let ended = run_to_end(command.args(arguments).arg("--config").arg(config));
    assert!(!(ended.stdout.clone() + &ended.stderr).contains(PASSWORD), "{ended:?}");
    ended
}

#[test]
fn what_changed_is_sent_from_sync_to_sync() {
    let database = people();
    let mut world = World::new(&database.warehouse(), upper());
    world.sync("rows=3 added=3 refused=2 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 2".into(), "1 3".into()));
    world.sync("rows=3 unchanged=3");
    database.sql("update people set plan = 'team' where id = 1");
    database.sql("insert into people values (4, 'x', true, true)");
    world.sync("rows=4 added=1 updated=1 unchanged=2 sent=2");
    assert_eq!((world.took("ads"), world.took("stats")), ("1 4".into(), "1 4".into()));

    database.sql("update people set ads = null where id = 1");
    database.sql("delete from people where id = 2");
    world.sync("rows=3 updated=1 deleted=1 unchanged=2 withdrawn=1 refused=1 sent=3");
    assert_eq!((world.took("ads"), world.took("stats")), ("-1 -2".into(), "1".into()));
    database.sql("update people set ads = true where id = 1");
    world.sync("rows=3 added=1 unchanged=2 sent=1");
    assert_eq!((world.took("ads"), world.took("stats")), ("1".into(), "1".into()));
    let error = format!("{}{}", world.daemon.stderr(), world.status("people"));
    assert!(!error.contains(PASSWORD), "{error}");
}

#[test]
fn check_and_preview_show_what_a_sync_would_send() {
    let database = people();
    let checked = run(&["warehouses", "check"], &database.warehouse(), &upper());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("the query works, 4 columns"), "{}", checked.stdout);

    // The same place told in options; a `;` with a comment behind it; names as they are written.
    let library = tools::driver("libadbc_driver_snowflake.so");
    let options = format!(
        "driver = \"snowflake\"\npath = {library:?}\n[warehouses.main.options]\n\
         username = \"me\"\npassword = \"{PASSWORD}\"\n\"adbc.snowflake.sql.account\" = \"fakesnow\"\n\
         \"adbc.snowflake.sql.uri.protocol\" = \"http\"\n\"adbc.snowflake.sql.uri.host\" = \"127.0.0.1\"\n\
         \"adbc.snowflake.sql.uri.port\" = \"{}\"\n\"adbc.snowflake.sql.db\" = \"{}\"\n\
         \"adbc.snowflake.sql.schema\" = \"PUBLIC\"",
        server().port(),
        database.name
    );
    let query = "select id as \\\"id\\\", plan as \\\"plan\\\", ads as \\\"ads\\\", stats as \\\"stats\\\" \
                 from people order by 1; -- all of them";
    let model = PEOPLE.replace("select * from people", query);
    let shown = run(&["preview", "people", "--json"], &options, &model);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let rows: Vec<Value> =
        shown.stdout.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows[1]["event"]["userId"], json!(2), "{rows:?}");
    assert_eq!(rows[2]["columns"], json!({ "id": 3, "plan": null, "ads": null, "stats": true }));
    assert_eq!((rows.len(), &rows[1]["deliver"]), (3, &json!(["ads"])));
}

#[test]
fn every_type_that_the_emulator_gives_arrives_as_it_is() {
    // An expression, and what its value is in an event, byte for byte. Timestamps that are NULL come
    // from the emulator as 1970, so none is.
    let values = [
        ("1::number(38,0)", "1"),
        ("123456789012345678::number(38,0)", "123456789012345678"),
        ("(-9223372036854775808)::bigint", "-9223372036854775808"),
        ("1.50::number(12,2)", "1.50"),
        ("0.1::float", "0.1"),
        ("true", "true"),
        ("'a\"b'::varchar", "\"a\\\"b\""),
        ("to_binary('00ff', 'HEX')", "\"AP8=\""),
        ("'2026-02-28'::date", "\"2026-02-28\""),
        ("'12:30:45.5'::time", "\"12:30:45.5\""),
        ("'2026-02-28 12:30:45.123456'::timestamp_ntz", "\"2026-02-28T12:30:45.123456Z\""),
        ("'2026-02-28 12:30:45'::timestamp_tz", "\"2026-02-28T12:30:45Z\""),
        ("'1969-12-31 23:59:59.5'::timestamp_ntz", "\"1969-12-31T23:59:59.5Z\""),
        ("parse_json('{\"a\": [1, null]}')", "{\"a\":[1,null]}"),
        ("parse_json('[1, \"x\"]')", "[1,\"x\"]"),
        ("object_construct('a', 1)", "{\"a\":1}"),
        ("null::varchar", "null"),
        ("null::number(38,0)", "null"),
        ("null::boolean", "null"),
        ("null::date", "null"),
    ];
    let database = Database::new(&[]);
    let columns: Vec<String> =
        (0..).zip(values).map(|(at, (value, _))| format!("{value} as v{at}")).collect();
    let fields: Vec<String> = (0..values.len()).map(|at| format!("v{at} = \"$V{at}\"")).collect();
    let model = format!(
        "query = '''select 7 as id, {}'''\nunique_id = \"ID\"\nconsent = \"none\"\nevent = {{ {} }}",
        columns.join(", "),
        fields.join(", ")
    );
    let shown = run(&["preview", "people", "--json"], &database.warehouse(), &model);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for (at, (value, wanted)) in (0..).zip(values) {
        let (_, rest) = shown.stdout.split_once(&format!("\"v{at}\":")).unwrap();
        assert!(rest.starts_with(&format!("{wanted},")), "{value}: {}", shown.stdout);
    }
}

#[test]
fn what_is_wrong_is_said_in_words_that_help() {
    let database = people();
    let check = |model: String| run(&["warehouses", "check"], &database.warehouse(), &model).stdout;
    let said = check(PEOPLE.to_owned());
    assert!(
        said.contains("unique_id: the query does not return the column `id`; did you mean `ID`"),
        "{said}"
    );
    let said = check(upper().replace("from people", "from peeple"));
    assert!(said.contains("PEEPLE does not exist") && said.contains("SQLSTATE 42S02"), "{said}");
    let nobody = "me:correct-horse-battery@127.0.0.1:1/X/PUBLIC?account=fakesnow&protocol=http&loginTimeout=1";
    let said = run(&["warehouses", "check"], &warehouse(nobody), &upper()).stdout;
    assert!(said.contains("connection refused"), "{said}");
    let said = run(&["warehouses", "check"], &warehouse(&format!("me:{PASSWORD}@")), &upper());
    assert_eq!(said.code, Some(1), "{said:?}");
}
