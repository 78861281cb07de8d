//! The unit file: systemd understands every line of it, and it gives away next to nothing.

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Ten times the exposure score that `systemd-analyze security` may report at most.
const EXPOSURE_MAX_TENTHS: &str = "--threshold=15";

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let said = verify(&unit());
    assert_eq!(said, "", "systemd-analyze verify must print nothing");
}

#[test]
fn verify_reports_what_systemd_does_not_understand() {
    // systemd-analyze exits 0 on an unknown key: without this, the test above could not be trusted.
    let said = verify(&unit().replace("[Service]", "[Service]\nNoSuchKey=1"));
    assert!(said.contains("NoSuchKey"), "{said}");
    let said = verify(&unit().replace("Type=notify", "Type=no-such-type"));
    assert!(said.contains("no-such-type"), "{said}");
}

#[test]
fn exposure_is_at_most_one_and_a_half() {
    let (folder, path) = installed(&unit());
    let output = security(&path);
    assert!(output.status.success(), "{}", text(&output.stdout));
    drop(folder);
}

#[test]
fn a_unit_that_keeps_its_capabilities_is_too_exposed() {
    let (folder, path) = installed(&unit().replace("\nCapabilityBoundingSet=\n", "\n"));
    let output = security(&path);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    drop(folder);
}

#[test]
fn stopping_outlasts_the_default_shutdown_timeout() {
    const SHUTDOWN_TIMEOUT_DEFAULT_SECONDS: u32 = 30;
    let unit = unit();
    let seconds: u32 = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .and_then(|value| value.parse().ok())
        .expect("TimeoutStopSec= in plain seconds");
    assert!(seconds > SHUTDOWN_TIMEOUT_DEFAULT_SECONDS, "{seconds}");
}

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/consentd.service");
    fs::read_to_string(path).expect("systemd/consentd.service")
}

/// The unit as a file whose commands name a program that exists here, which systemd checks: the
/// tests do not install the daemon.
fn installed(unit: &str) -> (TempDir, PathBuf) {
    let daemon = "/usr/bin/consentd";
    assert!(unit.contains(&format!("ExecStart={daemon} run --config ")), "{unit}");
    assert!(unit.contains(&format!("ExecReload={daemon} reload --config ")), "{unit}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("consentd.service");
    fs::write(&path, unit.replace(daemon, env!("CARGO_BIN_EXE_consentd"))).expect("a unit file");
    (folder, path)
}

/// What systemd has to say against the unit.
fn verify(unit: &str) -> String {
    let (folder, path) = installed(unit);
    let output = run(tools::systemd_analyze().arg("verify").arg(path));
    drop(folder);
    text(&output.stderr) + &text(&output.stdout)
}

fn security(unit: &Path) -> Output {
    let mut command = tools::systemd_analyze();
    run(command.args(["security", "--no-pager", "--offline=true", EXPOSURE_MAX_TENTHS]).arg(unit))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
