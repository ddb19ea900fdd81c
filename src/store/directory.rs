//! The files of a data directory: how they are made, and what is refused
//! before any of them is changed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend};
use uuid::Uuid;

use super::ballast::BALLAST;
use super::cautious::Cautious;
use super::contents::sync_directory;
use super::journal::{JOURNAL_BYTES, Journal};
use super::journal_file::JournalFile;
use super::room::Room;
use super::tables::{self, FORMAT, FORMAT_KEY, GENERATION_KEY, STORE_ID_KEY};
use super::{Error, guarded, upgrade};

pub(super) const FILE: &str = "dats.redb";
/// The file while it is being made: it gets its name when it is complete.
const NEW_FILE: &str = "dats.redb.new";
/// The journal: see [`super::journal`].
pub(super) const JOURNAL: &str = "dats.journal";
const LOCK: &str = "dats.lock";
/// How often, and after what pause, a lock that is taken is tried again.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// What every redb file begins with.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// A directory without a store must not hold other things: it may have been
/// named by mistake.
pub(super) fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "list", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if ![NEW_FILE, JOURNAL, LOCK, BALLAST, "lost+found"].contains(&name.as_str()) {
            return Err(Error::ForeignDirectory { dir: dir.to_owned(), found: name });
        }
    }
    Ok(())
}

pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let failed = |source| Error::Io { action: "lock", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    // A process that is just being started has its parent's open files for a
    // moment, and with them a lock that the parent has given up.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(Error::InUse(dir.to_owned()))
}

/// Makes a complete store under another name, then gives it its own: a crash
/// in between leaves no half-made one.
pub(super) fn make(dir: &Path, path: &Path, cache_bytes: usize) -> Result<(), Error> {
    let new = dir.join(NEW_FILE);
    let failed = |source: io::Error| Error::Io { action: "create", path: new.clone(), source };
    // Before anything is removed: the lost tables could be the file itself.
    refuse_lost_tables(dir)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let database = redb::Builder::new().set_cache_size(cache_bytes).create(&new)?;
    initialize(&database)?;
    let id = identify(&database, None)?;
    database.close()?;
    // Before the tables get their name, so that they are never without it.
    make_journal(&dir.join(JOURNAL), id, 0)?;
    sync_directory(dir)?;
    fs::rename(&new, path).map_err(failed)?;
    sync_directory(dir)
}

/// Refuses to make a store beside a journal that was in use: its tables are
/// missing. A journal without a record was left by a start that did not end.
fn refuse_lost_tables(dir: &Path) -> Result<(), Error> {
    let path = dir.join(JOURNAL);
    let failed = |source| Error::Io { action: "read", path: path.clone(), source };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    let was_used = Journal::was_used(&FileBackend::new(file)?).map_err(failed)?;
    if was_used { Err(Error::LostTables { dir: dir.to_owned() }) } else { Ok(()) }
}

/// Makes the journal of a store whose tables are at a generation.
pub(super) fn make_journal(path: &Path, store: Uuid, generation: u64) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "create", path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).map_err(failed)?;
    Journal::make(&JournalFile::new(file, Arc::default())?, JOURNAL_BYTES, store, generation).map_err(failed)
}

pub(super) fn open_journal(path: &Path, room: &Arc<Room>) -> Result<Box<dyn StorageBackend>, Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| refuse(error.to_string()))?;
    Ok(Box::new(JournalFile::new(file, Arc::clone(room))?))
}

/// The generation of the journal that follows the last checkpoint.
pub(super) fn generation(database: &Database) -> Result<u64, Error> {
    let meta = database.begin_read()?.open_table(tables::META)?;
    let value = meta.get(GENERATION_KEY)?.and_then(|value| value.value().try_into().ok().map(u64::from_le_bytes));
    Ok(value.unwrap_or(0))
}

/// Gives a new store its tables, its format and its id.
pub(super) fn initialize(database: &Database) -> Result<(), Error> {
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
        transaction.open_table(tables::PARKED)?;
        transaction.open_table(tables::RERUN_CHAIN)?;
        transaction.open_table(tables::CHAIN_RERUNS)?;
    }
    transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))
}

/// A damaged file can make redb panic: then it is none of ours.
pub(super) fn refuse_panics<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    guarded(work).map_err(|error| match error {
        Error::Panicked(detail) => Error::NotAStore { path: path.to_owned(), detail },
        error => error,
    })
}

/// Refuses a file with a page that does not match its checksum, which redb
/// does not look at while it opens.
pub(super) fn check_pages(database: &mut Database, path: &Path) -> Result<(), Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => Err(refuse("a page does not match its checksum".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Opens the file, which stays as it is until it is released.
pub(super) fn open_database(path: &Path, cache_bytes: usize, room: &Arc<Room>) -> Result<(Database, Cautious), Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    let mut head = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(|error| refuse(error.to_string()))?;
    if head != MAGIC {
        return Err(refuse("it does not begin like a redb file".to_owned()));
    }
    let refused = |error: redb::DatabaseError| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse(path.to_owned()),
        error => refuse(error.to_string()),
    };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| refuse(error.to_string()))?;
    let file = Cautious::new(FileBackend::new(file).map_err(refused)?, Arc::clone(room));
    let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(file.clone());
    Ok((database.map_err(refused)?, file))
}

/// Checks the format and reads the store's id.
pub(super) fn identify(database: &Database, path: Option<&Path>) -> Result<Uuid, Error> {
    let refuse = |detail: &str| match path {
        Some(path) => Error::NotAStore { path: path.to_owned(), detail: detail.to_owned() },
        None => Error::Corrupt { table: "meta", detail: detail.to_owned() },
    };
    let format = match upgrade::format_of(database) {
        Err(error) if path.is_some() => return Err(refuse(&error.to_string())),
        format => format?,
    };
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => return Err(Error::NewerFormat { found, supported: FORMAT }),
        Some(found) if found == upgrade::UPGRADED => return Err(Error::OlderFormat { found, supported: FORMAT }),
        Some(found) => {
            let detail = format!(
                "it has format {found}, which no release has written; this version reads {FORMAT} and upgrades {}",
                upgrade::UPGRADED
            );
            return Err(refuse(&detail));
        }
        None => return Err(refuse("it does not say its format")),
    }
    store_id(database)?.ok_or_else(|| refuse("it has no id"))
}

/// The id that the tables have.
pub(super) fn store_id(database: &Database) -> Result<Option<Uuid>, Error> {
    let meta = database.begin_read()?.open_table(tables::META)?;
    Ok(meta.get(STORE_ID_KEY)?.and_then(|value| Uuid::from_slice(value.value()).ok()))
}
