//! The config: what is refused and how it is said, what is odd, what becomes of the values.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use consentd::config::{self, Compression, ConfigErrors, Expect, Finding, Input, Loaded};

const CONSENTD: &str = env!("CARGO_BIN_EXE_consentd");

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    config::parse("test.toml", text.as_bytes())
}

fn errors(text: &str) -> Vec<Finding> {
    parse(text).map_or_else(|wrong| wrong.errors, |_| Vec::new())
}

fn warnings(text: &str) -> Vec<Finding> {
    parse(text).unwrap_or_else(|wrong| panic!("{wrong}")).warnings
}

/// `text` has exactly one mistake: at `place`, with this `key`, and in its message and help `words`.
#[track_caller]
fn one_error(text: &str, place: (usize, usize), key: &str, words: &str) {
    let errors = errors(text);
    let [error] = errors.as_slice() else {
        panic!("one mistake is in\n{text}\nbut found were {errors:#?}")
    };
    assert_eq!(((error.line, error.column), error.key.as_str()), (place, key), "{error}");
    assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
}

const ALLOW: &str = "consent.missing = \"allow\"\n";

/// One mistake behind a line that makes the rest right.
#[track_caller]
fn one_error_in(text: &str, place: (usize, usize), key: &str, words: &str) {
    one_error(&format!("{ALLOW}{text}"), (place.0 + 1, place.1), key, words);
}

#[test]
fn ten_mistakes_of_all_kinds_are_all_shown_in_the_order_of_the_file() {
    let text = r#"[daemon]
max_event_bytes = "huge"
worker = 4
shutdown_timeout = 30

[consent]
unmapped = "perhaps"

[[categories]]
id = "Ads"

[[categories]]
id = "Ads"

[sources.a]
type = "tcp"
listen = "localhost:9601"

[sources.b]
type = "http"
listen = "127.0.0.1:9600"
missing = "maybe"

[destinations.ads]
type = "http"
url = "collect.example.com"
categories = ["Adds"]
sources = ["shippers"]
retry = { initial = "soon" }

[destinations.lake]
type = "file"
path = "out/%!.ndjson"
url = "http://lake.example.com/"

[destinations.siem]
type = "tcp"
address = "siem.example.com"
match = some

[users]
sync = "commit"
"#;
    let expected = [
        (2, 19, "daemon.max_event_bytes", "64KiB"),
        (3, 1, "daemon.worker", "did you mean `workers`?"),
        (4, 20, "daemon.shutdown_timeout", "write shutdown_timeout = \"30s\""),
        (6, 1, "consent.missing", "missing = \"deny\""),
        (7, 12, "consent.unmapped", "write one of `allow`, `deny`"),
        (13, 6, "categories[1].id", "already defined on line 10"),
        (17, 10, "sources.a.listen", "127.0.0.1:9601"),
        (21, 10, "sources.b.listen", "write another port"),
        (22, 11, "sources.b.missing", "write one of `allow`, `deny`"),
        (26, 7, "destinations.ads.url", "https://"),
        (27, 15, "destinations.ads.categories[0]", "did you mean `Ads`?"),
        (28, 12, "destinations.ads.sources[0]", "write one of `a`, `b`"),
        (29, 21, "destinations.ads.retry.initial", "200ms"),
        (33, 8, "destinations.lake.path", "%Y"),
        (34, 1, "destinations.lake.url", "it is for type = \"http\""),
        (38, 11, "destinations.siem.address", "logs.example.com:9000"),
        (39, 9, "", "put the value in double quotes"),
        (41, 2, "users", "this version of consentd does not have"),
    ];
    let found = errors(text);
    let places: Vec<_> = found.iter().map(|e| (e.line, e.column, e.key.as_str())).collect();
    assert_eq!(places, expected.map(|(line, column, key, _)| (line, column, key)));
    for (error, (.., help)) in found.iter().zip(expected) {
        assert!(error.help.as_ref().is_some_and(|text| !text.is_empty()), "no help: {error}");
        assert!(error.to_string().contains(help), "`{help}` is not in: {error}");
    }
}

#[test]
fn the_choice_without_a_default_is_explained() {
    let says = "there is no default";
    one_error("", (1, 1), "consent.missing", says);
    one_error("[consent]\nunmapped = \"deny\"", (1, 1), "consent.missing", says);
    // What is there, but wrong, is not missing as well.
    one_error("consent.missing = 1", (1, 19), "consent.missing", "write missing = \"allow\"");
    one_error("consent.mising = \"deny\"", (1, 9), "consent.mising", "did you mean `missing`?");
    one_error("consent = 5", (1, 11), "consent", "expected a table");
}

#[test]
fn unknown_keys_and_keys_of_another_type() {
    one_error_in("[destination.a]\n", (1, 2), "destination", "did you mean `destinations`?");
    one_error_in("zzz = 1", (1, 1), "zzz", "unknown section `zzz`; write one of `daemon`");
    let blackhole = "[destinations.a]\ntype = \"blackhole\"\n";
    let check = |key: &str, words: &str| {
        let name = key.split([' ', '.', '=']).next().unwrap();
        one_error_in(
            &format!("{blackhole}{key}"),
            (3, 1),
            &format!("destinations.a.{name}"),
            words,
        );
    };
    check("url = \"http://a/\"", "`url` does not belong to type `blackhole`");
    check("timeout = \"1s\"", "type = \"http\" and type = \"tcp\"");
    check("tls = {}", "this version of consentd does not have the key `tls`");
    check("catagories = []", "did you mean `categories`?");
    one_error_in(
        "sources.s = { type = \"http\", listen = \"127.0.0.1:1\", tokens = [] }",
        (1, 54),
        "sources.s.tokens",
        "this version",
    );
    one_error_in(
        "[destinations.k]\ntype = \"kafka\"",
        (2, 8),
        "destinations.k.type",
        "this version",
    );
    one_error_in("[sources.w]\ntype = \"warehouse\"", (2, 8), "sources.w.type", "`tcp`, `http`");
    one_error_in("[sources.w]\ntype = \"htp\"", (2, 8), "sources.w.type", "mean `http`?");
}

#[test]
fn wrong_types_and_numbers() {
    let check = |value: &str, key: &str, column: usize, words: &str| {
        one_error_in(&format!("{key} = {value}"), (1, column), key, words);
    };
    check("\"4\"", "daemon.workers", 18, "expected an integer, found a string");
    check("-1", "daemon.workers", 18, "write a number from 0 to 256");
    check("99999999999999999999", "daemon.workers", 18, "write a number from 0 to 256");
    check("true", "daemon.memory_max", 21, "expected a size, found a boolean");
    check("-5", "daemon.memory_max", 21, "0 or more");
    check("\"1KiB\"", "daemon.memory_max", 21, "write \"64KiB\" or more");
    check("\"-1s\"", "daemon.shutdown_timeout", 27, "can't be negative");
    check("\"30\"", "daemon.shutdown_timeout", 27, "not a duration");
    check("\"9999h\"", "daemon.shutdown_timeout", 27, "write \"24h\" or less");
    check("\"\"", "daemon.data_dir", 19, "/var/lib/consentd");
    check("\"1MiB\"", "daemon.ingest_bytes_max", 27, "ingest_bytes_max = \"4MiB\"");
    check("\":9600\"", "admin.listen", 16, "127.0.0.1:9601");
    check("\"${ADMIN}\"", "admin.listen", 16, "environment variables can't be used here");
    check("[]", "consent.locations", 21, "write 1 to 4");
    one_error_in(
        "consent.locations = [\"/context/a\", \"/consent\"]",
        (1, 36),
        "consent.locations[1]",
        "write \"/context/KEY\"",
    );
    one_error_in(
        "consent.locations = [\"/context/a\", \"/context/a/b\"]",
        (1, 36),
        "consent.locations[1]",
        "take it out",
    );
}

#[test]
fn categories() {
    let check = |id: &str, words: &str| {
        one_error_in(&format!("[[categories]]\nid = {id}"), (2, 6), "categories[0].id", words);
    };
    check("\"\"", "not 1 to 34 characters long");
    check(&format!("\"{}\"", "ü".repeat(35)), "not 1 to 34 characters long");
    check("\"4ds\"", "can't start with a digit");
    check("4", "expected a string, found an integer");
    one_error_in("[[categories]]\nname = \"Ads\"", (1, 1), "categories[0].id", "write id =");
    one_error_in("[categories]\nid = \"Ads\"", (1, 1), "categories", "write [[categories]]");

    let long = format!("[[categories]]\nid = \"{}\"", "ü".repeat(34));
    assert_eq!(errors(&format!("{ALLOW}{long}")), []);
    let both_cases = "[[categories]]\nid = \"ads\"\n[[categories]]\nid = \"Ads\"";
    assert_eq!(errors(&format!("{ALLOW}{both_cases}")), []);

    let many = |count: usize| -> String {
        (0..count).map(|n| format!("[[categories]]\nid = \"c{n}\"\n")).collect()
    };
    assert_eq!(errors(&format!("{ALLOW}{}", many(256))), []);
    one_error_in(&many(257), (513, 1), "categories", "more than 256");
}

#[test]
fn a_mistake_in_a_category_is_not_repeated_by_those_who_use_it() {
    let user = "[destinations.a]\ntype = \"blackhole\"\ncategories = [\"Ads\"]";
    one_error_in(&format!("categories = 5\n{user}"), (1, 14), "categories", "a list of tables");
    let misspelt = format!("[[categories]]\nidd = \"Ads\"\n{user}");
    one_error_in(&misspelt, (2, 1), "categories[0].idd", "did you mean `id`?");
    let digits = format!("[[categories]]\nid = \"1Ads\"\n{}", user.replace("Ads", "1Ads"));
    one_error_in(&digits, (2, 6), "categories[0].id", "digit");
}

#[test]
fn addresses_that_are_taken() {
    let sources = |a: &str, b: &str| {
        format!(
            "[sources.a]\ntype = \"tcp\"\nlisten = \"{a}\"\n[sources.b]\ntype = \"http\"\nlisten = \"{b}\""
        )
    };
    let check = |a: &str, b: &str| {
        one_error_in(&sources(a, b), (6, 10), "sources.b.listen", "sources.a.listen listens on");
    };
    check("127.0.0.1:9601", "127.0.0.1:9601");
    check("0.0.0.0:9601", "127.0.0.1:9601");
    check("[::]:9601", "[::1]:9601");
    for (a, b) in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:1", "127.0.0.2:1")] {
        assert_eq!(errors(&format!("{ALLOW}{}", sources(a, b))), [], "{a} {b}");
    }
}

#[test]
fn destinations() {
    let check = |keys: &str, place: (usize, usize), key: &str, words: &str| {
        let key = format!("destinations.a{key}");
        one_error_in(&format!("[destinations.a]\n{keys}"), place, &key, words);
    };
    check("", (1, 15), ".type", "write type = \"http\"");
    check("type = \"http\"", (1, 15), ".url", "write url = \"https://");
    check("type = \"tcp\"", (1, 15), ".address", "write address =");
    check("type = \"file\"", (1, 15), ".path", "write path =");

    let http = "type = \"http\"\nurl = \"http://a/\"\n";
    let check_http = |line: &str, column: usize, key: &str, words: &str| {
        check(&format!("{http}{line}"), (4, column), key, words);
    };
    check_http("concurrency = 0", 15, ".concurrency", "write a number from 1");
    check_http("format = \"json\"", 10, ".format", "`ndjson`, `json_array`, `segment_batch`");
    check_http("compression = \"zst\"", 15, ".compression", "did you mean `zstd`?");
    check_http("headers.\"a b\" = \"x\"", 9, ".headers.\"a b\"", "name of a header field");
    check_http("headers.x = \"a\\nb\"", 13, ".headers.x", "value of a header field");
    check_http("headers.x = { fil = \"a\" }", 15, ".headers.x.fil", "did you mean `file`?");
    check_http("headers.x = {}", 13, ".headers.x.file", "write { file");
    check_http("headers.x = 5", 13, ".headers.x", "a string or { file = \"...\" }");
    check_http("headers.content-length = \"5\"", 9, ".headers.content-length", "take it out");
    check_http("headers = { x = \"a\", X = \"b\" }", 22, ".headers.X", "twice");
    check_http("integration = \"All\"", 15, ".integration", "another name");
    check_http("buffer = \"1KiB\"", 10, ".buffer", "\"64KiB\" or more");
    check_http("timeout = \"0s\"", 11, ".timeout", "\"1ms\" or more");
    check_http("batch.max_events = 0", 20, ".batch.max_events", "from 1");
    check_http("batch.max_bytes = \"9MiB\"", 19, ".batch.max_bytes", "`buffer`, which is 8MiB");
    check_http("retry.initial = \"2m\"", 17, ".retry.max", "write max = \"120s\"");
    check_http("when_full = \"drop\"", 13, ".when_full", "`block`, `drop_newest`");

    let url = |value: &str, words: &str| {
        check(&format!("type = \"http\"\nurl = \"{value}\""), (3, 7), ".url", words);
    };
    url("collect.example.com", "write a URL");
    url("ftp://a/", "http or https");
    url("http://user:password@a/", "headers.authorization");
    url("https://${HOST", "write ${NAME}");

    let types: Vec<String> = (0..65).map(|n| format!("\"t{n}\"")).collect();
    let types = format!("types = [{}]", types.join(","));
    check_http(&types, 9, ".types", "more than 64");
    check_http("types = [\"a\", 5]", 15, ".types[1]", "expected a string");
}

#[test]
fn names_and_limits_of_destinations() {
    one_error_in(
        "[destinations.All]\ntype = \"stdout\"",
        (1, 15),
        "destinations.All.integration",
        "write integration",
    );
    one_error_in(
        "[destinations.\"\"]\ntype = \"stdout\"",
        (1, 15),
        "destinations.\"\"",
        "1 to 128",
    );
    let name = "[destinations.\"Größe, 2 \\\"x\\\"\"]\ntype = \"stdout\"";
    assert_eq!(errors(&format!("{ALLOW}{name}")), []);

    let many = |count: usize| -> String {
        (0..count).map(|n| format!("[destinations.d{n}]\ntype = \"blackhole\"\n")).collect()
    };
    let loaded = parse(&format!("{ALLOW}{}", many(4096))).unwrap();
    assert!(loaded.config.destinations.iter().all(|d| d.delivery.buffer == 64 * 1024));
    assert_eq!(loaded.config.destinations[0].delivery.batch.max_bytes, 64 * 1024);
    let found = errors(&format!("{ALLOW}{}", many(4097)));
    assert!(found.iter().any(|error| error.message.contains("more than 4096")), "{found:?}");
}

#[test]
fn event_types_of_all_destinations_together_have_a_limit() {
    // 64 each: the 65th destination is one too many.
    let destination = |number: usize| {
        let types: Vec<String> = (0..64).map(|n| format!("\"t{}\"", number * 64 + n)).collect();
        format!(
            "destinations.d{number} = {{ type = \"blackhole\", types = [{}] }}\n",
            types.join(",")
        )
    };
    let text = |count: usize| (0..count).map(destination).collect::<String>();
    assert_eq!(errors(&format!("{ALLOW}{}", text(64))), []);
    let mut text = text(66);
    let line = text.lines().nth(64).unwrap();
    let column = line.find('[').unwrap() + 1;
    one_error_in(&text, (65, column), "destinations.d64.types", "4096 different event types");
    // The same ones again are no more.
    text = (0..70).map(|n| destination(0).replace("d0", &format!("d{n}"))).collect();
    assert_eq!(errors(&format!("{ALLOW}{text}")), []);
}

#[test]
fn all_buffers_together_fit_into_the_memory() {
    let text = "[destinations.a]\ntype = \"stdout\"\nbuffer = \"100MiB\"\n\
                [destinations.b]\ntype = \"stdout\"\nbuffer = \"200MiB\"\n\
                [destinations.c]\ntype = \"stdout\"\n";
    one_error_in(text, (6, 10), "destinations.b.buffer", "together are 308MiB");
    one_error_in(text, (6, 10), "destinations.b.buffer", "write memory_max = \"308MiB\"");
    let roomy = format!("{ALLOW}daemon.memory_max = \"308MiB\"\n{text}");
    assert_eq!(errors(&roomy), []);
}

#[test]
fn tests_in_the_config() {
    let check = |keys: &str, place: (usize, usize), key: &str, words: &str| {
        let text = format!("[[tests]]\n{keys}\n[destinations.a]\ntype = \"stdout\"");
        one_error_in(&text, place, &format!("tests[0]{key}"), words);
    };
    check("name = \"x\"\nevent = {}", (1, 1), "", "write deliver");
    check("event = {}\ndeliver = []", (1, 1), ".name", "write name");
    check("name = \"x\"\ndeliver = []", (1, 1), ".event", "write event");
    let x = |keys: &str| format!("name = \"x\"\nevent = {{}}\n{keys}");
    check(&x("deliver = [\"b\"]"), (4, 12), ".deliver[0]", "did you mean `a`?");
    check(&x("drop = { a = \"consnt\" }"), (4, 14), ".drop.a", "did you mean `consent`?");
    check(&x("rejected = \"invalid\""), (4, 12), ".rejected", "`invalid_json`");
    check(&x("deliver = []\nrejected = \"too_deep\""), (5, 12), ".rejected", "take out");
    check(&x("deliver = []\nsource = \"web\""), (5, 10), ".source", "define it");
    let event = |event: &str, column: usize, key: &str, words: &str| {
        let text = format!("name = \"x\"\nevent = {event}\ndeliver = []");
        check(&text, (3, column), &format!(".event{key}"), words);
    };
    event("\"{}\\n{}\"", 9, "", "on one line");
    event("{ a = [{ at = 2020-01-01 }] }", 23, ".a[0].at", "in quotes");
    event("{ a = nan }", 15, ".a", "leave it out");
    event("5", 9, "", "a table or a string");
}

#[test]
fn syntax_errors_have_a_place() {
    one_error_in("[admin\nlisten = \"127.0.0.1:1\"", (1, 7), "", "write `]`");
    one_error_in("admin", (1, 6), "", "write KEY = VALUE");
    one_error_in("[admin]\n[admin]", (2, 2), "", "write each key once");
    one_error_in("# ä\nadmin.listen = \"ä\" x", (2, 20), "", "TOML");
    // What comes after a mistake within a value is looked at all the same.
    let found = errors("consent.missing = allow\nzzz = 1");
    assert_eq!(found.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2]);

    let error = config::parse("x", b"a = 1\nb = \"\xff\"").unwrap_err();
    assert_eq!(error.to_string(), "x:2:6: not valid UTF-8; save the file as UTF-8");
}

#[test]
fn what_is_odd_but_harmless_is_a_warning() {
    let source = "sources.s = { type = \"tcp\", listen = \"127.0.0.1:9601\" }\n";
    let quiet = "[[categories]]\nid = \"Ads\"\n\
                 [destinations.a]\ntype = \"stdout\"\ncategories = [\"Ads\"]\n";
    assert_eq!(warnings(&format!("{ALLOW}{source}{quiet}")), []);
    let check = |extra_section: &str, extra_key: &str, key: &str, words: &str| {
        let text = format!("{ALLOW}{source}{extra_section}\n{quiet}{extra_key}\n");
        let found = warnings(&text);
        let [warning] = found.as_slice() else { panic!("one is odd in\n{text}: {found:#?}") };
        assert_eq!(warning.key, key, "{warning}");
        assert!(warning.message.contains(words), "`{words}` is not in: {warning}");
    };
    let b = "[destinations.b]\ntype = \"stdout\"\n";
    let b_with = |key: &str| format!("{b}{key}");
    check("", b, "destinations.b.categories", "no categories");
    check("", "[[categories]]\nid = \"X\"", "categories[1].id", "no destination uses");
    check("", "enabled = false", "destinations.a.enabled", "off");
    check("", "sources = []", "destinations.a.sources", "no source");
    check("", "types = []", "destinations.a.types", "no type");
    check("", "types = [\"a\", \"a\"]", "destinations.a.types[1]", "twice");
    check("", "enforce = false", "destinations.a.categories", "enforce = false");
    check("admin.listen = \"0.0.0.0:9600\"", "", "admin.listen", "whoever reaches");

    let keys = |text: &str| -> Vec<String> {
        warnings(&format!("{ALLOW}{source}{quiet}{text}")).into_iter().map(|w| w.key).collect()
    };
    let of_b =
        |key: &str| ["destinations.b.categories".to_owned(), format!("destinations.b.{key}")];
    assert_eq!(keys(&b_with("match = \"any\"")), of_b("match"));
    assert_eq!(keys(&b_with("receives_preferences = true")), of_b("receives_preferences"));
    let off = "[[categories]]\nid = \"Off\"\nenabled = false\n";
    let mapped_to_off = format!("{off}{}", b_with("categories = [\"Off\"]"));
    assert_eq!(keys(&mapped_to_off), ["categories[1].id", "destinations.b.categories"]);
    let empty: Vec<String> = warnings(ALLOW).into_iter().map(|warning| warning.key).collect();
    assert_eq!(empty, ["sources", "destinations"]);
}

#[test]
fn a_file_belongs_to_one_destination() {
    let both = |path: &str| {
        let file = |name: &str| {
            format!("[destinations.{name}]\ntype = \"file\"\npath = \"{path}\"\nenforce = false\n")
        };
        errors(&format!("{ALLOW}{}{}", file("f"), file("g")))
    };
    let wrong = both("x");
    assert_eq!(
        wrong.iter().map(|error| error.key.as_str()).collect::<Vec<_>>(),
        ["destinations.g.path"]
    );
    assert_eq!(both("/dev/null"), []);
}

#[test]
fn the_values_of_a_config_and_its_defaults() {
    let text = include_str!("../examples/production.toml");
    let config = parse(text).unwrap().config;
    assert_eq!(config.daemon.memory_max, 512 << 20);
    assert_eq!(config.daemon.shutdown_timeout, Duration::from_secs(45));
    let names: Vec<&str> = config.destinations.iter().map(|d| d.route.name.as_str()).collect();
    assert_eq!(names, ["google-ads", "amplitude", "crm", "siem", "archive"]);
    let delivery = &config.destinations[0].delivery;
    assert_eq!(delivery.retry.give_up_after, Duration::from_secs(24 * 3600));
    let config::Output::Http { headers, compression, .. } = &delivery.output else { panic!() };
    assert_eq!((headers[0].0.as_str(), *compression), ("authorization", Compression::Zstd));
    assert!(!format!("{config:?}").contains("Bearer"), "a header stands in the debug output");

    let spec = config.table_spec(7);
    assert_eq!((spec.version, spec.sources.len(), spec.destinations.len()), (7, 2, 5));
    assert_eq!(spec.sources[1].missing, Some(consentd::route::Missing::Allow));
    let table = consentd::route::RoutingTable::compile(&spec).unwrap();
    assert_eq!(table.destinations().len(), 5);

    let small = "[sources.s]\ntype = \"http\"\nlisten = \"127.0.0.1:0\"\n\
                 [destinations.d]\ntype = \"stdout\"\n\
                 [[tests]]\nname = \"t\"\nevent = { b = 1, a = [true, 0.5] }\ndrop = { d = \"filtered\" }";
    let config = parse(&format!("{ALLOW}{small}")).unwrap().config;
    assert!(config.daemon.workers.get() >= 1 && config.daemon.max_event_bytes == 1 << 20);
    assert_eq!(config.admin.listen, "127.0.0.1:9600".parse().unwrap());
    assert!(matches!(config.sources[0].input, Input::Http { max_body_bytes: 33_554_432, .. }));
    assert_eq!(config.destinations[0].delivery.buffer, 8 << 20);
    assert_eq!(config.destinations[0].route.integration, "d");
    assert_eq!(config.tests[0].event, r#"{"b":1,"a":[true,0.5]}"#);
    let drop = vec![("d".to_owned(), "filtered".to_owned())];
    assert_eq!(config.tests[0].expect, Expect::Accepted { deliver: None, drop });
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs consentd with `input`; standard output and error as text.
fn consentd(args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    use std::io::Write as _;
    let mut child = Command::new(CONSENTD)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without having read everything.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_broken_file_still_names_the_admin_address() {
    let folder = folder();
    let check = |text: &str, expected: Option<&str>| {
        let address = config::admin_address(&write(folder.path(), "c.toml", text)).ok();
        assert_eq!(address, expected.map(|address| address.parse().unwrap()), "{text}");
    };
    check("[admin]\nlisten = \"127.0.0.1:7\"\n[consent]\nzzz = 1\n", Some("127.0.0.1:7"));
    check("[admin]\nlisten = \"127.0.0.1:7\"\n[consent\nmissing = allow\n", Some("127.0.0.1:7"));
    check("", Some("127.0.0.1:9600"));
    check("[admin]\nlisten = \"here\"", None);
    check("[admin]\nlisten = 7", None);
    check("[admin]\nlisen = \"127.0.0.1:7\"", None);
}

#[test]
fn check_exits_with_0_or_2_and_shows_no_colour_in_a_pipe() {
    let folder = folder();
    let (code, out, err) = consentd(&["check", "--config", "examples/quickstart.toml"], b"");
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "config OK: 2 sources, 6 destinations, 4 categories\n")
    );
    assert!(err.contains("quickstart.toml:") && err.contains("destinations.warehouse"), "{err}");
    let (code, _, err) = consentd(&["check", "--config", "examples/production.toml"], b"");
    assert_eq!((code, err.as_str()), (Some(0), ""));

    let path = write(folder.path(), "bad.toml", "zzz = 1\n[consent]\nmissing = 1\n");
    let (code, out, err) = consentd(&["check", "--config", path.to_str().unwrap()], b"");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for place in
        ["bad.toml:1:1: error: zzz:", "bad.toml:3:11: error: consent.missing:", "2 mistakes"]
    {
        assert!(err.contains(place), "`{place}` is not in: {err}");
    }
    assert!(!err.contains('\u{1b}'), "{err:?}");

    let (code, _, err) = consentd(&["check", "--config", "/no/such/file"], b"");
    assert!(code == Some(2) && err.contains("/no/such/file") && err.contains("--config"), "{err}");
}

const QUICKSTART: &str = "examples/quickstart.toml";

#[test]
fn explain_says_what_becomes_of_each_line() {
    let event = r#"{"type":"page","context":{"consent":{"categoryPreferences":{"X":true,"Functional":true}}}}"#;
    let input = format!("{event}\r\n\n  \t\r\n{{\"a\":\r1}}\n{{\"a\":1\n{{}}");
    let (code, out, err) = consentd(&["explain", "--config", QUICKSTART], input.as_bytes());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let table = first["table"].to_string();
    assert!(table.len() >= 8, "{table}");
    let accepted = |line: usize,
                    consent: &str,
                    granted: &str,
                    deliver: &str,
                    drop: &str,
                    unknown| {
        format!(
            "{{\"line\":{line},\"accepted\":true,\"consent\":\"{consent}\",\"granted\":[{granted}],\
             \"deliver\":[{deliver}],\"drop\":{{{drop}}},\"table\":{table},\
             \"unknown_categories\":{unknown}}}\n"
        )
    };
    let all_but_one = r#""google-ads","crm","partner-feed","lake","warehouse""#;
    let anything =
        |line| accepted(line, "not_provided", "", all_but_one, r#""amplitude":"filtered""#, 0);
    let expected = [
        accepted(
            1,
            "given",
            r#""Functional""#,
            r#""crm","lake","warehouse""#,
            r#""google-ads":"consent","amplitude":"consent","partner-feed":"consent""#,
            1,
        ),
        anything(4),
        "{\"line\":5,\"accepted\":false,\"reason\":\"invalid_json\",\"detail\":\"the text ends inside \
         an object or array at byte 6\"}\n"
            .to_owned(),
        anything(6),
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn explain_knows_sources_and_files() {
    let production = "examples/production.toml";
    let run = |args: &[&str]| {
        let args = [&["explain", "--config", production], args].concat();
        consentd(&args, b"{\"type\":\"track\"}\n")
    };
    let deliver =
        |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap()["deliver"].to_string();
    assert_eq!(deliver(&run(&[]).1), r#"["archive"]"#);
    let web = run(&["--source", "web"]).1;
    assert_eq!(deliver(&web), r#"["google-ads","amplitude","crm","archive"]"#);
    let (code, out, err) = run(&["--source", "wev"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("did you mean `web`?"), "{err}");
    let (code, _, err) = run(&["/no/such/events"]);
    assert!(code == Some(2) && err.contains("/no/such/events"), "{err}");

    let (code, out, _) = run(&["examples/events.ndjson"]);
    let events = include_str!("../examples/events.ndjson");
    let lines = events.lines().filter(|line| !line.is_empty()).count();
    assert_eq!((code, out.lines().count()), (Some(0), lines));
}

#[test]
fn explain_holds_no_more_of_a_line_than_an_event_may_have() {
    let folder = folder();
    let path = write(folder.path(), "c.toml", &format!("{ALLOW}daemon.max_event_bytes = 16\n"));
    let mut input = b"{\"a\":\"90123456\"}\r\n{\"a\":\"901234567\"}\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', 300_000));
    input.extend_from_slice(b"\n{}\n");
    let (code, out, _) = consentd(&["explain", "--config", path.to_str().unwrap()], &input);
    let verdicts: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|value| format!("{} {}", value["line"], value["reason"]))
        .collect();
    assert_eq!(code, Some(0));
    assert_eq!(verdicts, ["1 null", "2 \"too_large\"", "3 \"too_large\"", "4 null"]);
}

#[test]
fn explain_ends_quietly_when_nobody_reads_on() {
    use std::io::{Read as _, Write as _};
    let mut child = Command::new(CONSENTD)
        .args(["explain", "--config", QUICKSTART])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while stdin.write_all(b"{}\n{}\n{}\n{}\n").is_ok() {});
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_tests_of_a_config_pass_or_show_the_difference() {
    for file in ["examples/quickstart.toml", "examples/production.toml"] {
        let (code, out, _) = consentd(&["test", "--config", file], b"");
        assert_eq!(code, Some(0), "{out}");
        assert!(out.ends_with(" passed, 0 failed\n"), "{out}");
    }
    let folder = folder();
    let text = "consent.missing = \"deny\"\n[[categories]]\nid = \"Ads\"\n\
         [destinations.ads]\ntype = \"stdout\"\ncategories = [\"Ads\"]\n\
         [destinations.lake]\ntype = \"stdout\"\nenforce = false\n\
         [[tests]]\nname = \"one\"\nevent = {}\ndeliver = [\"ads\", \"lake\"]\n\
         [[tests]]\nname = \"two\"\nevent = {}\ndeliver = [\"lake\"]\ndrop = { ads = \"filtered\" }\n\
         [[tests]]\nname = \"three\"\nevent = \"{\"\ndeliver = []\n\
         [[tests]]\nname = \"four\"\nevent = {}\nrejected = \"too_deep\"\n\
         [[tests]]\nname = \"five\"\nevent = \"{\"\nrejected = \"invalid_json\"\n";
    let path = write(folder.path(), "c.toml", text);
    let (code, out, _) = consentd(&["test", "--config", path.to_str().unwrap()], b"");
    assert_eq!(code, Some(1), "{out}");
    let expected = [
        "FAILED  one",
        "expected deliver: ads, lake",
        "got deliver: lake",
        "FAILED  two",
        "expected ads: filtered, got: consent",
        "FAILED  three",
        "expected an event, got rejected: invalid_json",
        "FAILED  four",
        "expected rejected: too_deep, got deliver: lake",
        "ok      five",
        "1 passed, 4 failed",
    ];
    let found: Vec<&str> = out.lines().map(str::trim_start).collect();
    assert_eq!(found.len(), expected.len(), "{out}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{out}");
    }
}

#[test]
fn the_reference_is_that_of_the_types() {
    for (file, args) in [
        ("docs/config.md", &["reference"][..]),
        ("docs/config.schema.json", &["reference", "--schema"]),
    ] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let committed = std::fs::read_to_string(committed).unwrap();
        let (_, generated, _) = consentd(args, b"");
        assert!(
            committed == generated,
            "{file} is out of date: cargo run --release -- {} > {file}",
            args.join(" ")
        );
    }
}

#[test]
fn state_is_kept_in_warehouses_that_can_compare() {
    let with = |warehouse: &str, state: &str| {
        format!(
            "consent.missing = \"deny\"\n[[categories]]\nid = \"A\"\n\
             [destinations.d]\ntype = \"blackhole\"\ncategories = [\"A\"]\n\
             [warehouses.w]\n{warehouse}\nuri = \"w.sqlite\"\n\
             [models.m]\nwarehouse = \"w\"\nquery = \"select 1\"\nunique_id = \"id\"\n\
             consent = {{ A = \"a\" }}\nevent = {{ userId = \"$id\" }}\nstate = \"{state}\"\n"
        )
    };
    for (warehouse, is_possible) in [
        ("driver = \"sqlite\"", true),
        ("driver = \"postgresql\"", true),
        ("driver = \"adbc_driver_postgresql\"", true),
        ("driver = \"mine\"\npath = \"lib/libduckdb.so\"", true),
        ("driver = \"sqlite\"\npath = \"libadbc_driver_sqlite.so\"", false),
        ("driver = \"snowflake\"", false),
        ("driver = \"bigquery\"", false),
        ("driver = \"mine\"\npath = \"postgresql/mine.so\"", false),
    ] {
        assert!(parse(&with(warehouse, "local")).is_ok(), "{warehouse}");
        let parsed = parse(&with(warehouse, "warehouse"));
        if is_possible {
            assert!(parsed.is_ok(), "{warehouse}");
            continue;
        }
        let wrong = parsed.unwrap_err();
        let keys: Vec<&str> = wrong.errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["models.m.state"], "{warehouse}");
        let said = wrong.to_string();
        assert!(
            said.contains("PostgreSQL and DuckDB") && said.contains("state = \"local\""),
            "{said}"
        );
    }
}
