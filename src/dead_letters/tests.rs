use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::keep::OFFERED_BYTES_MAX;
use super::{
    DeadLetters, Letters, LettersWriter, Reason, Settings, Shelf, Taken, is_held_back, letters_of,
};
use crate::consent::Nature;
use crate::log::{Position, Reader, StableId, SyncMode};
use crate::parse::RejectReason;
use crate::route::SourceId;

fn open(folder: &Path, free_floor_bytes: u64) -> DeadLetters {
    let settings = Settings {
        folder: folder.to_owned(),
        max_bytes: 16 << 20,
        max_age: Duration::from_secs(3600),
        keeps_rejected: true,
        sync: SyncMode::Commit,
        sync_every: Duration::from_secs(1),
        free_floor_bytes,
        sources: Arc::new(["web".to_owned()]),
    };
    DeadLetters::open(&settings, [7; 32]).unwrap()
}

fn given_up(lines: &[&str]) -> Letters {
    let mut writer = LettersWriter::new(Some(StableId(1)), 1, "0123456789abcdef");
    writer.begin("web", Reason::GaveUp, "", Nature::Event, Instant::now());
    lines.iter().for_each(|line| writer.push(line.as_bytes()));
    writer.take()
}

async fn keep(letters: &DeadLetters, lines: &[&str]) {
    assert!(letters.keep(given_up(lines), letters.turn().await).await);
}

fn erase(letters: &DeadLetters) -> u64 {
    let noted = letters.note_erasure(Some("anna-7".to_owned()), None).unwrap();
    letters.carry_out(&noted).unwrap()
}

fn rejected(letters: &DeadLetters, line: &[u8]) -> Letters {
    let mut writer = LettersWriter::new(None, 0, "");
    let reason = RejectReason::InvalidJson;
    letters.write_rejected(&mut writer, SourceId(0), reason, "", line, Instant::now());
    writer.take()
}

fn lines(letters: &DeadLetters, shelf: Shelf) -> Vec<String> {
    let (folder, end) = letters.stored(shelf);
    let mut reader = Reader::new(folder, Position::START);
    let mut lines = Vec::new();
    while let Some(block) = reader.next(end).unwrap() {
        lines.extend(letters_of(&block).map(|it| String::from_utf8_lossy(it.line).into_owned()));
    }
    lines
}

fn wait_until(done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_gone_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path(), 0);
    let (anna, bert) = (r#"{"userId":"anna-7"}"#, r#"{"userId":"bert-8"}"#);
    keep(&letters, &[anna, bert, anna]).await;
    keep(&letters, &[bert]).await;
    letters.offer(rejected(&letters, b"{\"userId\":\"anna-7\""));
    letters.offer(rejected(&letters, b"{\"userId\":\"bert-8\""));
    wait_until(|| lines(&letters, Shelf::Ingest).len() == 2);
    let letters = tokio::task::spawn_blocking(move || {
        assert_eq!(erase(&letters), 3);
        assert_eq!(erase(&letters), 0);
        letters
    });
    let letters = letters.await.unwrap();
    assert_eq!(lines(&letters, Shelf::Delivery), [bert, bert]);
    assert_eq!(lines(&letters, Shelf::Ingest), [r#"{"userId":"bert-8""#]);
    // What comes afterwards is stored as before.
    keep(&letters, &[anna]).await;
    assert_eq!(lines(&letters, Shelf::Delivery), [bert, bert, anna]);
    let of_block = |line: &str| {
        let (folder, end) = letters.stored(Shelf::Delivery);
        let mut reader = Reader::new(folder, Position::START);
        let mut taken = Taken::default();
        while let Some(block) = reader.next(end).unwrap() {
            if block.records().any(|record| record.line == line.as_bytes()) {
                taken.add(block.position(), line.as_bytes());
            }
        }
        taken
    };
    let taken = of_block(anna);
    tokio::task::spawn_blocking(move || {
        assert_eq!(letters.remove(Shelf::Delivery, taken).unwrap(), 1);
        assert_eq!(lines(&letters, Shelf::Delivery), [bert, bert]);
        letters.finish();
    })
    .await
    .unwrap();
    let mut bytes = Vec::new();
    for shelf in Shelf::ALL {
        for file in std::fs::read_dir(folder.path().join(shelf.folder())).unwrap() {
            let path = file.unwrap().path();
            assert!(!path.ends_with(".unfinished"));
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    assert!(memchr::memmem::find(&bytes, b"anna").is_none());
    assert!(memchr::memmem::find(&bytes, b"bert").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_a_crash_ended_is_gone_on_with_by_its_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path(), 0);
    let (anna, bert) = (r#"{"userId":"anna-7"}"#, r#"{"userId":"bert-8"}"#);
    keep(&letters, &[anna, bert]).await;
    letters.offer(rejected(&letters, b"{\"userId\":\"bert-8\""));
    letters.offer(rejected(&letters, bert.as_bytes()));
    wait_until(|| lines(&letters, Shelf::Ingest).len() == 2);
    tokio::task::spawn_blocking(move || {
        letters.note_erasure(Some("anna-7".to_owned()), None).unwrap();
        assert_eq!(letters.counters().erasures_pending.load(Relaxed), 1);
        letters.finish();
    })
    .await
    .unwrap();
    let letters = open(folder.path(), 0);
    assert_eq!(letters.counters().erasures_pending.load(Relaxed), 1);
    let is_shown = |letters: &DeadLetters, line: &str| {
        let noted = letters.noted(Shelf::Delivery);
        !is_held_back(&noted, line.as_bytes(), Position::START)
    };
    assert!(!is_shown(&letters, anna) && is_shown(&letters, bert));
    // Of the same user, and later.
    keep(&letters, &[anna]).await;
    tokio::task::spawn_blocking(move || {
        letters.resume_erasures();
        assert_eq!(lines(&letters, Shelf::Delivery), [bert, anna]);
        assert_eq!(lines(&letters, Shelf::Ingest), [bert], "what can't be read may be hers");
        assert!(is_shown(&letters, anna), "it is over");
        assert_eq!(letters.counters().erasures_pending.load(Relaxed), 0);
        letters.finish();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_space_deliveries_wait_and_rejected_lines_are_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path(), u64::MAX);
    let since = Instant::now();
    assert!(!letters.keep(given_up(&["{}"]), letters.turn().await).await);
    assert!(since.elapsed() > Duration::from_millis(300), "it must wait");
    letters.offer(rejected(&letters, b"{"));
    wait_until(|| letters.counters().lost.load(Relaxed) == 1);
    assert_eq!(letters.counters().kept(Reason::GaveUp), 0);
    assert_eq!(letters.failure(), None);
    assert!(lines(&letters, Shelf::Delivery).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_take_a_bounded_amount_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path(), 0);
    let line = vec![b'x'; 1 << 20];
    let mut most = 0;
    for _ in 0..100 {
        letters.offer(rejected(&letters, &line));
        most = most.max(letters.shelf(Shelf::Ingest).shared.offered_bytes.load(Relaxed));
    }
    assert!(most <= OFFERED_BYTES_MAX, "{most}");
    let lost = letters.counters().lost.load(Relaxed);
    assert!(lost >= 80, "{lost} lost");
    wait_until(|| {
        let kept = letters.counters().kept(Reason::Rejected(RejectReason::InvalidJson));
        kept + letters.counters().lost.load(Relaxed) == 100
    });
    assert_eq!(letters.shelf(Shelf::Ingest).shared.offered_bytes.load(Relaxed), 0);
}
