//! The file of the journal. Its pages are dropped from the system's page cache, because they are
//! not read again while the service runs. Records bypass the cache if the file system supports that
//! (`direct_file.rs`).
//!
//! Otherwise the cache holds the file in pieces as large as what was read or written at once, and
//! writing a small record into a large cached piece marks all of it as changed.
//!
//! The file's space is written in advance. If the file system still needs room to overwrite it, a
//! write waits for room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;

use super::files::FileSystem;
use super::room::Room;

/// The open file of a journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    backend: Box<dyn StorageBackend>,
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    /// Offset of the last write.
    last_write: AtomicU64,
    room: Arc<Room>,
}

impl JournalFile {
    /// Opens an existing file.
    pub(super) fn open(files: &Arc<dyn FileSystem>, path: &Path, room: Arc<Room>) -> io::Result<Self> {
        Ok(Self::over(files.open_uncached(path)?, files, path, room))
    }

    /// Creates an empty file.
    pub(super) fn create(files: &Arc<dyn FileSystem>, path: &Path) -> io::Result<Self> {
        Ok(Self::over(files.create_storage(path)?, files, path, Arc::default()))
    }

    fn over(backend: Box<dyn StorageBackend>, files: &Arc<dyn FileSystem>, path: &Path, room: Arc<Room>) -> Self {
        Self { backend, files: Arc::clone(files), path: path.to_owned(), last_write: AtomicU64::new(0), room }
    }
}

impl StorageBackend for JournalFile {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.backend.read(offset, out);
        self.files.drop_cached(&self.path);
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The other half begins, and its cached pages are old.
        if offset < self.last_write.swap(offset, Ordering::Relaxed) {
            self.files.drop_cached(&self.path);
        }
        self.room.retry(|| self.backend.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
