//! The speed points of the README, as ratios within one run: CPU time of this thread, the variants
//! in turn, medians over the rounds. On a shared machine this is steadier than time on the wall.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consentd::parse::{PADDING, Parser};
use consentd::route::RoutingTable;
use consentd::shard::WorkerPath;

type Variant<'a> = (&'static str, Box<dyn FnMut() -> Duration + 'a>);

fn main() {
    let events: usize = number("EVENTS", 20_000);
    let rounds: usize = number("ROUNDS", 15);
    let run = support::corpus(events);
    let lines = support::lines(&run);
    let plain: Vec<&[u8]> = lines.iter().filter(|line| !line.contains(&b'\\')).copied().collect();
    let table = RoutingTable::compile(&support::table(8)).unwrap();
    let mut variants: Vec<Variant<'_>> = vec![
        ("bare tape", Box::new(tape(&lines))),
        ("bare tape, no escapes", Box::new(tape(&plain))),
        ("parse", Box::new(parse(&lines, &table))),
        ("parse, no escapes", Box::new(parse(&plain, &table))),
    ];
    for (name, destinations) in [
        ("worker, 3 destinations", 3),
        ("worker, 8 destinations", 8),
        ("worker, 64 destinations", 64),
        ("worker, 512 destinations", 512),
    ] {
        variants.push((name, Box::new(worker(&run, destinations))));
    }
    // Cargo passes `--bench`; any other argument picks the variants that contain it.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    variants.retain(|(name, _)| wanted.iter().all(|wanted| name.contains(wanted.as_str())));
    let mut times = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for (variant, times) in variants.iter_mut().zip(&mut times) {
            times.push((variant.1)());
        }
    }
    println!("{events} events of {} bytes on average, {rounds} rounds", run.len() / events);
    let yardstick = median(&times[0]);
    for ((name, _), times) in variants.iter().zip(&times) {
        let ratios: Vec<f64> =
            times.iter().map(|time| yardstick.as_secs_f64() / time.as_secs_f64()).collect();
        let events = if name.contains("no escapes") { plain.len() } else { events };
        let ns = median(times).as_nanos() / events as u128;
        println!("{name:28} {ns:6} ns/event   {:5.2} x bare tape (all lines)", middle(ratios));
    }
}

/// A setting from the environment, for longer or shorter runs.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let before = thread_cpu();
    work();
    thread_cpu() - before
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn tape<'a>(lines: &'a [&'a [u8]]) -> impl FnMut() -> Duration + 'a {
    let mut buffers = simd_json::Buffers::new(4096);
    let mut tape = Some(simd_json::Tape::null());
    let mut scratch = Vec::new();
    move || {
        timed(|| {
            for line in lines {
                scratch.clear();
                scratch.extend_from_slice(line);
                scratch.resize(line.len() + PADDING, 0);
                let mut own = tape.take().unwrap().reset();
                let len = line.len();
                let result = simd_json::fill_tape_padded(&mut scratch, len, &mut buffers, &mut own);
                let _ = black_box(result);
                tape = Some(own.reset());
            }
        })
    }
}

fn parse<'a>(lines: &[&[u8]], table: &'a RoutingTable) -> impl FnMut() -> Duration + 'a {
    let mut padded: Vec<Vec<u8>> =
        lines.iter().map(|line| [line, &[0; PADDING][..]].concat()).collect();
    let mut parser = Parser::new();
    move || {
        timed(|| {
            for line in &mut padded {
                let len = line.len() - PADDING;
                let _ = black_box(parser.parse(line, len, table.locations()));
            }
        })
    }
}

fn worker(run: &[u8], destinations: usize) -> impl FnMut() -> Duration + use<> {
    let frames = support::frame_bytes(run);
    let (plans, outlets) = support::plan(destinations);
    let mut path = WorkerPath::new(&plans, &Arc::from([Arc::default()]), 1 << 20);
    let room = support::room();
    move || {
        let at = Instant::now();
        let frames: Vec<_> = frames.iter().map(|bytes| support::frame(bytes, &room, at)).collect();
        timed(|| {
            for frame in frames {
                path.take_up(frame);
                black_box(support::drain(&outlets));
            }
        })
    }
}
