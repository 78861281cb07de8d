//! The file sink on a real file system.

use std::fs;
use std::path::Path;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use tokio::io::AsyncReadExt;

use super::super::file::{FileCare, FileSink};
use super::*;
use crate::config::{Compression, Rotate};

fn sink(path: &Path, rotate: Rotate, compression: Compression) -> FileSink {
    FileSink::new(path.to_str().unwrap().into(), rotate, compression, FileCare::default()).unwrap()
}

fn plain(path: &Path) -> FileSink {
    sink(path, Rotate::default(), Compression::None)
}

fn by_size(max_bytes: u64) -> Rotate {
    Rotate { max_bytes: Some(max_bytes), every: None }
}

async fn send(sink: &mut FileSink, lines: &[String]) {
    assert_eq!(sink.send(&batch(lines)).await, Outcome::Delivered);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn batches_are_appended_to_the_file_of_the_day_and_its_folders_made() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = plain(&root.path().join("%Y/%m/lake-%d.ndjson"));
    sink.verify().await.unwrap();
    let day = jiff::Timestamp::now().strftime("%Y/%m/lake-%d.ndjson").to_string();
    let file = root.path().join(day);
    assert_eq!(fs::read_to_string(&file).unwrap(), "", "verifying makes the file");
    send(&mut sink, &numbered(3)).await;
    send(&mut sink, &numbered(2)).await;
    let text = joined(&numbered(3)) + &joined(&numbered(2));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn nothing_that_stands_in_a_file_is_cut_and_a_last_line_without_end_gets_one() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let check = async |before: &str, kept: &str| {
        fs::write(&path, before).unwrap();
        let mut sink = plain(&path);
        sink.verify().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "opening changes nothing");
        send(&mut sink, &numbered(1)).await;
        send(&mut sink, &numbered(1)).await;
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(after, format!("{kept}{{\"n\":0}}\n{{\"n\":0}}\n"));
    };
    check("{\"a\":1}\n{\"b\":", "{\"a\":1}\n{\"b\":\n").await;
    check("{\"a\":1}\n{\"b\":2}\n", "{\"a\":1}\n{\"b\":2}\n").await;
    check("{\"torn", "{\"torn\n").await;
    check("", "").await;
    let long = "x".repeat(300_000);
    check(&format!("{long}\n{long}"), &format!("{long}\n{long}\n")).await;
}

#[tokio::test]
async fn a_full_file_is_followed_by_the_next_number_also_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let mut first = sink(&path, by_size(20), Compression::None);
    for _ in 0..5 {
        // 16 bytes: two batches a file.
        send(&mut first, &numbered(2)).await;
    }
    assert_eq!(names(root.path()), ["lake.ndjson", "lake.ndjson.1", "lake.ndjson.2"]);
    fs::write(root.path().join("lake.ndjson.+7"), "").unwrap();
    fs::write(root.path().join("lake.ndjson.old"), "").unwrap();
    drop(first);
    let mut second = sink(&path, by_size(20), Compression::None);
    send(&mut second, &numbered(2)).await;
    send(&mut second, &numbered(1)).await;
    let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!(read("lake.ndjson.2"), joined(&numbered(2)).repeat(2));
    assert_eq!(read("lake.ndjson.3"), joined(&numbered(1)));
    assert_eq!(read("lake.ndjson"), joined(&numbered(2)).repeat(2));
}

#[tokio::test]
async fn a_file_that_is_old_enough_is_followed_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let every = |every| Rotate { max_bytes: None, every: Some(every) };
    let mut sink_by_age = sink(&path, every(Duration::from_millis(300)), Compression::None);
    send(&mut sink_by_age, &numbered(1)).await;
    send(&mut sink_by_age, &numbered(1)).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    send(&mut sink_by_age, &numbered(2)).await;
    let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!(read("lake.ndjson"), joined(&numbered(1)).repeat(2));
    assert_eq!(read("lake.ndjson.1"), joined(&numbered(2)));
}

#[tokio::test]
async fn every_batch_is_a_whole_member_or_frame() {
    let root = tempfile::tempdir().unwrap();
    for (compression, given, found) in [
        (Compression::Gzip, "a.ndjson", "a.ndjson.gz"),
        (Compression::Gzip, "b.ndjson.gz", "b.ndjson.gz"),
        (Compression::Zstd, "c.ndjson", "c.ndjson.zst"),
    ] {
        let mut sink = sink(&root.path().join(given), Rotate::default(), compression);
        let mut text = String::new();
        for count in [3, 500, 1] {
            send(&mut sink, &numbered(count)).await;
            text += &joined(&numbered(count));
            let bytes = fs::read(root.path().join(found)).unwrap();
            let mut inflated = String::new();
            let read = match compression {
                Compression::Zstd => {
                    let mut decoder = ZstdDecoder::new(&bytes[..]);
                    decoder.multiple_members(true);
                    decoder.read_to_string(&mut inflated).await
                }
                Compression::Gzip | Compression::None => {
                    let mut decoder = GzipDecoder::new(&bytes[..]);
                    decoder.multiple_members(true);
                    decoder.read_to_string(&mut inflated).await
                }
            };
            read.unwrap();
            assert_eq!(inflated, text, "{found}");
        }
    }
}

#[tokio::test]
async fn with_compression_the_number_comes_before_the_suffix() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = sink(&root.path().join("lake.gz"), by_size(1), Compression::Gzip);
    for _ in 0..3 {
        send(&mut sink, &numbered(1)).await;
    }
    assert_eq!(names(root.path()), ["lake.1.gz", "lake.2.gz", "lake.gz"]);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let mut sink = plain(&path);
    send(&mut sink, &numbered(1)).await;
    fs::rename(&path, root.path().join("moved")).unwrap();
    send(&mut sink, &numbered(2)).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), joined(&numbered(2)));
    assert_eq!(fs::read_to_string(root.path().join("moved")).unwrap(), joined(&numbered(1)));
}

#[tokio::test]
async fn a_second_writer_waits_until_the_first_is_done() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let mut first = plain(&path);
    send(&mut first, &numbered(1)).await;
    let mut second = plain(&path);
    second.verify().await.unwrap();
    let answer = second.send(&batch(&numbered(2))).await;
    assert!(matches!(answer, Outcome::Retry { .. }), "{answer:?}");
    drop(first);
    send(&mut second, &numbered(2)).await;
    let text = joined(&numbered(1)) + &joined(&numbered(2));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn what_cannot_be_written_waits_with_a_clear_cause() {
    let root = tempfile::tempdir().unwrap();
    let answer = plain(Path::new("/dev/full")).send(&batch(&numbered(1))).await;
    assert!(
        matches!(&answer, Outcome::Retry { why, .. } if why.contains("/dev/full") && why.contains("No space")),
        "{answer:?}"
    );
    let answer = plain(root.path()).send(&batch(&numbered(1))).await;
    assert!(matches!(&answer, Outcome::Hold { .. }), "{answer:?}");
    let below_a_file = root.path().join("file");
    fs::write(&below_a_file, "").unwrap();
    let mut sink = plain(&below_a_file.join("lake"));
    assert!(matches!(sink.send(&batch(&numbered(1))).await, Outcome::Hold { .. }));
    assert!(sink.verify().await.unwrap_err().to_string().contains("file/lake"));
    assert!(
        FileSink::new("lake-%".into(), Rotate::default(), Compression::None, FileCare::default())
            .is_err()
    );
    assert!(
        FileSink::new("lake/".into(), Rotate::default(), Compression::None, FileCare::default())
            .is_err()
    );
}

#[tokio::test]
async fn devices_and_fifos_take_lines_too() {
    let mut null = sink(Path::new("/dev/null"), by_size(1), Compression::None);
    send(&mut null, &numbered(10)).await;
    send(&mut null, &numbered(10)).await;

    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut fifo = plain(&path);
    // Without a reader it neither blocks nor loses anything.
    assert!(matches!(fifo.send(&batch(&numbered(1))).await, Outcome::Retry { .. }));
    let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&path).unwrap();
    send(&mut fifo, &numbered(3)).await;
    let mut read = vec![0; joined(&numbered(3)).len()];
    reader.read_exact(&mut read).await.unwrap();
    assert_eq!(read, joined(&numbered(3)).into_bytes());
    drop(reader);
    assert!(matches!(fifo.send(&batch(&numbered(1))).await, Outcome::Retry { .. }));
}

#[tokio::test]
async fn a_destination_writes_within_max_wait_and_everything_when_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lake.ndjson");
    let limits = limits(1 << 20, 5000, Duration::from_millis(50));
    let rig = Rig::start(Sink::File(plain(&path)), limits, patience(LONG), &[]);
    let lines = numbered(10_000);
    rig.offer(&lines[..100]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), joined(&lines[..100]));
    for lines in lines[100..].chunks(900) {
        rig.offer(lines);
    }
    let (left, counters) = rig.finish(Duration::from_secs(10)).await;
    assert_eq!((left, counters.delivered.load(Relaxed)), (0, 10_000));
    assert_eq!(fs::read_to_string(&path).unwrap(), joined(&lines));
}
