//! The files of a data directory: how they are created, and what is refused before any of them is
//! changed.

use std::fs::TryLockError;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, StorageBackend};
use uuid::Uuid;

use super::ballast::BALLAST;
use super::files::{FileLock, FileSystem, SystemFiles, failed, sync_directory};
use super::journal::Journal;
use super::journal_file::JournalFile;
use super::room::Room;
use super::table_file::TableFile;
use super::tables::{self, FORMAT, FORMAT_KEY, GENERATION_KEY, STORE_ID_KEY};
use super::{Error, guarded};
use crate::planted::{self, Fault};

pub(super) const FILE: &str = "dats.redb";
/// Name of the tables while they are created; they get their name when they are complete.
const NEW_FILE: &str = "dats.redb.new";
/// Name of the journal; see [`super::journal`].
pub(super) const JOURNAL: &str = "dats.journal";
const LOCK: &str = "dats.lock";
/// How often a held lock is tried again, and the pause before each attempt.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// The first bytes of every redb file.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// The format that can be upgraded: the one before this version's.
pub(super) const UPGRADED: u32 = 5;
/// The files of the operating system.
pub(super) fn system_files() -> Arc<dyn FileSystem> {
    Arc::new(SystemFiles)
}

/// Creates the data directory and its missing parents.
pub(super) fn create(files: &dyn FileSystem, dir: &Path) -> Result<(), Error> {
    files.create_directory(dir).map_err(failed("create", dir))?;
    let count = if planted::is(Fault::DirectoryUnsynced) { 1 } else { usize::MAX };
    for above in dir.ancestors().skip(1).take(count) {
        // A new directory survives a power loss once its parent is synced, which may be new as
        // well. Some directories may not be opened, and old ones do not need it.
        let is_here = above.as_os_str().is_empty();
        let _ = files.sync_directory(if is_here { Path::new(".") } else { above });
    }
    Ok(())
}

/// Refuses a directory without a store that holds other files, because it may have been named by
/// mistake.
pub(super) fn refuse_foreign(files: &dyn FileSystem, dir: &Path) -> Result<(), Error> {
    for path in files.list(dir).map_err(failed("list", dir))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ![NEW_FILE, JOURNAL, LOCK, BALLAST, "lost+found"].contains(&name.as_str()) {
            return Err(Error::ForeignDirectory { dir: dir.to_owned(), found: name });
        }
    }
    Ok(())
}

pub(super) fn lock(files: &dyn FileSystem, dir: &Path) -> Result<FileLock, Error> {
    let path = dir.join(LOCK);
    take_lock(dir, || files.lock(&path))
}

/// As [`lock`], for a directory that must not be written. `None` if no store was ever opened in it,
/// so that no process has it open.
pub(super) fn lock_unchanged(files: &dyn FileSystem, dir: &Path) -> Result<Option<FileLock>, Error> {
    let path = dir.join(LOCK);
    match files.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("lock", &path)(source)),
        Ok(file) => {
            take_lock(dir, || file.try_lock())?;
            Ok(Some(Box::new(file)))
        }
    }
}

fn take_lock<T>(dir: &Path, mut take: impl FnMut() -> Result<T, TryLockError>) -> Result<T, Error> {
    // A process that is just being started has its parent's open files for a moment, and with them
    // a lock that the parent has released.
    for _ in 0..LOCK_TRIES {
        match take() {
            Ok(taken) => return Ok(taken),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &dir.join(LOCK))(source)),
        }
    }
    Err(Error::InUse(dir.to_owned()))
}

/// Creates a complete store under another name, then renames it, so that a crash leaves no partial
/// store.
pub(super) fn create_files(
    files: &Arc<dyn FileSystem>,
    dir: &Path,
    cache_bytes: usize,
    journal_bytes: u64,
) -> Result<(), Error> {
    let new = dir.join(NEW_FILE);
    // Before anything is removed, because the lost tables could be that file.
    refuse_lost_tables(&**files, dir)?;
    match files.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("create", &new)(error)),
        Ok(()) | Err(_) => {}
    }
    let tables = TableFile::over(files.create_storage(&new).map_err(failed("create", &new))?, Arc::default());
    tables.release().map_err(failed("create", &new))?;
    let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(tables)?;
    initialize(&database)?;
    let id = identify(&database, None)?;
    database.close()?;
    // Before the tables get their name, so that they are never without a journal.
    make_journal(files, &dir.join(JOURNAL), journal_bytes, id, 0)?;
    sync_directory(&**files, dir)?;
    files.rename(&new, &dir.join(FILE)).map_err(failed("create", &new))?;
    sync_directory(&**files, dir)
}

/// Refuses to create a store beside a journal that was in use, because its tables are missing. A
/// journal without a record was left by an interrupted start.
fn refuse_lost_tables(files: &dyn FileSystem, dir: &Path) -> Result<(), Error> {
    let path = dir.join(JOURNAL);
    let file = match files.open_storage(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed("read", &path))?,
    };
    if Journal::was_used(&*file).map_err(failed("read", &path))? {
        Err(Error::LostTables { dir: dir.to_owned() })
    } else {
        Ok(())
    }
}

/// Creates the journal of a store whose tables are at a generation. Its name is not durable yet.
pub(super) fn make_journal(
    files: &Arc<dyn FileSystem>,
    path: &Path,
    bytes: u64,
    store: Uuid,
    generation: u64,
) -> Result<(), Error> {
    let made = JournalFile::create(files, path).and_then(|file| Journal::make(&file, bytes, store, generation));
    made.map_err(failed("create", path))
}

pub(super) fn open_journal(
    files: &Arc<dyn FileSystem>,
    path: &Path,
    room: &Arc<Room>,
) -> Result<Box<dyn StorageBackend>, Error> {
    let refuse = |error: io::Error| Error::NotAStore { path: path.to_owned(), detail: error.to_string() };
    Ok(Box::new(JournalFile::open(files, path, Arc::clone(room)).map_err(refuse)?))
}

/// The generation of the journal that follows the last checkpoint.
pub(super) fn generation(database: &Database) -> Result<u64, Error> {
    let meta = database.begin_read()?.open_table(tables::META)?;
    let value = meta.get(GENERATION_KEY)?.and_then(|value| value.value().try_into().ok().map(u64::from_le_bytes));
    Ok(value.unwrap_or(0))
}

/// Gives a new store its tables, its format and its id.
pub(super) fn initialize(database: &Database) -> Result<(), Error> {
    // Only a missing table makes a store new: a failure to read it must not give an old store a new
    // id.
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
        transaction.open_table(tables::TIER_PAUSES)?;
        transaction.open_table(tables::ESTIMATES)?;
        transaction.open_table(tables::SUBMISSIONS)?;
        transaction.open_table(tables::OPEN_TASKS)?;
        transaction.open_table(tables::FINISHED_TASKS)?;
        transaction.open_table(tables::FINISHED_BY_END)?;
        transaction.open_table(tables::TASKS_BY_PROJECT)?;
        transaction.open_table(tables::HISTORY)?;
        transaction.open_table(tables::LOG)?;
        transaction.open_table(tables::LOG_READERS)?;
        transaction.open_table(tables::CHANGES)?;
        transaction.open_table(tables::TAKEN_EVENTS)?;
        transaction.open_table(tables::IDEMPOTENCY)?;
        transaction.open_table(tables::RECORDS)?;
        transaction.open_table(tables::LINEAGE)?;
        transaction.open_table(tables::RECORDS_BY_STEP)?;
        transaction.open_table(tables::CASCADES)?;
        transaction.open_table(tables::CASCADE_CHANGES)?;
        transaction.open_table(tables::CASCADE_STEPS)?;
        transaction.open_table(tables::STATEMENTS)?;
        transaction.open_table(tables::ROLLBACKS)?;
        transaction.open_table(tables::RECORDS_BY_ARTIFACT)?;
        transaction.open_table(tables::RECORDS_BY_TIME)?;
        transaction.open_table(tables::RECORDS_BY_TASK)?;
        transaction.open_table(tables::IMPORTED_EVENTS)?;
        transaction.open_table(tables::IMPORTED_EVENT_IDS)?;
        transaction.open_table(tables::CHECKPOINTS)?;
        transaction.open_table(tables::CHECKPOINTS_BY_PROJECT)?;
        transaction.open_table(tables::CHECKPOINT_PROGRESS)?;
        transaction.open_table(tables::FINDINGS)?;
        transaction.open_table(tables::CONTENTS)?;
        transaction.open_table(tables::CONTENT_FILES)?;
        transaction.open_table(tables::DEAD_LETTERS)?;
        transaction.open_table(tables::DEAD_LETTER_REMOVALS)?;
        transaction.open_table(tables::PARKED)?;
        transaction.open_table(tables::RERUN_CHAIN)?;
        transaction.open_table(tables::CHAIN_RERUNS)?;
    }
    transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))
}

/// Treats a panic of redb as a damaged file, which is no store.
pub(super) fn refuse_panics<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    guarded(work).map_err(|error| match error {
        Error::Panicked(detail) => Error::NotAStore { path: path.to_owned(), detail },
        error => error,
    })
}

/// Refuses a file with a page that does not match its checksum, which redb does not check when it
/// opens a file.
pub(super) fn check_pages(database: &mut Database, path: &Path) -> Result<(), Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => Err(refuse("a page does not match its checksum".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Opens the file, which is not changed until it is released.
pub(super) fn open_database(
    files: &dyn FileSystem,
    path: &Path,
    cache_bytes: usize,
    room: &Arc<Room>,
) -> Result<(Database, TableFile), Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    let mut head = [0; MAGIC.len()];
    files.open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(|error| refuse(error.to_string()))?;
    if head != MAGIC {
        return Err(refuse("it does not begin like a redb file".to_owned()));
    }
    let file = files.open_storage(path).map_err(|error| refuse(error.to_string()))?;
    let file = TableFile::over(file, Arc::clone(room));
    let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(file.clone());
    Ok((database.map_err(|error| refuse(error.to_string()))?, file))
}

/// The format named by the tables; `None` if they name none.
pub(super) fn format_of(database: &Database) -> Result<Option<u32>, Error> {
    let meta = match database.begin_read()?.open_table(tables::META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(meta.get(FORMAT_KEY)?.and_then(|value| value.value().try_into().ok().map(u32::from_le_bytes)))
}

/// Checks the format and reads the id of the store.
pub(super) fn identify(database: &Database, path: Option<&Path>) -> Result<Uuid, Error> {
    let refuse = |detail: &str| match path {
        Some(path) => Error::NotAStore { path: path.to_owned(), detail: detail.to_owned() },
        None => Error::Corrupt { table: "meta", detail: detail.to_owned() },
    };
    let format = match format_of(database) {
        Err(error) if path.is_some() => return Err(refuse(&error.to_string())),
        format => format?,
    };
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => return Err(Error::NewerFormat { found, supported: FORMAT }),
        Some(found) if found == UPGRADED => return Err(Error::OlderFormat { found, supported: FORMAT }),
        Some(found) => {
            let detail = format!(
                "it has format {found}, which no release has written; this version reads {FORMAT} and upgrades {UPGRADED}"
            );
            return Err(refuse(&detail));
        }
        None => return Err(refuse("it does not say its format")),
    }
    store_id(database)?.ok_or_else(|| refuse("it has no id"))
}

/// The id in the tables.
pub(super) fn store_id(database: &Database) -> Result<Option<Uuid>, Error> {
    let meta = database.begin_read()?.open_table(tables::META)?;
    Ok(meta.get(STORE_ID_KEY)?.and_then(|value| Uuid::from_slice(value.value()).ok()))
}
