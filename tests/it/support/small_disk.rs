//! A small disk of its own: a file system in memory, which takes a mount. What
//! else is on it is under the test's control.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Bytes written at once by the one who fills the disk, at first and at last.
const PIECES: [usize; 3] = [1024 * 1024, 4096, 1];

/// A mounted disk; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of so many MiB. `None`, and said so, where this process may
    /// not mount, as root may not in most containers; the gate requires it of one that may.
    pub(crate) fn mount(mib: u64, test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self { dir });
        }
        let is_gate = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!(is_gate && may_mount()), "{test} needs to mount a tmpfs, which has failed");
        println!("skipped: {test} needs to mount a tmpfs, which this process may not");
        None
    }

    /// Where the data of a service may be.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn others(&self) -> PathBuf {
        self.dir.path().join("others")
    }

    /// Somebody else takes so many MiB more.
    pub(crate) fn take(&self, mib: usize) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.others()).unwrap();
        for _ in 0..mib {
            file.write_all(&vec![1; PIECES[0]]).unwrap();
        }
    }

    /// From now on nothing can be written to it.
    pub(crate) fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.dir.path()).status().unwrap();
        assert!(status.success(), "remounting ended with {status}");
    }

    /// Somebody else takes all but so many bytes.
    pub(crate) fn leave(&self, bytes: u64) {
        let taken = self.free_bytes().checked_sub(bytes).expect("the disk is large enough");
        let mut file = OpenOptions::new().create(true).append(true).open(self.others()).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(1), taken), &mut file).unwrap();
    }

    /// Somebody else takes what there is, to the last byte.
    pub(crate) fn fill(&self) {
        fill(&self.others());
    }

    /// Somebody else takes what there is, and what becomes free, until the guard
    /// is dropped.
    pub(crate) fn keep_full(&self) -> Filler {
        let (others, stop) = (self.others(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Acquire) {
                fill(&others);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Filler { stop, thread: Some(thread) }
    }

    /// Somebody else gives back what they have.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.others());
    }

    /// Bytes that are free.
    pub(crate) fn free_bytes(&self) -> u64 {
        let df = Command::new("df").args(["-B1", "--output=avail"]).arg(self.dir.path()).output().unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        text.lines().last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is just being killed may have files open.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).stderr(Stdio::null()).status();
    }
}

/// Keeps a disk full until it is dropped.
pub(crate) struct Filler {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fill(path: &Path) {
    let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) else { return };
    for piece in PIECES {
        let bytes = vec![1; piece];
        while file.write_all(&bytes).is_ok() {}
    }
    let _ = File::sync_all(&file);
}

/// Whether this process has the capability that Linux asks of one that mounts.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    held.is_some_and(|held| held >> CAP_SYS_ADMIN & 1 == 1)
}
