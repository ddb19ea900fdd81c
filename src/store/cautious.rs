//! A file that stays as it is until it is known to be a store of ours.
//!
//! While redb opens a file it repairs and marks it. If what it opened turns
//! out to be damaged or something else, the file must be as before. So what
//! is written while it opens is kept in memory, and reaches the file when
//! [`Cautious::release`] says so; from then on everything goes straight
//! through.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// A file that stays as it is until it is released. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Cautious(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: FileBackend,
    released: AtomicBool,
    kept: Mutex<Kept>,
}

/// What was written so far.
#[derive(Debug, Default)]
struct Kept {
    length: Option<u64>,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Cautious {
    pub(super) fn new(file: FileBackend) -> Self {
        Self(Arc::new(Inner { file, released: AtomicBool::new(false), kept: Mutex::default() }))
    }

    /// Writes what was kept; from now on the file is written to directly.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut kept = self.kept();
        if let Some(length) = kept.length {
            self.0.file.set_len(length)?;
        }
        for (offset, data) in kept.writes.drain(..) {
            self.0.file.write(offset, &data)?;
        }
        self.0.file.sync_data()?;
        self.0.released.store(true, Ordering::Release);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept, unless the file is released.
    fn keeping(&self) -> Option<MutexGuard<'_, Kept>> {
        if self.0.released.load(Ordering::Acquire) {
            return None;
        }
        Some(self.kept()).filter(|_| !self.0.released.load(Ordering::Acquire))
    }
}

impl StorageBackend for Cautious {
    fn len(&self) -> io::Result<u64> {
        match self.keeping().and_then(|kept| kept.length) {
            Some(length) => Ok(length),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(kept) = self.keeping() else { return self.0.file.read(offset, out) };
        let there = self.0.file.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (old, grown) = out.split_at_mut(there);
        self.0.file.read(offset, old)?;
        grown.fill(0);
        for (at, data) in &kept.writes {
            overlay(offset, out, *at, data);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.keeping() {
            Some(mut kept) => {
                kept.length = Some(len);
                Ok(())
            }
            None => self.0.file.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.keeping() {
            Some(_) => Ok(()),
            None => self.0.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.keeping() {
            Some(mut kept) => {
                kept.writes.push((offset, data.to_vec()));
                Ok(())
            }
            None => self.0.file.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }
}

/// Copies the part of `data`, which stands at `at`, that lies within `out`,
/// which stands at `offset`.
fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let skip_out = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
    let skip_data = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
    let (Some(out), Some(data)) = (out.get_mut(skip_out..), data.get(skip_data..)) else { return };
    out.iter_mut().zip(data).for_each(|(out, data)| *out = *data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_lie_over_what_is_read() {
        let read = |offset: u64, at: u64, data: &[u8]| {
            let mut out = *b"......";
            overlay(offset, &mut out, at, data);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(read(10, 12, b"ab"), "..ab..");
        assert_eq!(read(10, 8, b"abcd"), "cd....");
        assert_eq!(read(10, 14, b"abcd"), "....ab");
        assert_eq!(read(10, 0, b"abcd"), "......");
        assert_eq!(read(10, 16, b"abcd"), "......");
        assert_eq!(read(10, 9, b"abcdefgh"), "bcdefg");
    }

    #[test]
    fn the_file_changes_when_it_is_released() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = |write: bool| std::fs::OpenOptions::new().read(true).write(write).open(path.path()).unwrap();
        std::fs::write(path.path(), b"old content").unwrap();
        let cautious = Cautious::new(FileBackend::new(file(true)).unwrap());
        cautious.set_len(14).unwrap();
        cautious.write(0, b"new").unwrap();
        let mut out = [9; 14];
        cautious.read(0, &mut out).unwrap();
        assert_eq!(&out, b"new content\0\0\0");
        assert_eq!(std::fs::read(path.path()).unwrap(), b"old content");
        cautious.release().unwrap();
        cautious.write(4, b"C").unwrap();
        assert_eq!(std::fs::read(path.path()).unwrap(), b"new Content\0\0\0");
    }
}
