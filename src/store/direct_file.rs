//! A file that is written without the system's page cache, if its file system supports that.
//!
//! A small durable write takes less time and less of the processor this way: nothing is copied into
//! the cache, marked as changed there and searched for by the sync. The sync is still necessary,
//! because the contents of a disk's own cache are not durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::sync::{Mutex, PoisonError};

/// Alignment of the file offset, the length and the memory address of a direct write: the largest
/// block of common disks, and a page.
const ALIGNMENT: usize = 4096;
/// Largest buffer that is kept for the next write, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// The open file. Reads, and writes that do not start and end at a block, use the cache, which the
/// system keeps coherent with direct writes.
#[derive(Debug)]
pub(super) struct DirectFile {
    cached: FileBackend,
    direct: File,
    works: AtomicBool,
    /// Holds written bytes at an aligned address.
    buffer: Mutex<Vec<u8>>,
}

impl DirectFile {
    /// Opens a file for reading and writing. Fails if the file system does not support direct
    /// writes, among other reasons.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = |flags: OFlags| {
            let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
        };
        let cached = FileBackend::new(open(OFlags::empty())?).map_err(io::Error::other)?;
        let direct = open(OFlags::DIRECT)?;
        Ok(Self { cached, direct, works: AtomicBool::new(true), buffer: Mutex::default() })
    }

    fn write_direct(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        buffer.reserve(data.len() + ALIGNMENT);
        let front = buffer.as_ptr().align_offset(ALIGNMENT);
        buffer.resize(front, 0);
        buffer.extend_from_slice(data);
        let written = self.direct.write_all_at(buffer.get(front..).unwrap_or_default(), offset);
        if buffer.capacity() > KEPT_BYTES {
            *buffer = Vec::new();
        }
        written
    }
}

impl StorageBackend for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.cached.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.cached.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let is_aligned = data.len().is_multiple_of(ALIGNMENT)
            && usize::try_from(offset).is_ok_and(|offset| offset.is_multiple_of(ALIGNMENT));
        if is_aligned && self.works.load(Ordering::Relaxed) {
            match self.write_direct(offset, data) {
                // The blocks are larger, or the file system does not support direct writes after
                // all.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    self.works.store(false, Ordering::Relaxed);
                    tracing::debug!(%error, "journal writes use the page cache");
                }
                written => return written,
            }
        }
        self.cached.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.cached.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_unaligned_writes_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 5 * ALIGNMENT]).unwrap();
        let file = DirectFile::open(&path).unwrap();
        let mut all = vec![0; 5 * ALIGNMENT];
        file.read(0, &mut all).unwrap();
        file.write(4096, &[2; 2 * ALIGNMENT]).unwrap();
        file.write(3 * 4096, &[3; 10]).unwrap();
        file.write(3 * 4096 + 10, &[4; ALIGNMENT]).unwrap();
        file.write(0, &[5; ALIGNMENT]).unwrap();
        file.sync_data().unwrap();
        file.read(0, &mut all).unwrap();
        let runs: Vec<_> = all.chunk_by(|one, next| one == next).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(5, 4096), (2, 2 * 4096), (3, 10), (4, 4096), (1, 4096 - 10)]);
        assert_eq!(std::fs::read(&path).unwrap(), all);
        assert_eq!(file.len().unwrap(), 5 * 4096);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap();
        let file = DirectFile::open(&path).unwrap();
        file.write(0, &vec![7; 2 * KEPT_BYTES]).unwrap();
        assert_eq!(file.buffer.lock().unwrap().capacity(), 0);
        file.write(0, &[8; ALIGNMENT]).unwrap();
        let mut begin = [0; ALIGNMENT + 1];
        file.read(0, &mut begin).unwrap();
        assert_eq!((begin[0], begin[ALIGNMENT - 1], begin[ALIGNMENT]), (8, 8, 7));
    }
}
