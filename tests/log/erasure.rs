//! Erased people: not delivered from the moment on, then physically gone; everybody else unharmed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use consentd::log::{
    Folder, Position, Reader, StableId, SyncMode, Tombstones, Writer, rewrite_segment, verify,
};

use crate::memory::{Crash, Fault, Memory};
use crate::world::{Event, encode, folder, number_of, options, user_of};

struct Log {
    disk: Memory,
    folder: Folder,
    writer: Writer,
    tombstones: Tombstones,
    positions: Vec<Position>,
}

fn open(disk: &Memory) -> (Folder, Writer, Tombstones) {
    let folder = folder(disk).unwrap();
    let options = options(1500, SyncMode::Commit);
    let (writer, _) = Writer::open(folder.clone(), options, Position::START, &mut |_| {}).unwrap();
    let tombstones = Tombstones::open(&folder, [5; 32]).unwrap();
    (folder, writer, tombstones)
}

/// Users 0 to 3 take turns, in three segments.
fn log() -> Log {
    let disk = Memory::new();
    let (folder, mut writer, tombstones) = open(&disk);
    let mut positions = Vec::new();
    let to: BTreeSet<StableId> = [StableId(1), StableId(4)].into();
    for block in 0..12_u64 {
        let events: Vec<Event> = (0..4)
            .map(|user| Event {
                number: 4 * block + u64::from(user),
                user,
                padding: 10,
                to: to.clone(),
            })
            .collect();
        positions.push(writer.append(&encode("web", &events)).unwrap());
        writer.commit(1).unwrap();
    }
    writer.roll().unwrap();
    assert!(writer.segments().count() >= 3);
    Log { disk, folder, writer, tombstones, positions }
}

impl Log {
    fn rewrite(&mut self) -> u64 {
        let numbers: Vec<u32> = self.writer.closed_segments().map(|s| s.number).collect();
        let mut erased = 0;
        for number in numbers {
            let rewritten = rewrite_segment(&self.folder, number, |block, line| {
                self.tombstones.is_erased(Some(user_of(line)), None, block.position())
            });
            if let Some(rewritten) = rewritten.unwrap() {
                erased += rewritten.erased;
                self.writer.adopt(&rewritten).unwrap();
            }
        }
        erased
    }

    fn read(&self, from: Position) -> Vec<(Position, u64)> {
        let mut reader = Reader::new(self.folder.clone(), from);
        let mut events = Vec::new();
        while let Some(block) = reader.next(self.writer.end()).unwrap() {
            assert_eq!(block.count_for(StableId(4)), block.records().count() as u64);
            events.extend(block.records().map(|r| (block.position(), number_of(r.line))));
        }
        assert!(reader.damage().is_none());
        events
    }
}

/// All bytes that any name on the disk leads to.
fn everything(disk: &Memory) -> Vec<u8> {
    disk.paths().iter().flat_map(|path| disk.content(path)).collect()
}

fn occurs(needle: &str, bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle.as_bytes()).is_some()
}

#[test]
fn erased_events_are_gone_and_the_others_keep_their_places() {
    let mut log = log();
    let before = log.read(Position::START);
    let limit = log.positions[9];
    log.tombstones.erase(Some(b"u2"), Some(b"a-2"), limit, 1).unwrap();
    assert!(!occurs("a-2", &everything(&log.disk)), "the list of the erased names nobody");
    assert!(occurs("\"u2\"", &everything(&log.disk)));

    // A reader that began before goes on, and asks the tombstones.
    let mut old = Reader::new(log.folder.clone(), Position::START);
    assert!(old.next(log.writer.end()).unwrap().is_some());
    assert_eq!(log.rewrite(), 9);
    let mut blocks = 1;
    while old.next(log.writer.end()).unwrap().is_some() {
        blocks += 1;
    }
    assert_eq!(blocks, 12);
    assert!(old.damage().is_none());

    let is_kept = |(position, number): &&(Position, u64)| number % 4 != 2 || *position >= limit;
    let expected: Vec<_> = before.iter().filter(is_kept).copied().collect();
    assert_eq!(log.read(Position::START), expected);
    // A cursor in the middle still stands where it stood.
    let middle = log.positions[5];
    let later: Vec<_> = expected.iter().filter(|(at, _)| *at >= middle).copied().collect();
    assert_eq!(log.read(middle), later);
    let left = (0..12_u64)
        .filter(|block| occurs(&format!("\"n\":{},", block * 4 + 2), &everything(&log.disk)));
    assert_eq!(left.collect::<Vec<_>>(), [9, 10, 11], "received after the erasure");
    let checks = verify(&log.folder, |_| {}).unwrap();
    assert_eq!(checks.iter().map(|check| check.records).sum::<u64>(), 48 - 9);
    assert_eq!(log.rewrite(), 0, "once is enough");

    // After a start all the same, and once nothing of that time is stored the tombstone goes.
    let (_, _, mut tombstones) = open(&log.disk);
    assert!(tombstones.is_erased(Some(b"u2"), None, log.positions[8]));
    assert!(tombstones.is_erased(None, Some(b"a-2"), log.positions[8]));
    assert!(!tombstones.is_erased(Some(b"u2"), None, limit), "what came later is theirs again");
    assert!(!tombstones.is_erased(Some(b"a-2"), None, log.positions[8]), "kinds are kept apart");
    tombstones.forget_before(log.positions[8]).unwrap();
    assert_eq!(tombstones.marks().len(), 2);
    tombstones.forget_before(limit).unwrap();
    assert!(tombstones.marks().is_empty());
}

/// Damage may hold anybody's events: it does not survive an erasure, neither in place nor aside.
#[test]
fn damage_is_wiped_with_the_erasure() {
    let mut log = log();
    let path: PathBuf = log.folder.path().join(format!("{:016x}.segment", 1_u64 << 32));
    let victim = log.positions[1].offset() as usize + 100;
    log.disk.damage(&path, |content| content[victim] ^= 1);
    let mut reader = Reader::new(log.folder.clone(), Position::START);
    while reader.next(log.writer.end()).unwrap().is_some() {}
    assert_eq!((reader.damage().stretches, reader.damage().events), (1, 4));
    let copies =
        || log.disk.paths().into_iter().filter(|p| p.to_string_lossy().contains("damaged"));
    assert_eq!(copies().count(), 1);

    log.tombstones.erase(Some(b"u1"), None, log.writer.end(), 1).unwrap();
    log.folder.remove_damaged().unwrap();
    assert_eq!(copies().count(), 0);
    assert_eq!(log.rewrite(), 11);
    for number in (0..48).filter(|n| n % 4 == 1 || (4..8).contains(n)) {
        assert!(!occurs(&format!("\"n\":{number},"), &everything(&log.disk)), "{number}");
    }
    assert_eq!(log.read(Position::START).len(), 48 - 4 - 11);
    let checks = verify(&log.folder, |_| {}).unwrap();
    assert!(checks.iter().all(|check| check.damage.is_none()));
    assert!(checks[0].wiped_bytes > 0);
}

#[test]
fn a_power_cut_at_any_call_of_a_rewrite_leaves_one_whole_segment() {
    let whole = log();
    let before = whole.read(Position::START);
    let expected: Vec<_> = before.iter().filter(|(_, number)| number % 4 != 3).copied().collect();
    for crash in [Crash::LoseAll, Crash::Any] {
        let mut finished = false;
        for nth in 1.. {
            let disk = whole.disk.copy();
            let (folder, mut writer, mut tombstones) = open(&disk);
            tombstones.erase(Some(b"u3"), None, writer.end(), 1).unwrap();
            disk.fail(None, nth, Fault::PowerCut);
            let rewritten = rewrite_segment(&folder, 1, |block, line| {
                tombstones.is_erased(Some(user_of(line)), None, block.position())
            });
            let adopted = rewritten.is_ok_and(|r| r.is_some_and(|r| writer.adopt(&r).is_ok()));
            finished = adopted && !disk.is_dead();
            disk.crash(crash, nth);

            let (folder, writer, tombstones) = open(&disk);
            assert!(!disk.paths().iter().any(|p| p.to_string_lossy().contains("unfinished")));
            let positions = Vec::new();
            let log = Log { disk, folder, writer, tombstones, positions };
            let first: Vec<_> =
                log.read(Position::START).into_iter().filter(|(at, _)| at.segment() == 1).collect();
            let of_first = |events: &[(Position, u64)]| -> Vec<(Position, u64)> {
                events.iter().filter(|(at, _)| at.segment() == 1).copied().collect()
            };
            assert!(first == of_first(&expected) || (!finished && first == of_first(&before)));
            assert!(log.tombstones.is_erased(Some(b"u3"), None, Position::START));
            if finished {
                break;
            }
        }
        assert!(finished);
    }
}

#[test]
fn a_segment_that_was_released_meanwhile_does_not_come_back() {
    let mut log = log();
    log.tombstones.erase(Some(b"u0"), None, log.writer.end(), 1).unwrap();
    let rewritten = rewrite_segment(&log.folder, 1, |block, line| {
        log.tombstones.is_erased(Some(user_of(line)), None, block.position())
    });
    let rewritten = rewritten.unwrap().unwrap();
    let end = log.writer.oldest_segment().unwrap().end();
    assert_eq!(log.writer.expire_before(end).unwrap().segments, 1);
    log.writer.adopt(&rewritten).unwrap();
    let names = log.disk.paths();
    assert!(!names.iter().any(|path| path.to_string_lossy().contains("0000000100000000")));
}
