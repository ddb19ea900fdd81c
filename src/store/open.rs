//! An open store: its journal, its tables, and how a batch reaches both.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata, StorageBackend};
use uuid::Uuid;

use super::cascade_steps;
use super::contents::{self, ContentFiles};
use super::directory::{
    FILE, JOURNAL, check_pages, create, create_files, generation, identify, initialize, lock, open_database,
    open_journal, refuse_foreign, refuse_panics, system_files,
};
use super::durable::{Durable, PendingBatch, TableProgress};
use super::files::{FileLock, FileSystem, failed};
use super::journal::{JOURNAL_BYTES, Journal};
use super::room::{Room, StopSignal, Wait};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::table_file::TableFile;
use super::tables::{self, GENERATION_KEY};
use super::view::View;
use super::{Batch, Error, Recovered, apply, guarded, upgrade};
use crate::planted::{self, Fault};

/// An open store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    journal: Mutex<Journal>,
    tables: Arc<TableProgress>,
    id: Uuid,
    /// The generation after the last checkpoint while that is not durable yet because the disk has
    /// no room.
    unsettled: Mutex<Option<u64>>,
    place: Location,
}

/// Where a store is; a store over backends alone has no directory.
#[derive(Debug)]
struct Location {
    files: Arc<dyn FileSystem>,
    dir: Option<PathBuf>,
    room: Arc<Room>,
    /// The file of the tables.
    file: Option<TableFile>,
    contents: Option<Arc<ContentFiles>>,
    /// Released when the last clone of the store is dropped.
    _lock: Option<FileLock>,
}

/// How a data directory is opened.
#[derive(Debug, Clone, Copy)]
struct Opening {
    /// Largest memory of redb, in bytes.
    cache_bytes: usize,
    /// Size of a new journal, in bytes.
    journal_bytes: u64,
    /// Whether every page is checked against its checksum.
    verify: bool,
}

impl Location {
    fn nowhere() -> Self {
        Self { files: system_files(), dir: None, room: Arc::default(), file: None, contents: None, _lock: None }
    }
}

impl Store {
    /// Opens the store in `dir`, or creates one if the directory is new or empty. redb uses at most
    /// `cache_bytes` of memory.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, false, None)
    }

    /// As [`Self::open`], but first reads the whole file and checks every page against its
    /// checksum, so that a single wrong bit is refused.
    pub fn open_verified(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, true, None)
    }

    /// As [`Self::open`] or, with `verify`, [`Self::open_verified`]. On a disk without room for the
    /// contents of the journal it blocks until there is room, or until `stop` returns true.
    pub fn open_for_service(dir: &Path, cache_bytes: usize, verify: bool, stop: StopSignal) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, verify, Some(stop))
    }

    /// As [`Self::open`], on another file system with unlimited room. A new journal has at least
    /// `journal_bytes`.
    pub fn open_on(
        files: &Arc<dyn FileSystem>,
        dir: &Path,
        journal_bytes: u64,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let opening = Opening { cache_bytes, journal_bytes, verify: false };
        Self::open_with(files, dir, opening, Arc::default)
    }

    fn open_in_system(dir: &Path, cache_bytes: usize, verify: bool, stop: Option<StopSignal>) -> Result<Self, Error> {
        let opening = Opening { cache_bytes, journal_bytes: JOURNAL_BYTES, verify };
        Self::open_with(&system_files(), dir, opening, || Room::of(dir, stop))
    }

    /// Checks the store in `dir`, which no service has open: every page against its checksum, the
    /// journal, and every content against its SHA-256. Writes nothing.
    pub fn verify(dir: &Path, cache_bytes: usize) -> Result<(), Error> {
        let files = system_files();
        let _lock = lock(&*files, dir)?;
        let path = dir.join(FILE);
        refuse_panics(&path, || {
            // The file is not released: what redb would write is dropped.
            let room = Arc::default();
            let (mut database, _file) = open_database(&*files, &path, cache_bytes, &room)?;
            let id = identify(&database, Some(&path))?;
            let journal = open_journal(&files, &dir.join(JOURNAL), &room)?;
            check_pages(&mut database, &path)?;
            let generation = generation(&database)?;
            let (_, records) = Journal::open(journal, id, generation)?;
            let contents = ContentFiles::new(files, dir, room);
            View::new(database.begin_read()?, Some(contents.clone())).check_contents()?;
            // Batches after the last checkpoint are in the journal alone.
            records.iter().try_for_each(|record| Batch::of_journal(record)?.contents.check(&contents))
        })
    }

    fn open_with(
        files: &Arc<dyn FileSystem>,
        dir: &Path,
        opening: Opening,
        room: impl FnOnce() -> Arc<Room>,
    ) -> Result<Self, Error> {
        let Opening { cache_bytes, journal_bytes, verify } = opening;
        create(&**files, dir)?;
        let path = dir.join(FILE);
        if !files.exists(&path) {
            refuse_foreign(&**files, dir)?;
        }
        let lock = lock(&**files, dir)?;
        if !files.exists(&path) {
            create_files(files, dir, cache_bytes, journal_bytes)?;
        }
        let room = room();
        refuse_panics(&path, || {
            let (mut database, file) = open_database(&**files, &path, cache_bytes, &room)?;
            if verify {
                check_pages(&mut database, &path)?;
            }
            upgrade::run(&database, &file, files, dir)?;
            let id = identify(&database, Some(&path))?;
            let journal = open_journal(files, &dir.join(JOURNAL), &room)?;
            let journal = Journal::open(journal, id, generation(&database)?)?;
            let refused = refuse_lost_contents(&**files, dir, &database, &journal.1);
            refused.map_err(|error| error.of_damaged(&path))?;
            // Everything belongs together, so the file may be written from here on.
            file.release().map_err(failed("open", &path))?;
            let (dir, files) = (Some(dir.to_owned()), Arc::clone(files));
            let contents = dir.as_deref().map(|dir| ContentFiles::new(files.clone(), dir, Arc::clone(&room)));
            let place = Location { files, dir, room, file: Some(file), contents, _lock: Some(lock) };
            Self::replay(database, journal, id, place)
        })
        .map_err(|error| if error.is_no_room() { Error::DiskFull(dir.to_owned()) } else { error })
    }

    /// Opens the store that two backends hold, or creates one if they are empty, with a journal of
    /// at least `journal_bytes`.
    pub fn open_backends(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        journal_bytes: u64,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        Self::open_in(database, journal, journal_bytes, cache_bytes, Location::nowhere())
    }

    /// As [`Self::open_backends`], with large contents in files below `dir`.
    #[cfg(all(test, feature = "model"))]
    pub(super) fn open_backends_beside(
        (database, journal): (impl StorageBackend, impl StorageBackend),
        journal_bytes: u64,
        cache_bytes: usize,
        dir: &Path,
    ) -> Result<Self, Error> {
        let contents = Some(ContentFiles::new(system_files(), dir, Arc::default()));
        let place = Location { contents, ..Location::nowhere() };
        Self::open_in(database, journal, journal_bytes, cache_bytes, place)
    }

    fn open_in(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        journal_bytes: u64,
        cache_bytes: usize,
        place: Location,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "create", path: JOURNAL.into(), source };
        guarded(|| {
            let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(database)?;
            initialize(&database)?;
            let id = identify(&database, None)?;
            // As for a directory whose creation was interrupted, the journal is created again.
            let is_new = generation(&database)? == 0 && !Journal::is_whole(&journal).map_err(failed)?;
            if is_new && !Journal::was_used(&journal).map_err(failed)? {
                Journal::make(&journal, journal_bytes, id, 0).map_err(failed)?;
            }
            let journal = Journal::open(Box::new(journal), id, generation(&database)?)?;
            Self::replay(database, journal, id, place)
        })
    }

    /// Brings redb from its last checkpoint to the last acknowledged batch.
    fn replay(
        database: Database,
        (journal, records): (Journal, Vec<Vec<u8>>),
        id: Uuid,
        place: Location,
    ) -> Result<Self, Error> {
        let generation = generation(&database)?;
        let tables = Arc::new(TableProgress::at(generation, Arc::clone(&place.room)));
        let (journal, unsettled) = (Mutex::new(journal), Mutex::new(None));
        let inner = Inner { database, journal, tables, id, unsettled, place };
        let store = Self { inner: Arc::new(inner) };
        // Before the journal is replayed, because its cascades count as indexed.
        cascade_steps::index_missing(&store.inner.database)?;
        if !records.is_empty() {
            let batches: Result<Vec<_>, _> = records.iter().map(|record| Batch::of_journal(record)).collect();
            store.checkpoint_with(&batches?)?;
            tracing::info!(commits = records.len(), "journal replayed after an unclean stop");
        }
        Ok(store)
    }

    /// Writes a batch to the journal, so that it survives a crash; the tables are to follow.
    /// Returns the generation of its record, or `None` for a batch too large for the journal, which
    /// is in the tables when this returns.
    ///
    /// If the other half of the journal must be used and is still needed, this blocks until a
    /// checkpoint.
    pub(super) fn journal_or_apply(&self, batch: &Batch) -> Result<Option<u64>, Error> {
        let record = planted::late(Fault::AnsweredBeforeWritten, batch.to_journal()?);
        let mut journal = loop {
            let mut journal = self.journal();
            if journal.fits(record.len()) {
                break journal;
            }
            if !journal.can_hold(record.len()) {
                drop(journal);
                return self.checkpoint_with(std::slice::from_ref(batch)).map(|()| None);
            }
            let generation = journal.generation();
            if self.inner.tables.generation() >= generation {
                journal.turn();
                break journal;
            }
            // Another thread makes the checkpoint, so no lock is held meanwhile.
            drop(journal);
            self.inner.tables.wait_for_checkpoint(generation)?;
        };
        // Up to here nothing has happened, so an error leaves no trace.
        journal.append(&record).map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
        let bytes = u64::try_from(record.len()).unwrap_or(u64::MAX);
        self.room().add_unflushed(journal.generation(), bytes);
        Ok(Some(journal.generation()))
    }

    /// Applies batches to the tables, in the order in which they became durable. The first batch of
    /// a generation is preceded by the checkpoint after which the generation begins. After an error
    /// the store is unreadable; the next start applies what is durable.
    pub fn apply(&self, batches: impl IntoIterator<Item = Durable>) -> Result<(), Error> {
        let mut waiting: Vec<PendingBatch> = batches.into_iter().filter_map(Durable::into_waiting).collect();
        for batches in waiting.chunk_by(|one, next| one.generation == next.generation) {
            let Some(generation) = batches.first().map(|first| first.generation) else { continue };
            let last = self.unsettled().unwrap_or(0).max(self.inner.tables.generation());
            if generation > last {
                self.write_checkpoint(&[], generation)?;
            }
            let mut transaction = self.inner.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let all: Vec<&Batch> = batches.iter().map(|waiting| &waiting.batch).collect();
            apply::apply(&all, &transaction)?;
            transaction.commit()?;
        }
        let count = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        waiting.iter_mut().for_each(PendingBatch::mark_applied);
        // Views continue before the batches are dropped, because dropping their files takes a lock.
        self.inner.tables.record_applied(count);
        Ok(())
    }

    /// Makes redb durable up to now, so that a start has nothing to replay.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.checkpoint_with(&[])
    }

    /// Applies batches in a checkpoint, and begins a new generation of the journal with it.
    fn checkpoint_with(&self, batches: &[Batch]) -> Result<(), Error> {
        self.wait()?;
        let next = self.journal().generation() + 1;
        let unknown = |error| Error::Unknown(Box::new(redb::Error::Io(error)));
        self.journal().stamp(next).map_err(unknown)?;
        self.write_checkpoint(batches, next)?;
        let failed = |source| Error::Unknown(Box::new(redb::Error::Io(source)));
        let mut wait = self.room().wait();
        while !self.settle()? {
            wait.pause(io::ErrorKind::StorageFull.into()).map_err(failed)?;
        }
        self.journal().restart(next);
        Ok(())
    }

    /// Applies batches in a commit that redb syncs and that a generation of the journal follows.
    /// The commit is durable when this returns, unless the disk has no room; then it is durable
    /// once the store is settled.
    fn write_checkpoint(&self, batches: &[Batch], generation: u64) -> Result<(), Error> {
        let mut transaction = self.inner.database.begin_write()?;
        // This also stores the free pages, so that a start after a crash need not search for them.
        transaction.set_quick_repair(true);
        apply::apply(&batches.iter().collect::<Vec<_>>(), &transaction)?;
        transaction.open_table(tables::META)?.insert(GENERATION_KEY, &generation.to_le_bytes()[..])?;
        transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))?;
        *self.unsettled() = Some(generation);
        if self.inner.place.file.as_ref().is_none_or(TableFile::is_settled) {
            self.record_settled();
        }
        Ok(())
    }

    /// The generation after a checkpoint that is not durable yet.
    fn unsettled(&self) -> MutexGuard<'_, Option<u64>> {
        self.inner.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_settled(&self) {
        let generation = self.unsettled().take();
        if let Some(generation) = generation {
            self.inner.tables.record_checkpoint(generation);
        }
    }

    /// Whether the last checkpoint is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// Begins to wait for room for the last checkpoint.
    pub(crate) fn begin_wait(&self) -> Wait<'_> {
        self.room().wait()
    }

    /// Makes the last checkpoint durable if the disk had no room for it. Returns false if it still
    /// has none. Readers continue meanwhile.
    pub(crate) fn settle(&self) -> Result<bool, Error> {
        let Some(file) = self.inner.place.file.as_ref().filter(|_| !self.is_settled()) else { return Ok(true) };
        let is_settled = file.settle().map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
        if is_settled {
            self.record_settled();
        }
        Ok(is_settled)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.inner.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Id of this store, created with it. Event ids are derived from it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    pub(super) fn tables(&self) -> &Arc<TableProgress> {
        &self.inner.tables
    }

    pub(super) fn content_files(&self) -> Option<&Arc<ContentFiles>> {
        self.inner.place.contents.as_ref()
    }

    /// The data directory; `None` if the store is not a file.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.inner.place.dir.as_deref()
    }

    /// The file system of the store.
    pub(super) fn files(&self) -> &Arc<dyn FileSystem> {
        &self.inner.place.files
    }

    /// Size of the store's file, in bytes; 0 if it is not a file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.dir().and_then(|dir| self.files().length(&dir.join(FILE)).ok()).unwrap_or(0)
    }

    /// Room on the disk of the store.
    #[must_use]
    pub fn room(&self) -> &Arc<Room> {
        &self.inner.place.room
    }

    /// Opens a consistent view of what is committed now. The file grows while a view is open, so it
    /// should not be kept long.
    ///
    /// Blocks while the tables lag behind what is durable. Returns [`Error::NoRoom`] while they
    /// wait for room on the disk and the thread does not (see
    /// [`super::wait_for_room_on_this_thread`]).
    pub fn view(&self) -> Result<View, Error> {
        self.wait()?;
        self.view_of_tables()
    }

    /// Like [`Self::view`], but does not wait for pending batches, so it may lag behind the
    /// journal. For the thread that applies batches.
    pub fn view_of_tables(&self) -> Result<View, Error> {
        Ok(View::new(self.inner.database.begin_read()?, self.inner.place.contents.clone()))
    }

    /// Blocks until a thread waits for the tables, at most for this time, and returns whether one
    /// does. Until then there is time to gather more batches.
    #[must_use]
    pub fn wait_for_reader(&self, at_most: Duration) -> bool {
        self.inner.tables.wait_for_reader(at_most)
    }

    /// Blocks until the tables have all that is durable.
    pub fn wait(&self) -> Result<(), Error> {
        self.inner.tables.wait()
    }

    /// Like [`Self::view`], but returns `None` instead of blocking.
    pub fn view_now(&self) -> Result<Option<View>, Error> {
        // Batches that become durable from here on are not waited for.
        if self.inner.tables.are_current()? { self.view_of_tables().map(Some) } else { Ok(None) }
    }

    /// Reports that the thread that applies batches has ended with an error. Threads that wait for
    /// the tables, now or later, get [`Error::TablesBehind`].
    pub(crate) fn fail_tables(&self) {
        self.inner.tables.fail();
    }

    /// Reads what the engine keeps in memory.
    pub fn recover(&self) -> Result<Recovered, Error> {
        guarded(|| Recovered::read(&self.view()?))
    }
}

/// Refuses a directory in which all files of large contents are missing although its tables or its
/// journal name some.
fn refuse_lost_contents(
    files: &dyn FileSystem,
    dir: &Path,
    database: &Database,
    records: &[Vec<u8>],
) -> Result<(), Error> {
    let path = dir.join(contents::DIRECTORY);
    if files.is_directory(&path) {
        return Ok(());
    }
    let mut kept = database.begin_read()?.open_table(tables::CONTENT_FILES)?.len()?;
    for record in records {
        kept += Batch::of_journal(record)?.contents.file_count();
    }
    if kept == 0 {
        return Ok(());
    }
    let detail = format!("it is missing, and {kept} contents of artifacts are kept in it");
    Err(Error::NotAStore { path, detail })
}
