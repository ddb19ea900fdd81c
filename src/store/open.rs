//! Opening a data directory: its lock, its format, and what is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, StorageBackend};
use uuid::Uuid;

use super::cautious::Cautious;
use super::contents::ContentFiles;
use super::durable::{Durable, Tables, Waiting};
use super::journal::{JOURNAL_BYTES, Journal};
use super::journal_file::JournalFile;
use super::read::View;
use super::tables::{self, FORMAT, FORMAT_KEY, GENERATION_KEY, STORE_ID_KEY};
use super::{Batch, Error, Recovered, guarded, write};

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

/// An open store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    journal: Mutex<Journal>,
    tables: Arc<Tables>,
    id: Uuid,
    path: Option<PathBuf>,
    contents: Option<Arc<ContentFiles>>,
    /// Released when the last clone goes.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in `dir`, or makes one if the directory is new or
    /// empty. `cache_bytes` is the most that redb keeps in memory.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_with(dir, cache_bytes, false)
    }

    /// As [`Self::open`], but reads the whole file first and holds every page
    /// against its checksum: a single wrong bit is refused.
    pub fn open_verified(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_with(dir, cache_bytes, true)
    }

    /// Holds every page of the store in `dir`, which no service has open,
    /// against its checksum, reads its journal, and holds every content
    /// against its SHA-256. Nothing is written.
    pub fn verify(dir: &Path, cache_bytes: usize) -> Result<(), Error> {
        let _lock = lock(dir)?;
        let path = dir.join(FILE);
        refuse_panics(&path, || {
            // The file is not released: what redb would write is dropped.
            let (mut database, _file) = open_database(&path, cache_bytes)?;
            let id = identify(&database, Some(&path))?;
            let journal = open_journal(&dir.join(JOURNAL))?;
            check_pages(&mut database, &path)?;
            let generation = generation(&database)?;
            let (_, records) = Journal::open(journal, id, generation)?;
            let files = ContentFiles::new(dir);
            View::new(database.begin_read()?, Some(files.clone())).check_contents()?;
            // What came after the last checkpoint is in the journal alone.
            records.iter().try_for_each(|record| Batch::of_journal(record)?.contents.check(&files))
        })
    }

    fn open_with(dir: &Path, cache_bytes: usize, verify: bool) -> Result<Self, Error> {
        let io_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // A new directory survives a power cut once its parent is synced.
            // Not every parent may be opened, and an old one needs it not.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        let path = dir.join(FILE);
        if !path.exists() {
            refuse_foreign(dir)?;
        }
        let lock = lock(dir)?;
        if !path.exists() {
            make(dir, &path, cache_bytes)?;
        }
        refuse_panics(&path, || {
            let (mut database, file) = open_database(&path, cache_bytes)?;
            let id = identify(&database, Some(&path))?;
            let journal = open_journal(&dir.join(JOURNAL))?;
            if verify {
                check_pages(&mut database, &path)?;
            }
            file.release().map_err(io_error("open", &path))?;
            Self::replay(database, journal, id, Some(path.clone()), Some(lock))
        })
    }

    /// Opens the store that two backends hold, or makes one if they are empty,
    /// with a journal of at least `journal_bytes`.
    pub fn open_backends(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        journal_bytes: u64,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "create", path: JOURNAL.into(), source };
        if journal.len().map_err(failed)? < journal_bytes {
            Journal::make(&journal, journal_bytes).map_err(failed)?;
        }
        guarded(|| {
            let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(database)?;
            initialize(&database)?;
            let id = identify(&database, None)?;
            Self::replay(database, Box::new(journal), id, None, None)
        })
    }

    /// Brings redb from its last checkpoint to the last batch that was
    /// acknowledged.
    fn replay(
        database: Database,
        journal: Box<dyn StorageBackend>,
        id: Uuid,
        path: Option<PathBuf>,
        lock: Option<File>,
    ) -> Result<Self, Error> {
        let generation = generation(&database)?;
        let (journal, records) = Journal::open(journal, id, generation)?;
        let contents = path.as_deref().and_then(Path::parent).map(ContentFiles::new);
        let inner = Inner {
            database,
            journal: Mutex::new(journal),
            tables: Arc::new(Tables::at(generation)),
            id,
            path,
            contents,
            _lock: lock,
        };
        let store = Self { inner: Arc::new(inner) };
        if !records.is_empty() {
            let batches: Result<Vec<_>, _> = records.iter().map(|record| Batch::of_journal(record)).collect();
            store.checkpoint_with(&batches?)?;
            tracing::info!(commits = records.len(), "the last run did not end in order; its journal was applied again");
        }
        Ok(store)
    }

    /// Writes a batch to the journal: on return it survives a crash, and the
    /// tables are to follow. The generation of its record; `None` for one that
    /// has no room there at all, and is in the tables when this returns.
    ///
    /// Where the other half of the journal has to be taken, and is still needed,
    /// this waits for a checkpoint.
    pub(super) fn journal_or_apply(&self, batch: &Batch) -> Result<Option<u64>, Error> {
        let record = batch.to_journal()?;
        let mut journal = self.journal();
        if !journal.fits(record.len()) {
            if !journal.can_hold(record.len()) {
                drop(journal);
                return self.checkpoint_with(std::slice::from_ref(batch)).map(|()| None);
            }
            self.inner.tables.wait_for_checkpoint(journal.generation())?;
            journal.turn();
        }
        // Up to here nothing has happened: an error leaves no trace.
        journal.append(&record).map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
        Ok(Some(journal.generation()))
    }

    /// Brings batches into the tables, in the order in which they became
    /// durable. With the first of a generation goes the checkpoint behind which
    /// it begins. After an error the store shows nothing any more; what is
    /// durable is brought by the next start.
    pub fn apply(&self, batches: impl IntoIterator<Item = Durable>) -> Result<(), Error> {
        let waiting: Vec<Waiting> = batches.into_iter().filter_map(Durable::into_waiting).collect();
        for batches in waiting.chunk_by(|one, next| one.generation == next.generation) {
            let Some(generation) = batches.first().map(|first| first.generation) else { continue };
            if generation > self.inner.tables.generation() {
                self.write_checkpoint(&[], generation)?;
            }
            let mut transaction = self.inner.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let all: Vec<&Batch> = batches.iter().map(|waiting| &waiting.batch).collect();
            write::apply(&all, &transaction)?;
            transaction.commit()?;
        }
        let count = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        waiting.into_iter().for_each(Waiting::applied);
        self.inner.tables.note_applied(count);
        Ok(())
    }

    /// Makes redb durable up to now, so that a start has nothing to replay.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.checkpoint_with(&[])
    }

    /// Applies batches in a checkpoint, and begins a new generation of the
    /// journal with it.
    fn checkpoint_with(&self, batches: &[Batch]) -> Result<(), Error> {
        self.wait()?;
        let mut journal = self.journal();
        let next = journal.generation() + 1;
        self.write_checkpoint(batches, next)?;
        journal.restart(next);
        Ok(())
    }

    /// Applies batches in a commit that redb syncs, and that is followed by a
    /// generation of the journal.
    fn write_checkpoint(&self, batches: &[Batch], generation: u64) -> Result<(), Error> {
        let mut transaction = self.inner.database.begin_write()?;
        // It also keeps the free pages, so that a start after a crash need
        // not look for them.
        transaction.set_quick_repair(true);
        write::apply(&batches.iter().collect::<Vec<_>>(), &transaction)?;
        transaction.open_table(tables::META)?.insert(GENERATION_KEY, &generation.to_le_bytes()[..])?;
        transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))?;
        self.inner.tables.note_checkpoint(generation);
        Ok(())
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.inner.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of this store, made with it: event ids are derived from it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    pub(super) fn tables(&self) -> &Arc<Tables> {
        &self.inner.tables
    }

    pub(super) fn content_files(&self) -> Option<&Arc<ContentFiles>> {
        self.inner.contents.as_ref()
    }

    /// The data directory; `None` when the store is not a file.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.inner.path.as_deref().and_then(Path::parent)
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
        let stats = rustix::fs::statvfs(self.dir()?).ok()?;
        Some(stats.f_bavail.saturating_mul(stats.f_frsize) / (1024 * 1024))
    }

    /// A consistent view of what is committed now. Not to be kept long: the
    /// file grows while one is open.
    /// Waits while the tables follow what is durable.
    pub fn view(&self) -> Result<View, Error> {
        self.wait()?;
        self.view_of_tables()
    }

    /// As [`Self::view`], of what the tables have, be it behind what is durable:
    /// for who brings them on.
    pub fn view_of_tables(&self) -> Result<View, Error> {
        Ok(View::new(self.inner.database.begin_read()?, self.inner.contents.clone()))
    }

    /// Waits until somebody waits for the tables, at most so long; whether somebody
    /// does. Until then there is time to bring more into them at once.
    #[must_use]
    pub fn wait_for_reader(&self, at_most: Duration) -> bool {
        self.inner.tables.wait_for_reader(at_most)
    }

    /// Waits until the tables have all that is durable.
    pub fn wait(&self) -> Result<(), Error> {
        self.inner.tables.wait()
    }

    /// As [`Self::view`]; `None` where that would wait.
    pub fn view_now(&self) -> Result<Option<View>, Error> {
        if self.inner.tables.are_current()? { self.view().map(Some) } else { Ok(None) }
    }

    /// Reads what the engine keeps in memory.
    pub fn recover(&self) -> Result<Recovered, Error> {
        guarded(|| Recovered::read(&self.view()?))
    }
}

/// A directory without a store must not hold other things: it may have been
/// named by mistake.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "list", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if ![NEW_FILE, JOURNAL, LOCK, "lost+found"].contains(&name.as_str()) {
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
fn make(dir: &Path, path: &Path, cache_bytes: usize) -> Result<(), Error> {
    let new = dir.join(NEW_FILE);
    let failed = |source: io::Error| Error::Io { action: "create", path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    make_journal(&dir.join(JOURNAL))?;
    let database = redb::Builder::new().set_cache_size(cache_bytes).create(&new)?;
    initialize(&database)?;
    database.close()?;
    fs::rename(&new, path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

pub(super) fn make_journal(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "create", path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).map_err(failed)?;
    Journal::make(&JournalFile::new(file)?, JOURNAL_BYTES).map_err(failed)
}

fn open_journal(path: &Path) -> Result<Box<dyn StorageBackend>, Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| refuse(error.to_string()))?;
    let length = file.metadata().map_err(|error| refuse(error.to_string()))?.len();
    if length != JOURNAL_BYTES {
        return Err(refuse(format!("it has {length} bytes, a journal has {JOURNAL_BYTES}")));
    }
    Ok(Box::new(JournalFile::new(file)?))
}

/// The generation of the journal that follows the last checkpoint.
fn generation(database: &Database) -> Result<u64, Error> {
    let meta = database.begin_read()?.open_table(tables::META)?;
    let value = meta.get(GENERATION_KEY)?.and_then(|value| value.value().try_into().ok().map(u64::from_le_bytes));
    Ok(value.unwrap_or(0))
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
    }
    transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))
}

/// A damaged file can make redb panic: then it is none of ours.
fn refuse_panics<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    guarded(work).map_err(|error| match error {
        Error::Panicked(detail) => Error::NotAStore { path: path.to_owned(), detail },
        error => error,
    })
}

/// Refuses a file with a page that does not match its checksum, which redb
/// does not look at while it opens.
fn check_pages(database: &mut Database, path: &Path) -> Result<(), Error> {
    let refuse = |detail: String| Error::NotAStore { path: path.to_owned(), detail };
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => Err(refuse("a page does not match its checksum".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Opens the file, which stays as it is until it is released.
fn open_database(path: &Path, cache_bytes: usize) -> Result<(Database, Cautious), Error> {
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
    let file = Cautious::new(FileBackend::new(file).map_err(refused)?);
    let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(file.clone());
    Ok((database.map_err(refused)?, file))
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
        Some(found) => {
            let detail =
                format!("it was made by an unreleased version, in format {found}; this version reads {FORMAT}");
            return Err(refuse(&detail));
        }
        None => return Err(refuse("it does not say its format")),
    }
    let id = meta.get(STORE_ID_KEY)?.and_then(|value| Uuid::from_slice(value.value()).ok());
    id.ok_or_else(|| refuse("it has no id"))
}
