//! The rules of the repository that the compiler does not know, above all who may import whom.
//!
//! The rules are in `tidy/rules.rs`, how a file is read in `tidy/source.rs`. Each rule is shown to
//! fail on a fixture below: a rule that can't fail protects nothing.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::Source;

/// Where text of ours is found, beside the files at the top.
const FOLDERS: [&str; 8] =
    [".ci", "benches", "docs", "examples", "loadtest", "src", "systemd", "tests"];

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    read_files(root, "", &mut sources);
    for folder in FOLDERS {
        read_folder(root, folder, &mut sources);
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "src was not read");

    let dependencies = dependencies(&sources);
    let said: Vec<String> = sources.iter().flat_map(|source| said(source, &dependencies)).collect();
    assert!(said.is_empty(), "{} complaints:\n{}", said.len(), said.join("\n"));
}

fn said(source: &Source, dependencies: &BTreeSet<String>) -> Vec<String> {
    let found = rules::complaints(source, dependencies);
    let path = &source.path;
    found.iter().map(|c| format!("{path}:{}: {}: {}", c.line, c.rule, c.advice)).collect()
}

fn read_folder(root: &Path, folder: &str, into: &mut Vec<Source>) {
    read_files(root, folder, into);
    for name in names(&root.join(folder), Path::is_dir) {
        read_folder(root, &format!("{folder}/{name}"), into);
    }
}

/// The files of one folder; what is not text (sample archives, say) is left out.
fn read_files(root: &Path, folder: &str, into: &mut Vec<Source>) {
    for name in names(&root.join(folder), Path::is_file) {
        let path = format!("{folder}/{name}");
        let path = path.trim_start_matches('/');
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            into.push(Source::new(path, &text));
        }
    }
}

/// In order, so that complaints are too. A folder that does not exist has no names.
fn names(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| wanted(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".git" && name != "target" && name != "Cargo.lock")
        .collect();
    names.sort();
    names
}

/// The crates that the root Cargo.toml names, as they are written in code.
fn dependencies(sources: &[Source]) -> BTreeSet<String> {
    let manifest = sources.iter().find(|source| source.path == "Cargo.toml").expect("Cargo.toml");
    let manifest: toml::Table = manifest.text.parse().expect("Cargo.toml is TOML");
    let tables = manifest.iter().filter(|(key, _)| key.ends_with("dependencies"));
    let names = tables.filter_map(|(_, table)| table.as_table()).flat_map(toml::Table::keys);
    names.map(|name| name.replace('-', "_")).collect()
}

/// Asserts that the file breaks exactly the rule whose name contains `rule`, or none if it is empty.
#[track_caller]
fn check(path: &str, text: &str, rule: &str) {
    let dependencies = ["memchr", "serde", "simd_json", "tokio", "arc_swap"].map(str::to_owned);
    let said = said(&Source::new(path, text), &dependencies.into());
    if rule.is_empty() {
        assert!(said.is_empty(), "{path}: {text}\n{said:?}");
    } else {
        assert!(
            !said.is_empty() && said.iter().all(|s| s.contains(rule)),
            "{path}: {text}\n{said:?}"
        );
    }
}

#[test]
fn pure_modules_are_pure() {
    const EACH_OTHER: &str = "pure modules import only each other";
    check("src/parse/json.rs", "use crate::config::Config;", EACH_OTHER);
    check("src/consent/decide.rs", "use crate::{parse::Event, metrics};", EACH_OTHER);
    check("src/route/table.rs", "fn f(c: &super::super::config::Config) {}", EACH_OTHER);
    check("src/route/table.rs", "fn f() { crate::log::append(); }", EACH_OTHER);
    check("src/consent/decide.rs", "use crate::{parse::Event, route::{Table, BitSet as B}};", "");
    check("src/parse/json.rs", "use super::walk::Walk;\nuse self::event::Event;", "");

    const ARGUMENTS: &str = "see their arguments";
    check("src/parse/json.rs", "use std::fs;", ARGUMENTS);
    check("src/consent/decide.rs", "use std::{fmt, time::Instant};", ARGUMENTS);
    check("src/consent/decide.rs", "use std::sync::atomic::AtomicU64;", ARGUMENTS);
    check("src/route/handle.rs", "use std::sync::Arc;\nuse std::fmt;", "");

    const CRATES: &str = "only crates that compute";
    check("src/parse/json.rs", "fn f() { tokio::spawn(g()); }", CRATES);
    check("src/route/table.rs", "use arc_swap::ArcSwap;", CRATES);
    check("src/route/handle.rs", "use arc_swap::ArcSwap;", "");
    check("src/parse/json.rs", "use memchr::memchr;\nuse simd_json::Buffers;", "");
    check("src/ingest/tcp.rs", "use tokio::net::TcpListener;\nuse std::io;", "");
}

#[test]
fn the_log_stands_alone() {
    const ALONE: &str = "the log knows files and bytes only";
    check("src/log/writer.rs", "use crate::route::DestinationId;", ALONE);
    check("src/log/writer.rs", "fn f() { tokio::task::yield_now(); }", ALONE);
    check("src/log/writer.rs", "use super::folder::Folder;\nuse std::fs::File;", "");
}

#[test]
fn clippy_is_switched_on_for_pure_modules() {
    const WATCHES: &str = "clippy watches";
    let on = "//! Pure.\n#![deny(clippy::disallowed_methods, clippy::disallowed_types)]\n";
    check("src/route/mod.rs", on, "");
    check("src/route/mod.rs", "//! Pure.", WATCHES);
    check(
        "src/route/mod.rs",
        "//! #![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
        WATCHES,
    );
    check("src/route/table.rs", "#[allow(clippy::disallowed_types)]\nfn f() {}", WATCHES);
    check("src/ingest/mod.rs", "//! Not pure.", "");
}

#[test]
fn the_data_path_does_not_know_its_operators() {
    const OPERATES: &str = "who operates it";
    check("src/ingest/http.rs", "use crate::admin::Auth;", OPERATES);
    check("src/destination/tcp.rs", "use crate::daemon;", OPERATES);
    check("src/shard/worker.rs", "fn f() { crate::cli::main() }", OPERATES);
    check("src/daemon/drain.rs", "use crate::admin::Admin;", "");
}

#[test]
fn the_ends_do_not_know_each_other() {
    const STRANGERS: &str = "never import each other";
    check("src/ingest/tcp.rs", "use crate::destination::Chunk;", STRANGERS);
    check("src/destination/http.rs", "use crate::ingest::http::Body;", STRANGERS);
    check("src/warehouse/model.rs", "use crate::ingest::Frame;", STRANGERS);
    check("src/ingest/tcp.rs", "use crate::ingest::Frame;\nuse crate::parse::Lines;", "");
}

#[test]
fn config_leads_one_way() {
    const LEADS: &str = "config leads to the routing table";
    check("src/config/compile.rs", "use crate::destination::Outlet;", LEADS);
    check("src/config/compile.rs", "use crate::route::TableSpec;", "");

    const SERDE: &str = "serde's types stay";
    check("src/config/model.rs", "use serde::Deserialize;", SERDE);
    check("src/config/raw.rs", "use serde::Deserialize;", "");
    check("src/ingest/http.rs", "#[derive(serde::Serialize)]\nstruct Answer;", SERDE);
    check("src/cli/check.rs", "use crate::config::raw::Config;", SERDE);
    check("src/cli/explain.rs", "use serde::Serialize;\nuse crate::config::Config;", "");
}

#[test]
fn only_the_wiring_sees_everything() {
    let all = "use crate::{destination::Outlet, ingest::Frame, shard::Worker};";
    check("src/daemon/drain.rs", all, "only daemon/wire.rs");
    check("src/daemon/wire.rs", all, "");
    check("src/shard/worker.rs", "use crate::destination::Outlet;\nuse crate::ingest::Frame;", "");
}

#[test]
fn queues_are_bounded() {
    const BOUND: &str = "every queue has a bound";
    check("src/ingest/tcp.rs", "fn f() { let (a, b) = mpsc::unbounded_channel(); }", BOUND);
    check("src/shard/mod.rs", "//! x\nuse crossbeam::channel::unbounded;", BOUND);
    check("src/shard/mod.rs", "//! x\nuse std::sync::mpsc::channel;", BOUND);
    check("src/shard/mod.rs", "//! Never unbounded.\nuse crossbeam::channel::bounded;", "");
}

#[test]
fn files_are_finished_short_and_introduced() {
    check("src/ingest/tcp.rs", "fn f() { todo!() }", "nothing unfinished");
    check("benches/parse.rs", "fn f() { dbg!(1); }", "nothing unfinished");
    check("src/ingest/tcp.rs", "// todo!\nfn f() { g(\"dbg!\"); }", "");

    let long = "fn f() {}\n".repeat(601);
    check("src/ingest/tcp.rs", &long, "read in one go");
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    check("src/ingest/tcp.rs", &tests, "");

    check("src/ingest/mod.rs", "// Not a module's comment.", "introduces itself");
    check("src/ingest/mod.rs", "//! Bytes in.", "");
}

#[test]
fn nothing_depends_on_one_machine() {
    let path = ["/ho", "me/someone/consentd"].concat();
    check("docs/senders.md", &format!("Run it in {path}."), "one machine");
    check("src/ingest/tcp.rs", &format!("// see {path}"), "one machine");
    check("docs/senders.md", "Run it in /var/lib/consentd; ProtectHome hides /home.", "");
}

#[test]
fn what_is_not_code_is_not_read_as_code() {
    // Each of these names `config` in a comment, a literal or a test.
    check("src/parse/json.rs", "/* use crate::config::A; */ fn f<'a>(c: &'a str) {}", "");
    check("src/parse/json.rs", "const A: &str = r#\"\"crate::config::A\"#;", "");
    check("src/parse/json.rs", "const A: [char; 2] = ['\"', '\\''];\n// crate::config::A\n", "");
    check("src/parse/json.rs", "#[cfg(test)]\nmod tests { use crate::config::A; }\n", "");
    // And these are code although something of that kind stands before them.
    let rule = "pure modules import only each other";
    check("src/parse/json.rs", "const A: char = '\"'; use crate::config::A; // \"", rule);
    check(
        "src/parse/json.rs",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::config::A;",
        rule,
    );
    check("src/parse/json.rs", "use crate::{\n    parse::A,\n    config::B,\n};", rule);
}
