//! How contents are kept in files, and the removal of files that no row names.

use std::io;
use std::path::Path;

use super::Error;
use super::contents::{ContentFile, ContentFiles, hash_in_name, list_entries};
use super::files::failed;
use super::open::Store;
use crate::planted::{self, Fault};

impl ContentFiles {
    /// Removes released files that no row names. What cannot be removed now is left to the next
    /// start.
    fn remove_released(&self, store: &Store) {
        let released = std::mem::take(&mut self.held().released);
        for sha256 in released {
            if let Err(error) = self.remove_unnamed(store, sha256, &self.path(sha256)) {
                tracing::warn!(%error, "unreferenced content file could not be removed");
            }
        }
    }

    /// Removes a content file unless it is held or a row names the content. Returns whether it did.
    fn remove_unnamed(&self, store: &Store, sha256: [u8; 32], path: &Path) -> Result<bool, Error> {
        // While the lock is held, no thread can start to hold the file. A file that is not held and
        // was named is in the tables, because a batch is dropped after it was applied. A store that
        // has failed has dropped batches that were not.
        let held = self.held();
        if held.files.contains_key(&sha256) || store.tables().has_failed() {
            return Ok(false);
        }
        let is_unfinished = path.extension().is_some();
        let view = if planted::is(Fault::LockHeldWhileWaiting) { store.view() } else { store.view_of_tables() };
        if !is_unfinished && view?.has_content_file(sha256)? {
            return Ok(false);
        }
        match self.files.remove(path) {
            // The file may never have been written.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
            Ok(()) | Err(_) => Ok(true),
        }
    }

    /// Removes the files of one directory that no row names and no thread holds.
    fn sweep(&self, store: &Store, directory: &Path) -> Result<u64, Error> {
        let mut removed = 0;
        let view = store.view()?;
        for path in list_entries(&*self.files, directory)? {
            let Some(sha256) = hash_in_name(directory, &path) else { continue };
            // A row that names a content is never removed.
            if path.extension().is_none() && view.has_content_file(sha256)? {
                continue;
            }
            removed += u64::from(self.remove_unnamed(store, sha256, &path)?);
        }
        Ok(removed)
    }
}

impl Store {
    /// Keeps a content in a file, which is durable when this returns, before any row names it.
    /// Returns `None` if the store has no directory.
    pub fn keep_content(&self, sha256: [u8; 32], content: &[u8]) -> Result<Option<ContentFile>, Error> {
        let Some(files) = self.content_files() else { return Ok(None) };
        // Held before the existing file is looked for, so that it is not removed from here on.
        let (file, is_durable) = files.hold(sha256, u64::try_from(content.len()).unwrap_or(u64::MAX));
        files.remove_released(self);
        if !is_durable {
            files.write(sha256, content)?;
        }
        Ok(Some(file))
    }

    /// Removes every content file that no row names and returns their number.
    pub fn sweep_contents(&self) -> Result<u64, Error> {
        let Some(files) = self.content_files() else { return Ok(0) };
        let mut removed = 0;
        for directory in list_entries(&*files.files, &files.dir)? {
            if files.files.is_directory(&directory) {
                removed += files.sweep(self, &directory)?;
            }
        }
        Ok(removed)
    }
}
