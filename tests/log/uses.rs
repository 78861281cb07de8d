//! Ordinary use: what the daemon and the command line rely on, also on a real disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use consentd::log::{
    AppendError, BlockBuilder, BlockHead, CursorReport, Cursors, Disk, Folder, Identities, Kind,
    Position, Reader, Room, StableId, SyncMode, Writer, count_pending, stats, verify,
};

use crate::memory::{Crash, Fault, Memory, Op};
use crate::world::{Event, encode, folder, identity, options};

const A: StableId = StableId(1);
const B: StableId = StableId(70_000);

fn writer(folder: &Folder, segment_bytes: u32) -> Writer {
    let options = options(segment_bytes, SyncMode::Commit);
    Writer::open(folder.clone(), options, Position::START, &mut |_| {}).unwrap().0
}

fn event(number: u64, to: &[StableId]) -> Event {
    Event { number, user: 0, padding: 50, to: to.iter().copied().collect() }
}

#[test]
fn a_log_on_a_real_disk_is_read_back_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(Arc::new(Disk), &dir.path().join("log"), Kind::Events).unwrap();
    let mut positions = Vec::new();
    for start in 0..3 {
        let mut writer = writer(&folder, 64 * 1024);
        assert_eq!(writer.room(1).unwrap(), Room::Enough);
        for commit in 0..50 {
            let events: Vec<Event> =
                (0..20).map(|n| event(start * 1000 + commit * 20 + n, &[A])).collect();
            positions.push(writer.append(&encode("web", &events)).unwrap());
            writer.commit(1).unwrap();
        }
        assert_eq!(writer.end(), writer.durable_end());
    }
    let mut reader = Reader::new(folder.clone(), Position::START);
    let mut numbers = Vec::new();
    let mut read = Vec::new();
    let mut scratch = Vec::new();
    while let Some(block) = reader.next(folder.end_on_disk().unwrap()).unwrap() {
        read.push(block.position());
        numbers.extend(block.lines_for(A, &mut scratch).map(crate::world::number_of));
        assert_eq!(block.lines_for(B, &mut scratch).count(), 0);
    }
    assert_eq!(read, positions);
    let all = (0..3_u64).flat_map(|start| (0..1000).map(move |n| start * 1000 + n));
    assert!(numbers.iter().copied().eq(all));
    // Nothing is left reserved, and nobody else may read it.
    for (segment, check) in verify(&folder, |_| {}).unwrap().iter().map(|c| (c.segment, c)) {
        assert!(check.damage.is_none() && check.frames > 0 && segment.bytes > 128);
    }
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!(metadata.mode() & 0o077, 0);
    }
}

#[test]
fn a_full_log_or_disk_says_so_before_anything_is_written() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let limits = consentd::log::Options {
        max_bytes: 5000,
        free_floor_bytes: 10_000,
        ..options(1000, SyncMode::Commit)
    };
    let (mut writer, _) = Writer::open(folder, limits, Position::START, &mut |_| {}).unwrap();
    assert_eq!(writer.room(4000).unwrap(), Room::Enough);
    assert_eq!(writer.room(6000).unwrap(), Room::LogFull);
    // The floor, and room for the segment behind the one that fills the disk: without it, that could never
    // be left, nor released.
    disk.set_free(12_000);
    assert_eq!(writer.room(1500).unwrap(), Room::DiskFull);
    disk.set_free(12_000 + 64 * 1024);
    assert_eq!(writer.room(1500).unwrap(), Room::Enough);
    assert_eq!(writer.room(2500).unwrap(), Room::DiskFull);
    disk.set_free(u64::MAX);
    let mut number = 0;
    while writer.room(200).unwrap() == Room::Enough {
        writer.append(&encode("web", &[event(number, &[A])])).unwrap();
        writer.commit(1).unwrap();
        number += 1;
    }
    assert!(writer.size_bytes() <= 5000 && number > 10);
    // The oldest is given up, and there is room again.
    let oldest = writer.oldest_segment().unwrap();
    let end = oldest.end();
    let lost =
        count_pending(writer.folder(), &[(A, Position::START), (B, Position::START)], end, |_| {});
    let lost = lost.unwrap();
    assert!(lost[&A] > 0 && lost[&B] == 0);
    assert_eq!(writer.expire_before(end).unwrap().bytes, oldest.bytes);
    assert_eq!(writer.room(200).unwrap(), Room::Enough);
    let mut reader = Reader::new(writer.folder().clone(), Position::START);
    let first = reader.next(writer.end()).unwrap().unwrap();
    let first = crate::world::number_of(first.records().next().unwrap().line);
    assert_eq!(first, lost[&A], "what was counted as lost is what is gone");
}

#[test]
fn a_reader_does_not_pass_the_end_it_is_given() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    let mut reader = Reader::new(folder, Position::START);
    assert!(reader.next(writer.end()).unwrap().is_none());
    let first = writer.append(&encode("web", &[event(0, &[A])])).unwrap();
    let second = writer.append(&encode("tcp", &[event(1, &[A])])).unwrap();
    assert!(reader.next(writer.end()).unwrap().is_none(), "not committed");
    writer.commit(1).unwrap();
    assert!(reader.next(first).unwrap().is_none(), "its first block is the end");
    // Between two blocks of a commit, too.
    assert_eq!(reader.next(second).unwrap().unwrap().position(), first);
    assert!(reader.next(second).unwrap().is_none());
    let block = reader.next(writer.end()).unwrap().unwrap();
    assert_eq!((block.position(), block.source(), block.end()), (second, "tcp", writer.end()));
    for number in 2..200 {
        let position = writer.append(&encode("web", &[event(number, &[A])])).unwrap();
        writer.commit(1).unwrap();
        assert_eq!(reader.next(writer.end()).unwrap().unwrap().position(), position);
        assert!(reader.next(writer.end()).unwrap().is_none());
    }
    assert_eq!(reader.position(), writer.end());
}

#[test]
fn released_segments_go_only_behind_durable_cursors() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 300);
    let (mut cursors, report) = Cursors::open(&folder, &[A, B]).unwrap();
    assert_eq!(report, CursorReport { without: vec![A, B], ..CursorReport::default() });
    for number in 0..10 {
        writer.append(&encode("web", &[event(number, &[A])])).unwrap();
        writer.commit(1).unwrap();
    }
    let stored = writer.size_bytes();
    assert_eq!(writer.bytes_after(Position::START), stored);
    cursors.advance(A, writer.end());
    cursors.advance(B, writer.end());
    assert_eq!(writer.release(&cursors).unwrap().segments, 0, "not durable");
    cursors.save().unwrap();
    cursors.advance(A, Position::START);
    assert_eq!(cursors.get(A), Some(writer.end()), "never backwards");
    // Somebody new, who is not on the disk yet, holds everything back.
    cursors.begin(StableId(9), writer.end());
    assert_eq!(writer.release(&cursors).unwrap().segments, 0);
    cursors.save().unwrap();
    let released = writer.release(&cursors).unwrap();
    assert!(released.segments >= 4);
    assert_eq!(writer.size_bytes(), stored - released.bytes);
    assert_eq!(writer.segments().count(), 1, "the newest stays");
    assert_eq!(writer.bytes_after(writer.end()), 0);

    let (cursors, report) = Cursors::open(&folder, &[A]).unwrap();
    assert_eq!(cursors.get(A), Some(writer.end()));
    assert_eq!(report.gone, [(StableId(9), writer.end()), (B, writer.end())]);
    assert_eq!(report.highest, writer.end());
}

#[test]
fn saved_cursors_outlive_a_power_cut() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let (mut cursors, _) = Cursors::open(&folder, &[A]).unwrap();
    for save in 1..5 {
        cursors.advance(A, Position::new(1, 100 * save));
        cursors.save().unwrap();
        cursors.advance(A, Position::new(9, 9));
        let disk = disk.copy();
        disk.crash(Crash::LoseAll, 0);
        let (found, _) = Cursors::open(&crate::world::folder(&disk).unwrap(), &[A]).unwrap();
        assert_eq!(found.get(A), Some(Position::new(1, 100 * save)));
        cursors = Cursors::open(&folder, &[A]).unwrap().0;
    }
}

/// One copy was written when the power went, the other not: both hold it before it is used.
#[test]
fn an_id_outlives_a_power_cut_and_then_the_loss_of_a_copy() {
    for nth in 1..30 {
        let disk = Memory::new();
        let folder = folder(&disk).unwrap();
        let mut identities = Identities::open(&folder, true).unwrap();
        identities.resolve(&[identity(0, 0)]).unwrap();
        disk.fail(None, nth, Fault::PowerCut);
        let _ = identities.resolve(&[identity(1, 1)]);
        disk.crash(Crash::LoseAll, nth);
        let id = Identities::open(&folder, false).unwrap().resolve(&[identity(1, 1)]).unwrap();
        for copy in ["identities.a", "identities.b"] {
            let disk = disk.copy();
            let folder = crate::world::folder(&disk).unwrap();
            disk.damage(&folder.path().join(copy), |content| content[30] ^= 1);
            let other = Identities::open(&folder, false).unwrap().resolve(&[identity(2, 2)]);
            assert_ne!(other.unwrap(), id, "call {nth}, {copy}");
        }
    }
}

/// Somebody removed the segments by hand: what comes now is not behind the cursors that are left.
#[test]
fn positions_go_on_behind_cursors_whose_segments_are_gone() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut first = writer(&folder, 300);
    let (mut cursors, _) = Cursors::open(&folder, &[A]).unwrap();
    for number in 0..10 {
        first.append(&encode("web", &[event(number, &[A])])).unwrap();
        first.commit(1).unwrap();
    }
    cursors.begin(A, first.end());
    cursors.save().unwrap();
    for segment in first.segments() {
        disk.remove(&folder.path().join(format!("{:016x}.segment", segment.first().0)));
    }
    let (cursors, report) = Cursors::open(&folder, &[A]).unwrap();
    let options = options(300, SyncMode::Commit);
    let (mut second, _) =
        Writer::open(folder.clone(), options, report.highest, &mut |_| {}).unwrap();
    let position = second.append(&encode("web", &[event(10, &[A])])).unwrap();
    second.commit(1).unwrap();
    assert!(position > first.end());
    let mut reader = Reader::new(folder, cursors.get(A).unwrap());
    assert_eq!(reader.next(second.end()).unwrap().unwrap().position(), position);
}

#[test]
fn ids_belong_to_one_destination_for_ever() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut given = BTreeSet::new();
    let mut resolve = |wanted: &[(u8, u8)]| {
        let mut identities =
            Identities::open(&folder, false).or_else(|_| Identities::open(&folder, true));
        let identities = identities.as_mut().unwrap();
        let wanted: Vec<_> = wanted.iter().map(|(name, at)| identity(*name, *at)).collect();
        let ids = identities.resolve(&wanted).unwrap();
        identities.retire_others(&ids).unwrap();
        let new = ids.iter().filter(|id| given.insert(**id)).count();
        (ids, new)
    };
    let (first, _) = resolve(&[(0, 0), (1, 1)]);
    assert_eq!(resolve(&[(1, 1), (0, 0)]), (vec![first[1], first[0]], 0), "the order is nothing");
    assert_eq!(resolve(&[(0, 5), (1, 1)]).1, 1, "another address");
    assert_eq!(resolve(&[(0, 0), (1, 1)]).1, 1, "and back");
    assert_eq!(resolve(&[(2, 1)]).1, 1, "another name");
    assert_eq!(resolve(&[(1, 1)]).1, 1, "removed and added again");
}

#[test]
fn statistics_say_what_is_stored_for_whom() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    writer.append(&encode("web", &[event(0, &[A]), event(1, &[A, B]), event(2, &[])])).unwrap();
    let second = writer.append(&encode("tcp", &[event(3, &[B])])).unwrap();
    writer.commit(1).unwrap();
    let all = stats(&folder, Position::START, writer.end()).unwrap();
    assert_eq!((all.blocks, all.total.events), (2, 4));
    assert_eq!(all.sources["web"].events, 3);
    assert_eq!((all.destinations[&A].events, all.destinations[&B].events), (2, 2));
    assert_eq!(all.oldest_unix_ms, Some(1_700_000_000_000));
    let pending =
        count_pending(&folder, &[(A, Position::START), (B, second)], writer.end(), |_| {});
    assert_eq!(pending.unwrap().into_iter().collect::<Vec<_>>(), [(A, 2), (B, 1)]);
}

#[test]
fn dead_letters_keep_their_reason_and_any_bytes() {
    let disk = Memory::new();
    let fs = Arc::new(disk);
    let path = std::path::Path::new("/state/dead-letters");
    let folder = Folder::open(fs, path, Kind::DeadLetters).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    let mut builder = BlockBuilder::new();
    let head = BlockHead {
        source: "web",
        reason: "rejected_by_destination",
        deletions: false,
        received_unix_ms: 5,
        table_version: 1,
        table_hash: [0; 16],
    };
    builder.begin(&head, Vec::new());
    let whose = builder.decision(&[B]).unwrap();
    builder.push(whose, b"\xff\xfe not even text \x00").unwrap();
    builder.push(whose, b"").unwrap();
    writer.append(&builder.finish().unwrap()).unwrap();
    writer.commit(1).unwrap();
    let mut reader = Reader::new(folder, Position::START);
    let block = reader.next(writer.end()).unwrap().unwrap();
    assert_eq!(block.reason(), "rejected_by_destination");
    let lines: Vec<&[u8]> = block.records().map(|record| record.line).collect();
    assert_eq!(lines, [b"\xff\xfe not even text \x00".as_slice(), b""]);
    assert!(block.decisions().next().unwrap().contains(B));
}

#[test]
fn large_events_and_many_destinations_fit() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    let everybody: BTreeSet<StableId> = (0..4096).map(StableId).collect();
    let large = Event { number: 1, user: 1, padding: 9 << 20, to: everybody };
    let small = event(2, &[A]);
    let before = writer.append(&encode("web", std::slice::from_ref(&small))).unwrap();
    writer.append(&encode("web", &[large.clone(), small.clone()])).unwrap();
    writer.commit(1).unwrap();
    writer.append(&encode("web", &[small])).unwrap();
    writer.commit(1).unwrap();
    assert_eq!(writer.segments().count(), 2, "a segment is left once it is large enough");
    let mut reader = Reader::new(folder, before);
    let mut lines = 0;
    while let Some(block) = reader.next(writer.end()).unwrap() {
        for record in block.records() {
            lines += 1;
            if record.line.len() > 1000 {
                assert_eq!(record.line, large.line().as_bytes());
                assert_eq!(block.decisions().next().unwrap().ids().count(), 4096);
            }
        }
    }
    assert_eq!(lines, 4);
}

#[test]
fn a_poisoned_writer_takes_no_block() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    let block = encode("web", &[event(0, &[A])]);
    writer.append(&block).unwrap();
    disk.fail(Some(Op::Write), 1, Fault::Io);
    assert!(writer.commit(1).is_err());
    assert_eq!(writer.append(&block), Err(AppendError::Poisoned));
    assert!(writer.poisoned().unwrap().contains("injected EIO"));
    assert!(writer.room(1).is_err() && writer.roll().is_err());
}

#[test]
fn a_segment_that_is_done_with_can_be_left_although_it_is_not_full() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let (mut cursors, _) = Cursors::open(&folder, &[A]).unwrap();
    let mut last = Position::START;
    for start in 0..3 {
        let (mut writer, _) = Writer::open(
            folder.clone(),
            options(1 << 20, SyncMode::Commit),
            cursors.get(A).unwrap(),
            &mut |_| {},
        )
        .unwrap();
        for number in 0..4 {
            let position = writer.append(&encode("web", &[event(number, &[A])])).unwrap();
            assert!(position > last, "a position is given out twice");
            last = position;
            writer.commit(1).unwrap();
            let mut reader = Reader::new(folder.clone(), position);
            let block = reader.next(writer.end()).unwrap().unwrap();
            assert_eq!(crate::world::number_of(block.records().next().unwrap().line), number);
            cursors.advance(A, writer.end());
            assert!(writer.leave_segment(1).unwrap());
            writer.release(&cursors).unwrap();
            let mut left = writer.segments();
            let is_kept = left.any(|segment| segment.number == position.segment());
            assert!(is_kept, "no cursor behind it is durable");
            drop(left);
            cursors.save().unwrap();
            writer.release(&cursors).unwrap();
            assert_eq!(writer.segments().count(), 1, "{start} {number}");
            assert_eq!(writer.bytes_after(cursors.get(A).unwrap()), 0, "nothing waits");
            assert!(!writer.leave_segment(1).unwrap(), "it is empty already");
        }
    }
}

#[test]
fn a_segment_is_not_left_where_there_is_no_space_for_another_and_nothing_stays_of_the_attempt() {
    let disk = Memory::new();
    let folder = folder(&disk).unwrap();
    let mut writer = writer(&folder, 1 << 20);
    let (mut cursors, _) = Cursors::open(&folder, &[A]).unwrap();
    let put = |writer: &mut Writer, number| {
        let position = writer.append(&encode("web", &[event(number, &[A])])).unwrap();
        writer.commit(1).unwrap();
        position
    };
    put(&mut writer, 0);
    for attempt in 0..3 {
        let before = disk.paths();
        disk.fail(Some(Op::Write), 1, Fault::NoSpace);
        assert!(!writer.leave_segment(1).unwrap(), "{attempt}");
        assert!(disk.heal());
        assert_eq!(disk.paths(), before, "a file is left behind");
        assert_eq!(writer.segments().count(), 1);
    }
    cursors.advance(A, writer.end());
    cursors.save().unwrap();
    assert!(writer.leave_segment(1).unwrap(), "there is space again");
    assert_eq!(writer.release(&cursors).unwrap().segments, 1);
    let position = put(&mut writer, 1);
    let mut reader = Reader::new(folder, cursors.get(A).unwrap());
    assert_eq!(reader.next(writer.end()).unwrap().unwrap().position(), position);
}
