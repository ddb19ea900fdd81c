//! Writes a directory of the old program.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::folder::file_name;
use super::line::Line;
use super::list_file::ListFile;
use super::pretty::pretty;
use super::written::{Written, temporary};

/// Writes a directory of the old program. Each file is replaced atomically by renaming a temporary
/// file, unless its contents are unchanged. Nothing is ever removed.
#[derive(Debug)]
pub struct FolderWriter {
    path: PathBuf,
    events: ListFile,
    checkpoints: ListFile,
}

impl FolderWriter {
    /// Opens a directory for writing and creates it if it is missing. Fails if it holds other files
    /// than those of an export, because they would be mixed up with it.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(may_stand_beside) {
                let found = format!("{} is there; must hold files of an export and nothing else", name.display());
                return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, found));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            events: ListFile::of_taint_events(path),
            checkpoints: ListFile::of_checkpoints(path),
        })
    }

    /// Writes a parsed object. A record is complete in its file afterwards; taint events and
    /// checkpoints follow with [`Self::finish`].
    pub fn put(&mut self, line: &Line) -> io::Result<Option<Written>> {
        let Some(object) = line.original() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "only an object that was parsed can be written"));
        };
        match line {
            Line::Record(record) => write_record(&self.path, &file_name(record), object).map(Some),
            Line::TaintEvent(event) => self.events.push(&event.id, object).map(|()| None),
            Line::Checkpoint(checkpoint) => self.checkpoints.push(&checkpoint.id, object).map(|()| None),
        }
    }

    /// Replaces the lists of taint events and checkpoints. Without this call they stay unchanged.
    pub fn finish(self) -> io::Result<[Written; 2]> {
        Ok([self.events.finish()?, self.checkpoints.finish()?])
    }
}

/// Returns whether a file may be in the directory: files of an export, and hidden files, such as
/// those of version control and temporary ones.
fn may_stand_beside(name: &str) -> bool {
    [".json", ".json.damaged"].iter().any(|end| name.ends_with(end)) || name.starts_with('.')
}

fn write_record(folder: &Path, name: &str, object: &Map<String, Value>) -> io::Result<Written> {
    let path = folder.join(name);
    let text = pretty(object)?;
    let written = match fs::read(&path) {
        Ok(bytes) if bytes == text => return Ok(Written::Unchanged),
        Ok(_) => Written::Updated,
        Err(error) if error.kind() == ErrorKind::NotFound => Written::Created,
        Err(error) => return Err(error),
    };
    let temporary = temporary(folder, name);
    let moved = fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, &path));
    if moved.is_err() {
        // The partial file is useless.
        let _ = fs::remove_file(&temporary);
    }
    moved.map(|()| written)
}
