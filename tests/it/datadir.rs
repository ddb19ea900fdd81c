//! Data directories that are not as they should be: opening one gives a
//! typed error or a store that is right, never a panic, and what is not ours
//! is left as it is.

use std::fs;
use std::path::Path;

use dats::clock::Clock;
use dats::engine::Engine;
use dats::store::{Error, Store};
use tempfile::TempDir;

use crate::support::fixtures::{CACHE_BYTES, settings, submission};
use crate::support::invariants::{self, Snapshot};
use crate::support::random::{Random, from_environment};

const FILE: &str = "dats.redb";
const JOURNAL: &str = "dats.journal";

fn open(dir: &Path) -> Result<Store, Error> {
    Store::open(dir, CACHE_BYTES)
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn check(store: &Store) -> anyhow::Result<Snapshot> {
    invariants::check(store, &|_| u32::MAX)
}

/// A data directory with some tasks in it, and what it holds.
async fn filled() -> (TempDir, Snapshot) {
    let dir = directory();
    let store = open(dir.path()).expect("to make a store");
    let (engine, writer) = Engine::start(store, settings(), &Clock::new()).expect("to start");
    for number in 0..60 {
        let batch = (0..5).map(|each| submission(&format!("p{}", each % 3), &format!("task {number} {each}")));
        let submitted = engine.tasks().submit(batch.collect(), None).await.expect("to submit").results;
        let task = submitted[0].as_ref().expect("to be taken").task;
        engine.tasks().cancel(task, Some("for a test".to_owned())).await.expect("to cancel");
    }
    drop(engine);
    writer.stop().expect("to stop");
    let snapshot = check(&open(dir.path()).expect("to open again")).expect("a sound store");
    (dir, snapshot)
}

#[test]
fn one_process_owns_a_directory() {
    let dir = directory();
    let first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::InUse(_))));
    let clone = first.clone();
    drop(first);
    assert!(matches!(open(dir.path()), Err(Error::InUse(_))), "a clone keeps the directory");
    drop(clone);
    open(dir.path()).unwrap();
}

#[test]
fn foreign_directories_are_refused_untouched() {
    let dir = directory();
    fs::write(dir.path().join("letters.txt"), "dear").unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(&refused, Error::ForeignDirectory { found, .. } if found == "letters.txt"), "{refused}");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["letters.txt"]);
    let file = dir.path().join("letters.txt");
    assert!(matches!(open(&file), Err(Error::Io { .. })), "a file is no directory");
    assert!(matches!(open(&file.join("deeper")), Err(Error::Io { .. })));
}

#[test]
fn files_of_something_else_are_refused_untouched() {
    let mut random = Random::new(7);
    let bytes = |random: &mut Random, length: usize| -> Vec<u8> {
        (0..length).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect()
    };
    let mut contents = vec![Vec::new(), b"r".to_vec(), b"redb\x1A\x0A\xA9\x0D\x0A".to_vec()];
    for length in [8, 100, 4096, 100_000] {
        contents.push(bytes(&mut random, length));
        contents.push([&b"redb\x1A\x0A\xA9\x0D\x0A"[..], &bytes(&mut random, length)].concat());
    }
    for content in contents {
        let dir = directory();
        let file = dir.path().join(FILE);
        fs::write(&file, &content).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, Error::NotAStore { .. }), "{} bytes: {refused:?}", content.len());
        assert_eq!(fs::read(&file).unwrap(), content, "the file was changed");
    }
}

#[test]
fn a_database_of_something_else_is_refused() {
    let dir = directory();
    let file = dir.path().join(FILE);
    redb::Database::create(&file).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::NotAStore { .. })));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::NotAStore { .. })));
}

const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");

#[test]
fn a_newer_format_is_refused() {
    let dir = directory();
    drop(open(dir.path()).unwrap());
    let database = redb::Database::open(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", &99_u32.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(dir.path()), Err(Error::NewerFormat { found: 99, .. })));
}

#[tokio::test]
async fn what_a_crash_while_making_left_does_no_harm() {
    let dir = directory();
    fs::write(dir.path().join("dats.redb.new"), "half").unwrap();
    fs::write(dir.path().join("dats.lock"), "").unwrap();
    drop(open(dir.path()).unwrap());
    let (dir, before) = filled().await;
    fs::write(dir.path().join("dats.redb.new"), "half").unwrap();
    let store = open(dir.path()).unwrap();
    check(&store).unwrap().follows(&before).unwrap();
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere.
    let may_write = fs::write(dir.path().join("dats.lock"), "").is_ok();
    let opened = open(dir.path());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !may_write {
        assert!(matches!(opened, Err(Error::Io { .. })), "{opened:?}");
    }
    // Nobody may make files here, root neither.
    if Path::new("/proc/self/fdinfo").exists() {
        let refused = open(Path::new("/proc/self/fdinfo/data")).unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    }
}

/// Opens a copy of a data directory whose file is `bytes`. `None`: a typed
/// error; otherwise whether it holds what the original does.
fn open_changed(original: &Path, bytes: &[u8], before: &Snapshot) -> Option<bool> {
    let dir = directory();
    let file = dir.path().join(FILE);
    fs::write(&file, bytes).expect("to write");
    // The journal of a store that was closed in order is not written to by opening it.
    fs::hard_link(original.join(JOURNAL), dir.path().join(JOURNAL)).expect("to link");
    let store = match open(dir.path()) {
        Ok(store) => store,
        Err(Error::NotAStore { detail, .. }) => {
            assert!(fs::read(&file).expect("to read") == bytes, "the file was refused and yet changed: {detail}");
            return None;
        }
        Err(error) => panic!("an error of another kind: {error:?}"),
    };
    store.recover().ok()?;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&store)));
    let Ok(Ok(found)) = found else { return Some(false) };
    Some(found.tasks == before.tasks && found.entries == before.entries)
}

#[tokio::test]
async fn a_journal_that_is_gone_or_cut_is_refused() {
    let (dir, _) = filled().await;
    let journal = dir.path().join(JOURNAL);
    let bytes = fs::read(&journal).unwrap();
    for left in [None, Some(&bytes[..4096]), Some(b"".as_slice())] {
        fs::remove_file(&journal).unwrap();
        if let Some(left) = left {
            fs::write(&journal, left).unwrap();
        }
        let refused = open(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("dats.journal"), "{refused}");
        assert_eq!(fs::read(&journal).ok().as_deref(), left, "the journal was changed");
        fs::write(&journal, &bytes).unwrap();
    }
    drop(open(dir.path()).unwrap());
}

#[tokio::test]
async fn a_truncated_file_is_refused_or_right() {
    let (dir, before) = filled().await;
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    assert_eq!(open_changed(dir.path(), &bytes, &before), Some(true), "the whole file");
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    for round in 0..60 {
        let length = if round % 2 == 0 { random.index(bytes.len() / 4096) * 4096 } else { random.index(bytes.len()) };
        let opened = open_changed(dir.path(), &bytes[..length], &before);
        assert!(opened != Some(false), "cut to {length} of {}: it opened and is wrong", bytes.len());
    }
}

/// A copy of a data directory whose file is `bytes` is refused by whoever
/// reads it whole, and left as it is.
fn assert_found(original: &Path, bytes: &[u8], what: &str) {
    let dir = directory();
    let file = dir.path().join(FILE);
    fs::write(&file, bytes).expect("to write");
    fs::hard_link(original.join(JOURNAL), dir.path().join(JOURNAL)).expect("to link");
    let verified = Store::verify(dir.path(), CACHE_BYTES).map_err(|error| error.to_string());
    assert!(verified.is_err_and(|error| error.contains("checksum") || error.contains(FILE)), "{what}");
    assert!(matches!(Store::open_verified(dir.path(), CACHE_BYTES), Err(Error::NotAStore { .. })), "{what}");
    assert!(fs::read(&file).expect("to read") == bytes, "{what}: the file was refused and yet changed");
}

#[tokio::test]
async fn flipped_bytes_are_errors_or_do_no_harm() {
    let (dir, before) = filled().await;
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    Store::verify(dir.path(), CACHE_BYTES).expect("a sound store");
    drop(Store::open_verified(dir.path(), CACHE_BYTES).expect("a sound store"));
    let (mut refused, mut right, mut wrong) = (0, 0, 0);
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let used: Vec<usize> = (0..bytes.len()).filter(|&place| bytes[place] != 0).collect();
    for round in 0..150 {
        let mut changed = bytes.clone();
        // The header now and then, else where there is data.
        let place = if round % 10 == 0 { random.index(512) } else { *random.pick(&used) };
        changed[place] ^= 1 << random.below(8);
        match open_changed(dir.path(), &changed, &before) {
            None => refused += 1,
            Some(true) => right += 1,
            Some(false) => {
                // Opening does not read every page. What it overlooks, a
                // check of the file must see.
                assert_found(dir.path(), &changed, &format!("byte {place}"));
                wrong += 1;
            }
        }
    }
    println!("{refused} refused, {right} right, {wrong} found by a check of the file alone");
    assert!(refused > 0 && right > 0 && wrong > 0, "the test has lost its aim");
}

/// A bit can also change what a table says that it holds.
#[tokio::test]
async fn a_table_of_another_kind_is_refused_and_left_alone() {
    const FILES: redb::TableDefinition<'_, &[u8; 32], u64> = redb::TableDefinition::new("content_files");
    const OTHER: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("content_files");
    let (dir, _) = filled().await;
    let database = redb::Database::open(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(FILES).unwrap());
    transaction.open_table(OTHER).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let _ = fs::remove_dir_all(dir.path().join("contents"));
    let before = fs::read(dir.path().join(FILE)).unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(refused, Error::NotAStore { .. }), "{refused:?}");
    assert!(refused.to_string().contains(FILE), "{refused}");
    assert!(fs::read(dir.path().join(FILE)).unwrap() == before);
}
