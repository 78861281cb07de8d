//! Every bit of every file is flipped, every file is cut at every byte: the log opens, what is read is
//! what was stored, and no more is lost than the commit that was hit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use consentd::log::{
    Cursors, Folder, Identities, LogError, Position, Reader, StableId, SyncMode, Tombstones,
    Writer, verify,
};

use crate::memory::Memory;
use crate::world::{Event, encode, folder, identity, number_of, options, user_of};

/// What a log held when it was whole.
struct Sample {
    disk: Memory,
    ids: Vec<StableId>,
    cursors: [Position; 2],
    /// Blocks by position: their commit, and the numbers of their events.
    blocks: BTreeMap<Position, (usize, Vec<u64>)>,
    lines: BTreeMap<u64, String>,
}

/// Three segments of a few commits of one or two blocks each.
fn sample() -> Sample {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut identities = Identities::open(&folder, true).unwrap();
    let ids = identities.resolve(&[identity(0, 0), identity(1, 1)]).unwrap();
    let (mut cursors, _) = Cursors::open(&folder, &ids).unwrap();
    let (mut writer, _) =
        Writer::open(folder.clone(), options(600, SyncMode::Commit), Position::START, &mut |_| {})
            .unwrap();
    let mut blocks = BTreeMap::new();
    let mut lines = BTreeMap::new();
    let mut number = 0;
    let mut positions = Vec::new();
    for commit in 0..6 {
        for _ in 0..=commit % 2 {
            let events: Vec<Event> = (0..2)
                .map(|user| {
                    number += 1;
                    let to = ids.iter().copied().take(user as usize + 1).collect();
                    Event { number, user, padding: 20, to }
                })
                .collect();
            let position = writer.append(&encode("web", &events)).unwrap();
            positions.push(position);
            blocks.insert(position, (commit, events.iter().map(|event| event.number).collect()));
            lines.extend(events.iter().map(|event| (event.number, event.line())));
        }
        writer.commit(1).unwrap();
    }
    let kept = [positions[1], positions[3]];
    cursors.begin(ids[0], positions[0]);
    cursors.begin(ids[1], positions[2]);
    cursors.save().unwrap();
    cursors.begin(ids[0], kept[0]);
    cursors.begin(ids[1], kept[1]);
    cursors.save().unwrap();
    let mut tombstones = Tombstones::open(&folder, [3; 32]).unwrap();
    tombstones.erase(Some(b"u1"), None, positions[2], 1).unwrap();
    Sample { disk, ids, cursors: kept, blocks, lines }
}

/// What a start on the damaged disk finds, with the losses that it counted.
struct Found {
    blocks: BTreeMap<Position, Vec<u64>>,
    damaged_bytes: u64,
    counted_events: u64,
    is_uncounted: bool,
}

fn start(sample: &Sample, disk: &Memory) -> Result<Found, LogError> {
    let folder = folder(disk)?;
    let mut identities = Identities::open(&folder, folder.segments()?.is_empty())?;
    let ids = identities.resolve(&[identity(0, 0), identity(1, 1)])?;
    assert_eq!(ids, sample.ids, "IDs are what they were");
    let new = identities.resolve(&[identity(5, 5)])?;
    assert!(!ids.contains(&new[0]));
    let (cursors, report) = Cursors::open(&folder, &ids)?;
    for (place, id) in ids.iter().enumerate() {
        let at = cursors.get(*id).unwrap();
        assert!(at <= sample.cursors[place], "a cursor that passes what is not settled");
        assert!(report.damaged_slots == 1 || at == sample.cursors[place]);
    }
    let tombstones = Tombstones::open(&folder, [3; 32])?;
    let first = *sample.blocks.keys().next().unwrap();
    assert!(tombstones.is_erased(Some(b"u1"), None, first), "an erasure is forgotten");
    let options = options(600, SyncMode::Commit);
    let (mut writer, report) = Writer::open(folder.clone(), options, report.highest, &mut |_| {})?;
    // It takes more, behind everything else.
    let events = [Event { number: 99, user: 0, padding: 0, to: ids.iter().copied().collect() }];
    let position = writer.append(&encode("later", &events)).unwrap();
    writer.commit(2).unwrap();
    assert!(position > *sample.blocks.keys().next_back().unwrap());
    let (blocks, damage) = read(sample, &folder, writer.end());
    let damage = [damage, report.cut];
    Ok(Found {
        blocks,
        damaged_bytes: damage.iter().map(|damage| damage.bytes).sum(),
        counted_events: damage.iter().map(|damage| damage.events).sum(),
        is_uncounted: damage.iter().any(|damage| damage.uncounted > 0),
    })
}

fn read(
    sample: &Sample,
    folder: &Folder,
    end: Position,
) -> (BTreeMap<Position, Vec<u64>>, consentd::log::Damage) {
    let mut reader = Reader::new(folder.clone(), Position::START);
    let mut blocks = BTreeMap::new();
    while let Some(block) = reader.next(end).unwrap() {
        if block.source() == "later" {
            continue;
        }
        let mut numbers = Vec::new();
        for record in block.records() {
            let number = number_of(record.line);
            assert_eq!(record.line, sample.lines[&number].as_bytes(), "a wrong payload");
            let to: Vec<StableId> =
                block.decisions().nth(record.decision as usize).unwrap().ids().collect();
            let expected = if user_of(record.line) == b"u0" { 1 } else { 2 };
            assert_eq!(to, sample.ids[..expected], "a wrong decision");
            numbers.push(number);
        }
        blocks.insert(block.position(), numbers);
    }
    (blocks, reader.damage())
}

/// Asserts that only blocks of the commits in `may_miss` are missing, and that this was counted.
fn check(sample: &Sample, found: &Found, may_miss: &[usize]) {
    let mut missing = 0;
    for (position, (commit, numbers)) in &sample.blocks {
        match found.blocks.get(position) {
            Some(read) => assert_eq!(read, numbers),
            None => {
                assert!(may_miss.contains(commit), "commit {commit} is gone, may: {may_miss:?}");
                missing += numbers.len() as u64;
            }
        }
    }
    if missing > 0 {
        assert!(found.damaged_bytes > 0, "a loss that was not counted");
        assert!(found.counted_events == missing || found.is_uncounted, "counted wrongly");
    } else {
        assert_eq!(found.counted_events, 0);
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "segment")
}

/// The commits of which a byte stands in `range` of the segment at `path`.
fn commits_in(sample: &Sample, path: &Path, from: usize, to: usize) -> Vec<usize> {
    let number =
        u32::from_str_radix(&path.file_stem().unwrap().to_str().unwrap()[..8], 16).unwrap();
    let checks = verify(&folder(&sample.disk).unwrap(), |_| {}).unwrap();
    assert!(checks.iter().all(|check| check.damage.is_none()));
    let in_segment: Vec<(usize, usize)> = sample
        .blocks
        .iter()
        .filter(|(position, _)| position.segment() == number)
        .map(|(position, (commit, _))| (position.offset() as usize, *commit))
        .collect();
    // A commit reaches from its header, 40 bytes before its first block, to that of the next.
    let mut frames: BTreeMap<usize, usize> = BTreeMap::new();
    for (offset, commit) in in_segment {
        let start = frames.entry(commit).or_insert(offset - 40);
        *start = (*start).min(offset - 40);
    }
    let mut starts: Vec<(usize, usize)> = frames.iter().map(|(c, start)| (*start, *c)).collect();
    starts.sort_unstable();
    let ends: Vec<usize> = starts.iter().skip(1).map(|(s, _)| *s).chain([usize::MAX]).collect();
    let hit = starts.iter().zip(ends).filter(|((start, _), end)| *start < to && from < *end);
    hit.map(|((_, commit), _)| *commit).collect()
}

fn paths(sample: &Sample) -> Vec<PathBuf> {
    let paths = sample.disk.paths();
    assert!(paths.iter().filter(|path| is_segment(path)).count() >= 3);
    assert_eq!(paths.len() - paths.iter().filter(|path| is_segment(path)).count(), 6);
    paths
}

#[track_caller]
fn without_panic<T>(what: &str, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{what}"))
}

#[test]
fn every_flipped_bit_costs_one_commit_at_most() {
    let sample = sample();
    let mut lost = 0;
    for path in paths(&sample) {
        for byte in 0..sample.disk.content(&path).len() {
            let may_miss = if is_segment(&path) {
                commits_in(&sample, &path, byte, byte + 1)
            } else {
                Vec::new()
            };
            assert!(may_miss.len() <= 1);
            for bit in 0..8 {
                let disk = sample.disk.copy();
                disk.damage(&path, |content| content[byte] ^= 1 << bit);
                let what = format!("{}, byte {byte}, bit {bit}", path.display());
                without_panic(&what, || {
                    let found = start(&sample, &disk).unwrap();
                    check(&sample, &found, &may_miss);
                    lost += usize::from(found.blocks.len() < sample.blocks.len());
                });
            }
        }
    }
    assert!(lost > 1000, "frames were hit");
}

#[test]
fn every_cut_file_costs_what_was_cut() {
    let sample = sample();
    for path in paths(&sample) {
        let whole = sample.disk.content(&path).len();
        for len in 0..whole {
            let disk = sample.disk.copy();
            disk.damage(&path, |content| content.truncate(len));
            let what = format!("{}, {len} bytes", path.display());
            without_panic(&what, || {
                let found = start(&sample, &disk).unwrap();
                let may_miss = if is_segment(&path) {
                    commits_in(&sample, &path, len, whole)
                } else {
                    Vec::new()
                };
                for (position, (commit, numbers)) in &sample.blocks {
                    match found.blocks.get(position) {
                        Some(read) => assert_eq!(read, numbers),
                        None => assert!(may_miss.contains(commit), "commit {commit} is gone"),
                    }
                }
            });
        }
    }
}

/// Stretches of zeros and of noise, as a bad sector leaves them.
#[test]
fn overwritten_stretches_cost_what_they_cover() {
    let sample = sample();
    let mut rng = fastrand::Rng::with_seed(11);
    for path in paths(&sample).into_iter().filter(|path| is_segment(path)) {
        let whole = sample.disk.content(&path).len();
        for _ in 0..400 {
            let from = rng.usize(0..whole);
            let to = rng.usize(from..whole) + 1;
            let zeros = rng.bool();
            let disk = sample.disk.copy();
            disk.damage(&path, |content| {
                content[from..to].fill_with(|| if zeros { 0 } else { rng.u8(..) });
            });
            let may_miss = commits_in(&sample, &path, from, to);
            let found = start(&sample, &disk).unwrap();
            check(&sample, &found, &may_miss);
        }
    }
}

/// What an event says can't be taken for a frame, not even after damage right before it.
#[test]
fn a_frame_inside_an_event_is_not_believed() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let open = || {
        let options = options(1 << 20, SyncMode::Commit);
        Writer::open(folder.clone(), options, Position::START, &mut |_| {}).unwrap().0
    };
    let to: std::collections::BTreeSet<StableId> = [StableId(1)].into();
    let mut writer = open();
    writer.append(&encode("web", &[Event { number: 1, user: 0, padding: 0, to }])).unwrap();
    writer.commit(1).unwrap();
    let path = disk.paths().into_iter().find(|path| is_segment(path)).unwrap();
    // A whole frame of the log itself, at another place.
    let forged = disk.content(&path)[128..].to_vec();
    disk.damage(&path, |content| {
        content.extend_from_slice(&[0; 8]);
        content.extend_from_slice(&forged);
    });
    drop(writer);
    let (writer, report) = Writer::open(
        folder.clone(),
        options(1 << 20, SyncMode::Commit),
        Position::START,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(report.cut.bytes, 8 + forged.len() as u64);
    let mut reader = Reader::new(folder.clone(), Position::START);
    let mut blocks = 0;
    while reader.next(writer.end()).unwrap().is_some() {
        blocks += 1;
    }
    assert_eq!(blocks, 1);
}

#[test]
fn lost_files_are_told_apart() {
    let sample = sample();
    let named = |name: &str| Path::new(crate::world::LOG).join(name);
    // Cursors: from the start again.
    let disk = sample.disk.copy();
    disk.remove(&named("cursors.a"));
    disk.remove(&named("cursors.b"));
    let (cursors, report) = Cursors::open(&folder(&disk).unwrap(), &sample.ids).unwrap();
    assert_eq!(cursors.get(sample.ids[0]), Some(Position::START));
    assert_eq!(report.without, sample.ids);
    assert_eq!(cursors.durable_low_water(), Position::START, "nothing may be released");
    // Identities: nobody can guess them.
    disk.remove(&named("identities.a"));
    disk.damage(&named("identities.b"), |content| content[9] ^= 1);
    let lost = Identities::open(&folder(&disk).unwrap(), false).err().unwrap();
    assert!(matches!(lost, LogError::Lost { .. }), "{lost}");
    assert!(lost.to_string().contains("move the log away"), "{lost}");
    // Erasures: nor them.
    for copy in ["tombstones.a", "tombstones.b"] {
        disk.damage(&named(copy), |content| content.truncate(30));
    }
    assert!(Tombstones::open(&folder(&disk).unwrap(), [0; 32]).is_err());
}

/// A log of a later version is left alone.
#[test]
fn a_newer_format_is_refused() {
    let sample = sample();
    let path = paths(&sample).into_iter().find(|path| is_segment(path)).unwrap();
    sample.disk.damage(&path, |content| {
        content[8] = 2;
        let checksum = crc32c::crc32c(&content[..124]);
        content[124..128].copy_from_slice(&checksum.to_le_bytes());
    });
    let before = sample.disk.content(&path);
    let refused = start(&sample, &sample.disk).err().unwrap();
    assert!(matches!(refused, LogError::Newer { version: 2, .. }), "{refused}");
    assert_eq!(sample.disk.content(&path), before);
}
