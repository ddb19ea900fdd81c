//! An open store: its journal, its tables, and how a batch gets into both.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata, StorageBackend};
use uuid::Uuid;

use super::cascade_steps;
use super::cautious::Cautious;
use super::contents::{self, ContentFiles};
use super::directory::{
    FILE, JOURNAL, check_pages, create, generation, identify, initialize, lock, make, open_database, open_journal,
    refuse_foreign, refuse_panics, system,
};
use super::durable::{Durable, Tables, Waiting};
use super::files::{FileLock, FileSystem, failed};
use super::journal::{JOURNAL_BYTES, Journal};
use super::room::{Room, StopSignal, Wait};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::tables::{self, GENERATION_KEY};
use super::view::View;
use super::{Batch, Error, Recovered, guarded, upgrade, write};
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
    tables: Arc<Tables>,
    id: Uuid,
    /// The generation behind the last checkpoint, if the disk has no room for it:
    /// it is not durable yet.
    unsettled: Mutex<Option<u64>>,
    place: Place,
}

/// Where a store is; one over backends alone is nowhere.
#[derive(Debug)]
struct Place {
    files: Arc<dyn FileSystem>,
    dir: Option<PathBuf>,
    room: Arc<Room>,
    /// The file of the tables.
    file: Option<Cautious>,
    contents: Option<Arc<ContentFiles>>,
    /// Released when the last clone of the store goes.
    _lock: Option<FileLock>,
}

/// How a data directory is opened.
#[derive(Debug, Clone, Copy)]
struct Opening {
    /// Most bytes that redb keeps in memory.
    cache_bytes: usize,
    /// Length of a new journal.
    journal_bytes: u64,
    /// Every page is held against its checksum.
    verify: bool,
}

impl Place {
    fn nowhere() -> Self {
        Self { files: system(), dir: None, room: Arc::default(), file: None, contents: None, _lock: None }
    }
}

impl Store {
    /// Opens the store in `dir`, or makes one if the directory is new or
    /// empty. `cache_bytes` is the most that redb keeps in memory.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, false, None)
    }

    /// As [`Self::open`], but reads the whole file first and holds every page
    /// against its checksum: a single wrong bit is refused.
    pub fn open_verified(dir: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, true, None)
    }

    /// As [`Self::open`] or, with `verify`, [`Self::open_verified`], but on a disk
    /// without room for what the journal has it waits for room, until `stop` says
    /// that nobody wants the store any more.
    pub fn open_for_service(dir: &Path, cache_bytes: usize, verify: bool, stop: StopSignal) -> Result<Self, Error> {
        Self::open_in_system(dir, cache_bytes, verify, Some(stop))
    }

    /// As [`Self::open`], with the files of another file system, which has room
    /// without end. A new journal has at least `journal_bytes`.
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
        Self::open_with(&system(), dir, opening, || Room::of(dir, stop))
    }

    /// Holds every page of the store in `dir`, which no service has open,
    /// against its checksum, reads its journal, and holds every content
    /// against its SHA-256. Nothing is written.
    pub fn verify(dir: &Path, cache_bytes: usize) -> Result<(), Error> {
        let files = system();
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
            // What came after the last checkpoint is in the journal alone.
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
            make(files, dir, cache_bytes, journal_bytes)?;
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
            // Everything belongs together: from here on it may be written to.
            file.release().map_err(failed("open", &path))?;
            let (dir, files) = (Some(dir.to_owned()), Arc::clone(files));
            let contents = dir.as_deref().map(|dir| ContentFiles::new(files.clone(), dir, Arc::clone(&room)));
            let place = Place { files, dir, room, file: Some(file), contents, _lock: Some(lock) };
            Self::replay(database, journal, id, place)
        })
        .map_err(|error| if error.is_no_room() { Error::DiskFull(dir.to_owned()) } else { error })
    }

    /// Opens the store that two backends hold, or makes one if they are empty,
    /// with a journal of at least `journal_bytes`.
    pub fn open_backends(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        journal_bytes: u64,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        Self::open_in(database, journal, journal_bytes, cache_bytes, Place::nowhere())
    }

    /// As [`Self::open_backends`], with large contents in files below `dir`.
    #[cfg(all(test, feature = "model"))]
    pub(super) fn open_backends_beside(
        (database, journal): (impl StorageBackend, impl StorageBackend),
        journal_bytes: u64,
        cache_bytes: usize,
        dir: &Path,
    ) -> Result<Self, Error> {
        let contents = Some(ContentFiles::new(system(), dir, Arc::default()));
        let place = Place { contents, ..Place::nowhere() };
        Self::open_in(database, journal, journal_bytes, cache_bytes, place)
    }

    fn open_in(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        journal_bytes: u64,
        cache_bytes: usize,
        place: Place,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "create", path: JOURNAL.into(), source };
        guarded(|| {
            let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(database)?;
            initialize(&database)?;
            let id = identify(&database, None)?;
            // As a directory whose making was interrupted: the journal is made again.
            let is_new = generation(&database)? == 0 && !Journal::is_whole(&journal).map_err(failed)?;
            if is_new && !Journal::was_used(&journal).map_err(failed)? {
                Journal::make(&journal, journal_bytes, id, 0).map_err(failed)?;
            }
            let journal = Journal::open(Box::new(journal), id, generation(&database)?)?;
            Self::replay(database, journal, id, place)
        })
    }

    /// Brings redb from its last checkpoint to the last batch that was
    /// acknowledged.
    fn replay(
        database: Database,
        (journal, records): (Journal, Vec<Vec<u8>>),
        id: Uuid,
        place: Place,
    ) -> Result<Self, Error> {
        let generation = generation(&database)?;
        let tables = Arc::new(Tables::at(generation, Arc::clone(&place.room)));
        let (journal, unsettled) = (Mutex::new(journal), Mutex::new(None));
        let inner = Inner { database, journal, tables, id, unsettled, place };
        let store = Self { inner: Arc::new(inner) };
        // Before the journal: what it brings counts as indexed.
        cascade_steps::complete(&store.inner.database)?;
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
            // The checkpoint is another thread's: no lock is held meanwhile.
            drop(journal);
            self.inner.tables.wait_for_checkpoint(generation)?;
        };
        // Up to here nothing has happened: an error leaves no trace.
        journal.append(&record).map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
        let bytes = u64::try_from(record.len()).unwrap_or(u64::MAX);
        self.room().add_unflushed(journal.generation(), bytes);
        Ok(Some(journal.generation()))
    }

    /// Brings batches into the tables, in the order in which they became
    /// durable. With the first of a generation goes the checkpoint behind which
    /// it begins. After an error the store shows nothing any more; what is
    /// durable is brought by the next start.
    pub fn apply(&self, batches: impl IntoIterator<Item = Durable>) -> Result<(), Error> {
        let mut waiting: Vec<Waiting> = batches.into_iter().filter_map(Durable::into_waiting).collect();
        for batches in waiting.chunk_by(|one, next| one.generation == next.generation) {
            let Some(generation) = batches.first().map(|first| first.generation) else { continue };
            let last = self.unsettled().unwrap_or(0).max(self.inner.tables.generation());
            if generation > last {
                self.write_checkpoint(&[], generation)?;
            }
            let mut transaction = self.inner.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let all: Vec<&Batch> = batches.iter().map(|waiting| &waiting.batch).collect();
            write::apply(&all, &transaction)?;
            transaction.commit()?;
        }
        let count = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        waiting.iter_mut().for_each(Waiting::mark_applied);
        // Views go on before the batches are dropped: their files take a lock.
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

    /// Applies batches in a commit that redb syncs, and that is followed by a
    /// generation of the journal. It is durable when this returns, unless the disk
    /// has no room for it: then it is once the store is settled.
    fn write_checkpoint(&self, batches: &[Batch], generation: u64) -> Result<(), Error> {
        let mut transaction = self.inner.database.begin_write()?;
        // It also keeps the free pages, so that a start after a crash need
        // not look for them.
        transaction.set_quick_repair(true);
        write::apply(&batches.iter().collect::<Vec<_>>(), &transaction)?;
        transaction.open_table(tables::META)?.insert(GENERATION_KEY, &generation.to_le_bytes()[..])?;
        transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))?;
        *self.unsettled() = Some(generation);
        if self.inner.place.file.as_ref().is_none_or(Cautious::is_settled) {
            self.note_settled();
        }
        Ok(())
    }

    /// The generation behind a checkpoint that is not durable yet.
    fn unsettled(&self) -> MutexGuard<'_, Option<u64>> {
        self.inner.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_settled(&self) {
        let generation = self.unsettled().take();
        if let Some(generation) = generation {
            self.inner.tables.note_checkpoint(generation);
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

    /// Makes the last checkpoint durable where the disk had no room for it; false
    /// where it still has none. Readers go on meanwhile.
    pub(crate) fn settle(&self) -> Result<bool, Error> {
        let Some(file) = self.inner.place.file.as_ref().filter(|_| !self.is_settled()) else { return Ok(true) };
        let is_settled = file.settle().map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
        if is_settled {
            self.note_settled();
        }
        Ok(is_settled)
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
        self.inner.place.contents.as_ref()
    }

    /// The data directory; `None` when the store is not a file.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.inner.place.dir.as_deref()
    }

    /// The files that the store is among.
    pub(super) fn files(&self) -> &Arc<dyn FileSystem> {
        &self.inner.place.files
    }

    /// Size of the store's file, in bytes; 0 when it is not a file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.dir().and_then(|dir| self.files().length(&dir.join(FILE)).ok()).unwrap_or(0)
    }

    /// How much room there is on the disk of the store.
    #[must_use]
    pub fn room(&self) -> &Arc<Room> {
        &self.inner.place.room
    }

    /// A consistent view of what is committed now. Not to be kept long: the
    /// file grows while one is open.
    /// Waits while the tables follow what is durable; [`Error::NoRoom`] while they
    /// wait for room on the disk and the thread does not (see
    /// [`super::wait_for_room_on_this_thread`]).
    pub fn view(&self) -> Result<View, Error> {
        self.wait()?;
        self.view_of_tables()
    }

    /// As [`Self::view`], of what the tables have, be it behind what is durable:
    /// for who brings them on.
    pub fn view_of_tables(&self) -> Result<View, Error> {
        Ok(View::new(self.inner.database.begin_read()?, self.inner.place.contents.clone()))
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
        // What becomes durable from here on was not asked for, and is not waited for.
        if self.inner.tables.are_current()? { self.view_of_tables().map(Some) } else { Ok(None) }
    }

    /// The thread that brings batches into the tables has ended by an error: whoever
    /// waits for them, or will, gets [`Error::TablesBehind`].
    pub(crate) fn fail_tables(&self) {
        self.inner.tables.fail();
    }

    /// Reads what the engine keeps in memory.
    pub fn recover(&self) -> Result<Recovered, Error> {
        guarded(|| Recovered::read(&self.view()?))
    }
}

/// Refuses a directory whose files of large contents are gone, all of them,
/// although its tables or its journal name some.
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
