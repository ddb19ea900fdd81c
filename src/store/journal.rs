//! The journal: where a batch becomes durable.
//!
//! Each batch is appended as one record and synced; only then it is applied
//! to redb, by a commit that redb does not sync. When the journal is full,
//! one commit that redb does sync takes its place: the checkpoint. It makes
//! everything before it durable in redb and begins a new generation, whose
//! records overwrite the old ones. After a crash redb is at the last
//! checkpoint, and the records of its generation are applied again.
//!
//! A record begins at a multiple of [`BLOCK`], so a torn write never touches
//! a block that holds something acknowledged. The journal's space is written
//! in advance, which makes a sync twice as fast as one that also grows the
//! file.
//!
//! A record, numbers little-endian: magic (8 bytes), id of the store (16),
//! generation (8), number within it (8), length of the payload (4), CRC-32
//! of all of these and the payload (4), payload.

use std::io;

use redb::StorageBackend;
use uuid::Uuid;

use super::Error;

/// Records begin at multiples of it: the largest block that a disk tears.
const BLOCK: u64 = 4096;
/// Size of the journal. A larger one makes checkpoints rarer and longer, and
/// a start after a crash slower: replaying it takes about a second.
pub(super) const JOURNAL_BYTES: u64 = 16 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"datsjrnl";
const HEAD: usize = 48;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    store: Uuid,
    generation: u64,
    number: u64,
    offset: u64,
    capacity: u64,
    /// The record being written, kept to be filled again.
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
    /// Writes the space of a new journal: `bytes`, in whole blocks.
    pub(super) fn make(file: &dyn StorageBackend, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; blocks(1) * 16];
        let step = as_u64(zeros.len());
        let bytes = bytes.next_multiple_of(step);
        file.set_len(bytes)?;
        for offset in (0..bytes / step).map(|number| number * step) {
            file.write(offset, &zeros)?;
        }
        file.sync_data()
    }

    /// Opens the journal of a store at the given generation, and reads the
    /// records of that generation.
    pub(super) fn open(
        file: Box<dyn StorageBackend>,
        store: Uuid,
        generation: u64,
    ) -> Result<(Self, Vec<Vec<u8>>), Error> {
        let length = file.len().map_err(failed)?;
        let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read(0, &mut content).map_err(failed)?;
        let (mut records, mut offset) = (Vec::new(), 0);
        while let Some(payload) = record_at(&content, offset, store, generation, as_u64(records.len())) {
            offset += blocks(HEAD + payload.len());
            records.push(payload.to_vec());
        }
        refuse_gap(&content, offset, store, generation, as_u64(records.len()))?;
        let number = as_u64(records.len());
        let offset = as_u64(offset);
        let capacity = length;
        Ok((Self { file, store, generation, number, offset, capacity, record: Vec::new() }, records))
    }

    /// The generation that records are written for.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a payload of so many bytes has room. Without room it is time
    /// for a checkpoint.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.offset + as_u64(blocks(HEAD + bytes)) <= self.capacity
    }

    /// Appends a record and syncs it: on return it survives a crash. After
    /// an error nobody knows.
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
        self.file.write(self.offset, &self.record)?;
        self.file.sync_data()?;
        self.offset += as_u64(self.record.len());
        self.number += 1;
        Ok(())
    }

    /// A checkpoint is durable: the next generation begins.
    pub(super) fn restart(&mut self, generation: u64) {
        self.generation = generation;
        self.number = 0;
        self.offset = 0;
    }
}

fn failed(source: io::Error) -> Error {
    Error::Io { action: "read", path: "dats.journal".into(), source }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The length of the blocks that hold so many bytes.
fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(usize::try_from(BLOCK).unwrap_or(usize::MAX))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// The head of a record of this store at an offset, if there is one.
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

/// The payload of the whole record with this generation and number at an offset.
fn record_at(content: &[u8], offset: usize, store: Uuid, generation: u64, number: u64) -> Option<&[u8]> {
    let head = head_at(content, offset, store)?;
    let at = content.get(offset..offset + HEAD - 4)?;
    let payload = content.get(offset + HEAD..)?.get(..head.length)?;
    let whole = head.generation == generation && head.number == number && head.checksum == checksum(at, payload);
    whole.then_some(payload)
}

/// A record is synced before the next one is written: behind a torn one
/// there is no other of its generation. If there is, the disk has lost
/// something that was acknowledged, which must not pass in silence.
fn refuse_gap(content: &[u8], offset: usize, store: Uuid, generation: u64, number: u64) -> Result<(), Error> {
    let step = blocks(1);
    let mut at = offset + step;
    while at < content.len() {
        if let Some(head) = head_at(content, at, store)
            && head.number > number
            && record_at(content, at, store, generation, head.number).is_some()
        {
            let detail = format!("record {number} is damaged, but record {} behind it is whole", head.number);
            return Err(Error::Corrupt { table: "journal", detail });
        }
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    const STORE: Uuid = Uuid::from_u128(7);

    fn open(bytes: &[u8], generation: u64) -> Result<(Journal, Vec<Vec<u8>>), Error> {
        let file = InMemoryBackend::new();
        file.set_len(JOURNAL_BYTES).unwrap();
        file.write(0, bytes).unwrap();
        Journal::open(Box::new(file), STORE, generation)
    }

    fn image(journal: &Journal) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(JOURNAL_BYTES).unwrap()];
        journal.file.read(0, &mut bytes).unwrap();
        bytes
    }

    fn written(payloads: &[&[u8]]) -> Vec<u8> {
        let (mut journal, _) = open(&[], 3).unwrap();
        for payload in payloads {
            journal.append(payload).unwrap();
        }
        image(&journal)
    }

    #[test]
    fn what_was_appended_is_read_again_by_its_generation_alone() {
        let long = vec![9; 10_000];
        let bytes = written(&[b"one", &long, b""]);
        assert_eq!(open(&bytes, 3).unwrap().1, [b"one".to_vec(), long, Vec::new()]);
        assert!(open(&bytes, 4).unwrap().1.is_empty());
        let (mut journal, _) = open(&bytes, 3).unwrap();
        journal.restart(4);
        journal.append(b"new").unwrap();
        assert_eq!(open(&image(&journal), 4).unwrap().1, [b"new".to_vec()]);
        assert!(open(&image(&journal), 3).is_err(), "an old generation must not come back in part");
    }

    #[test]
    fn a_torn_tail_is_dropped_and_written_over() {
        let whole = written(&[b"one", b"two"]);
        for at in [4096, 4100, 4096 + 20, 4096 + 40, 4096 + 45, 4096 + 49] {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            let (mut journal, records) = open(&torn, 3).unwrap();
            assert_eq!(records, [b"one".to_vec()], "flipped at {at}");
            journal.append(b"again").unwrap();
            assert_eq!(open(&image(&journal), 3).unwrap().1, [b"one".to_vec(), b"again".to_vec()]);
        }
    }

    #[test]
    fn damage_before_a_whole_record_is_refused() {
        let mut bytes = written(&[b"one", b"two", b"three"]);
        bytes[4096 + 50] ^= 1;
        let error = open(&bytes, 3).unwrap_err().to_string();
        assert_eq!(error, "table journal has a corrupt row: record 1 is damaged, but record 2 behind it is whole");
    }
}
