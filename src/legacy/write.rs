//! A directory of the old program, written.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::folder::file_name;
use super::line::Line;
use super::list_file::ListFile;
use super::pretty::pretty;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was not there.
    Created,
    /// It was there, with other bytes.
    Updated,
    /// It was there with the same bytes, and was left alone.
    Unchanged,
}

/// Writes a directory of the old program. Each file takes its place at once
/// and whole, by a temporary name; one that would have the same bytes is left
/// alone. Nothing is ever removed.
#[derive(Debug)]
pub struct FolderWriter {
    path: PathBuf,
    events: ListFile,
    checkpoints: ListFile,
}

impl FolderWriter {
    /// Begins to write into a directory, which is made where it is missing.
    /// One that holds anything but files of this form is refused: what stands
    /// in it was not written by an export, and would be mixed up with one.
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

    /// Writes an object that was parsed as it is to be written. A record is
    /// in its file afterwards; taint events and checkpoints are with
    /// [`Self::finish`].
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

    /// Puts the lists in their places: taint events and checkpoints. Without
    /// this they stay as they were.
    pub fn finish(self) -> io::Result<[Written; 2]> {
        Ok([self.events.finish()?, self.checkpoints.finish()?])
    }
}

/// Files of an export, and hidden ones, such as those of version control and
/// our own under their temporary names.
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
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    moved.map(|()| written)
}

/// A name that no reader of `*.json` takes, and no other process has.
pub(super) fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.{}.tmp", std::process::id()))
}
