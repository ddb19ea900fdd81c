//! The file of the journal. What was read or written is not kept in the
//! system's page cache: it is not read again while the service runs.
//!
//! The cache holds a file in pieces as large as what was read or written at
//! once. Where a large piece is left over, writing a small record into it marks
//! all of it as changed.
//!
//! Its space is written in advance. Where the file system needs room all the same
//! to write it again, a write waits for room.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, fadvise};

use super::room::Room;

/// The open file of a journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    backend: FileBackend,
    /// The same file, to advise the system about it.
    file: File,
    /// Where the last write began.
    last_write: AtomicU64,
    room: Arc<Room>,
}

impl JournalFile {
    pub(super) fn new(file: File, room: Arc<Room>) -> Result<Self, super::Error> {
        let failed = |source| super::Error::Io { action: "open", path: super::directory::JOURNAL.into(), source };
        let duplicate = file.try_clone().map_err(failed)?;
        Ok(Self { backend: FileBackend::new(file)?, file: duplicate, last_write: AtomicU64::new(0), room })
    }

    /// Drops what the system has cached of the file and is on disk.
    fn drop_cached(&self) {
        // Advice: without it everything works as well.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

impl StorageBackend for JournalFile {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.backend.read(offset, out);
        self.drop_cached();
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The other half begins: what is cached of it is from long ago.
        if offset < self.last_write.swap(offset, Ordering::Relaxed) {
            self.drop_cached();
        }
        self.room.retry(|| self.backend.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
