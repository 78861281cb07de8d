//! What a running process has used so far.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

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
