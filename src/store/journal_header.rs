//! The header of each half of the journal, which identifies the journal that belongs to the tables
//! beside it.
//!
//! The first block holds the name: magic (8 bytes), id of the store (16), length of the journal
//! (8), CRC-32 of these (4). The second block holds the stamp: magic (8), id (16), generation (8),
//! CRC-32 (4). A stamp is written in the half of its generation, so a torn stamp leaves the
//! previous one intact. Numbers are little-endian.

use std::io;

use redb::StorageBackend;
use uuid::Uuid;

use super::Error;

/// Alignment of records: the largest block that a disk tears.
pub(super) const BLOCK: u64 = 4096;
/// Bytes in front of the records of a half.
pub(super) const FRONT: u64 = 2 * BLOCK;
const NAME: [u8; 8] = *b"datsname";
const STAMP: [u8; 8] = *b"datsgen1";
/// Bytes of a name or a stamp.
const BYTES: usize = 36;

/// The headers of both halves.
#[derive(Debug)]
pub(super) struct JournalHeader {
    /// For each half the store and the length that it names.
    names: [Option<(Uuid, u64)>; 2],
    stamps: [Option<(Uuid, u64)>; 2],
    length: u64,
}

/// Writes the name of the store into both halves.
pub(super) fn write_names(file: &dyn StorageBackend, length: u64, store: Uuid) -> io::Result<()> {
    let name = block(NAME, store, length);
    [0, length / 2].into_iter().try_for_each(|offset| file.write(offset, &name))
}

/// Writes the stamp of a generation.
pub(super) fn write_stamp(file: &dyn StorageBackend, half: u64, store: Uuid, generation: u64) -> io::Result<()> {
    file.write(begin(generation, half) + BLOCK, &block(STAMP, store, generation))
}

/// Offset of the half that holds a generation.
pub(super) const fn begin(generation: u64, half: u64) -> u64 {
    if generation.is_multiple_of(2) { 0 } else { half }
}

fn block(magic: [u8; 8], store: Uuid, number: u64) -> Vec<u8> {
    let mut block = [&magic[..], store.as_bytes(), &number.to_le_bytes()].concat();
    block.extend(crc32fast::hash(&block).to_le_bytes());
    block.resize(usize::try_from(BLOCK).unwrap_or(BYTES), 0);
    block
}

impl JournalHeader {
    /// Reads both headers.
    pub(super) fn read(file: &dyn StorageBackend) -> io::Result<Self> {
        let length = file.len()?;
        let read = |magic, offset: u64| {
            let mut block = [0; BYTES];
            if offset.saturating_add(BLOCK) > length {
                return Ok(None);
            }
            file.read(offset, &mut block)?;
            Ok::<_, io::Error>(parse(magic, &block))
        };
        let half = length / 2;
        Ok(Self {
            names: [read(NAME, 0)?, read(NAME, half)?],
            stamps: [read(STAMP, BLOCK)?, read(STAMP, half + BLOCK)?],
            length,
        })
    }

    /// Whether both halves name a store.
    pub(super) const fn is_named(&self) -> bool {
        self.names[0].is_some() && self.names[1].is_some()
    }

    /// The newest generation announced by a checkpoint.
    pub(super) fn newest_stamp(&self) -> Option<u64> {
        self.stamps.into_iter().flatten().map(|(_, stamp)| stamp).max()
    }

    /// Refuses a journal of another store, or one whose length has changed since it was created.
    pub(super) fn of(self, store: Uuid) -> Result<Self, Error> {
        for (found, length) in self.names.into_iter().flatten() {
            if found != store {
                return Err(refused(format!("it is the one of store {found}, the tables are of store {store}")));
            }
            if length != self.length {
                return Err(refused(format!("it has {} bytes, and was made with {length}", self.length)));
            }
        }
        if self.is_named() { Ok(self) } else { Err(refused("it names no store".to_owned())) }
    }

    /// Refuses a journal that is older or newer than the tables, which are at `generation`.
    /// `newest` is the newest generation that begins with a record, if that is newer; `has_records`
    /// tells whether there are records of the tables' generation or the next.
    pub(super) fn check(&self, generation: u64, newest: u64, has_records: bool) -> Result<(), Error> {
        let stamps = || self.stamps.into_iter().flatten().map(|(_, stamp)| stamp);
        // A stamp is written before its checkpoint.
        let stamped = stamps().max().filter(|stamp| *stamp > newest.saturating_add(1));
        let newer = Some(newest).filter(|newest| *newest > generation.saturating_add(1)).max(stamped);
        if let Some(newer) = newer {
            let detail = format!("it has generation {newer}, the tables are at {generation}: they are older");
            return Err(refused(detail));
        }
        let is_stamped = stamps().any(|stamp| stamp == generation || stamp == generation.saturating_add(1));
        if has_records || is_stamped {
            return Ok(());
        }
        Err(refused(format!("it knows nothing of generation {generation}, which the tables are at")))
    }
}

fn refused(detail: String) -> Error {
    Error::ForeignJournal { detail }
}

fn parse(magic: [u8; 8], block: &[u8; BYTES]) -> Option<(Uuid, u64)> {
    let (content, checksum) = block.split_last_chunk::<4>()?;
    let (found, rest) = content.split_first_chunk::<8>()?;
    let (store, rest) = rest.split_first_chunk::<16>()?;
    let number = rest.first_chunk::<8>()?;
    let is_whole = *found == magic && u32::from_le_bytes(*checksum) == crc32fast::hash(content);
    is_whole.then(|| (Uuid::from_bytes(*store), u64::from_le_bytes(*number)))
}
