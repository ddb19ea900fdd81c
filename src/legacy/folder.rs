//! Reads a directory of the old program.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::invalid::{Invalid, Reason};
use super::line::{Kind, Line, MAX_LINE_BYTES};
use super::record::Record;
use super::split::{Element, Splitter};
use crate::task::RecordId;

/// File with the list of taint events.
pub(super) const TAINT_EVENTS: &str = "taint_events.json";
/// Maximum length in bytes of an id that serves as a file name; temporary names are longer.
const MAX_NAME_BYTES: usize = 200;
/// File with the checkpoints by id.
pub(super) const CHECKPOINTS: &str = "checkpoints.json";

/// A directory of the old program. Only the names of its files are in memory; their contents are
/// read one by one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Names of the record files in order.
    records: Vec<OsString>,
    has_events: bool,
    has_checkpoints: bool,
}

/// A parsed object with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Name of its file.
    pub file: String,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// The parsed object.
    pub line: Line,
    /// The text of the object as it was read.
    pub raw: Vec<u8>,
}

/// A file or an element that can't be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Name of the file.
    pub file: String,
    /// The fault and its place.
    pub invalid: Invalid,
}

impl Folder {
    /// Lists the files of a directory. Files whose names do not end in `.json` are ignored.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut folder = Self { path: path.to_owned(), records: Vec::new(), has_events: false, has_checkpoints: false };
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(TAINT_EVENTS) => folder.has_events = true,
                Some(CHECKPOINTS) => folder.has_checkpoints = true,
                _ if Path::new(&name).extension().is_some_and(|extension| extension == "json") => {
                    folder.records.push(name);
                }
                _ => {}
            }
        }
        folder.records.sort();
        Ok(folder)
    }

    /// Returns the number of files.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.records.len() + usize::from(self.has_events) + usize::from(self.has_checkpoints)
    }

    /// Iterates over all objects: records in the order of their file names, then taint events, then
    /// checkpoints.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries { folder: self, next_file: 0, list: None, misnamed: HashMap::new(), seen: HashSet::new() }
    }

    fn has(&self, name: &str) -> bool {
        self.records.binary_search_by(|each| each.as_os_str().cmp(name.as_ref())).is_ok()
    }
}

/// Iterator over the objects of a [`Folder`], valid or not.
pub struct Entries<'a> {
    folder: &'a Folder,
    /// Number of files that were opened.
    next_file: usize,
    /// The list that is being read.
    list: Option<List>,
    /// Records whose file name differs from the expected one, with that file name.
    misnamed: HashMap<RecordId, String>,
    /// Hashed ids of the current list, which can have a million elements.
    seen: HashSet<[u8; 16]>,
}

struct List {
    file: &'static str,
    kind: Kind,
    elements: Splitter<BufReader<File>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Found, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.next_of_list() {
                return Some(found);
            }
            let (events, checkpoints) = (self.folder.has_events, self.folder.has_checkpoints);
            let lists = [(events, TAINT_EVENTS, Kind::TaintEvent), (checkpoints, CHECKPOINTS, Kind::Checkpoint)];
            let index = self.next_file;
            self.next_file += 1;
            if let Some(name) = self.folder.records.get(index) {
                return Some(self.record(name));
            }
            let (exists, file, kind) = *lists.get(index - self.folder.records.len())?;
            if exists && let Err(bad) = self.open_list(file, kind) {
                return Some(Err(bad));
            }
        }
    }
}

impl Entries<'_> {
    /// Returns the number of files opened so far.
    #[must_use]
    pub fn files_read(&self) -> usize {
        self.next_file.min(self.folder.file_count())
    }

    fn record(&mut self, name: &OsString) -> Result<Found, Bad> {
        let file = name.to_string_lossy().into_owned();
        let read = read_whole(&self.folder.path.join(name));
        let parsed = read.and_then(|raw| Ok((Line::parse(&raw)?, raw)));
        let checked = parsed.and_then(|(line, raw)| {
            check_kind(&line, Kind::Record)?;
            self.check_name(&line, &file)?;
            Ok((line, raw))
        });
        match checked {
            Ok((line, raw)) => Ok(Found { file, offset: 0, line, raw }),
            Err(invalid) => Err(Bad { file, invalid }),
        }
    }

    /// Refuses duplicates: of several files with the same record, the file with the expected name
    /// counts, otherwise the first.
    fn check_name(&mut self, line: &Line, file: &str) -> Result<(), Invalid> {
        let Line::Record(record) = line else { return Ok(()) };
        let proper = file_name(record);
        if file == proper {
            return Ok(());
        }
        let duplicate =
            |of: &str| Err(Invalid::new(Reason::Duplicate, 0, format!("has the id {:?}, as {of} has", record.name)));
        if self.folder.has(&proper) {
            return duplicate(&proper);
        }
        if let Some(first) = self.misnamed.get(&record.id) {
            return duplicate(first);
        }
        self.misnamed.insert(record.id, file.to_owned());
        Ok(())
    }

    fn open_list(&mut self, file: &'static str, kind: Kind) -> Result<(), Bad> {
        self.seen.clear();
        let elements = open_regular(&self.folder.path.join(file)).map(BufReader::new);
        let elements = elements.map_err(|invalid| Bad { file: file.to_owned(), invalid })?;
        let elements =
            if kind == Kind::Checkpoint { Splitter::of_object(elements) } else { Splitter::of_array(elements) };
        self.list = Some(List { file, kind, elements });
        Ok(())
    }

    fn next_of_list(&mut self) -> Option<Result<Found, Bad>> {
        let list = self.list.as_mut()?;
        let (file, kind) = (list.file.to_owned(), list.kind);
        let Some(element) = list.elements.next() else {
            self.list = None;
            return None;
        };
        let parsed = element.and_then(|element| {
            let begins = element.offset;
            self.element(&element, kind).map_err(|invalid| invalid.behind(begins)).map(|line| (line, element))
        });
        Some(match parsed {
            Ok((line, element)) => Ok(Found { file, offset: element.offset, line, raw: element.raw }),
            Err(invalid) => Err(Bad { file, invalid }),
        })
    }

    fn element(&mut self, element: &Element, kind: Kind) -> Result<Line, Invalid> {
        let line = Line::parse(&element.raw)?;
        check_kind(&line, kind)?;
        let id = line.id();
        if let Some(key) = element.key.as_ref().filter(|key| **key != id) {
            let message = format!("has the id {id:?}, but stands under the key {}", crate::json::quoted(key));
            return Err(Invalid::new(Reason::BadValue, 0, message));
        }
        let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        let (hash, _) = hash.split_at(16);
        if hash.try_into().is_ok_and(|hash| self.seen.insert(hash)) {
            return Ok(line);
        }
        Err(Invalid::new(Reason::Duplicate, 0, format!("has the id {id:?}, as another one before it")))
    }
}

fn check_kind(line: &Line, wanted: Kind) -> Result<(), Invalid> {
    if line.kind() == wanted {
        return Ok(());
    }
    let name = |kind: Kind| kind.as_str().replace('_', " ");
    let message = format!("must be a {}, was a {}", name(wanted), name(line.kind()));
    Err(Invalid::new(Reason::BadValue, 0, message))
}

/// Returns the file name of a record: its id if that is a valid file name and not the name of a
/// list, otherwise its UUID.
pub(super) fn file_name(record: &Record) -> String {
    let name = &record.name;
    let is_one = !name.starts_with('.') && !name.contains(['/', '\\']) && name.len() <= MAX_NAME_BYTES;
    let proper = format!("{name}.json");
    if is_one && proper != TAINT_EVENTS && proper != CHECKPOINTS { proper } else { format!("{}.json", record.id) }
}

/// Reads a file; a file that is larger than the limit of an object is refused unread.
pub(super) fn read_whole(path: &Path) -> Result<Vec<u8>, Invalid> {
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    let mut raw = Vec::new();
    open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut raw).map_err(|error| unreadable(&error))?;
    Ok(raw)
}

/// Opens a regular file; a pipe or a device could block the reader for ever.
fn open_regular(path: &Path) -> Result<File, Invalid> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(Invalid::new(Reason::Unreadable, 0, "must be a regular file"));
    }
    File::open(path).map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Invalid {
    Invalid::new(Reason::Unreadable, 0, format!("can't be read: {error}"))
}
