//! `consentd log`: what it says about a log, beside a daemon and without one, and that it changes
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{
    Config, Daemon, Folder, HttpSink, NOBODY, Reply, consentd, events, marked, post, run_to_end,
    wait_until,
};

const AGREED: &[(&str, bool)] = &[("A", true)];

/// The user and the group that own nothing.
const NOBODYS_ID: u32 = 65534;

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn log(folder: &Folder, arguments: &str) -> Said {
    let mut command = consentd();
    command.arg("log").args(arguments.split(' '));
    let ended = run_to_end(command.arg("--config").arg(folder.path("consentd.toml")));
    Said { code: ended.code, stdout: ended.stdout, stderr: ended.stderr }
}

fn json(said: &Said) -> Vec<Value> {
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file under a folder, with its content.
fn files(under: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(under).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => {
                found.insert(path.clone(), Vec::new());
                found.extend(files(&path));
            }
            path => {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// One destination that is up and one that is down.
fn config(folder: &Folder) -> Config {
    Config::new("deny")
        .categories(&["A"])
        .log(folder, "")
        .daemon("shutdown_timeout = \"200ms\"")
        .tcp("down", NOBODY, "categories = [\"A\"]")
        .file(folder, "up", "categories = [\"A\"]")
}

/// A daemon with 10 events, of which one destination has none.
fn with_ten(folder: &Folder) -> Daemon {
    let daemon = Daemon::start(folder, &config(folder));
    assert_eq!(post(daemon.source("http"), events("secret", 10, 0, AGREED)).status, 200);
    wait_until("one destination has them", || folder.delivered("up").len() == 10);
    daemon
}

fn segment(folder: &Folder) -> PathBuf {
    let files = files(&folder.path("state/log"));
    files.into_keys().find(|path| path.extension().is_some_and(|it| it == "segment")).unwrap()
}

const COMMANDS: [&str; 9] = [
    "inspect",
    "inspect --json",
    "inspect --events --with-lines",
    "verify",
    "verify --dead-letters --json",
    "stats",
    "stats --json --dead-letters",
    "dead-letters list",
    "dead-letters list --with-events",
];

#[test]
fn a_log_is_shown_beside_its_daemon_and_without_it() {
    let folder = Folder::new();
    let daemon = with_ten(&folder);
    let check = || {
        let said = log(&folder, "stats --json");
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let stats = &json(&said)[0];
        assert_eq!(stats["total"]["events"], 10);
        assert_eq!(stats["sources"]["http"]["events"], 10);
        assert_eq!(stats["destinations"]["down"]["events"], 10);
        assert!(stats["oldest_received_at"].as_str().unwrap().ends_with('Z'));

        let inspected = &json(&log(&folder, "inspect --json"))[0];
        let waiting = |name: &str| {
            let all = inspected["destinations"].as_array().unwrap();
            all.iter().find(|it| it["destination"] == name).unwrap()["waiting_events"].clone()
        };
        assert_eq!(waiting("down"), 10);

        let each = log(&folder, "inspect --events");
        assert_eq!(json(&each).len(), 10);
        assert_eq!(json(&each)[0]["destinations"], serde_json::json!(["down", "up"]));
        for said in [&each, &log(&folder, "inspect"), &log(&folder, "stats")] {
            assert!(said.stdout.contains("down"), "{}", said.stdout);
            assert!(!said.stdout.contains("secret"), "{}", said.stdout);
        }
        let lines = log(&folder, "inspect --events --with-lines");
        assert!(json(&lines)[9]["event"].as_str().unwrap().contains("secret-9"));

        let said = log(&folder, "verify");
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("sound: 1 segments") && said.stdout.contains("10 events"));
    };
    check();
    assert_eq!(daemon.stop().code, Some(0));
    check();
    let inspected = &json(&log(&folder, "inspect --json"))[0];
    let up = &inspected["destinations"].as_array().unwrap()[1];
    assert_eq!((&up["destination"], &up["waiting_events"]), (&"up".into(), &0.into()));
}

#[test]
fn damage_is_found_with_its_place_and_nothing_is_changed() {
    let folder = Folder::new();
    assert_eq!(with_ten(&folder).stop().code, Some(0));
    // A registry with a damaged copy is another thing that a daemon would mend.
    fs::write(folder.path("state/log/identities.b"), "damaged").unwrap();
    let path = segment(&folder);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 50;
    bytes[middle] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let before = files(&folder.path("state"));
    let said = log(&folder, "verify");
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(
        said.stdout.contains("DAMAGED") && said.stdout.contains("10 events"),
        "{}",
        said.stdout
    );
    let check = &json(&log(&folder, "verify --json"))[0];
    assert_eq!(check["damage"]["events"], 10);
    assert_eq!(check["places"][0]["position"], "1:80");
    for command in COMMANDS {
        let said = log(&folder, command);
        assert!(said.code.is_some_and(|code| code <= 1), "{command}: {}", said.stderr);
        assert!(before == files(&folder.path("state")), "{command} changed something");
    }
}

#[test]
fn a_log_that_is_written_to_is_sound() {
    let folder = Folder::new();
    let daemon = with_ten(&folder);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // Large commits, of which one is mostly being written when it is looked.
            for _ in 0..80 {
                assert_eq!(post(daemon.source("http"), events("e", 400, 5000, AGREED)).status, 200);
            }
        });
        while !sender.is_finished() {
            let said = log(&folder, "verify");
            assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        }
    });
}

#[test]
fn a_commit_that_is_being_written_is_no_damage() {
    let folder = Folder::new();
    assert_eq!(with_ten(&folder).stop().code, Some(0));
    let path = segment(&folder);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let said = log(&folder, "verify");
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("it stands at the very end"), "{}", said.stdout);
    std::thread::scope(|scope| {
        let verified = scope.spawn(|| log(&folder, "verify"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        fs::write(&path, &whole).unwrap();
        assert_eq!(verified.join().unwrap().code, Some(0));
    });
}

#[test]
fn a_log_without_events_is_sound_and_empty() {
    let folder = Folder::new();
    assert_eq!(Daemon::start(&folder, &config(&folder)).stop().code, Some(0));
    for command in COMMANDS {
        let said = log(&folder, command);
        assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
        assert_eq!(said.stderr, "", "{command}");
    }
    assert_eq!(json(&log(&folder, "stats --json"))[0]["total"]["events"], 0);
}

#[test]
fn what_is_not_there_is_said() {
    let folder = Folder::new();
    folder.write("consentd.toml", config(&folder));
    for command in COMMANDS {
        let said = log(&folder, command);
        assert_eq!(said.code, Some(1), "{command}");
        assert!(said.stderr.contains("there is no log in "), "{command}: {}", said.stderr);
        assert!(!folder.path("state").exists(), "{command} created something");
    }
    folder.write("consentd.toml", Config::new("deny"));
    for command in COMMANDS {
        let said = log(&folder, command);
        assert_eq!(said.code, Some(2), "{command}");
        assert!(said.stderr.contains("the log is switched off"), "{command}: {}", said.stderr);
    }
    assert_eq!(log(&folder, "verify --nonsense").code, Some(2));
    folder.write("consentd.toml", "[consent]\n");
    assert_eq!(log(&folder, "verify").code, Some(2));
    folder.write("consentd.toml", config(&folder).admin(NOBODY));
    let said = log(&folder, "dead-letters replay");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("does it run?"), "{}", said.stderr);
}

#[test]
fn whoever_may_not_read_it_is_told() {
    let folder = Folder::new();
    assert_eq!(with_ten(&folder).stop().code, Some(0));
    let (log_folder, config) = (folder.path("state/log"), folder.path("consentd.toml"));
    let ended = if rustix::process::geteuid().is_root() {
        // Everything is readable for root, so somebody else asks, who needs a binary within reach.
        let binary = folder.path("consentd");
        fs::copy(consentd().get_program(), &binary).unwrap();
        for (path, mode) in [(&folder.path("."), 0o755), (&binary, 0o755), (&config, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut command = Command::new(&binary);
        command.args(["log", "verify", "--config"]).arg(&config);
        run_to_end(command.uid(NOBODYS_ID).gid(NOBODYS_ID))
    } else {
        fs::set_permissions(&log_folder, fs::Permissions::from_mode(0o000)).unwrap();
        let ended = run_to_end(consentd().args(["log", "verify", "--config"]).arg(&config));
        fs::set_permissions(&log_folder, fs::Permissions::from_mode(0o700)).unwrap();
        ended
    };
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("become the user of the daemon"), "{}", ended.stderr);
}

#[test]
fn dead_letters_are_verified_too() {
    let folder = Folder::new();
    let sink = HttpSink::start(|_| Reply::now(400));
    let config = Config::new("deny").categories(&["A"]).log(&folder, "").http(
        "picky",
        &sink.url(),
        "categories = [\"A\"]",
    );
    let daemon = Daemon::start(&folder, &config);
    assert_eq!(post(daemon.source("http"), events("e", 3, 0, AGREED)).status, 200);
    daemon.settled(3);
    assert_eq!(log(&folder, "verify --dead-letters").code, Some(0));
    let stats = &json(&log(&folder, "stats --dead-letters --json"))[0];
    assert_eq!((&stats["log"], &stats["total"]["events"]), (&"delivery".into(), &3.into()));
    let each = json(&log(&folder, "inspect --dead-letters --events"));
    assert_eq!((each.len(), &each[0]["reason"]), (3, &"rejected_by_destination".into()));
    let files = files(&folder.path("state/dead-letters/delivery"));
    let path = files.into_keys().find(|path| path.is_file()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(log(&folder, "verify --dead-letters").code, Some(1));
}

#[test]
fn what_is_erased_is_not_shown_before_it_is_removed_either() {
    let folder = Folder::new();
    let daemon = with_ten(&folder);
    let of = |user: &str| marked(user, AGREED, &format!(",\"userId\":\"{user}\"")) + "\n";
    assert_eq!(post(daemon.source("http"), of("anna") + &of("bert")).status, 200);
    daemon.stop();
    let mut erase = consentd();
    erase.args(["erase", "--user", "anna", "--config"]).arg(folder.path("consentd.toml"));
    let ended = run_to_end(&mut erase);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for shown in ["inspect --events", "inspect --events --with-lines"] {
        let said = log(&folder, shown);
        assert_eq!(json(&said).len(), 11, "{}", said.stdout);
        assert!(!said.stdout.contains("anna"), "{}", said.stdout);
    }
    assert!(log(&folder, "inspect --events --with-lines").stdout.contains("bert"));
}
