//! What holds for every file. A rule looks at one file and says what is wrong where, and what to do.

use std::collections::BTreeSet;

use crate::source::{Named, Source};

/// What a rule has against a line.
pub(crate) struct Complaint {
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) advice: String,
}

/// A decision about consent depends on these and on nothing else.
const PURE: [&str; 3] = ["parse", "consent", "route"];

/// Crates that compute and do nothing else, and so may be used by pure modules.
const PURE_CRATES: [&str; 4] = ["blake3", "memchr", "simd_json", "wide"];

/// The one exception: publishing a table, which is all that this file does.
const PUBLISHING: (&str, &str) = ("src/route/handle.rs", "arc_swap");

/// Parts of the standard library that see more than their arguments.
const IMPURE_STD: [&str; 9] = ["env", "fs", "io", "net", "os", "path", "process", "thread", "time"];

/// What an event passes through.
const DATA_PATH: [&str; 9] = [
    "ingest",
    "shard",
    "parse",
    "consent",
    "route",
    "commit",
    "log",
    "destination",
    "dead_letters",
];

/// Those who run the data path, and whom it must not know.
const OPERATORS: [&str; 3] = ["admin", "cli", "daemon"];

/// Both ends of the way. They meet in the worker alone: no second path around consent.
const ENDS: [&str; 3] = ["ingest", "warehouse", "destination"];

const WIRING: &str = "src/daemon/wire.rs";

const PRODUCTION_LINES_MAX: usize = 600;

/// Spelled in pieces, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Everything that is wrong with one file. `dependencies` are the crates that Cargo.toml names.
pub(crate) fn complaints(source: &Source, dependencies: &BTreeSet<String>) -> Vec<Complaint> {
    let mut found = machine_paths(source);
    if !source.path.ends_with(".rs") {
        return found;
    }
    found.extend(unfinished(source));
    if source.path.starts_with("src/") && !source.is_test() {
        let paths = source.paths();
        found.extend(paths.iter().filter_map(|path| import(source, path, dependencies)));
        found.extend(sees_everything(source, &paths));
        found.extend(purity_is_checked(source));
        found.extend(unbounded(source));
        found.extend(size(source));
        found.extend(introduction(source));
    }
    found
}

/// The import rules; a path breaks one at most.
fn import(source: &Source, path: &Named, dependencies: &BTreeSet<String>) -> Option<Complaint> {
    let module = source.module()?;
    let segment = |index: usize| path.segments.get(index).map_or("", String::as_str);
    let (first, second) = (segment(0), segment(1));
    let complain = |rule, advice: String| Some(Complaint { line: path.line, rule, advice });

    if first == "crate" {
        if second == module {
            return None;
        }
        if PURE.contains(&module) && !PURE.contains(&second) {
            return complain(
                "pure modules import only each other",
                format!("`{module}` names `{second}`; pass what it needs as an argument"),
            );
        }
        if module == "log" {
            return complain(
                "the log knows files and bytes only",
                format!("`log` names `{second}`; let the thread that owns the log translate"),
            );
        }
        if DATA_PATH.contains(&module) && OPERATORS.contains(&second) {
            return complain(
                "the data path does not know who operates it",
                format!("`{module}` names `{second}`; let {WIRING} hand over what it needs"),
            );
        }
        if ENDS.contains(&module) && ENDS.contains(&second) {
            return complain(
                "sources and destinations never import each other",
                format!("`{module}` names `{second}`; they meet in the worker (src/shard) only"),
            );
        }
        if module == "config" && !PURE.contains(&second) {
            return complain(
                "config leads to the routing table and to nothing that runs",
                format!("`config` names `{second}`; turn it round: `{second}` reads the config"),
            );
        }
        if second == "config" && segment(2) == "raw" {
            return complain(
                "serde's types stay in config/raw.rs",
                "use the validated type of src/config instead of `config::raw`".to_owned(),
            );
        }
        return None;
    }

    // The answers of the HTTP source are JSON of our own making, written by serde.
    // An erasure reads lines that the parser of the data path refuses, each key as often as it stands there.
    let at_home = ["src/config/raw", "src/ingest/http/", "src/dead_letters/subject.rs"];
    let serde_is_at_home = at_home.iter().any(|path| source.path.starts_with(path));
    if first == "serde" && !serde_is_at_home && (module == "config" || DATA_PATH.contains(&module))
    {
        return complain(
            "serde's types stay in config/raw.rs",
            format!("`{module}` names serde; put the type in config/raw.rs and convert it"),
        );
    }
    if module == "log" && matches!(first, "tokio" | "metrics" | "tracing" | "crossbeam") {
        return complain(
            "the log knows files and bytes only",
            format!("`log` names `{first}`; threads, counters and messages are its callers'"),
        );
    }
    if PURE.contains(&module) {
        let name = path.segments.join("::");
        let from_std = matches!(first, "std" | "core" | "alloc");
        let impure_std = IMPURE_STD.contains(&second) || (second == "sync" && segment(2) != "Arc");
        if from_std && impure_std {
            return complain(
                "pure modules see their arguments and nothing else",
                format!("`{module}` names `{name}`; pass the value as an argument"),
            );
        }
        let allowed = PURE_CRATES.contains(&first) || (source.path.as_str(), first) == PUBLISHING;
        if dependencies.contains(first) && !allowed {
            return complain(
                "pure modules use only crates that compute",
                format!(
                    "`{module}` names `{name}`; do it outside, or, if the crate is pure, add it to \
                     PURE_CRATES in tests/tidy/rules.rs"
                ),
            );
        }
    }
    None
}

/// Sources, workers and destinations are put together in one file, which reads as the pipeline.
fn sees_everything(source: &Source, paths: &[Named]) -> Option<Complaint> {
    let first_line = |module: &str| {
        let names = |path: &&Named| {
            path.segments.first().is_some_and(|segment| segment == "crate")
                && path.segments.get(1).is_some_and(|segment| segment == module)
        };
        paths.iter().find(names).map(|path| path.line)
    };
    let outsider = source.module().is_some_and(|module| module != "shard");
    let source_line = first_line("ingest").or(first_line("warehouse"))?;
    let line = source_line.max(first_line("shard")?).max(first_line("destination")?);
    (outsider && source.path != WIRING).then(|| Complaint {
        line,
        rule: "only daemon/wire.rs sees everything",
        advice: format!("names sources, shard and destinations; do the wiring in {WIRING}"),
    })
}

/// clippy's half of purity (see clippy.toml) must be switched on, and stay on.
fn purity_is_checked(source: &Source) -> Option<Complaint> {
    const SWITCH: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
    const RULE: &str = "clippy watches over the pure modules";
    if !source.module().is_some_and(|module| PURE.contains(&module)) {
        return None;
    }
    let is_head = source.path.matches('/').count() == 2 && source.path.ends_with("/mod.rs");
    if is_head && !source.code.contains(SWITCH) {
        return Some(Complaint { line: 1, rule: RULE, advice: format!("add {SWITCH}") });
    }
    let words = source.words();
    let before = |index: usize, back: usize| {
        index.checked_sub(back).and_then(|at| words.get(at)).map_or("", |word| word.1)
    };
    let lowered = words.iter().enumerate().find(|(index, word)| {
        word.1.starts_with("disallowed_")
            && (1..=4).any(|back| matches!(before(*index, back), "allow" | "expect" | "warn"))
    });
    lowered.map(|(_, word)| Complaint {
        line: word.0,
        rule: RULE,
        advice: "do not lower the lint: pass what you need as an argument".to_owned(),
    })
}

fn unfinished(source: &Source) -> Vec<Complaint> {
    let is_mark = |word: &str| matches!(word, "todo" | "unimplemented" | "dbg");
    let found = source.words().into_iter().filter(|(_, word, next)| is_mark(word) && *next == '!');
    found
        .map(|(line, word, _)| Complaint {
            line,
            rule: "nothing unfinished",
            advice: format!("finish what `{word}!` stands for, or leave it out"),
        })
        .collect()
}

/// Every queue has a named bound. `SegQueue` and std's `mpsc` grow without saying so.
fn unbounded(source: &Source) -> Vec<Complaint> {
    let is_unbounded = |word: &str| word.to_lowercase().contains("unbounded") || word == "SegQueue";
    let std_mpsc = source.paths().into_iter().filter_map(|path| {
        path.segments.join("::").starts_with("std::sync::mpsc").then_some(path.line)
    });
    let words = source.words();
    let named = words.iter().filter(|word| is_unbounded(word.1)).map(|word| word.0);
    named
        .chain(std_mpsc)
        .map(|line| Complaint {
            line,
            rule: "every queue has a bound",
            advice: "use a bounded queue and put the unit in the name of the bound".to_owned(),
        })
        .collect()
}

fn size(source: &Source) -> Option<Complaint> {
    let lines = source.production_lines;
    (lines > PRODUCTION_LINES_MAX).then(|| Complaint {
        line: PRODUCTION_LINES_MAX + 1,
        rule: "a file can be read in one go",
        advice: format!(
            "{lines} lines without tests, at most {PRODUCTION_LINES_MAX}: split it at a phase that \
             has a name"
        ),
    })
}

fn introduction(source: &Source) -> Option<Complaint> {
    let is_head = ["mod.rs", "lib.rs"].iter().any(|name| source.path.ends_with(name));
    (is_head && !source.text.starts_with("//!")).then(|| Complaint {
        line: 1,
        rule: "a module introduces itself",
        advice: "begin with `//!`: what it owns, what it does not, what always holds".to_owned(),
    })
}

fn machine_paths(source: &Source) -> Vec<Complaint> {
    let lines = source.text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| {
        let path = MACHINE_PATHS.iter().find(|path| begins_in(line, path))?;
        Some(Complaint {
            line: index + 1,
            rule: "nothing depends on one machine",
            advice: format!("`{path}` exists on somebody's machine only; use a relative path"),
        })
    });
    found.collect()
}

/// Whether an absolute path begins with `path` somewhere in the line; the middle of one does not count.
fn begins_in(line: &str, path: &str) -> bool {
    let is_middle = |c: char| c.is_alphanumeric() || "_-./}".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(is_middle))
}
