//! Large contents, each in a file named after its SHA-256: `contents/ab/cdef…`.
//!
//! A file is complete and durable before the commit that names it (see
//! [`Store::keep_content`](super::Store::keep_content)), so acknowledged changes have their
//! contents. The caller that has written a file holds it, and passes it to the batch that names it.
//! A file that no row names and no caller holds was left by a crash or a refused event: it is
//! removed when the next content arrives, at a start, or by `dats prune`.
//!
//! The lock of this module is the innermost of the store: it is taken when a batch is dropped, so
//! nothing that waits for another thread may be called while it is held. Reading the tables while
//! it is held must not block.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{FileSystem, copy_file, failed, sync_directory};
use super::room::Room;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::{Error, tables};
use crate::planted::{self, Fault};
use crate::task::hex;

/// Name of the directory in the data directory.
pub(super) const DIRECTORY: &str = "contents";
/// Largest content that is stored as a row, in bytes.
pub const MAX_ROW_BYTES: usize = 64 * 1024;
/// Extension of a file until it is complete.
const UNFINISHED: &str = ".new";
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// The content files of a data directory.
#[derive(Debug)]
pub(super) struct ContentFiles {
    pub(super) files: Arc<dyn FileSystem>,
    pub(super) dir: PathBuf,
    room: Arc<Room>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) files: HashMap<[u8; 32], Hold>,
    /// Files that were held and that no batch named: removed once it is certain that no row names
    /// them.
    pub(super) released: Vec<[u8; 32]>,
    /// First bytes of the names whose directory has a durable entry.
    directories: HashSet<u8>,
    /// Distinguishes unfinished files.
    made: u64,
}

/// How a file is held.
#[derive(Debug, Default)]
pub(super) struct Hold {
    count: usize,
    /// Whether one of the holders has written it to the disk.
    is_durable: bool,
}

/// A content in a file. The file stays at least as long as this value; it stays afterwards if a
/// batch named it.
#[derive(Debug)]
pub struct ContentFile {
    files: Arc<ContentFiles>,
    pub(super) sha256: [u8; 32],
    pub(super) length: u64,
    /// Whether a batch that names it was given to the journal. Whatever becomes of that batch, the
    /// file is not removed before the next start.
    named: AtomicBool,
}

impl ContentFile {
    /// SHA-256 of the content.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

impl Drop for ContentFile {
    fn drop(&mut self) {
        let mut held = self.files.held();
        if let Some(hold) = held.files.get_mut(&self.sha256) {
            hold.count -= 1;
            if hold.count == 0 {
                held.files.remove(&self.sha256);
                if !self.named.load(Ordering::Acquire) {
                    held.released.push(self.sha256);
                }
            }
        }
    }
}

/// The contents of a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NewContents {
    rows: Vec<([u8; 32], Bytes)>,
    files: Vec<([u8; 32], u64)>,
    /// Keeps the files from being removed before the commit has ended.
    #[serde(skip)]
    held: Vec<Arc<ContentFile>>,
}

impl NewContents {
    pub(super) fn put(&mut self, sha256: [u8; 32], content: Vec<u8>) {
        self.rows.push((sha256, content.into()));
    }

    pub(super) fn put_file(&mut self, file: Arc<ContentFile>) {
        self.files.push((file.sha256, file.length));
        if !planted::is(Fault::ContentReleasedEarly) {
            self.held.push(file);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        // The files that are held are those that are named.
        let Self { rows, files, held: _ } = self;
        rows.is_empty() && files.is_empty()
    }

    /// Marks the files as named, because the batch is about to become durable. They stay from here
    /// on.
    pub(super) fn name_files(&self) {
        self.held.iter().for_each(|file| file.named.store(true, Ordering::Release));
    }

    /// Number of contents in files.
    pub(super) fn file_count(&self) -> u64 {
        u64::try_from(self.files.len()).unwrap_or(u64::MAX)
    }

    /// SHA-256 of each content.
    pub(super) fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        self.rows.iter().map(|(sha256, _)| *sha256).chain(self.files.iter().map(|(sha256, _)| *sha256))
    }

    /// Checks the files against their SHA-256.
    pub(super) fn check(&self, files: &ContentFiles) -> Result<(), Error> {
        self.files.iter().try_for_each(|(sha256, length)| files.open(*sha256, *length).map(drop))
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.rows.is_empty() {
            let mut rows = transaction.open_table(tables::CONTENTS)?;
            for (sha256, content) in &self.rows {
                rows.insert(sha256, &content[..])?;
            }
        }
        if !self.files.is_empty() {
            let mut files = transaction.open_table(tables::CONTENT_FILES)?;
            for (sha256, length) in &self.files {
                files.insert(sha256, length)?;
            }
        }
        Ok(())
    }
}

/// A content that was checked against its SHA-256.
#[derive(Debug)]
pub enum KeptContent {
    /// The whole content.
    Bytes(Vec<u8>),
    /// An open file, and its length in bytes.
    File(File, u64),
}

impl KeptContent {
    /// Reads the whole content.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(mut file, _) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

impl ContentFiles {
    pub(super) fn new(files: Arc<dyn FileSystem>, data_dir: &Path, room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { files, dir: data_dir.join(DIRECTORY), room, held: Mutex::default() })
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self, sha256: [u8; 32]) -> PathBuf {
        let name = hex(sha256);
        let (directory, name) = name.split_at(2);
        self.dir.join(directory).join(name)
    }

    /// Holds a file, and tells whether another holder has written it to the disk.
    pub(super) fn hold(self: &Arc<Self>, sha256: [u8; 32], length: u64) -> (ContentFile, bool) {
        let is_durable = {
            let mut files = self.held();
            let hold = files.files.entry(sha256).or_default();
            hold.count += 1;
            hold.is_durable
        };
        (ContentFile { files: Arc::clone(self), sha256, length, named: AtomicBool::new(false) }, is_durable)
    }

    /// Writes a content unless its file exists, and makes it durable.
    pub(super) fn write(&self, sha256: [u8; 32], content: &[u8]) -> Result<(), Error> {
        let path = self.path(sha256);
        let directory = path.parent().unwrap_or(&self.dir);
        // Another thread may have created the directory a moment ago: it exists, and its entry is
        // not durable yet.
        if !self.held().directories.contains(&sha256[0]) {
            self.files.create_directory(directory).map_err(failed("create", directory))?;
            for made in [Some(self.dir.as_path()), self.dir.parent()].into_iter().flatten() {
                sync_directory(&*self.files, made)?;
            }
            self.held().directories.insert(sha256[0]);
        }
        // A complete file may still be on its way to the disk, written by another thread a moment
        // ago. The directory is synced in any case.
        if self.files.read(&path).ok().as_deref() != Some(content) {
            let number = {
                let mut held = self.held();
                held.made += 1;
                held.made
            };
            let unfinished = path.with_extension(format!("{number}{UNFINISHED}"));
            let written = self.files.write(&unfinished, content).and_then(|()| {
                if planted::is(Fault::ContentUnsynced) { Ok(()) } else { self.files.sync_file(&unfinished) }
            });
            let renamed = written
                .map_err(failed("write", &unfinished))
                .and_then(|()| self.files.rename(&unfinished, &path).map_err(failed("rename", &unfinished)));
            if renamed.is_ok() {
                self.room.spend(u64::try_from(content.len()).unwrap_or(u64::MAX));
            } else {
                self.room.look();
                // On a full disk a partial file takes room from others.
                let _ = self.files.remove(&unfinished);
            }
            renamed?;
        }
        if !planted::is(Fault::ContentNameUnsynced) {
            sync_directory(&*self.files, directory)?;
        }
        if let Some(hold) = self.held().files.get_mut(&sha256) {
            hold.is_durable = true;
        }
        Ok(())
    }

    /// Opens a content after checking all of it against its SHA-256.
    pub(super) fn open(&self, sha256: [u8; 32], length: u64) -> Result<KeptContent, Error> {
        let path = self.path(sha256);
        let damaged = |detail: String| Error::DamagedContent { path: path.clone(), detail };
        let mut file = self.files.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged("it is missing".to_owned()),
            _ => Error::Io { action: "open", path: path.clone(), source: error },
        })?;
        let (mut hash, mut piece, mut read) = (Sha256::new(), vec![0; PIECE], 0_u64);
        loop {
            let count = file.read(&mut piece).map_err(failed("read", &path))?;
            if count == 0 {
                break;
            }
            hash.update(&piece[..count]);
            read = read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
        if read != length {
            return Err(damaged(format!("it has {read} bytes, and was kept with {length}")));
        }
        let found: [u8; 32] = hash.finalize().into();
        if found != sha256 {
            return Err(damaged(format!("it hashes to {}", hex(found))));
        }
        file.seek(SeekFrom::Start(0)).map_err(failed("read", &path))?;
        Ok(KeptContent::File(file, length))
    }
}

/// The SHA-256 in the name of a complete or unfinished file; `None` for foreign files.
pub(super) fn hash_in_name(directory: &Path, path: &Path) -> Option<[u8; 32]> {
    let hex = [directory.file_name()?.to_str()?, path.file_stem()?.to_str()?.split('.').next()?].concat();
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut sha256 = [0; 32];
    for (at, byte) in sha256.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    is_hex.then_some(sha256)
}

/// Copies the complete files of a data directory and returns their size in bytes.
pub(super) fn copy_files(files: &dyn FileSystem, from: &Path, to: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    files.create_directory(to).map_err(failed("create", to))?;
    for directory in list_entries(files, from)?.into_iter().filter(|path| files.is_directory(path)) {
        let copy = to.join(directory.file_name().unwrap_or_default());
        files.create_directory(&copy).map_err(failed("create", &copy))?;
        for file in list_entries(files, &directory)? {
            if file.extension().is_none() && hash_in_name(&directory, &file).is_some() {
                bytes += copy_file(files, &file, &copy.join(file.file_name().unwrap_or_default()))?;
            }
        }
        sync_directory(files, &copy)?;
    }
    sync_directory(files, to)?;
    Ok(bytes)
}

/// The entries of a directory; none if it is missing.
pub(super) fn list_entries(files: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    match files.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed("list", dir)),
    }
}
