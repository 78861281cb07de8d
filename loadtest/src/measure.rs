//! What a running process has used so far.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// More than this between the middle and the last third of the time is growth.
pub const GROWTH_MAX_MIB: f64 = 4.0;

/// Reads another process's clocks and counters.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    pid: Pid,
}

impl Meter {
    /// Of the process with this id.
    pub fn of(pid: u32) -> Self {
        Self { pid: Pid::from_raw(pid as i32) }
    }

    /// User and system time of all threads, to the nanosecond.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> io::Result<Duration> {
        let time = clock_gettime(clock_getcpuclockid(self.pid)?)?;
        Ok(Duration::from(time))
    }

    /// The most memory that was ever resident, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rss_peak(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// The memory that is resident now, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rss(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, key: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {key} in status")))
    }
}

/// Does `work`, and looks at the process's memory meanwhile: MiB, at even distances.
///
/// # Errors
/// When the process is gone.
pub fn sampled<T>(meter: Meter, work: impl FnOnce() -> T) -> io::Result<(T, Vec<f64>)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(meter, &is_over));
        let done = work();
        is_over.store(true, Ordering::Release);
        let rss_mib = sampler.join().map_err(|_| io::Error::other("the sampler died"))??;
        Ok((done, rss_mib))
    })
}

fn sample(meter: Meter, is_over: &AtomicBool) -> io::Result<Vec<f64>> {
    let mut rss_mib = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        rss_mib.push(meter.rss()? as f64 / f64::from(1 << 20));
        thread::sleep(SAMPLE_EVERY);
    }
    Ok(rss_mib)
}

/// The highest of the last third over the highest of the middle third.
pub fn growth(rss_mib: &[f64]) -> f64 {
    let third = rss_mib.len() / 3;
    let highest = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    highest(&rss_mib[2 * third..]) - highest(&rss_mib[third..2 * third])
}

/// The value in the middle; 0 of nothing.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        len => (figures[(len - 1) / 2] + figures[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_shows_in_the_cpu_time_and_memory_in_the_peak() {
        let meter = Meter::of(std::process::id());
        let before = meter.cpu().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(20) {
            black_box(started);
        }
        assert!(meter.cpu().unwrap() - before > Duration::from_millis(5));

        let peak = meter.rss_peak().unwrap();
        let memory = black_box(vec![1u8; 64 << 20]);
        assert!(meter.rss().unwrap() >= memory.len() as u64);
        assert!(meter.rss_peak().unwrap() >= peak.max(memory.len() as u64));
    }
}
