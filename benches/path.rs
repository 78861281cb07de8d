//! What an event costs from frame to batch, against bare `fill_tape_padded` on the same lines.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use consentd::consent::Judge;
use consentd::parse::{PADDING, Parser};
use consentd::route::RoutingTable;
use consentd::shard::WorkerPath;
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

const EVENTS: usize = 20_000;

fn benches(criterion: &mut Criterion) {
    let run = support::corpus(EVENTS);
    let lines = support::lines(&run);
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Bytes(run.len() as u64)).sample_size(20);
    bare_tape(&mut group, &lines);
    parse_and_decide(&mut group, &lines);
    for destinations in [3, 8, 64, 512] {
        worker(&mut group, &run, destinations);
    }
    group.finish();
}

/// The yardstick: every line copied to a padded buffer and turned into a tape, buffers reused.
fn bare_tape(group: &mut BenchmarkGroup<'_, WallTime>, lines: &[&[u8]]) {
    group.bench_function("bare tape", |bencher| {
        let mut buffers = simd_json::Buffers::new(4096);
        let mut tape = Some(simd_json::Tape::null());
        let mut scratch = Vec::new();
        bencher.iter(|| {
            for line in lines {
                scratch.clear();
                scratch.extend_from_slice(line);
                scratch.resize(line.len() + PADDING, 0);
                let mut own = tape.take().unwrap().reset();
                let _ = black_box(simd_json::fill_tape_padded(
                    &mut scratch,
                    line.len(),
                    &mut buffers,
                    &mut own,
                ));
                tape = Some(own.reset());
            }
        });
    });
}

fn parse_and_decide(group: &mut BenchmarkGroup<'_, WallTime>, lines: &[&[u8]]) {
    let table = RoutingTable::compile(&support::table(8)).unwrap();
    let mut padded: Vec<Vec<u8>> =
        lines.iter().map(|line| [line, &[0; PADDING][..]].concat()).collect();
    group.bench_function("parse", |bencher| {
        let mut parser = Parser::new();
        bencher.iter(|| {
            for line in &mut padded {
                let len = line.len() - PADDING;
                let _ = black_box(parser.parse(line, len, table.locations()));
            }
        });
    });
    group.bench_function("parse and decide", |bencher| {
        let mut judge = Judge::new(&table, 1 << 20);
        bencher.iter(|| {
            for line in &mut padded {
                let len = line.len() - PADDING;
                let _ = black_box(judge.judge(line, len, table.any_source(), &table, |_| {}));
            }
            judge.drain(|_| {});
        });
    });
}

fn worker(group: &mut BenchmarkGroup<'_, WallTime>, run: &[u8], destinations: usize) {
    let frames = support::frame_bytes(run);
    let (plans, outlets) = support::plan(destinations);
    let mut path = WorkerPath::new(&plans, &Arc::from([Arc::default()]), 1 << 20);
    let room = support::room();
    let at = Instant::now();
    group.bench_function(format!("worker, {destinations} destinations"), |bencher| {
        bencher.iter_batched(
            || frames.iter().map(|bytes| support::frame(bytes, &room, at)).collect::<Vec<_>>(),
            |frames| {
                for frame in frames {
                    path.take_up(frame);
                    black_box(support::drain(&outlets));
                }
            },
            criterion::BatchSize::LargeInput,
        );
    });
}

criterion_group!(path, benches);
criterion_main!(path);
