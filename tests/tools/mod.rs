//! The programs that the tests talk to, as `tests/packages` puts them under `target/test-tools`.
//!
//! Owns: where a program is found. Does not own: its configuration, see `tests/senders/`.
//! Always holds: a missing program fails the test that needs it. A test that is skipped in silence
//! looks like a test that passes.

// Every test binary compiles this module for itself and uses only some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// rsyslog's daemon; run it with `-n -C -f CONFIG -i PIDFILE`, all paths absolute.
pub(crate) fn rsyslogd() -> Command {
    tool("rsyslogd")
}

/// syslog-ng's daemon. Run it with `-F --no-caps -f CONFIG` and, so that it stays out of `/var`,
/// `-R PERSIST -c CONTROL_SOCKET -p PIDFILE`.
pub(crate) fn syslog_ng() -> Command {
    tool("syslog-ng")
}

/// OpenBSD's netcat; `-N` makes it close its sending side at the end of the input.
pub(crate) fn nc() -> Command {
    tool("nc")
}

/// curl.
pub(crate) fn curl() -> Command {
    tool("curl")
}

/// Prometheus' checker; `check metrics` reads the metrics page from its standard input.
pub(crate) fn promtool() -> Command {
    tool("promtool")
}

/// valgrind, for instruction counts with `--tool=callgrind`.
pub(crate) fn valgrind() -> Command {
    tool("valgrind")
}

/// systemd's checker of unit files.
pub(crate) fn systemd_analyze() -> Command {
    tool("systemd-analyze")
}

/// strace, which makes system calls fail.
pub(crate) fn strace() -> Command {
    tool("strace")
}

/// What makes a file system of this type (`ext4`, `xfs`) in a file or on a device.
pub(crate) fn mkfs(kind: &str) -> Command {
    tool(&format!("mkfs.{kind}"))
}

/// PostgreSQL's own programs: `initdb`, `postgres` (both refuse to run as root) and `psql`.
pub(crate) fn postgresql(program: &str) -> Command {
    tool(program)
}

/// An emulator of Snowflake's server; `-s` makes it one.
pub(crate) fn fakesnow() -> Command {
    tool("fakesnow")
}

/// The shared library of a warehouse's driver: `libadbc_driver_NAME.so` (`postgresql`, `sqlite`,
/// `snowflake`, `bigquery`), `libduckdb.so`.
pub(crate) fn driver(library: &str) -> PathBuf {
    let path = folder().join("adbc").join(library);
    assert!(path.is_file(), "run tests/run first: a driver is missing ({})", path.display());
    path
}

/// A config from `tests/senders/` with each `@NAME@` replaced by its value.
pub(crate) fn sender_config(name: &str, values: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders").join(name);
    let template = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    values.iter().fold(template, |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

fn tool(name: &str) -> Command {
    let path = folder().join("bin").join(name);
    assert!(path.is_file(), "run tests/run first: {name} is missing ({})", path.display());
    Command::new(path)
}

/// `CONSENTD_TEST_TOOLS`, else where `tests/packages` installs unless told otherwise.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("CONSENTD_TEST_TOOLS") {
        return folder.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("test-tools")
}
