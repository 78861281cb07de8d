//! Syncs of a model beside a bare loop that fetches the same query through the same driver and throws
//! the rows away: rows a second on the wall, in turns, the CPU time of the daemon and of the sync's process,
//! and the largest RSS of the latter.
//!
//! `ROWS` and `ROUNDS` say how much. Without more it is the embedded engine; with `DRIVER`, `URI` and,
//! where the driver is not found by its name, `DRIVER_PATH`, another one (a table `consentd_bench` is
//! made there).
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use consentd::config::{self, Config};
use consentd::warehouse;
use serde_json::Value;

const ADMIN: &str = "127.0.0.1:19610";
const QUERY: &str = "select * from consentd_bench";

fn main() {
    let rows: u64 = number("ROWS", 1_000_000);
    let rounds: usize = number("ROUNDS", 3) as usize;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consentd.toml");
    fs::write(&path, text(folder.path())).unwrap();
    // The embedded engine opens what is there.
    fs::write(folder.path().join("bench.db"), "").unwrap();
    let config = config::load(&path).unwrap().config;
    fill(&config, rows);
    let (mut first, mut unchanged, mut rss) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let _ = fs::remove_dir_all(folder.path().join("state"));
        let daemon = Daemon::start(&path);
        let bare = [bare(&config, rows)];
        let added = daemon.sync(rows, "added");
        let same = daemon.sync(rows, "unchanged");
        let bare = f64::midpoint(bare[0], self::bare(&config, rows));
        rss = rss.max(added.rss_kib).max(same.rss_kib);
        println!("bare {:.0} rows/s", rows as f64 / bare);
        for (what, sync) in [("first sync", &added), ("unchanged", &same)] {
            println!(
                "{what} {:.0} rows/s ({:.2}), CPU seconds: daemon {:.2}, sync {:.2}",
                rows as f64 / sync.seconds,
                bare / sync.seconds,
                sync.daemon_cpu,
                sync.child_cpu,
            );
        }
        first.push(bare / added.seconds);
        unchanged.push(bare / same.seconds);
    }
    println!(
        "{rows} rows, medians of {rounds}: first sync {:.2} of the bare loop, unchanged {:.2}; largest \
         RSS of the sync {} MiB",
        median(first),
        median(unchanged),
        rss / 1024
    );
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// The config, with everything under `folder`.
fn text(folder: &Path) -> String {
    let folder = folder.display();
    let var = |name: &str| std::env::var(name).ok();
    let driver = var("DRIVER").unwrap_or_else(|| "sqlite".to_owned());
    let uri = var("URI").unwrap_or_else(|| format!("{folder}/bench.db"));
    let path = var("DRIVER_PATH").map_or_else(String::new, |path| format!("path = \"{path}\""));
    format!(
        r#"
[daemon]
data_dir = "{folder}/state"
[admin]
listen = "{ADMIN}"
[consent]
missing = "deny"
[[categories]]
id = "Advertising"
name = "Advertising"
[[categories]]
id = "Analytics"
name = "Analytics"
[destinations.crm]
type = "blackhole"
categories = ["Analytics"]
[destinations.ads]
type = "blackhole"
categories = ["Advertising"]
[warehouses.main]
driver = "{driver}"
uri = "{uri}"
{path}
[models.bench]
warehouse = "main"
query = "{QUERY}"
unique_id = "id"
consent = {{ Advertising = "ads", Analytics = "analytics" }}
send = ["added", "updated", "deleted"]
[models.bench.event]
type = "identify"
userId = "$id"
traits = {{ email = "$email", plan = "$plan", score = "$score", city = "$city" }}
"#
    )
}

/// Makes the table, of rows that are told apart by more than their numbers.
fn fill(config: &Config, rows: u64) {
    let mut connection = warehouse::open_to_write(&config.warehouses[0]).unwrap();
    let _ = connection.execute("drop table consentd_bench");
    connection
        .execute(
            "create table consentd_bench (id bigint primary key, email text, plan text, ads boolean, \
             analytics boolean, score double precision, created text, city text)",
        )
        .unwrap();
    let (plan, city) =
        ("case i % 3 when 0 then 'free' when 1 then 'pro' else 'team' end", "'Berlin'");
    connection
        .execute(&format!(
            "insert into consentd_bench with recursive n(i) as (select 0 union all select i + 1 from n \
             where i + 1 < {rows}) select i, 'user' || i || '@example.com', {plan}, i % 3 = 0, i % 2 = 0, \
             i * 0.37, '2026-01-01T00:00:00Z', {city} from n"
        ))
        .unwrap();
}

/// Seconds.
fn bare(config: &Config, rows: u64) -> f64 {
    let started = Instant::now();
    let mut connection = warehouse::open(&config.warehouses[0]).unwrap();
    let mut batches = connection.query(QUERY).unwrap();
    let mut fetched = 0;
    while let Some(batch) = batches.next() {
        fetched += batch.unwrap().num_rows() as u64;
    }
    assert_eq!(fetched, rows);
    started.elapsed().as_secs_f64()
}

struct Daemon(Child);

/// What a sync took.
struct Took {
    seconds: f64,
    rss_kib: u64,
    daemon_cpu: f64,
    child_cpu: f64,
}

impl Daemon {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consentd"));
        let command = command.args(["run", "--log-level", "warn", "--config"]).arg(config);
        let daemon = Self(command.stdin(Stdio::null()).spawn().unwrap());
        while TcpStream::connect(ADMIN).is_err() {
            sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// All rows must count as `change`.
    fn sync(&self, rows: u64, change: &str) -> Took {
        let (over, largest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watched = (Arc::clone(&over), Arc::clone(&largest), self.0.id());
        let watch = spawn(move || {
            let mut child = None;
            while !watched.0.load(Relaxed) {
                sleep(Duration::from_millis(20));
                // Looked for once: to look through all processes takes longer than a sync has time for.
                child = child.or_else(|| child_of(watched.2));
                watched.1.fetch_max(child.and_then(peak_rss).unwrap_or(0), Relaxed);
            }
        });
        let before = history(&ask("GET", "/syncs/bench")).len();
        let cpu = self.cpu();
        ask("POST", "/syncs/bench");
        let record = loop {
            sleep(Duration::from_millis(50));
            let history = history(&ask("GET", "/syncs/bench"));
            if history.len() > before {
                break history[0].clone();
            }
        };
        over.store(true, Relaxed);
        watch.join().unwrap();
        assert_eq!((&record["state"], &record[change]), (&"done".into(), &rows.into()), "{record}");
        let time = |key: &str| record[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let took = time("end").duration_since(time("start"));
        let now = self.cpu();
        Took {
            seconds: took.as_secs_f64(),
            rss_kib: largest.load(Relaxed),
            daemon_cpu: now.0 - cpu.0,
            child_cpu: now.1 - cpu.1,
        }
    }

    /// CPU seconds of the daemon, and of its children that have ended.
    fn cpu(&self) -> (f64, f64) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // Behind the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let sum = |at: usize| {
            let two = fields[at..at + 2].iter().map(|field| field.parse::<f64>().unwrap());
            two.sum::<f64>() / ticks
        };
        (sum(11), sum(13))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn history(answer: &Value) -> Vec<Value> {
    answer["history"].as_array().cloned().unwrap_or_default()
}

fn ask(method: &str, path: &str) -> Value {
    let mut socket = TcpStream::connect(ADMIN).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body.trim()).unwrap_or_default()
}

/// A process whose parent this is.
fn child_of(parent: u32) -> Option<u32> {
    let parent = format!("PPid:\t{parent}");
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let mut ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|id| status(*id).is_some_and(|status| status.lines().any(|line| line == parent)))
}

/// The largest RSS of a process so far, in KiB.
fn peak_rss(id: u32) -> Option<u64> {
    let status = status(id)?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn status(id: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{id}/status")).ok()
}
