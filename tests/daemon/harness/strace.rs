//! System calls that fail: strace answers in the place of the kernel.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Daemon, Folder, consentd, wait_until};
use crate::tools;

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Its name.
    pub(crate) call: &'static str,
    /// How, by name.
    pub(crate) error: &'static str,
    /// Which ones: a number, `4+` or `1+2` in strace's way, of the calls of each thread.
    pub(crate) when: When,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Only this one.
    Nth(usize),
    /// Every second one: each is good when it is tried again.
    EverySecond,
    /// All of them.
    Every,
    /// None fails, and each takes so long.
    Slow(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, error, when } = self;
        match when {
            When::Nth(number) => write!(f, "{call}:error={error}:when={number}"),
            When::EverySecond => write!(f, "{call}:error={error}:when=1+2"),
            When::Every => write!(f, "{call}:error={error}"),
            When::Slow(by) => write!(f, "{call}:delay_enter={}", by.as_micros()),
        }
    }
}

impl Fault {
    /// A call that succeeds, but slowly.
    pub(crate) fn slow(call: &'static str, by: Duration) -> Self {
        Self { call, error: "", when: When::Slow(by) }
    }

    /// What the system says of it.
    pub(crate) fn message(&self) -> &'static str {
        match self.error {
            "EIO" => "Input/output error",
            "ENOSPC" => "No space left on device",
            "EINTR" => "Interrupted system call",
            other => panic!("{other} is not known here"),
        }
    }
}

/// strace at work on a daemon.
pub(crate) struct Tracer {
    trace: PathBuf,
    child: Option<Child>,
}

impl Tracer {
    /// The daemon's command, with a fault in what it does to `paths` from its first moment on.
    pub(crate) fn around(folder: &Folder, fault: Fault, paths: &[PathBuf]) -> (Self, Command) {
        let tracer = Self { trace: folder.path("trace"), child: None };
        let mut command = tracer.command(fault, paths);
        // As a grandchild: the process that is signalled and waited for is the daemon itself.
        command.arg("-D").arg(consentd().get_program());
        (tracer, command)
    }

    /// Brings a fault to a daemon that runs.
    pub(crate) fn attach(
        folder: &Folder,
        daemon: &Daemon,
        fault: Fault,
        paths: &[PathBuf],
    ) -> Self {
        let mut tracer = Self { trace: folder.path("trace"), child: None };
        let said = folder.path("strace");
        let mut command = tracer.command(fault, paths);
        command.arg("-p").arg(daemon.id().to_string());
        command.stdin(Stdio::null()).stderr(File::create(&said).unwrap());
        tracer.child = Some(command.spawn().unwrap());
        wait_until("strace is attached", || {
            let said = std::fs::read_to_string(&said).unwrap();
            assert!(!said.contains("Operation not permitted"), "{said}");
            said.contains(" attached")
        });
        tracer
    }

    fn command(&self, fault: Fault, paths: &[PathBuf]) -> Command {
        let mut command = tools::strace();
        command.arg("-f").arg("-o").arg(&self.trace);
        command.arg("-e").arg(format!("trace={}", fault.call));
        command.arg("-e").arg(format!("inject={fault}"));
        for path in paths {
            command.arg("-P").arg(path);
        }
        command
    }

    /// Whether the fault has occurred.
    pub(crate) fn has_struck(&self) -> bool {
        std::fs::read_to_string(&self.trace).unwrap_or_default().contains("(INJECTED)")
    }

    /// What was called on these paths.
    pub(crate) fn calls(&self) -> String {
        std::fs::read_to_string(&self.trace).unwrap_or_default()
    }

    /// Whether this machine lets a process be traced; where it must (`CI=true`) and does not, the test
    /// fails.
    pub(crate) fn is_permitted() -> bool {
        let can = Self::can_trace();
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(can || !must, "strace can't trace here (ptrace is not permitted), so no faults");
        if !can {
            eprintln!("NOT TESTED: strace can't trace here (ptrace is not permitted)");
        }
        can
    }

    fn can_trace() -> bool {
        let mut command = tools::strace();
        command.args(["-o", "/dev/null", "-e", "inject=getpid:error=EIO"]).arg("/bin/true");
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // So that it lets go of a daemon that runs; with the daemon it has ended already.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let until = Instant::now() + Duration::from_secs(2);
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What is in a log's folder, and what may come to be there: strace knows no patterns.
pub(crate) fn paths_of_log(log: &Path) -> Vec<PathBuf> {
    let segments = (1..=12).map(|number| format!("{number:08x}00000000.segment"));
    let others = ["cursors.a", "cursors.b", "identities.a", "identities.b", "damaged"];
    let unfinished = ["identities.a.unfinished", "identities.b.unfinished"];
    let names = segments.chain(others.into_iter().chain(unfinished).map(str::to_owned));
    std::iter::once(log.to_owned()).chain(names.map(|name| log.join(name))).collect()
}
