//! A data directory after `kill -9` of which a part is gone, cut, zeroed or of
//! another store: the start is refused by name and nothing is changed, or
//! everything that was acknowledged is there.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use dats::store::Store;
use dats::task::TaskId;
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::fixtures::CACHE_BYTES;
use crate::support::process::Setup;

const TABLES: &str = "dats.redb";
const JOURNAL: &str = "dats.journal";
/// Where the records of the journal's first half begin.
const FIRST_RECORD: u64 = 8192;

/// A service that was killed, its newest changes in the journal alone, and
/// the tasks that it has acknowledged.
async fn killed(tasks: usize) -> (Setup, Vec<TaskId>) {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let mut acknowledged = Vec::new();
    for number in 0..tasks {
        let options = json!({"tier": "small", "qa_profile": "none"});
        let body = json!({"description": format!("task {number}"), "options": options});
        let answer = client.try_post("tasks", &body, &[]).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        acknowledged.push(answer.json()["task_id"].as_str().unwrap().parse().unwrap());
    }
    let task: TaskId = acknowledged[0];
    let event = json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/w", "id": "output-1",
        "data": {"task_id": task.to_string(), "artifact_id": "a", "output": {"content": "x".repeat(100_000)}},
    });
    assert_eq!(client.try_post("events", &event, &[]).await.unwrap().status, 200);
    server.kill();
    (setup, acknowledged)
}

fn copy(from: &Path, home: &Path, name: &str) -> PathBuf {
    let to = home.join(name);
    assert!(Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap().success());
    to
}

/// The SHA-256 of every file, by its path.
fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, [u8; 32]> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(fingerprint(&path));
        } else if path.file_name().is_some_and(|name| name != "dats.lock") {
            files.insert(path.clone(), Sha256::digest(fs::read(&path).unwrap()).into());
        }
    }
    files
}

fn write_zeros(file: &Path, from: u64, length: usize) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0; length]).unwrap();
}

fn set_len(file: &Path, length: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

/// It must be refused, by the name of the file, and not be touched.
fn assert_refused(case: &str, dir: &Path, name: &str) {
    let before = fingerprint(dir);
    let refused = Store::open(dir, CACHE_BYTES).map(drop).expect_err(case).to_string();
    assert!(refused.contains(name), "{case}: {refused}");
    assert!(fingerprint(dir) == before, "{case}: files were changed");
}

/// A case: what is done to the directory, beside which another store is, and the file that a
/// refusal names.
type Case = (&'static str, &'static str, fn(&Path, &Path));

const CASES: [Case; 12] = [
    ("journal zeroed", JOURNAL, |dir, _| {
        let length = fs::metadata(dir.join(JOURNAL)).unwrap().len();
        write_zeros(&dir.join(JOURNAL), 0, usize::try_from(length).unwrap());
    }),
    ("journal of another store", JOURNAL, |dir, other| {
        fs::copy(other.join(JOURNAL), dir.join(JOURNAL)).unwrap();
    }),
    ("tables of another store", JOURNAL, |dir, other| {
        fs::copy(other.join(TABLES), dir.join(TABLES)).unwrap();
    }),
    ("first block zeroed", JOURNAL, |dir, _| write_zeros(&dir.join(JOURNAL), 0, 4096)),
    ("second half's first block zeroed", JOURNAL, |dir, _| {
        let length = fs::metadata(dir.join(JOURNAL)).unwrap().len();
        write_zeros(&dir.join(JOURNAL), length / 2, 4096);
    }),
    ("first record zeroed", "journal", |dir, _| write_zeros(&dir.join(JOURNAL), FIRST_RECORD, 4096)),
    ("third record zeroed", "journal", |dir, _| write_zeros(&dir.join(JOURNAL), FIRST_RECORD + 8192, 4096)),
    ("journal missing", JOURNAL, |dir, _| fs::remove_file(dir.join(JOURNAL)).unwrap()),
    ("journal cut in half", JOURNAL, |dir, _| {
        let length = fs::metadata(dir.join(JOURNAL)).unwrap().len();
        set_len(&dir.join(JOURNAL), length / 2);
    }),
    ("journal empty", JOURNAL, |dir, _| set_len(&dir.join(JOURNAL), 0)),
    ("tables and journal swapped", TABLES, |dir, _| {
        fs::rename(dir.join(TABLES), dir.join("aside")).unwrap();
        fs::rename(dir.join(JOURNAL), dir.join(TABLES)).unwrap();
        fs::rename(dir.join("aside"), dir.join(JOURNAL)).unwrap();
    }),
    ("contents missing", "contents", |dir, _| fs::remove_dir_all(dir.join("contents")).unwrap()),
];

#[tokio::test]
async fn what_does_not_belong_together_is_refused_untouched() {
    let (setup, tasks) = killed(30).await;
    let (other, _) = killed(3).await;
    let home = TempDir::new().unwrap();
    for (case, name, change) in CASES {
        let dir = copy(&setup.data_dir(), home.path(), &case.replace(' ', "-"));
        change(&dir, &other.data_dir());
        assert_refused(case, &dir, name);
    }
    let untouched = copy(&setup.data_dir(), home.path(), "untouched");
    let store = Store::open(&untouched, CACHE_BYTES).unwrap();
    let view = store.view().unwrap();
    assert!(tasks.iter().all(|task| view.has_task(*task).unwrap()));
}

#[tokio::test]
async fn a_journal_without_its_tables_is_refused_untouched() {
    let (setup, _) = killed(30).await;
    let dir = setup.data_dir();
    fs::remove_file(dir.join(TABLES)).unwrap();
    assert_refused("tables and contents", &dir, TABLES);
    fs::remove_dir_all(dir.join("contents")).unwrap();
    assert_refused("tables alone", &dir, TABLES);
}

#[test]
fn files_of_another_time_are_refused_untouched() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    drop(Store::open(&dir, CACHE_BYTES).unwrap());
    let earlier = copy(&dir, home.path(), "earlier");
    let store = Store::open(&dir, CACHE_BYTES).unwrap();
    for _ in 0..3 {
        store.checkpoint().unwrap();
    }
    drop(store);
    for name in [TABLES, JOURNAL] {
        let mixed = copy(&dir, home.path(), &format!("mixed-{name}"));
        fs::copy(earlier.join(name), mixed.join(name)).unwrap();
        assert_refused(name, &mixed, JOURNAL);
    }
}

#[test]
fn a_directory_that_was_half_made_is_completed() {
    let home = TempDir::new().unwrap();
    let whole = home.path().join("whole");
    drop(Store::open(&whole, CACHE_BYTES).unwrap());
    for (number, left) in [&[JOURNAL][..], &["dats.redb.new"], &["dats.redb.new", JOURNAL]].into_iter().enumerate() {
        let dir = home.path().join(format!("half-{number}"));
        fs::create_dir(&dir).unwrap();
        for name in left {
            let of = if *name == JOURNAL { JOURNAL } else { TABLES };
            fs::copy(whole.join(of), dir.join(name)).unwrap();
        }
        drop(Store::open(&dir, CACHE_BYTES).unwrap_or_else(|error| panic!("{left:?}: {error}")));
        Store::verify(&dir, CACHE_BYTES).unwrap();
    }
}
