//! Opening a data directory: its lock, its format, and what is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, StorageBackend};
use uuid::Uuid;

use super::read::View;
use super::tables::{self, FORMAT, FORMAT_KEY, STORE_ID_KEY};
use super::{Error, Recovered, guarded};

const FILE: &str = "dats.redb";
/// The file while it is being made: it gets its name when it is complete.
const NEW_FILE: &str = "dats.redb.new";
const LOCK: &str = "dats.lock";
/// What every redb file begins with.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// An open store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    id: Uuid,
    path: Option<PathBuf>,
    /// Released when the last clone goes.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in `dir`, or makes one if the directory is new or
    /// empty. `cache_bytes` is the most that redb keeps in memory.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let io_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let path = dir.join(FILE);
        if !path.exists() {
            refuse_foreign(dir)?;
        }
        let lock = lock(dir)?;
        if !path.exists() {
            make(dir, &path, cache_bytes)?;
        }
        let (database, id) = guarded(|| {
            let database = open_database(&path, cache_bytes)?;
            let id = identify(&database, Some(&path))?;
            Ok((database, id))
        })
        .map_err(|error| match error {
            Error::Panicked(detail) => Error::NotAStore { path: path.clone(), detail },
            error => error,
        })?;
        Ok(Self { inner: Arc::new(Inner { database, id, path: Some(path), _lock: Some(lock) }) })
    }

    /// Opens the store that `backend` holds, or makes one if it is empty.
    pub fn open_backend(backend: impl StorageBackend, cache_bytes: usize) -> Result<Self, Error> {
        let (database, id) = guarded(|| {
            let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)?;
            initialize(&database)?;
            let id = identify(&database, None)?;
            Ok((database, id))
        })?;
        Ok(Self { inner: Arc::new(Inner { database, id, path: None, _lock: None }) })
    }

    /// The id of this store, made with it: event ids are derived from it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// Size of the store's file, in bytes; 0 when it is not a file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.inner.path.as_ref().and_then(|path| path.metadata().ok()).map_or(0, |metadata| metadata.len())
    }

    /// Free space on the disk of the store, in MiB; `None` when it is not a
    /// file or the system does not say.
    #[must_use]
    pub fn free_mib(&self) -> Option<u64> {
        let stats = rustix::fs::statvfs(self.inner.path.as_ref()?.parent()?).ok()?;
        Some(stats.f_bavail.saturating_mul(stats.f_frsize) / (1024 * 1024))
    }

    /// A consistent view of what is committed now. Not to be kept long: the
    /// file grows while one is open.
    pub fn view(&self) -> Result<View, Error> {
        Ok(View::new(self.inner.database.begin_read()?))
    }

    /// Reads what the engine keeps in memory.
    pub fn recover(&self) -> Result<Recovered, Error> {
        guarded(|| Recovered::read(&self.view()?))
    }

    pub(super) fn database(&self) -> &Database {
        &self.inner.database
    }
}

/// A directory without a store must not hold other things: it may have been
/// named by mistake.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "list", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if ![NEW_FILE, LOCK, "lost+found"].contains(&name.as_str()) {
            return Err(Error::ForeignDirectory { dir: dir.to_owned(), found: name });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let failed = |source| Error::Io { action: "lock", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes a complete store under another name, then gives it its own: a crash
/// in between leaves no half-made one.
fn make(dir: &Path, path: &Path, cache_bytes: usize) -> Result<(), Error> {
    let new = dir.join(NEW_FILE);
    let failed = |source: io::Error| Error::Io { action: "create", path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let database = redb::Builder::new().set_cache_size(cache_bytes).create(&new)?;
    initialize(&database)?;
    database.close()?;
    fs::rename(&new, path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Gives a new store its tables, its format and its id.
fn initialize(database: &Database) -> Result<(), Error> {
    // Only a table that is not there makes it a new one: a failure to read it
    // must not give an old store a new id.
    match database.begin_read()?.open_table(tables::META) {
        Ok(_) => return Ok(()),
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(tables::META)?;
        meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..])?;
        meta.insert(STORE_ID_KEY, &Uuid::now_v7().into_bytes()[..])?;
        transaction.open_table(tables::PROJECTS)?;
        transaction.open_table(tables::COUNTERS)?;
        transaction.open_table(tables::SUBMISSIONS)?;
        transaction.open_table(tables::OPEN_TASKS)?;
        transaction.open_table(tables::FINISHED_TASKS)?;
        transaction.open_table(tables::FINISHED_BY_END)?;
        transaction.open_table(tables::TASKS_BY_PROJECT)?;
        transaction.open_table(tables::HISTORY)?;
        transaction.open_table(tables::LOG)?;
        transaction.open_table(tables::TAKEN_EVENTS)?;
        transaction.open_table(tables::IDEMPOTENCY)?;
        transaction.open_table(tables::RECORDS)?;
        transaction.open_table(tables::RECORDS_BY_ARTIFACT)?;
        transaction.open_table(tables::CONTENTS)?;
        transaction.open_table(tables::DEAD_LETTERS)?;
    }
    transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))
}

fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    let mut head = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(|error| refuse(error.to_string()))?;
    if head != MAGIC {
        return Err(refuse("it does not begin like a redb file".to_owned()));
    }
    match redb::Builder::new().set_cache_size(cache_bytes).open(path) {
        Ok(database) => Ok(database),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(Error::InUse(path.to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Checks the format and reads the store's id.
fn identify(database: &Database, path: Option<&Path>) -> Result<Uuid, Error> {
    let refuse = |detail: &str| match path {
        Some(path) => Error::NotAStore { path: path.to_owned(), detail: detail.to_owned() },
        None => Error::Corrupt { table: "meta", detail: detail.to_owned() },
    };
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(tables::META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Err(refuse("it has no table `meta`")),
        Err(redb::TableError::Storage(error)) if path.is_none() => return Err(error.into()),
        Err(error) => return Err(refuse(&error.to_string())),
    };
    let format = meta.get(FORMAT_KEY)?.and_then(|value| value.value().try_into().ok().map(u32::from_le_bytes));
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => return Err(Error::NewerFormat { found, supported: FORMAT }),
        Some(_) | None => return Err(refuse("its format is not known")),
    }
    let id = meta.get(STORE_ID_KEY)?.and_then(|value| Uuid::from_slice(value.value()).ok());
    id.ok_or_else(|| refuse("it has no id"))
}
