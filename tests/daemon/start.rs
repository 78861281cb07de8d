//! What keeps the daemon from starting: place and cause are named, the exit code is 2, nothing is
//! half started.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::harness::{Config, Daemon, Folder, consentd, event, run_command, run_to_end};

/// Runs a config that must not start; all of `words` must be in what is said.
#[track_caller]
fn refused(folder: &Folder, config: impl Display, words: &[&str]) {
    let path = folder.write("consentd.toml", config);
    refused_at(&path, words);
}

#[track_caller]
fn refused_at(path: &Path, words: &[&str]) {
    let ended = run_command("run", path);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in\n{}", ended.stderr);
    }
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    assert!(!ended.stderr.contains("listening"), "{}", ended.stderr);
}

fn source_on(address: impl Display) -> String {
    format!("[sources.shippers]\ntype = \"tcp\"\nlisten = \"{address}\"\n\n")
}

#[test]
fn a_port_in_use() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::new("allow").file(&folder, "lake", "");
    let source = config.clone().sources(source_on(&address));
    refused(&folder, source, &["sources.shippers.listen", &address, "in use"]);
    refused(&folder, config.admin(&address), &["admin.listen", &address, "in use"]);
    assert!(!folder.path("lake.ndjson").exists(), "a destination was started");
}

#[test]
fn an_unwritable_path() {
    let folder = Folder::new();
    let occupied = folder.write("occupied", "");
    let path = occupied.join("out.ndjson");
    // A port that is known before, to see that nobody ever listened there.
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let config = Config::new("allow")
        .sources(source_on(address))
        .destination("stuck", format!("type = \"file\"\npath = {path:?}"));
    refused(&folder, &config, &["destinations.stuck", "occupied", "cannot create the folder"]);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn nobody_can_connect_before_everything_is_prepared() {
    let folder = Folder::new();
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let token = folder.fifo("token");
    let http = "type = \"http\"\nurl = \"http://127.0.0.1:1/\"\n";
    let config = Config::new("allow").sources(source_on(address)).destination(
        "crm",
        format!("{http}headers = {{ Authorization = {{ file = {token:?} }} }}"),
    );
    std::thread::scope(|scope| {
        let meanwhile = scope.spawn(|| {
            // Opens when the daemon wants to read it.
            let mut writer = File::options().write(true).open(&token).unwrap();
            let connected = TcpStream::connect(address);
            writer.write_all(b"secret").unwrap();
            connected
        });
        let daemon = Daemon::start(&folder, &config);
        assert!(meanwhile.join().unwrap().is_err(), "somebody got in");
        assert!(TcpStream::connect(daemon.source("shippers")).is_ok());
    });
}

#[test]
fn an_unknown_category_and_every_other_mistake_at_once() {
    let folder = Folder::new();
    let config = Config::new("maybe")
        .categories(&["Advertising"])
        .destination("crm", "type = \"blackhole\"\ncategories = [\"Advertsing\"]")
        .destination("lake", "type = \"file\"");
    let words =
        ["destinations.crm.categories", "Advertsing", "`Advertising`", "consent.missing", "path"];
    refused(&folder, config, &words);
}

#[test]
fn a_secret_that_is_not_there() {
    let folder = Folder::new();
    let http = "type = \"http\"\nurl = \"http://127.0.0.1:1/\"\n";
    let config = Config::new("allow").file(&folder, "lake", "").destination(
        "crm",
        format!("{http}headers = {{ Authorization = \"Bearer ${{CONSENTD_TEST_NOT_SET}}\" }}"),
    );
    refused(&folder, config, &["destinations.crm", "headers", "CONSENTD_TEST_NOT_SET"]);
    assert!(!folder.path("lake.ndjson").exists(), "an earlier destination was started");
    let config = Config::new("allow").destination(
        "crm",
        format!("{http}headers = {{ Authorization = {{ file = \"no.token\" }} }}"),
    );
    refused(&folder, config, &["destinations.crm", "headers", "no.token"]);
}

#[test]
fn a_config_that_is_not_there_or_is_no_config() {
    let folder = Folder::new();
    let path = folder.path("absent.toml");
    refused_at(&path, &["absent.toml", "No such file"]);
    refused(&folder, "this is = not toml = at all", &["consentd.toml:1:"]);
    refused(&folder, "", &["missing"]);
}

#[test]
fn a_data_dir_that_another_daemon_uses() {
    let folder = Folder::new();
    let data_dir = folder.path("state");
    let config =
        Config::new("allow").daemon(&format!("data_dir = {data_dir:?}")).file(&folder, "lake", "");
    let first = Daemon::start(&folder, &config);
    let second = folder.write("second.toml", &config);
    refused_at(&second, &["state", "another consentd"]);
    first.send(event("e", &[]) + "\n");
    first.settled(1);
    let ended = first.stop();
    assert_eq!(ended.code, Some(0));
    // The lock goes with its owner.
    Daemon::start(&folder, &config);
}

#[test]
fn wrong_usage() {
    for arguments in [&["no-such-command"][..], &["run", "--no-such-option"], &[]] {
        let ended = run_to_end(consentd().args(arguments));
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty() && ended.stderr.contains("Usage"), "{}", ended.stderr);
    }
}
