//! The standard metrics of a process, from `/proc/self`.

use std::fmt::Write as _;

/// Appends them to `page`; a value that the system does not tell is left out.
pub(super) fn write(page: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, is in parentheses and may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    // Numbers as in proc_pid_stat(5), where the state after the name is field 3.
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as f64;
    let open_fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);

    let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    };
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks);
    add("process_cpu_seconds_total", "counter", "User and system CPU time.", cpu);
    let resident = field(24).map(|pages| pages * page_bytes);
    add("process_resident_memory_bytes", "gauge", "Resident memory.", resident);
    add("process_virtual_memory_bytes", "gauge", "Virtual memory.", field(23));
    add("process_threads", "gauge", "Threads.", field(20));
    add("process_open_fds", "gauge", "Open file descriptors.", open_fds);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map(|limit| limit as f64);
    add("process_max_fds", "gauge", "Limit on open file descriptors.", limit);
    add("process_start_time_seconds", "gauge", "Start, as Unix time.", Some(started()));
}

/// When this process started, or first asked.
fn started() -> f64 {
    use std::sync::OnceLock;
    use std::time::{SystemTime, UNIX_EPOCH};
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    })
}
