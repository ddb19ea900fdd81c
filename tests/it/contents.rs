//! Large contents of many callers at once, beside the writer and the thread of
//! the tables: all of it ends, and no content is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use dats::store::{Batch, ContentFile, Durable, Store};
use dats::task::{Now, Timestamp};
use sha2::{Digest, Sha256};

use crate::support::fixtures::CACHE_BYTES;

const CALLERS: u32 = 16;
const EACH: u32 = 12;
/// For all of it, on a loaded machine: a deadlock takes longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// 100 KB that no other number has.
fn content(number: u32) -> (Vec<u8>, [u8; 32]) {
    let content = format!("{number:010}").repeat(10_000).into_bytes();
    let sha256 = Sha256::digest(&content).into();
    (content, sha256)
}

fn keep(store: &Store, number: u32) -> Arc<ContentFile> {
    let (content, sha256) = content(number);
    Arc::new(store.keep_content(sha256, &content).unwrap().expect("a store with a directory"))
}

fn write(store: &Store, events: &Receiver<Arc<ContentFile>>, tables: &SyncSender<Durable>) {
    for file in events {
        let mut batch = Batch::default();
        batch.put_content_file(file);
        tables.send(batch.make_durable(store, Now::aligned(Timestamp::from_micros(1))).unwrap()).unwrap();
    }
}

fn follow(store: &Store, batches: &Receiver<Durable>) {
    while let Ok(first) = batches.recv() {
        store.apply(std::iter::once(first).chain(batches.try_iter())).unwrap();
    }
}

/// Every other content is of an event that is refused, and released unnamed.
fn hand_in(store: &Store, caller: u32, commands: &SyncSender<Arc<ContentFile>>) {
    for number in (0..EACH).map(|each| caller * EACH + each) {
        let file = keep(store, number);
        if number.is_multiple_of(2) {
            commands.send(file).unwrap();
            store.view().unwrap();
        }
    }
}

#[test]
fn sixteen_callers_with_large_contents_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), CACHE_BYTES).unwrap();
    let (commands, events) = sync_channel(4);
    let (tables, batches) = sync_channel(4);
    let (told, ends) = sync_channel(usize::try_from(CALLERS).unwrap() + 2);
    let spawn = |work: Box<dyn FnOnce(&Store) + Send>| {
        let (store, told) = (store.clone(), told.clone());
        thread::spawn(move || {
            work(&store);
            told.send(()).unwrap();
        });
    };
    spawn(Box::new(move |store| write(store, &events, &tables)));
    spawn(Box::new(move |store| follow(store, &batches)));
    for caller in 0..CALLERS {
        let commands = commands.clone();
        spawn(Box::new(move |store| hand_in(store, caller, &commands)));
    }
    drop(commands);
    for _ in 0..CALLERS + 2 {
        ends.recv_timeout(PATIENCE).expect("a thread waits for ever");
    }
    let view = store.view().unwrap();
    let kept: BTreeMap<u32, bool> = (0..CALLERS * EACH)
        .map(|number| (number, view.content(content(number).1).unwrap() == Some(content(number).0)))
        .collect();
    assert!(kept.iter().all(|(number, kept)| *kept == number.is_multiple_of(2)), "{kept:?}");
    // What was refused leaves no file, once somebody has looked.
    drop(view);
    store.sweep_contents().unwrap();
    drop(store);
    let store = Store::open(dir.path(), CACHE_BYTES).unwrap();
    assert_eq!(store.sweep_contents().unwrap(), 0);
    let files = walk(&dir.path().join("contents"));
    assert_eq!(files, usize::try_from(CALLERS * EACH / 2).unwrap());
}

fn walk(dir: &std::path::Path) -> usize {
    let directories = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    directories.map(|directory| std::fs::read_dir(directory).unwrap().count()).sum()
}
