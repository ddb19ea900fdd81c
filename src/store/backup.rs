//! A copy of a data directory, and a store of its own made from such a copy.
//!
//! A store that continued from a copy under the id of the original would assign positions of the
//! log, and thereby ids of events, a second time to other events. It therefore gets an id of its
//! own, and begins a new epoch.

use std::path::Path;
use std::sync::Arc;

use super::changes::CommitNumber;
use super::contents::{self, copy_files};
use super::directory::{FILE, JOURNAL, format_of, generation, lock, lock_unchanged, make_journal, system_files};
use super::files::{copy_file, failed, sync_directory};
use super::journal::JOURNAL_BYTES;
use super::table_file::TableFile;
use super::tables::{self, STORE_ID_KEY};
use super::{Batch, Error, Store, Trim, guarded, upgrade};
use crate::task::Now;

impl Store {
    /// Copies the files of the store in `from`, which no process has open, into the empty directory
    /// `to`. Opens nothing and writes nothing in `from`, because the copy is to be checked. Returns
    /// the number of bytes copied.
    pub fn copy_files(from: &Path, to: &Path) -> Result<u64, Error> {
        let files = system_files();
        let _lock = lock_unchanged(&*files, from)?;
        let mut bytes = 0;
        for name in [FILE, JOURNAL] {
            let path = from.join(name);
            if !files.exists(&path) {
                return Err(Error::NotAStore { path, detail: "it is missing".to_owned() });
            }
            bytes += copy_file(&*files, &path, &to.join(name))?;
        }
        // An upgrade may have been interrupted before it renamed the journal.
        if files.exists(&from.join(upgrade::NEW_JOURNAL)) {
            bytes += copy_file(&*files, &from.join(upgrade::NEW_JOURNAL), &to.join(upgrade::NEW_JOURNAL))?;
        }
        // If it is missing and needed, opening refuses the store.
        let contents = from.join(contents::DIRECTORY);
        if files.is_directory(&contents) {
            bytes += copy_files(&*files, &contents, &to.join(contents::DIRECTORY))?;
        }
        sync_directory(&*files, to)?;
        Ok(bytes)
    }

    /// Copies the store into the empty directory `to`: everything that is committed, and every
    /// content. No thread may write meanwhile. Returns the number of bytes copied.
    pub fn copy_to(&self, to: &Path) -> Result<u64, Error> {
        let Some(dir) = self.dir() else { return Ok(0) };
        // From here on the file alone has everything.
        self.checkpoint()?;
        let files = self.files();
        let mut bytes = copy_file(&**files, &dir.join(FILE), &to.join(FILE))?;
        make_journal(files, &to.join(JOURNAL), JOURNAL_BYTES, self.id(), self.tables().generation())?;
        bytes += copy_files(&**files, &dir.join(contents::DIRECTORY), &to.join(contents::DIRECTORY))?;
        sync_directory(&**files, to)?;
        Ok(bytes)
    }

    /// Opens the store in `dir`, which is a copy, as a store of its own: with another id, a new
    /// log, and without readers of it.
    pub fn open_as_another(dir: &Path, cache_bytes: usize, now: Now) -> Result<Self, Error> {
        guarded(|| renew_id(dir, cache_bytes))?;
        let store = Self::open(dir, cache_bytes)?;
        store.list_changes(false, now)?;
        let view = store.view()?;
        let head = view.log_head()?;
        let mut batch = Batch::default();
        batch.begin_after(CommitNumber(0), head.next_epoch());
        batch.trim(Trim { log: Some(head.next()), ..Trim::default() });
        for (reader, _) in view.log_readers()? {
            batch.put_log_reader(&reader, None)?;
        }
        drop(view);
        batch.commit(&store, now)?;
        store.checkpoint()?;
        Ok(store)
    }
}

fn renew_id(dir: &Path, cache_bytes: usize) -> Result<(), Error> {
    let files = system_files();
    let _lock = lock(&*files, dir)?;
    upgrade::remove_copies(&*files, dir)?;
    let path = dir.join(FILE);
    let backend = files.open_storage(&path).map_err(failed("open", &path))?;
    let backend = TableFile::over(backend, Arc::default());
    backend.release().map_err(failed("open", &path))?;
    let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)?;
    let transaction = database.begin_write()?;
    let id = uuid::Uuid::now_v7();
    transaction.open_table(tables::META)?.insert(STORE_ID_KEY, &id.into_bytes()[..])?;
    transaction.commit()?;
    // The journal of a copy is empty. A journal of an earlier format names no store.
    if format_of(&database)? == Some(tables::FORMAT) {
        make_journal(&files, &dir.join(JOURNAL), JOURNAL_BYTES, id, generation(&database)?)?;
    }
    Ok(database.close()?)
}
