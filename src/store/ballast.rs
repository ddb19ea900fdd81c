//! The ballast: a file beside the store that only occupies space. It is released when the disk has
//! no room for acknowledged data, so that the tables can take the contents of the journal, a start
//! succeeds on a full disk, and old tasks can be pruned. It is created again when there is room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

/// Name in the data directory.
pub(super) const BALLAST: &str = "dats.ballast";
/// Bytes written at once if the system cannot allocate space.
const PIECE: usize = 1024 * 1024;

/// The ballast of a data directory.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// Wanted size, in bytes.
    size: AtomicU64,
    /// Missing part of that size, in bytes.
    missing: AtomicU64,
    is_being_made: AtomicBool,
    /// Held while the file changes.
    file: Mutex<()>,
}

impl Ballast {
    pub(super) fn new(dir: &Path) -> Self {
        let (size, missing) = (AtomicU64::new(0), AtomicU64::new(0));
        let (path, file) = (dir.join(BALLAST), Mutex::new(()));
        Self { path, size, missing, is_being_made: AtomicBool::new(false), file }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Sets the wanted size. A larger file is truncated; 0 removes it.
    pub(super) fn set_size(&self, size: u64) {
        let _changing = self.changing();
        let length = self.length();
        self.size.store(size, Ordering::Release);
        if length > size {
            let cut = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(size));
            let removed = if size == 0 { fs::remove_file(&self.path) } else { Ok(()) };
            if let Err(error) = cut.and(removed) {
                tracing::warn!(%error, path = %self.path.display(), "ballast could not be truncated");
            }
        }
        self.missing.store(size.saturating_sub(length), Ordering::Release);
    }

    /// Missing part of the wanted size, in bytes.
    pub(super) fn missing(&self) -> u64 {
        self.missing.load(Ordering::Acquire)
    }

    /// Releases the space. Returns whether there was any.
    pub(super) fn release(&self) -> bool {
        let _changing = self.changing();
        let length = self.length();
        if length == 0 {
            return false;
        }
        // On some file systems a file that is truncated first can be removed without room.
        let cut = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(0));
        let removed = fs::remove_file(&self.path);
        if let Err(error) = cut.and(removed) {
            tracing::error!(%error, path = %self.path.display(), "ballast could not be released");
        }
        let is_released = self.length() < length;
        if is_released {
            self.missing.store(self.size.load(Ordering::Acquire), Ordering::Release);
            tracing::warn!(bytes = length, "disk full, ballast released");
        }
        is_released
    }

    /// Returns true for the one caller that is to create the file.
    pub(super) fn begin_making(&self) -> bool {
        !self.is_being_made.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_making(&self) {
        self.is_being_made.store(false, Ordering::Release);
    }

    /// Allocates the missing part. After a failure it is tried again later.
    pub(super) fn make(&self) {
        {
            let _changing = self.changing();
            let size = self.size.load(Ordering::Acquire);
            match set_aside(&self.path, self.length(), size) {
                Ok(()) => self.missing.store(0, Ordering::Release),
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "ballast could not be created");
                    let _ = fs::remove_file(&self.path);
                    self.missing.store(size, Ordering::Release);
                }
            }
        }
        self.end_making();
    }
}

/// Allocates space in a file from one length to another.
fn set_aside(path: &Path, from: u64, to: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), from, to.saturating_sub(from)) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(&mut file, to.saturating_sub(from)),
        result => Ok(result?),
    }
}

/// Writes zeros, for systems that cannot allocate space.
fn fill(file: &mut File, mut bytes: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    while bytes > 0 {
        let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE);
        file.write_all(zeros.get(..piece).unwrap_or(&zeros))?;
        bytes = bytes.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_is_created_released_and_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path());
        assert!(!ballast.release(), "there is none");
        ballast.set_size(1 << 20);
        assert_eq!(ballast.missing(), 1 << 20);
        assert!(ballast.begin_making() && !ballast.begin_making(), "one thread makes it");
        ballast.make();
        assert_eq!((ballast.missing(), ballast.length()), (0, 1 << 20));
        assert!(ballast.release());
        assert_eq!((ballast.missing(), dir.path().join(BALLAST).exists()), (1 << 20, false));
        assert!(!ballast.release(), "only once");
        assert!(ballast.begin_making());
        ballast.make();
        assert_eq!(ballast.missing(), 0);
    }

    #[test]
    fn an_existing_ballast_follows_the_wanted_size() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path());
        ballast.set_size(8192);
        ballast.make();
        let ballast = Ballast::new(dir.path());
        ballast.set_size(16384);
        assert_eq!(ballast.missing(), 8192);
        ballast.make();
        assert_eq!(ballast.length(), 16384);
        ballast.set_size(4096);
        assert_eq!((ballast.missing(), ballast.length()), (0, 4096));
        ballast.set_size(0);
        assert!(!dir.path().join(BALLAST).exists());
    }

    #[test]
    fn zeros_are_written_if_space_cannot_be_allocated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = u64::try_from(PIECE).unwrap() + 10;
        fill(&mut file.reopen().unwrap(), bytes).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().len(), bytes);
    }
}
