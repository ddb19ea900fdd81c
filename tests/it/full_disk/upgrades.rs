//! An upgrade on a disk that becomes full: the new journal takes the place of the
//! old one only once the tables that it belongs to are durable.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dats::store::{Error, Store};
use tempfile::TempDir;

use super::MIB;
use crate::support::fixtures::CACHE_BYTES;
use crate::support::invariants;
use crate::support::small_disk::SmallDisk;
use crate::upgrade::{unpack, upgrade};

/// The journal of each format, in bytes.
const JOURNAL_BYTES: u64 = 32 * MIB;

/// Opens a directory as the service does, until it is told to stop.
fn start(data: &Path) -> (JoinHandle<Result<Store, Error>>, Arc<AtomicBool>) {
    let (data, stop) = (data.to_owned(), Arc::new(AtomicBool::new(false)));
    let signal = Arc::clone(&stop);
    let stopped = Arc::new(move || signal.load(Ordering::Acquire));
    (std::thread::spawn(move || Store::open_for_service(&data, CACHE_BYTES, false, stopped)), stop)
}

/// Takes what is free within the file of the tables.
fn compact(data: &Path) {
    let mut database = redb::Database::open(data.join("dats.redb")).unwrap();
    while database.compact().unwrap() {}
}

/// Leaves room for what the upgrade makes before its commit, and none for that.
fn leave_too_little(disk: &SmallDisk) {
    disk.free();
    let data = disk.data();
    let made = ["dats.redb.format-5", "dats.journal.format-5", "dats.journal.new"];
    for name in made {
        let _ = fs::remove_file(data.join(name));
    }
    let tables = fs::metadata(data.join("dats.redb")).unwrap().len();
    disk.leave(tables.next_multiple_of(4096) + 2 * JOURNAL_BYTES);
}

#[test]
fn an_upgrade_that_fills_the_disk_waits_and_leaves_the_old_journal_meanwhile() {
    let Some(disk) = SmallDisk::mount(160, "full_disk::upgrades") else { return };
    let home = TempDir::new().unwrap();
    let expected = upgrade(&unpack("format-5", home.path()));
    let data = disk.data();
    unpack("format-5", data.parent().unwrap());
    compact(&data);
    let journal = fs::read(data.join("dats.journal")).unwrap();
    leave_too_little(&disk);

    // It waits. A stop ends that, and the directory is as it was.
    let (starting, stop) = start(&data);
    while disk.free_bytes() > 0 && !starting.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(!starting.is_finished(), "it did not wait: {:?}", starting.join().unwrap());
    assert!(fs::read(data.join("dats.journal")).unwrap() == journal, "the journal was replaced too early");
    stop.store(true, Ordering::Release);
    let ended = starting.join().unwrap();
    assert!(matches!(ended, Err(Error::DiskFull(_))), "{ended:?}");
    assert!(fs::read(data.join("dats.journal")).unwrap() == journal, "the journal was replaced");
    assert!(matches!(Store::verify(&data, CACHE_BYTES), Err(Error::OlderFormat { found: 5, .. })));

    // It waits again, and goes on when there is room.
    leave_too_little(&disk);
    let (starting, _stop) = start(&data);
    while disk.free_bytes() > 0 && !starting.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(!starting.is_finished());
    disk.free();
    let store = starting.join().unwrap().unwrap();
    invariants::check_upgraded(&store, &|_| u32::MAX).unwrap().follows(&expected).unwrap();
    drop(store);
    Store::verify(&data, CACHE_BYTES).unwrap();
    upgrade(&data).follows(&expected).unwrap();
}
