//! Upgrades a data directory of an earlier format when it is opened.
//!
//! Before anything is changed, the files that the upgrade rewrites are copied durably: `dats.redb`
//! to `dats.redb.format-5`, and the journal likewise. A journal that names its store is created
//! beside them. Then one transaction of redb replays the old journal, converts the rows (`v5.rs`,
//! where the next conversion is to be added) and sets the new format. A crash before its commit is
//! durable leaves the old directory, which the next start upgrades from the beginning; after it the
//! directory is a new one. On a full disk a start waits for room before the new journal replaces
//! the old one.
//!
//! The copies stay for an operator who has to go back, and can be deleted at any time.

mod rewrite;
mod v5;
mod v5_journal;
mod v5_lineage;
mod v5_tasks;

pub use v5_tasks::task_of_document;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, StorageBackend};
use uuid::Uuid;

use super::directory::{FILE, JOURNAL, UPGRADED, format_of, generation, make_journal, open_journal, store_id};
use super::files::{FileSystem, copy_file, failed, sync_directory};
use super::journal::{JOURNAL_BYTES, Journal};
use super::table_file::TableFile;
use super::tables::{self, FORMAT, FORMAT_KEY, GENERATION_KEY};
use super::{Error, apply};

/// Name of the new journal until the upgrade has committed.
pub(super) const NEW_JOURNAL: &str = "dats.journal.new";
/// Upgrades the store in `dir` if it has an earlier format that can be upgraded. Other formats are
/// left to the check that follows. `file` is not released yet, so nothing in the directory has been
/// changed.
pub(super) fn run(database: &Database, file: &TableFile, files: &Arc<dyn FileSystem>, dir: &Path) -> Result<(), Error> {
    match format_of(database)? {
        Some(UPGRADED) => {}
        Some(FORMAT) => return finish(database, files, dir),
        Some(_) | None => return Ok(()),
    }
    let id: Uuid = store_id(database)?.ok_or(Error::Corrupt { table: "meta", detail: "it has no id".to_owned() })?;
    let journal = open_journal(files, &dir.join(JOURNAL), &Arc::default())?;
    refuse_foreign_journal(&*journal, &dir.join(JOURNAL))?;
    let (journal, records) = Journal::open_unnamed(journal, id, generation(database)?)?;
    // The old journal belongs to earlier generations.
    let next = journal.generation() + 1;
    let batches = records.iter().map(|record| v5_journal::batch(record)).collect::<Result<Vec<_>, _>>()?;
    tracing::info!(from = UPGRADED, to = FORMAT, commits = batches.len(), "upgrading the data directory");
    let copies = [keep_copy(&**files, dir, FILE)?, keep_copy(&**files, dir, JOURNAL)?];
    make_journal(files, &dir.join(NEW_JOURNAL), JOURNAL_BYTES, id, next)?;
    sync_directory(&**files, dir)?;
    file.release().map_err(failed("open", &dir.join(FILE)))?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    apply::apply(&batches.iter().collect::<Vec<_>>(), &transaction)?;
    let converted = v5::convert(&transaction)?;
    {
        let mut meta = transaction.open_table(tables::META)?;
        meta.insert(GENERATION_KEY, &next.to_le_bytes()[..])?;
        meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..])?;
    }
    transaction.commit().map_err(|error| Error::Unknown(Box::new(error.into())))?;
    // On a full disk the commit is in memory alone until it is settled. Until then the tables have
    // the old format and need the old journal.
    file.settle_waiting().map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))?;
    finish(database, files, dir)?;
    let [tables, journal] = copies.map(|path| path.display().to_string());
    tracing::info!(
        to = FORMAT,
        tasks = converted.tasks,
        changed = converted.changed.len(),
        tables,
        journal,
        "the data directory was upgraded; the copies of its files can be deleted"
    );
    Ok(())
}

/// Refuses a journal that no version with this format has written beside the tables: nothing in it
/// would be found, and the contents of the right journal would be lost.
fn refuse_foreign_journal(journal: &dyn StorageBackend, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let bytes = journal.len().map_err(failed)?;
    let detail = if bytes != v5_journal::BYTES {
        format!("it has {bytes} bytes, a journal of format {UPGRADED} has {}", v5_journal::BYTES)
    } else if Journal::is_whole(journal).map_err(failed)? {
        format!(
            "it was made for format {FORMAT} and {FILE} beside it has format {UPGRADED}; put the journal back that \
             belongs to it, which an upgrade keeps as {JOURNAL}.format-{UPGRADED}"
        )
    } else {
        return Ok(());
    };
    Err(Error::NotAStore { path: path.to_owned(), detail })
}

/// Renames the new journal after a committed upgrade that was interrupted before the rename; the
/// journal in place is then still the old one, which names no store. Syncs the directory in any
/// case, because an interrupted start may have renamed a file without syncing the directory.
fn finish(database: &Database, files: &Arc<dyn FileSystem>, dir: &Path) -> Result<(), Error> {
    let (new, journal) = (dir.join(NEW_JOURNAL), dir.join(JOURNAL));
    if !files.exists(&new) {
        return sync_directory(&**files, dir);
    }
    let failed = |path: &Path| failed("rename", path);
    let present = open_journal(files, &journal, &Arc::default())?;
    let is_upgraded = Journal::is_whole(&*present).map_err(failed(&journal))?;
    let made = open_journal(files, &new, &Arc::default())?;
    let is_of_tables = Journal::is_made_for(&*made, store_id(database)?, generation(database)?);
    if !is_upgraded && is_of_tables.map_err(failed(&new))? {
        files.rename(&new, &journal).map_err(failed(&new))?;
    } else {
        files.remove(&new).map_err(failed(&new))?;
    }
    sync_directory(&**files, dir)
}

/// Copies a file of the directory durably. An existing copy was made by an interrupted upgrade or
/// by one of older data, and is replaced, because only the file itself is certain to be complete.
fn keep_copy(files: &dyn FileSystem, dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let copy = copy_of(dir, name);
    let unfinished = dir.join(format!("{name}.format-{UPGRADED}.new"));
    let copied = copy_file(files, &dir.join(name), &unfinished)
        .and_then(|_| files.rename(&unfinished, &copy).map_err(failed("rename", &unfinished)));
    if copied.is_err() {
        let _ = files.remove(&unfinished);
    }
    copied.map(|()| copy)
}

fn copy_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.format-{UPGRADED}"))
}

/// Removes the copies kept by an upgrade, for a directory that is a copy itself.
pub(super) fn remove_copies(files: &dyn FileSystem, dir: &Path) -> Result<(), Error> {
    for path in [FILE, JOURNAL].map(|name| copy_of(dir, name)) {
        match files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
