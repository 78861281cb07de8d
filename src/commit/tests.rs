//! Readers against a log on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;

use super::catch_up::CatchUp;
use super::review::review;
use super::state::Log;
use crate::destination::{Amount, Erasures, Memory, Outlet, OutletId};
use crate::log::{
    BlockBuilder, BlockHead, Disk, Entry, FileSystem, Folder, Kind, LogFile, Open, Options,
    Position, Reader, StableId, SyncMode, Tombstones, Writer,
};
use crate::metrics::DestinationCounters;
use crate::route::{
    CategorySpec, DestinationSpec, Handle, Match, Missing, RoutingTable, SourceSpec, TableSpec,
    Unmapped,
};
use crate::shard::Plan;

const DESTINATIONS: u32 = 9;

fn plans() -> Handle<Plan> {
    Handle::new(Arc::new(Plan::new(table(1, None), Vec::new())))
}

/// With two destinations, if it is said whether they need what nobody agreed to.
fn table(version: u64, strict: Option<bool>) -> RoutingTable {
    let destination = |name: &str, strict| DestinationSpec {
        name: name.into(),
        enabled: true,
        sources: None,
        enforce: true,
        categories: if strict { vec!["Ads".into()] } else { Vec::new() },
        match_mode: Match::All,
        integration: name.into(),
        receives_preferences: false,
        types: None,
    };
    let spec = TableSpec {
        version,
        categories: vec![CategorySpec { id: "Ads".into(), name: "Ads".into(), enabled: true }],
        locations: vec!["/context/consent/categoryPreferences".into()],
        missing: if strict == Some(true) { Missing::Deny } else { Missing::Allow },
        unmapped: Unmapped::Allow,
        sources: vec![SourceSpec { name: "web".into(), missing: None }],
        destinations: strict.map_or(Vec::new(), |strict| {
            ["crm", "lake"].map(|name| destination(name, strict)).into()
        }),
    };
    RoutingTable::compile(&spec).unwrap()
}

/// A line of about 1 KB.
fn line(number: usize) -> String {
    let user = number % 10;
    format!("{{\"n\":{number},\"userId\":\"u{user}\",\"x\":\"{}\"}}", "x".repeat(1000))
}

/// A log whose every event is for all destinations: `blocks` of `lines` each.
fn log(root: &Path, blocks: usize, lines: usize) -> Arc<Log> {
    log_on(Arc::new(Disk), root, blocks, lines)
}

fn log_on(disk: Arc<dyn FileSystem>, root: &Path, blocks: usize, lines: usize) -> Arc<Log> {
    let folder = Folder::open(disk, root, Kind::Events).unwrap();
    let options = Options {
        segment_bytes: 16 * 1024,
        max_bytes: 1 << 30,
        free_floor_bytes: 0,
        sync: SyncMode::Off,
    };
    let (mut writer, _) = Writer::open(folder, options, Position::START, &mut |_| {}).unwrap();
    let ids: Vec<_> = (1..=DESTINATIONS).map(StableId).collect();
    for block in 0..blocks {
        let head = BlockHead {
            source: "web",
            reason: "",
            deletions: false,
            received_unix_ms: 1,
            table_version: 1,
            table_hash: [0; 16],
        };
        let mut builder = BlockBuilder::new();
        builder.begin(&head, Vec::new());
        for number in block * lines..(block + 1) * lines {
            let decision = builder.decision(&ids).unwrap();
            builder.push(decision, line(number).as_bytes()).unwrap();
        }
        writer.append(&builder.finish().unwrap()).unwrap();
        writer.commit(1).unwrap();
    }
    let (orders, _) = crossbeam::channel::bounded(1);
    Arc::new(Log::new(writer.folder().clone(), writer.end(), writer.size_bytes(), orders))
}

/// A destination that begins at the start of the log.
fn reader(log: &Arc<Log>, number: u32, room: usize, waiting: u64) -> Arc<Outlet> {
    let counters = Arc::new(DestinationCounters::default());
    let (id, memory) = (OutletId(number.into()), Memory::new(1 << 30));
    let stable = Some(StableId(number));
    let outlet = Outlet::new(id, number.to_string(), room, false, counters, &memory, stable);
    outlet.add_unread(waiting);
    CatchUp::start(Arc::clone(&outlet), Arc::clone(log), plans(), Vec::new(), || Position::START);
    outlet
}

/// Takes `count` lines, and then no more come.
async fn take(outlet: &Outlet, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            outlet.ready(Amount::ANY).await.unwrap();
            // Or it would be ready at once for ever.
            let _ = outlet.was_pressed();
            while let Some(parcel) = outlet.try_take() {
                let text = str::from_utf8(parcel.chunk.bytes()).unwrap();
                taken.extend(text.lines().map(str::to_owned));
            }
        }
    };
    timeout(Duration::from_secs(20), all).await.expect("it was given everything");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(outlet.try_take().is_none(), "nothing twice");
    taken
}

fn last_segment(root: &Path) -> PathBuf {
    let names = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.is_file()).max().unwrap()
}

#[tokio::test]
async fn those_that_are_down_keep_no_turn_to_read() {
    let root: TempDir = tempfile::tempdir().unwrap();
    let log = log(root.path(), 1, 320);
    let expected: Vec<_> = (0..320).map(line).collect();
    // As many as there are turns, and none of them has room for a whole block.
    let down: Vec<_> =
        (1..DESTINATIONS).map(|number| reader(&log, number, 64 * 1024, 320)).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let well = reader(&log, DESTINATIONS, 64 * 1024, 320);
    assert!(take(&well, 320).await == expected, "in order, each once");
    for outlet in down {
        assert!(take(&outlet, 320).await == expected, "in order, each once");
        assert_eq!(outlet.unread(), 0);
    }
}

#[tokio::test]
async fn what_was_read_before_the_disk_failed_is_given_all_the_same() {
    let root: TempDir = tempfile::tempdir().unwrap();
    let log = log(root.path(), 60, 1);
    let segment = last_segment(root.path());
    let aside = root.path().join("aside");
    std::fs::rename(&segment, &aside).unwrap();
    std::fs::create_dir(&segment).unwrap();
    let outlet = reader(&log, 1, 1 << 20, 60);
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::remove_dir(&segment).unwrap();
    std::fs::rename(&aside, &segment).unwrap();
    let expected: Vec<_> = (0..60).map(line).collect();
    assert!(take(&outlet, 60).await == expected, "in order, each once");
}

/// The disk, and a fault in our own code that shows when something is read.
#[derive(Default)]
struct Trap {
    armed: AtomicBool,
}

impl FileSystem for Trap {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn LogFile>> {
        assert!(how != Open::Read || !self.armed.swap(false, Relaxed), "the trap");
        Disk.open(path, how)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        Disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        Disk.free_bytes(dir)
    }
}

#[tokio::test]
async fn a_panic_while_the_log_is_read_does_not_end_the_reading() {
    let root: TempDir = tempfile::tempdir().unwrap();
    let trap = Arc::new(Trap::default());
    let log = log_on(Arc::clone(&trap) as _, root.path(), 60, 1);
    trap.armed.store(true, Relaxed);
    let outlet = reader(&log, 1, 1 << 20, 60);
    let expected: Vec<_> = (0..60).map(line).collect();
    assert!(take(&outlet, 60).await == expected, "in order, each once");
    assert!(!trap.armed.load(Relaxed));
}

#[tokio::test]
async fn a_reader_that_dies_is_not_missed_in_silence() {
    let root: TempDir = tempfile::tempdir().unwrap();
    let log = log(root.path(), 1, 1);
    let counters = Arc::new(DestinationCounters::default());
    let memory = Memory::new(1 << 20);
    let stable = Some(StableId(1));
    let outlet = Outlet::new(OutletId(1), "crm".into(), 1 << 20, false, counters, &memory, stable);
    let reader =
        CatchUp::start(outlet, Arc::clone(&log), plans(), Vec::new(), || panic!("a fault"));
    assert!(!log.has_dead_reader());
    assert!(reader.unwrap().await.is_err());
    assert!(log.has_dead_reader());
}

/// What new rules touch of a log of 40 blocks of 10 lines, of which one destination has had some blocks
/// and another one none: the first one's events that were looked at and refused, and whether that is all.
fn reviewed(blocks_done: usize, erased: Option<&str>, until: Instant) -> (u64, u64, bool) {
    let root: TempDir = tempfile::tempdir().unwrap();
    let log = log(root.path(), 40, 10);
    if let Some(user) = erased {
        let mut tombstones = Tombstones::open(log.folder(), [1; 32]).unwrap();
        tombstones.erase(Some(user.as_bytes()), None, log.end(), 1).unwrap();
        log.publish_erasures(Erasures::new(1, tombstones.marks().clone()));
    }
    let mut reader = Reader::new(log.folder().clone(), Position::START);
    for _ in 0..blocks_done {
        reader.next(log.end()).unwrap().unwrap();
    }
    let memory = Memory::new(1 << 20);
    let outlet = |number, name: &str, from| {
        let (id, counters) = (OutletId(u64::from(number)), Arc::default());
        let stable = Some(StableId(number));
        let outlet = Outlet::new(id, name.into(), 1 << 20, false, counters, &memory, stable);
        outlet.begin_at(from);
        outlet
    };
    let outlets = [outlet(1, "crm", reader.position()), outlet(2, "lake", Position::START)];
    let plan = |version, strict| Plan::new(table(version, Some(strict)), outlets.to_vec());
    let review = review(&log, &plan(1, false), &plan(2, true), until).unwrap();
    let waiting = review.waiting[&StableId(1)];
    (waiting.looked_at, waiting.refused, review.complete)
}

#[test]
fn what_new_rules_touch_is_looked_at_from_the_cursor_on_and_no_longer_than_allowed() {
    let later = Instant::now() + Duration::from_secs(60);
    assert_eq!(reviewed(0, None, later), (400, 400, true));
    assert_eq!(reviewed(25, None, later), (150, 150, true));
    assert_eq!(reviewed(0, Some("u3"), later), (360, 360, true));
    assert_eq!(reviewed(0, None, Instant::now()), (10, 10, false));
}
