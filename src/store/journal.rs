//! The journal, in which a batch becomes durable.
//!
//! Each batch is appended as one record and synced; then it is applied to redb, by a commit that
//! redb does not sync. The records of a generation are in one half of the journal. When the half is
//! full, the next generation begins in the other half, and meanwhile the contents of the full half
//! are made durable in redb by one commit that redb does sync: the checkpoint. From then on that
//! half is no longer needed. After a crash redb is at the last checkpoint, and the records of its
//! generation, and of the next if it had begun, are applied again.
//!
//! A record begins at a multiple of [`BLOCK`], so a torn write never touches a block that holds
//! something acknowledged. The journal's space is written in advance, which makes a sync twice as
//! fast as one that also grows the file.
//!
//! Each half begins with two blocks of its own ([`JournalHeader`]). The first names the store and
//! the journal's length; it is written when the journal is created, and never again. The second is
//! the stamp: the newest generation of that half that begins without a record, because a checkpoint
//! of everything preceded it. The stamp of a generation is durable before its checkpoint, and so is
//! the first record of a generation that begins because a half was full. So a journal that does not
//! know the generation of the tables belongs to other tables, or has lost something acknowledged.
//!
//! A record, numbers little-endian: magic (8 bytes), id of the store (16), generation (8), number
//! (8), length of the payload (4), CRC-32 of all of these and the payload (4), payload. Numbers
//! continue from one half to the other, so that a missing record between them is noticed.

use std::io;

use redb::StorageBackend;
use uuid::Uuid;

use super::Error;
use super::journal_header::{BLOCK, FRONT, JournalHeader, begin, write_names, write_stamp};
use crate::planted::{self, Fault};

/// Size of the journal, of both halves. A larger journal makes checkpoints rarer and longer, and a
/// start after a crash slower: replaying one half takes about a second.
pub(super) const JOURNAL_BYTES: u64 = 32 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"datsjrnl";
const HEAD: usize = 48;

/// An open journal and the position of its next record.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    store: Uuid,
    generation: u64,
    number: u64,
    /// Offset of the next record in the half of the generation.
    offset: u64,
    /// Size of a half.
    half: u64,
    /// Bytes in front of the records of a half.
    front: u64,
    /// Buffer of the record being written, reused.
    record: Vec<u8>,
}

/// The head of a record.
struct Head {
    generation: u64,
    number: u64,
    length: usize,
    checksum: u32,
}

impl Journal {
    /// Creates the journal of a store, which begins with a generation: writes its space, `bytes` in
    /// whole blocks, and names the store in it.
    pub(super) fn make(file: &dyn StorageBackend, bytes: u64, store: Uuid, generation: u64) -> io::Result<()> {
        let zeros = vec![0; blocks(1) * 16];
        let step = as_u64(zeros.len());
        let bytes = bytes.next_multiple_of(step);
        file.set_len(bytes)?;
        for offset in (0..bytes / step).map(|number| number * step) {
            file.write(offset, &zeros)?;
        }
        write_stamp(file, bytes / 2, store, generation)?;
        file.sync_data()?;
        // A journal that has its name is complete.
        write_names(file, bytes, store)?;
        file.sync_data()
    }

    /// Whether the journal was created completely; then it names its store.
    pub(super) fn is_whole(file: &dyn StorageBackend) -> io::Result<bool> {
        JournalHeader::read(file).map(|front| front.is_named())
    }

    /// Whether the journal was created for this store, to begin with this generation.
    pub(super) fn is_made_for(file: &dyn StorageBackend, store: Option<Uuid>, generation: u64) -> io::Result<bool> {
        let front = JournalHeader::read(file)?;
        let is_stamped = front.newest_stamp() == Some(generation);
        Ok(is_stamped && store.is_some_and(|store| front.of(store).is_ok()))
    }

    /// Whether a batch was ever written to this journal, in any format. A new journal has no
    /// record, and no generation but the first.
    pub(super) fn was_used(file: &dyn StorageBackend) -> io::Result<bool> {
        let length = file.len()?;
        for offset in [0, FRONT, length / 2, length / 2 + FRONT] {
            let mut magic = [0; MAGIC.len()];
            if offset + BLOCK <= length {
                file.read(offset, &mut magic)?;
            }
            if magic == *MAGIC {
                return Ok(true);
            }
        }
        Ok(JournalHeader::read(file)?.newest_stamp() > Some(0))
    }

    /// Opens the journal of a store whose tables are at the given generation, and reads the records
    /// of that generation and of the next. Refuses a journal that does not belong to these tables.
    /// Writes nothing.
    pub(super) fn open(
        file: Box<dyn StorageBackend>,
        store: Uuid,
        generation: u64,
    ) -> Result<(Self, Vec<Vec<u8>>), Error> {
        let capacity = file.len().map_err(failed)? / 2;
        let front = JournalHeader::read(&*file).map_err(failed)?.of(store)?;
        let (journal, records, newest) = Self::open_behind(FRONT, file, store, generation, capacity)?;
        front.check(generation, newest, !records.is_empty())?;
        Ok((journal, records))
    }

    /// As [`Self::open`], for a journal of format 5, which names no store.
    pub(super) fn open_unnamed(
        file: Box<dyn StorageBackend>,
        store: Uuid,
        generation: u64,
    ) -> Result<(Self, Vec<Vec<u8>>), Error> {
        let capacity = file.len().map_err(failed)? / 2;
        let (journal, records, _) = Self::open_behind(0, file, store, generation, capacity)?;
        Ok((journal, records))
    }

    /// Reads the records, which begin `front` bytes after the beginning of each half. Also returns
    /// the newest generation with which a half begins.
    fn open_behind(
        front: u64,
        file: Box<dyn StorageBackend>,
        store: Uuid,
        generation: u64,
        half: u64,
    ) -> Result<(Self, Vec<Vec<u8>>, u64), Error> {
        let capacity = half.saturating_sub(front);
        let mut content = vec![0; usize::try_from(capacity).unwrap_or(usize::MAX)];
        let mut newest = generation;
        let mut read = |generation, number| {
            file.read(begin(generation, half) + front, &mut content).map_err(failed)?;
            newest = newest.max(first_generation(&content, store).unwrap_or(0));
            Found::read(&content, store, generation, number)
        };
        let first = read(generation, None)?;
        let second = read(generation + 1, Some(first.number))?;
        let mut records = first.records;
        let (generation, number, offset) = if second.records.is_empty() {
            (generation, first.number, first.offset)
        } else {
            (generation + 1, second.number, second.offset)
        };
        records.extend(second.records);
        let offset = as_u64(offset);
        Ok((Self { file, store, generation, number, offset, half, front, record: Vec::new() }, records, newest))
    }

    /// The generation that records are written for.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    const fn capacity(&self) -> u64 {
        self.half.saturating_sub(self.front)
    }

    /// Whether a payload of this size has room in the rest of the half.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.offset + as_u64(blocks(HEAD + bytes)) <= self.capacity()
    }

    /// Whether a payload of this size has room in an empty half.
    pub(super) fn can_hold(&self, bytes: usize) -> bool {
        as_u64(blocks(HEAD + bytes)) <= self.capacity()
    }

    /// Appends a record and syncs it, so that it survives a crash. After an error the outcome is
    /// unknown.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.record.clear();
        self.record.extend_from_slice(MAGIC);
        self.record.extend_from_slice(self.store.as_bytes());
        self.record.extend_from_slice(&self.generation.to_le_bytes());
        self.record.extend_from_slice(&self.number.to_le_bytes());
        self.record.extend_from_slice(&length.to_le_bytes());
        let checksum = checksum(&self.record, payload);
        self.record.extend_from_slice(&checksum.to_le_bytes());
        self.record.extend_from_slice(payload);
        self.record.resize(blocks(self.record.len()), 0);
        self.file.write(begin(self.generation, self.half) + self.front + self.offset, &self.record)?;
        if !(planted::is(Fault::LargeRecordUnsynced) && self.record.len() > 16 * 1024) {
            self.file.sync_data()?;
        }
        self.offset += as_u64(self.record.len());
        self.number += 1;
        Ok(())
    }

    /// Begins the next generation in the other half because this one is full. The other half must
    /// no longer be needed.
    pub(super) fn turn(&mut self) {
        self.generation += 1;
        self.offset = 0;
    }

    /// Announces a generation that begins after a checkpoint of everything. The stamp is durable
    /// before the checkpoint.
    pub(super) fn stamp(&self, generation: u64) -> io::Result<()> {
        write_stamp(&*self.file, self.half, self.store, generation)?;
        self.file.sync_data()
    }

    /// Begins a generation after a durable checkpoint of everything. The other half is no longer
    /// needed.
    pub(super) fn restart(&mut self, generation: u64) {
        self.generation = generation;
        self.number = 0;
        self.offset = 0;
    }
}

/// The complete records of a generation, and the position after them.
struct Found {
    records: Vec<Vec<u8>>,
    number: u64,
    offset: usize,
}

impl Found {
    /// Reads a half. `number` is that of its first record; `None` if nothing precedes it.
    fn read(half: &[u8], store: Uuid, generation: u64, number: Option<u64>) -> Result<Self, Error> {
        let at_begin = || head_at(half, 0, store).filter(|head| head.generation == generation).map(|head| head.number);
        let number = number.or_else(at_begin).unwrap_or(0);
        let mut found = Self { records: Vec::new(), number, offset: 0 };
        while let Some(payload) = record_at(half, found.offset, store, generation, found.number) {
            found.offset += blocks(HEAD + payload.len());
            found.number += 1;
            found.records.push(payload.to_vec());
        }
        refuse_gap(half, &found, store, generation)?;
        Ok(found)
    }
}

fn failed(source: io::Error) -> Error {
    Error::Io { action: "read", path: "dats.journal".into(), source }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The length of the blocks that hold this number of bytes.
fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(usize::try_from(BLOCK).unwrap_or(usize::MAX))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// Decodes the head of a record of this store at an offset.
fn head_at(content: &[u8], offset: usize, store: Uuid) -> Option<Head> {
    let head: &[u8; HEAD] = content.get(offset..)?.first_chunk()?;
    let (magic, rest) = head.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let checksum = rest.first_chunk::<4>()?;
    (magic == MAGIC && id == store.as_bytes()).then(|| Head {
        generation: u64::from_le_bytes(*generation),
        number: u64::from_le_bytes(*number),
        length: usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX),
        checksum: u32::from_le_bytes(*checksum),
    })
}

/// The generation of the whole record that a half begins with.
fn first_generation(half: &[u8], store: Uuid) -> Option<u64> {
    let head = head_at(half, 0, store)?;
    record_at(half, 0, store, head.generation, head.number).map(|_| head.generation)
}

/// The payload of the whole record with this generation and number at an offset.
fn record_at(content: &[u8], offset: usize, store: Uuid, generation: u64, number: u64) -> Option<&[u8]> {
    let head = head_at(content, offset, store)?;
    let at = content.get(offset..offset + HEAD - 4)?;
    let payload = content.get(offset + HEAD..)?.get(..head.length)?;
    let whole = head.generation == generation && head.number == number && head.checksum == checksum(at, payload);
    whole.then_some(payload)
}

/// A record is synced before the next one is written: behind a torn one
/// there is no other of its generation, and none of the next. If there is, the
/// disk has lost something that was acknowledged, which must not pass in silence.
fn refuse_gap(half: &[u8], found: &Found, store: Uuid, generation: u64) -> Result<(), Error> {
    for at in (found.offset..half.len()).step_by(blocks(1)) {
        if let Some(head) = head_at(half, at, store)
            && record_at(half, at, store, generation, head.number).is_some()
        {
            let (number, behind) = (found.number, head.number);
            let detail = format!("record {number} is damaged, but record {behind} behind it is whole");
            return Err(Error::Corrupt { table: "journal", detail });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
