//! Writes a list of the old program element by element: `taint_events.json` or `checkpoints.json`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::folder::{CHECKPOINTS, TAINT_EVENTS};
use super::line::Line;
use super::pretty::pretty;
use super::split::Splitter;
use super::written::{Written, temporary};
use serde_json::{Map, Value};

/// A list that is written under a temporary name. [`Self::finish`] renames it; dropping it earlier
/// removes the temporary file.
#[derive(Debug)]
pub(super) struct ListFile {
    path: PathBuf,
    temporary: PathBuf,
    by_id: bool,
    /// Created with the first element.
    file: Option<BufWriter<File>>,
}

impl ListFile {
    pub(super) fn of_taint_events(folder: &Path) -> Self {
        Self::new(folder, TAINT_EVENTS, false)
    }

    pub(super) fn of_checkpoints(folder: &Path) -> Self {
        Self::new(folder, CHECKPOINTS, true)
    }

    fn new(folder: &Path, name: &str, by_id: bool) -> Self {
        Self { path: folder.join(name), temporary: temporary(folder, name), by_id, file: None }
    }

    /// Appends an element.
    pub(super) fn push(&mut self, id: &str, object: &Map<String, Value>) -> io::Result<()> {
        let is_first = self.file.is_none();
        if is_first {
            self.file = Some(BufWriter::new(File::create(&self.temporary)?));
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let begin = match (is_first, self.by_id) {
            (true, true) => "{\n  ",
            (true, false) => "[\n  ",
            (false, _) => ",\n  ",
        };
        file.write_all(begin.as_bytes())?;
        if self.by_id {
            let mut one = Map::new();
            one.insert(id.to_owned(), Value::Object(object.clone()));
            // The object under its id, without the braces and the first indent.
            let text = pretty(&one)?;
            let inner = text.strip_prefix(b"{\n  ").and_then(|text| text.strip_suffix(b"\n}"));
            return file.write_all(inner.unwrap_or(&text));
        }
        // Line feeds stand only between tokens, because JSON escapes them in strings.
        for (index, line) in pretty(object)?.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                file.write_all(b"\n  ")?;
            }
            file.write_all(line)?;
        }
        Ok(())
    }

    /// Renames the list to its final name. An empty list is not written, because the existing file
    /// may hold elements that could not be read.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        let Some(mut file) = self.file.take() else { return Ok(Written::Unchanged) };
        file.write_all(if self.by_id { b"\n}" } else { b"\n]" })?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        if !self.path.exists() {
            fs::rename(&self.temporary, &self.path)?;
            return Ok(Written::Created);
        }
        if same_bytes(&self.temporary, &self.path)? {
            fs::remove_file(&self.temporary)?;
            return Ok(Written::Unchanged);
        }
        if !is_readable(&self.path, self.by_id)? {
            // Keeps the damaged file, so that it can be repaired by hand.
            let aside = self.path.with_extension("json.damaged");
            fs::rename(&self.path, aside)?;
        }
        fs::rename(&self.temporary, &self.path)?;
        Ok(Written::Updated)
    }
}

impl Drop for ListFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // A leftover temporary file is harmless.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Returns whether every element of a list can be read.
fn is_readable(path: &Path, by_id: bool) -> io::Result<bool> {
    let reader = BufReader::new(File::open(path)?);
    let mut elements = if by_id { Splitter::of_object(reader) } else { Splitter::of_array(reader) };
    Ok(elements.all(|element| element.is_ok_and(|element| Line::parse(&element.raw).is_ok())))
}

fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let mut others = BufReader::new(other).bytes();
    for byte in BufReader::new(one).bytes() {
        let byte = byte?;
        if others.next().transpose()? != Some(byte) {
            return Ok(false);
        }
    }
    Ok(true)
}
