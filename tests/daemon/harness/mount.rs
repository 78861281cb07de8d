//! File systems of a test's own: small ones, and ones whose power can be cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::ioctl::{Setter, ioctl};

use super::Folder;
use crate::tools;

/// `FS_IOC_SHUTDOWN`, which ext4 and xfs know.
const SHUTDOWN: u32 = 0x8004_587d;

/// Neither the journal nor anything else is written any more.
const NO_LOG_FLUSH: u32 = 2;

/// Enough for xfs, which wants 300 MB; the file takes what is written to it.
const IMAGE_BYTES: u64 = 1 << 30;

/// A mounted file system, taken off when it is dropped.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// One in memory.
    pub(crate) fn tmpfs(at: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=0755");
        Self::run(at, &["-t", "tmpfs", "-o", &options, "tmpfs"])
    }

    /// Makes an empty file system (`ext4`, `xfs`) in a file, and gives the file.
    pub(crate) fn make_image(folder: &Folder, kind: &str) -> PathBuf {
        let image = folder.path("image");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let made = tools::mkfs(kind).arg("-q").arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        image
    }

    /// Mounts the file system in the file `image`.
    pub(crate) fn image(at: &Path, image: &Path) -> Self {
        Self::run(at, &["-o", "loop", image.to_str().unwrap()])
    }

    fn run(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(at).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self { at: at.to_owned() }
    }

    /// From now on nothing reaches the disk. What has not is lost once it is mounted again.
    pub(crate) fn cut_power(&self) {
        let root = File::open(&self.at).unwrap();
        // SAFETY: the kernel reads a u32, which is what it gets.
        unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that was killed may hold a file for a moment: lazily then.
        for arguments in [&[][..], &["-l"]] {
            let mut command = Command::new("umount");
            command.args(arguments).arg(&self.at).stderr(Stdio::null());
            if command.status().is_ok_and(|status| status.success()) {
                return;
            }
        }
    }
}

/// Whether this machine lets the test mount file systems. Where it must (`CI=true`), it fails.
pub(crate) fn can_mount() -> bool {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("mount")).unwrap();
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "tmpfs"]).arg(folder.path("mount")).stderr(Stdio::null());
    let can = command.status().is_ok_and(|status| status.success());
    if can {
        drop(Mount { at: folder.path("mount") });
    }
    let can = can && Path::new("/dev/loop-control").exists();
    let needs = "this needs root (CAP_SYS_ADMIN) to mount file systems, and loop devices";
    let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(can || !must, "{needs}");
    if !can {
        eprintln!("NOT TESTED: {needs}");
    }
    can
}
