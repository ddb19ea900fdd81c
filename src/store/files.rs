//! The file operations of the store, and their implementation by the operating system.
//!
//! All files of a store are accessed through [`FileSystem`], except for the ballast, which holds
//! nothing. Tests therefore run the store on a simulated disk that loses power.
//!
//! An operation promises what POSIX promises, and no more. The bytes of a file survive a power loss
//! once the file is synced. Its name, a new name, or the removal of a name survives once the
//! directory is synced; until then each of them may be lost without the others.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, fadvise};

use super::Error;
use super::direct_file::DirectFile;

/// The bit of a file's mode that lets its owner write.
const OWNER_WRITES: u32 = 0o200;

/// A lock on a file, released when it is dropped.
pub type FileLock = Box<dyn fmt::Debug + Send + Sync>;

/// The file operations of a store.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Creates a directory and its missing parents.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns the paths of a directory's entries, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether a file or a directory has this path.
    fn exists(&self, path: &Path) -> bool;

    /// Whether a directory has this path.
    fn is_directory(&self, path: &Path) -> bool;

    /// Returns the length of a file, in bytes.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Makes added and removed names of a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the bytes of a file durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Writes a file of these bytes, replacing an existing one.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Copies the bytes of a file to a path like [`Self::write`] and returns their number. The copy
    /// is writable.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64>;

    /// Renames a file within its directory. Atomically replaces a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at this path.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for reading from its beginning.
    fn open(&self, path: &Path) -> io::Result<File>;

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens a file for reading and writing at any offset.
    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;

    /// As [`Self::open_storage`], for a file of which whole blocks are written and little is read:
    /// if possible without the system's page cache.
    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        self.open_storage(path)
    }

    /// As [`Self::open_storage`], for a new, empty file.
    fn create_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;

    /// Drops the file's pages from the page cache if they are on disk. Only advice: everything
    /// works without it.
    fn drop_cached(&self, path: &Path);

    /// Locks a file, which is created if it is missing. Does not block.
    fn lock(&self, path: &Path) -> Result<FileLock, TryLockError>;
}

/// The files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl FileSystem for SystemFiles {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        path.metadata().map(|metadata| metadata.len())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let bytes = fs::copy(from, to)?;
        // The copy of a read-only file must be writable.
        let mut permissions = fs::metadata(to)?.permissions();
        if permissions.readonly() {
            permissions.set_mode(permissions.mode() | OWNER_WRITES);
            fs::set_permissions(to, permissions)?;
        }
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        backend(OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        DirectFile::open(path).map_or_else(|_| self.open_storage(path), |file| Ok(Box::new(file)))
    }

    fn create_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        backend(OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?)
    }

    fn drop_cached(&self, path: &Path) {
        let _ = File::open(path).map(|file| fadvise(&file, 0, None, Advice::DontNeed));
    }

    fn lock(&self, path: &Path) -> Result<FileLock, TryLockError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Box::new(file))
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(files: &dyn FileSystem, path: &Path) -> Result<(), Error> {
    files.sync_directory(path).map_err(failed("sync", path))
}

/// Copies a file durably and returns its length in bytes.
pub(super) fn copy_file(files: &dyn FileSystem, from: &Path, to: &Path) -> Result<u64, Error> {
    let copied = files.copy(from, to).and_then(|bytes| files.sync_file(to).map(|()| bytes));
    copied.map_err(failed("copy to", to))
}

/// Wraps the error of an operation on a file.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
