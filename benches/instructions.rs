//! Instructions an event, counted by callgrind: the same on every run, whatever else the machine does.
//!
//! Runs itself under valgrind, each case with one round and with three over the same events; half of
//! the difference is one round without the start.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use consentd::consent::Judge;
use consentd::parse::{PADDING, Parser};
use consentd::route::RoutingTable;
use consentd::shard::WorkerPath;

const EVENTS: usize = 2_000;
const CASES: [&str; 6] = ["tape", "parse", "decide", "worker 3", "worker 8", "worker 512"];

fn main() -> ExitCode {
    match (std::env::var("CASE"), std::env::var("ROUNDS")) {
        (Ok(case), Ok(rounds)) => run(&case, rounds.parse().unwrap()),
        _ => return count(),
    }
    ExitCode::SUCCESS
}

fn count() -> ExitCode {
    println!("instructions an event, {EVENTS} events");
    for case in CASES {
        let (Some(one), Some(three)) = (instructions(case, 1), instructions(case, 3)) else {
            eprintln!("valgrind did not count: install it, or run tests/packages");
            return ExitCode::FAILURE;
        };
        println!("{case:12} {:8}", (three - one) / 2 / EVENTS as u64);
    }
    ExitCode::SUCCESS
}

fn instructions(case: &str, rounds: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .env("CASE", case)
        .env("ROUNDS", rounds.to_string())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok())
}

fn run(case: &str, rounds: u32) {
    let run = support::corpus(EVENTS);
    if let Some(destinations) = case.strip_prefix("worker ") {
        return worker(&run, destinations.parse().unwrap(), rounds);
    }
    let table = RoutingTable::compile(&support::table(8)).unwrap();
    let mut padded: Vec<Vec<u8>> =
        support::lines(&run).iter().map(|line| [line, &[0; PADDING][..]].concat()).collect();
    let mut parser = Parser::new();
    let mut judge = Judge::new(&table, 1 << 20);
    let mut buffers = simd_json::Buffers::new(4096);
    let mut tape = Some(simd_json::Tape::null());
    let mut scratch = Vec::new();
    let count = padded.len();
    for line in (0..rounds).flat_map(|_| 0..count) {
        let line = &mut padded[line];
        let len = line.len() - PADDING;
        match case {
            "parse" => {
                let _ = black_box(parser.parse(line, len, table.locations()));
            }
            "decide" => {
                let _ = black_box(judge.judge(line, len, table.any_source(), &table, |_| {}));
            }
            _ => {
                scratch.clear();
                scratch.extend_from_slice(line);
                let mut own = tape.take().unwrap().reset();
                let _ = simd_json::fill_tape_padded(&mut scratch, len, &mut buffers, &mut own);
                tape = Some(black_box(own).reset());
            }
        }
    }
}

fn worker(run: &[u8], destinations: usize, rounds: u32) {
    let frames = support::frame_bytes(run);
    let (plans, outlets) = support::plan(destinations);
    let mut path = WorkerPath::new(&plans, &Arc::from([Arc::default()]), 1 << 20);
    let (room, at) = (support::room(), Instant::now());
    for _ in 0..rounds {
        for bytes in &frames {
            path.take_up(support::frame(bytes, &room, at));
            black_box(support::drain(&outlets));
        }
    }
}
