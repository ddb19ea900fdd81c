//! The hand-over between the writer, the thread of the tables, views and contents, run by shuttle
//! in a thousand orders of its threads: `cargo test --lib --features model store::model`.
//!
//! Shuttle reports a deadlock as soon as no thread can continue. The store is the real one, over
//! backends in memory and files in a temporary directory; its locks and atomics are shuttle's
//! (`sync.rs`).

use redb::backends::InMemoryBackend;
use sha2::{Digest, Sha256};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::mpsc;
use shuttle::thread;

use super::{Batch, ContentFile, Durable, Store};
use crate::task::{Now, Timestamp};

/// The smallest journal: after its header, a half has room for six blocks.
const JOURNAL_BYTES: u64 = 2 * 8 * 4096;
/// Size that makes a record take five blocks, so that a half has room for one and the writer has to
/// wait for checkpoints too.
const FILLER_BYTES: usize = 4 * 4096;
const ORDERS: usize = 1000;
/// Stack of a modelled thread: shuttle's own is too small for the database.
const STACK_BYTES: usize = 4 << 20;

fn content(number: u8) -> (Vec<u8>, [u8; 32]) {
    let content = vec![number; 100];
    let sha256 = Sha256::digest(&content).into();
    (content, sha256)
}

fn keep(store: &Store, number: u8) -> std::sync::Arc<ContentFile> {
    let (content, sha256) = content(number);
    let file = store.keep_content(sha256, &content).unwrap();
    std::sync::Arc::new(file.expect("a store with a directory"))
}

/// Commits each file in a batch of its own, as the writer does.
fn write(store: &Store, events: &mpsc::Receiver<std::sync::Arc<ContentFile>>, tables: &mpsc::SyncSender<Durable>) {
    let filler = vec![0_u8; FILLER_BYTES];
    for file in events {
        let mut batch = Batch::default();
        batch.put_content(Sha256::digest(&filler).into(), filler.clone());
        batch.put_content_file(file);
        let durable = batch.make_durable(store, Now::aligned(Timestamp::from_micros(1))).unwrap();
        tables.send(durable).unwrap();
    }
}

/// Applies batches as the thread of the tables does, several at once if they are there.
fn follow(store: &Store, batches: &mpsc::Receiver<Durable>) {
    while let Ok(first) = batches.recv() {
        store.apply(std::iter::once(first).chain(batches.try_iter())).unwrap();
    }
}

/// Directory of the content files: in memory if possible, because a sync to a disk takes much
/// longer than everything else here.
fn directory() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn hand_over() {
    let dir = tempfile::tempdir_in(directory()).unwrap();
    let backends = (InMemoryBackend::new(), InMemoryBackend::new());
    let store = Store::open_backends_beside(backends, JOURNAL_BYTES, 1 << 20, dir.path()).unwrap();
    let (tables, batches) = mpsc::sync_channel(2);
    let (commands, events) = mpsc::sync_channel(2);
    let writer = thread::spawn({
        let store = store.clone();
        move || write(&store, &events, &tables)
    });
    let follower = thread::spawn({
        let store = store.clone();
        move || follow(&store, &batches)
    });
    let callers: Vec<_> = [[1, 2], [2, 3]]
        .into_iter()
        .map(|numbers| {
            let (store, commands) = (store.clone(), commands.clone());
            thread::spawn(move || {
                for number in numbers {
                    commands.send(keep(&store, number)).unwrap();
                    // An event that is refused releases its file.
                    drop(keep(&store, 9));
                }
            })
        })
        .collect();
    drop(commands);
    let reader = thread::spawn({
        let store = store.clone();
        move || {
            let (sha256, seen) = (content(1).1, store.view().unwrap());
            let first = seen.content(sha256).unwrap();
            let then = store.view().unwrap().content(sha256).unwrap();
            assert!(first.is_none() || first == then, "what was seen is gone");
        }
    });
    for thread in callers.into_iter().chain([writer, reader, follower]) {
        thread.join().unwrap();
    }
    let view = store.view().unwrap();
    for number in 1..=3 {
        let (content, sha256) = content(number);
        assert_eq!(view.content(sha256).unwrap(), Some(content), "content {number} was committed and is gone");
    }
}

/// A batch that has just become durable is applied only after the reader has continued.
fn view_without_waiting() {
    let (database, journal) = (InMemoryBackend::new(), InMemoryBackend::new());
    let store = Store::open_backends(database, journal, JOURNAL_BYTES, 1 << 20).unwrap();
    let (content, sha256) = content(1);
    let reader = thread::spawn({
        let store = store.clone();
        move || store.view_now().unwrap().map(|view| view.content(sha256).unwrap())
    });
    let mut batch = Batch::default();
    batch.put_content(sha256, content);
    let durable = batch.make_durable(&store, Now::aligned(Timestamp::from_micros(1))).unwrap();
    assert_eq!(reader.join().unwrap().flatten(), None, "it is not in the tables yet");
    store.apply([durable]).unwrap();
}

#[test]
fn a_view_that_must_not_wait_does_not() {
    run(view_without_waiting);
}

#[test]
fn no_thread_blocks_forever_and_no_content_is_lost() {
    run(hand_over);
}

fn run(threads: fn()) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    shuttle::Runner::new(RandomScheduler::new(ORDERS), config).run(threads);
}
