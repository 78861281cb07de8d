//! Judges every line that arrives at one destination, byte for byte.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use memchr::memchr_iter;
use serde::Serialize;

use crate::clock::Clock;
use crate::corpus::{EventId, ID_LEN};
use crate::expect::Expectations;
use crate::send::Template;

const LATENCY_US_MAX: u64 = 120_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
const EXAMPLES_MAX: usize = 5;

/// What every destination of a run judges by, and where it counts.
#[derive(Debug)]
pub struct Register {
    templates: Arc<Vec<Template>>,
    expectations: Arc<Expectations>,
    clock: Clock,
    arrived: AtomicU64,
    latency_us: Mutex<Histogram<u64>>,
    examples: Mutex<Vec<String>>,
}

/// What arrived at one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Different events that arrived and were expected.
    pub events: u64,
    /// Lines that must not have arrived: without consent, altered, torn, or unknown.
    pub violations: u64,
    /// Events that arrived again.
    pub duplicates: u64,
}

impl Register {
    /// Nothing has arrived.
    ///
    /// # Errors
    /// When the bounds of the latencies cannot be had.
    pub fn new(
        templates: Arc<Vec<Template>>,
        expectations: Arc<Expectations>,
        clock: Clock,
    ) -> io::Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
            .map_err(io::Error::other)?;
        Ok(Self {
            templates,
            expectations,
            clock,
            arrived: AtomicU64::new(0),
            latency_us: Mutex::new(latency_us),
            examples: Mutex::new(Vec::new()),
        })
    }

    /// Different, expected events that have arrived, over all destinations.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// The latencies since the last call, in microseconds.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut latency_us = lock(&self.latency_us);
        let taken = latency_us.clone();
        latency_us.reset();
        taken
    }

    /// The first few violations, in words.
    pub fn examples(&self) -> Vec<String> {
        lock(&self.examples).clone()
    }

    fn note_violation(&self, what: &str, destination: usize, line: &[u8]) {
        let mut examples = lock(&self.examples);
        if examples.len() < EXAMPLES_MAX {
            let line = String::from_utf8_lossy(line.trim_ascii_end());
            examples.push(format!("destination {destination}: {what}: {line}"));
        }
    }
}

/// The account of one destination.
#[derive(Debug)]
pub struct Ledger {
    destination: usize,
    register: Arc<Register>,
    /// One bit per number, of the events that arrived and were expected.
    seen: Vec<u64>,
    tally: Tally,
}

impl Ledger {
    /// Nothing has arrived.
    pub fn new(destination: usize, register: Arc<Register>) -> Self {
        Self { destination, register, seen: Vec::new(), tally: Tally::default() }
    }

    /// So far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Judges the lines that `bytes` completes. `tail` is the unfinished line of the stream, before
    /// and after.
    pub fn take(&mut self, tail: &mut Vec<u8>, bytes: &[u8]) {
        let mut arrivals = Arrivals::new(self.register.clock.now_ns());
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            if tail.is_empty() {
                self.judge(&bytes[start..=end], &mut arrivals);
            } else {
                tail.extend_from_slice(&bytes[start..=end]);
                self.judge(tail, &mut arrivals);
                tail.clear();
            }
            start = end + 1;
        }
        tail.extend_from_slice(&bytes[start..]);
        arrivals.record(&self.register);
    }

    /// A stream ended; what it left unfinished was torn.
    pub fn close(&mut self, tail: &[u8]) {
        if !tail.is_empty() {
            self.violation("torn", tail);
        }
    }

    fn judge(&mut self, line: &[u8], arrivals: &mut Arrivals) {
        let register = Arc::clone(&self.register);
        let Some((id_at, id)) = EventId::find(line) else {
            return self.violation("unknown", line);
        };
        let template = register.expectations.template_of(id.sequence);
        let is_unaltered = register.templates.get(template).is_some_and(|original| {
            id.template as usize == template && is_copy(line, original, id_at)
        });
        if !is_unaltered {
            self.violation("altered", line);
        } else if !register.expectations.reaches(template, self.destination) {
            self.violation("not allowed", line);
        } else if self.is_new(id.sequence) {
            self.tally.events += 1;
            arrivals.add(id.sent_ns, &register);
        } else {
            self.tally.duplicates += 1;
        }
    }

    fn is_new(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn violation(&mut self, what: &str, line: &[u8]) {
        self.tally.violations += 1;
        self.register.note_violation(what, self.destination, line);
    }
}

/// The same bytes but for the id?
fn is_copy(line: &[u8], original: &Template, id_at: usize) -> bool {
    let id_end = id_at + ID_LEN;
    id_at == original.id_at
        && line.len() == original.line.len()
        && line[..id_at] == original.line[..id_at]
        && line[id_end..] == original.line[id_end..]
}

/// Latencies of one read: neighbours were mostly sent together, so they are recorded together.
struct Arrivals {
    now_ns: u64,
    sent_ns: u64,
    run: u64,
    total: u64,
}

impl Arrivals {
    fn new(now_ns: u64) -> Self {
        Self { now_ns, sent_ns: 0, run: 0, total: 0 }
    }

    fn add(&mut self, sent_ns: u64, register: &Register) {
        if sent_ns != self.sent_ns {
            self.record_run(register);
            self.sent_ns = sent_ns;
        }
        self.run += 1;
    }

    fn record_run(&mut self, register: &Register) {
        if self.run > 0 {
            let latency_us = self.now_ns.saturating_sub(self.sent_ns) / 1000;
            lock(&register.latency_us).saturating_record_n(latency_us, self.run);
            self.total += self.run;
            self.run = 0;
        }
    }

    fn record(mut self, register: &Register) {
        self.record_run(register);
        register.arrived.fetch_add(self.total, Ordering::AcqRel);
    }
}

/// A ledger is whole after every line, so a poisoned lock hides nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 2] = [
        r#"{"messageId":"lt-000000-000000000000-0000000000000000","a":1}"#,
        r#"{"messageId":"lt-000001-000000000001-0000000000000000","integrations":{"All":false}}"#,
    ];

    fn ledger() -> Ledger {
        let lines = LINES.map(|line| line.as_bytes().to_vec());
        let templates = Arc::new(Template::all(&lines));
        let plan = crate::plan::Plan::with_fan_out(1, 1.0, &lines);
        let expectations = Arc::new(Expectations::by_consent(&lines, &plan));
        let register = Register::new(templates, expectations, Clock::start()).unwrap();
        Ledger::new(0, Arc::new(register))
    }

    fn tally_of(bytes: &str, read: usize) -> Tally {
        let (mut ledger, mut tail) = (ledger(), Vec::new());
        bytes.as_bytes().chunks(read).for_each(|bytes| ledger.take(&mut tail, bytes));
        ledger.close(&tail);
        ledger.tally()
    }

    #[test]
    fn whatever_the_reads_the_same_lines_arrive() {
        let bytes =
            format!("{}\n{}\n", LINES[0], LINES[0].replace("-000000000000-", "-000000000002-"));
        for read in [1, 7, 64, 4096] {
            let expected = Tally { events: 2, violations: 0, duplicates: 0 };
            assert_eq!(tally_of(&bytes, read), expected, "reads of {read}");
        }
    }

    #[test]
    fn what_may_not_arrive_is_a_violation() {
        for line in [
            LINES[1].to_owned(),
            LINES[0].replace(":1}", ":2}"),
            LINES[0].replace("000000-000000000000", "000000-000000000001"),
            "{}".to_owned(),
        ] {
            let tally = tally_of(&format!("{line}\n"), 4096);
            assert_eq!(tally, Tally { events: 0, violations: 1, duplicates: 0 }, "{line}");
        }
        assert_eq!(tally_of(LINES[0], 4096).violations, 1, "torn");
    }

    #[test]
    fn an_event_counts_once() {
        let tally = tally_of(&format!("{0}\n{0}\n", LINES[0]), 4096);
        assert_eq!(tally, Tally { events: 1, violations: 0, duplicates: 1 });
    }
}
