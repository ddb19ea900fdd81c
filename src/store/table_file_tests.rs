//! Tests of the file of the tables.

use redb::backends::FileBackend;

use super::*;

#[test]
fn writes_lie_over_what_is_read() {
    let read = |offset: u64, at: u64, data: &[u8]| {
        let mut out = *b"......";
        overlay(offset, &mut out, at, data);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(read(10, 12, b"ab"), "..ab..");
    assert_eq!(read(10, 8, b"abcd"), "cd....");
    assert_eq!(read(10, 14, b"abcd"), "....ab");
    assert_eq!(read(10, 0, b"abcd"), "......");
    assert_eq!(read(10, 16, b"abcd"), "......");
    assert_eq!(read(10, 9, b"abcdefgh"), "bcdefg");
}

#[test]
fn the_file_changes_when_it_is_released() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = |write: bool| std::fs::OpenOptions::new().read(true).write(write).open(path.path()).unwrap();
    std::fs::write(path.path(), b"old content").unwrap();
    let cautious = TableFile::over(Box::new(FileBackend::new(file(true)).unwrap()), Arc::default());
    cautious.set_len(14).unwrap();
    cautious.write(0, b"new").unwrap();
    let mut out = [9; 14];
    cautious.read(0, &mut out).unwrap();
    assert_eq!(&out, b"new content\0\0\0");
    assert_eq!(std::fs::read(path.path()).unwrap(), b"old content");
    cautious.release().unwrap();
    cautious.write(4, b"C").unwrap();
    assert_eq!(std::fs::read(path.path()).unwrap(), b"new Content\0\0\0");
}

/// A disk in memory that can be full: then it takes no byte where it has none.
#[derive(Debug, Clone, Default)]
struct SmallDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// The blocks that were written.
    taken: std::collections::BTreeSet<u64>,
    /// What there was at the last sync.
    synced: Vec<u8>,
    is_full: bool,
}

impl SmallDisk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    fn fill(&self, is_full: bool) {
        self.content().is_full = is_full;
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.content().bytes.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.content().bytes[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content().bytes.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.content();
        content.synced = content.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        let blocks = offset / 4096..(offset + u64::try_from(data.len()).unwrap()).div_ceil(4096);
        if content.is_full && blocks.clone().any(|block| !content.taken.contains(&block)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.taken.extend(blocks);
        let at = usize::try_from(offset).unwrap();
        content.bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn patient_room() -> Arc<Room> {
    let room = Arc::new(Room::default());
    room.keep(0);
    room
}

fn on(disk: &SmallDisk, room: &Arc<Room>) -> TableFile {
    let cautious = TableFile::over(Box::new(disk.clone()), Arc::clone(room));
    cautious.release().unwrap();
    cautious
}

#[test]
fn a_write_without_room_is_read_and_reaches_the_file_with_the_next_sync() {
    let (disk, room) = (SmallDisk::default(), patient_room());
    let file = on(&disk, &room);
    file.set_len(4 * 4096).unwrap();
    file.sync_data().unwrap();
    file.write(0, &[1; 4096]).unwrap();
    disk.fill(true);
    // One across two blocks, of which one is in part.
    file.write(4096, &[2; 6000]).unwrap();
    let read = |offset, length| {
        let mut out = vec![9; length];
        file.read(offset, &mut out).unwrap();
        out
    };
    assert_eq!(read(4090, 12), [[1; 6], [2; 6]].concat());
    assert_eq!(read(4096 + 5998, 4), [2, 2, 0, 0]);
    // Over kept writes, and over bytes of the file.
    file.write(4096, &[3; 100]).unwrap();
    file.write(0, &[4; 10]).unwrap();
    assert_eq!((read(4096, 1), read(0, 1), read(4196, 1)), (vec![3], vec![4], vec![2]));
    assert_eq!(disk.content().bytes[..10], [4; 10]);
    // A sync after a growth only makes the length durable.
    file.set_len(8 * 4096).unwrap();
    file.sync_data().unwrap();
    assert!(!room.is_waiting());
    file.sync_data().unwrap();
    assert!(!file.is_settled() && !file.settle().unwrap(), "it was not synced");
    assert_eq!(read(4096, 1), [3], "who reads does not wait");
    // From here on nothing is written, not even where there is room.
    file.write(0, &[5; 10]).unwrap();
    assert_eq!((read(0, 1), disk.content().bytes[0]), (vec![5], 4));
    disk.fill(false);
    assert!(file.settle().unwrap() && file.is_settled());
    assert_eq!(disk.content().bytes[..10], [5; 10]);
    assert_eq!(disk.content().bytes[4096..4196], [3; 100]);
    assert_eq!(disk.content().bytes[4196..4096 + 6000], [2; 5900]);
    assert_eq!(read(4096 + 5999, 2), [2, 0]);
}

#[test]
fn a_second_release_keeps_the_kept_writes() {
    let (disk, room) = (SmallDisk::default(), patient_room());
    let file = on(&disk, &room);
    file.set_len(2 * 4096).unwrap();
    file.sync_data().unwrap();
    disk.fill(true);
    file.write(4096, &[1; 4096]).unwrap();
    file.sync_data().unwrap();
    file.release().unwrap();
    let mut out = [0; 1];
    file.read(4096, &mut out).unwrap();
    assert_eq!((out, file.is_settled()), ([1], false), "what was kept was dropped");
    // No thread waits any more: the file is not settled, and nothing is lost.
    room.give_up();
    assert!(is_full(&file.settle_waiting().unwrap_err()) && !file.is_settled());
    disk.fill(false);
    file.settle_waiting().unwrap();
    assert_eq!((disk.content().bytes[4096], file.is_settled()), (1, true));
}

#[test]
fn a_sync_without_room_fails_if_threads_do_not_wait() {
    let disk = SmallDisk::default();
    let file = on(&disk, &Arc::new(Room::default()));
    file.set_len(4096).unwrap();
    file.sync_data().unwrap();
    disk.fill(true);
    file.write(0, &[1; 4096]).unwrap();
    assert!(is_full(&file.sync_data().unwrap_err()));
}

#[test]
fn a_file_that_is_not_written_is_cut_when_it_is_settled() {
    let (disk, room) = (SmallDisk::default(), patient_room());
    let file = on(&disk, &room);
    file.set_len(4 * 4096).unwrap();
    file.sync_data().unwrap();
    disk.fill(true);
    file.write(4096, &[1; 4096]).unwrap();
    file.sync_data().unwrap();
    file.set_len(2 * 4096).unwrap();
    assert_eq!((file.len().unwrap(), disk.content().bytes.len()), (2 * 4096, 4 * 4096));
    disk.fill(false);
    assert!(file.settle().unwrap());
    assert_eq!((file.len().unwrap(), disk.content().bytes.len()), (2 * 4096, 2 * 4096));
}

#[test]
fn a_write_that_has_room_takes_the_place_of_one_that_had_none() {
    let (disk, room) = (SmallDisk::default(), patient_room());
    let file = on(&disk, &room);
    file.set_len(4 * 4096).unwrap();
    disk.fill(true);
    file.write(4096, &[1; 8192]).unwrap();
    disk.fill(false);
    file.write(4096, &[2; 4096]).unwrap();
    file.write(8192, &[3; 10]).unwrap();
    let mut out = [0; 8192];
    file.read(4096, &mut out).unwrap();
    assert_eq!((out[0], out[4095], out[4096], out[4106]), (2, 2, 3, 1));
    // Truncated bytes are lost.
    file.set_len(8192).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.content().bytes.len(), 8192);
    assert_eq!(disk.content().bytes[4096..], [2; 4096]);
}

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("t");

fn put(database: &redb::Database, keys: std::ops::Range<u64>, durability: redb::Durability) {
    let mut transaction = database.begin_write().unwrap();
    transaction.set_durability(durability).unwrap();
    {
        let mut table = transaction.open_table(TABLE).unwrap();
        for key in keys {
            table.insert(key, &key.to_le_bytes().repeat(1000)[..]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn get(database: &redb::Database, key: u64) -> Option<Vec<u8>> {
    use redb::ReadableDatabase as _;
    let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
    table.get(key).unwrap().map(|value| value.value().to_vec())
}

/// A database over a copy of what the disk has, as a start after a crash finds it.
fn after_a_crash(disk: &SmallDisk, synced: bool) -> redb::Database {
    let bytes = if synced { disk.content().synced.clone() } else { disk.content().bytes.clone() };
    let copy = SmallDisk::default();
    copy.content().bytes = bytes;
    let database = redb::Builder::new().create_with_backend(on(&copy, &patient_room()));
    let mut database = database.expect("what a crash leaves can't be opened");
    assert!(database.check_integrity().unwrap());
    database
}

/// redb gives up a file of which a write has failed, for reads, too. Over this
/// file it goes on: it reads, writes, grows and commits while the disk is full. A
/// crash at any time leaves the last commit that the disk has had room for.
#[test]
fn a_database_on_a_full_disk_goes_on_and_a_crash_leaves_the_last_checkpoint() {
    let (disk, room) = (SmallDisk::default(), patient_room());
    let file = on(&disk, &room);
    // A cache so small that pages leave it before any commit.
    let mut builder = redb::Builder::new();
    builder.set_cache_size(64 * 1024);
    let database = builder.create_with_backend(file.clone()).unwrap();
    put(&database, 0..20, redb::Durability::Immediate);
    disk.fill(true);
    let mut next = 20;
    for round in 0..6 {
        for _ in 0..10 {
            put(&database, next..next + 7, redb::Durability::None);
            next += 7;
            // Rows that are there are written again, to other pages.
            put(&database, 0..5, redb::Durability::None);
            for key in [0, 10, next - 1] {
                assert_eq!(get(&database, key), Some(key.to_le_bytes().repeat(1000)));
            }
        }
        if round % 2 == 1 {
            put(&database, next..next + 1, redb::Durability::Immediate);
            next += 1;
            assert!(!file.is_settled() && !file.settle().unwrap());
        }
        for synced in [true, false] {
            let crashed = after_a_crash(&disk, synced);
            for key in 0..20 {
                assert_eq!(get(&crashed, key), Some(key.to_le_bytes().repeat(1000)), "{round} {synced} {key}");
            }
            assert_eq!(get(&crashed, 20), None);
        }
    }
    disk.fill(false);
    assert!(file.settle().unwrap());
    let crashed = after_a_crash(&disk, true);
    assert!((0..next).all(|key| get(&crashed, key).is_some()), "what was settled is not all there");
    put(&database, next..next + 1, redb::Durability::Immediate);
    drop(database);
    let mut database = builder.create_with_backend(on(&disk, &room)).unwrap();
    assert!(database.check_integrity().unwrap());
    for key in 0..=next {
        assert_eq!(get(&database, key), Some(key.to_le_bytes().repeat(1000)), "{key}");
    }
}
