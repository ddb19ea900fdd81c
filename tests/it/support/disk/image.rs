//! What a disk has of a file and of a directory: what reads see, what is
//! durable, and what lies between them.

use std::collections::BTreeMap;

use crate::support::random::Random;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// The number of a file or a directory, whatever it is called.
pub(super) type Number = u64;

/// A file. A sync is of one file: the writes to another stay as they are.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What reads see.
    pub(super) current: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<Write>,
}

#[derive(Debug)]
enum Write {
    Data { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Image {
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.current[at..at + bytes.len()].copy_from_slice(bytes);
        self.unsynced.push(Write::Data { at, bytes: bytes.to_vec() });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.current.resize(length, 0);
        self.unsynced.push(Write::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            match write {
                Write::Data { at, bytes } => self.durable[at..at + bytes.len()].copy_from_slice(&bytes),
                Write::Length(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// What a power cut leaves: each sector that was not synced with a chance of
    /// `percent`.
    pub(super) fn crash(self, percent: u64, random: &mut Random) -> Self {
        let mut left = self.durable;
        for write in self.unsynced {
            match write {
                Write::Data { at, bytes } => tear(&mut left, at, &bytes, percent, random),
                Write::Length(length) if random.chance(percent) => left.resize(length, 0),
                Write::Length(_) => {}
            }
        }
        Self { current: left.clone(), durable: left, unsynced: Vec::new() }
    }
}

/// Applies some of the sectors of a write.
fn tear(image: &mut Vec<u8>, at: usize, bytes: &[u8], percent: u64, random: &mut Random) {
    let mut from = at;
    let end = at + bytes.len();
    while from < end {
        let to = end.min((from / SECTOR + 1) * SECTOR);
        if random.chance(percent) {
            if image.len() < to {
                image.resize(to, 0);
            }
            image[from..to].copy_from_slice(&bytes[from - at..to - at]);
        }
        from = to;
    }
}

type Names = BTreeMap<String, Number>;

/// A directory. A sync is of its names alone: neither of the files that they
/// stand for, nor of its own name in the directory above.
#[derive(Debug, Default)]
pub(super) struct Directory {
    durable: Names,
    pub(super) current: Names,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Put(String, Number),
    Remove(String),
    /// One step: never both names, and never none.
    Rename {
        from: String,
        to: String,
        number: Number,
    },
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(name, number) => drop(names.insert(name.clone(), *number)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename { from, to, number } => {
                // Where the first name is of another file by now, that one stays.
                if names.get(from) == Some(number) {
                    names.remove(from);
                }
                names.insert(to.clone(), *number);
            }
        }
    }
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    pub(super) fn put(&mut self, name: &str, number: Number) {
        self.change(Change::Put(name.to_owned(), number));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove(name.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(number) = self.current.get(from).copied() {
            self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), number });
        }
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What a power cut leaves: the first of the changes, as a file system with a
    /// journal does, or any of them.
    pub(super) fn crash(self, percent: u64, random: &mut Random) -> Self {
        let mut left = self.durable;
        let is_in_order = random.chance(50);
        for change in self.unsynced {
            if random.chance(percent) {
                change.apply(&mut left);
            } else if is_in_order {
                break;
            }
        }
        Self { current: left.clone(), durable: left, unsynced: Vec::new() }
    }
}
