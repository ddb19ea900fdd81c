//! Data directories of earlier formats, kept under `tests/fixtures`: they are
//! upgraded at the first start, whatever interrupts it, and tell the same as
//! the program that wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dats::store::{Error, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::fixtures::CACHE_BYTES;
use crate::support::invariants;
use crate::support::process::Setup;
use crate::support::strace;

const FILES: [&str; 2] = ["dats.redb", "dats.journal"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Unpacks a data directory into `home`, as `home/data`.
pub(crate) fn unpack(name: &str, home: &Path) -> PathBuf {
    let packed = fixture(&format!("{name}.tar.gz"));
    let status = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(home).status().unwrap();
    assert!(status.success(), "tar ended with {status}");
    home.join("data")
}

/// What the old program answered, by path.
fn answers(name: &str) -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(fixture(&format!("{name}.json"))).unwrap()).unwrap()
}

/// Checks a directory that an engine has opened since the upgrade.
fn check(data: &Path) -> invariants::Snapshot {
    let store = Store::open(data, CACHE_BYTES).unwrap();
    invariants::check(&store, &|_| u32::MAX).unwrap()
}

/// Upgrades a directory, unless that is done, and checks it.
pub(crate) fn upgrade(data: &Path) -> invariants::Snapshot {
    let store = Store::open(data, CACHE_BYTES).unwrap();
    invariants::check_upgraded(&store, &|_| u32::MAX).unwrap()
}

/// What an answer is compared by. Time goes on for what has not ended, so of an
/// open task only what was asked for is the same.
fn comparable(path: &str, answer: &Value) -> Value {
    let mut answer = answer.clone();
    let Some(object) = answer.as_object_mut() else { return answer };
    let is_open = object.get("status").is_some_and(|status| status == "pending" || status == "running");
    if path.starts_with("/tasks/") && is_open {
        let asked =
            ["task_id", "project_id", "description", "created_at", "options", "parent_id", "children", "priority"];
        object.retain(|key, _| asked.contains(&key.as_str()));
    }
    answer
}

/// Lists that grow, by their key: what was in them is what they begin with.
fn growing(path: &str) -> Option<&'static str> {
    let task_events = path.starts_with("/tasks/") && path.ends_with("/events");
    task_events.then_some("events").or((path == "/dead-letters").then_some("dead_letters"))
}

/// What they have in common, field by field: an answer of today may have more.
fn assert_has(path: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let found = new.get(key).unwrap_or_else(|| panic!("{path} has lost {key}"));
                assert_has(&format!("{path} {key}"), value, found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{path}: {old:?}, now {new:?}");
            old.iter().zip(new).for_each(|(old, new)| assert_has(path, old, new));
        }
        (old, new) => assert_eq!(old, new, "{path}"),
    }
}

async fn compare(client: &Client, path: &str, expected: &Value) {
    let answer = client.get(path.trim_start_matches('/')).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    if path.ends_with("/content") {
        assert_eq!(answer.body.len(), expected["bytes"], "{path}");
        return;
    }
    // How many tasks are at work depends on what timers have done since.
    if path.ends_with("/status") {
        let total = |answer: &Value| answer["total"].clone();
        assert_eq!(total(&answer.json()), total(expected), "{path}");
        return;
    }
    let (mut expected, mut found) = (comparable(path, expected), comparable(path, &answer.json()));
    if let Some(list) = growing(path) {
        let known = expected[list].as_array().unwrap().clone();
        let mut entries = found[list].as_array().unwrap().clone();
        if list == "events" {
            entries.truncate(known.len());
        } else {
            entries.retain(|entry| known.iter().any(|known| known["id"] == entry["id"]));
        }
        (expected, found) = (known.into(), entries.into());
    }
    assert_has(path, &expected, &found);
}

#[tokio::test]
async fn format_5_tells_the_same_after_the_upgrade_and_after_a_kill() {
    // The fixture may be of another machine, whose clock is ahead of ours.
    let setup = Setup::new().flag("--accept-clock");
    unpack("format-5", setup.beside("").as_path());
    for _ in 0..2 {
        let mut server = setup.clone().with("DATS__ENGINE__RETENTION_DAYS", "0").start();
        let client = Client::new(&server.address);
        for (path, expected) in answers("format-5") {
            compare(&client, &path, &expected).await;
        }
        server.kill();
    }
    assert!(setup.log().contains("the data directory was upgraded"), "{}", setup.log());
    check(&setup.data_dir());
}

/// Format 6 has gained observed time at the ends of its rows: those that were
/// written before are read as they are, and their numbers stay.
#[tokio::test]
async fn the_first_form_of_format_6_tells_the_same_after_a_start_and_after_a_kill() {
    let setup = Setup::new().flag("--accept-clock");
    let data = unpack("format-6", setup.beside("").as_path());
    check(&data);
    for _ in 0..2 {
        let mut server = setup.clone().with("DATS__ENGINE__RETENTION_DAYS", "0").start();
        let client = Client::new(&server.address);
        for (path, expected) in answers("format-6") {
            compare(&client, &path, &expected).await;
        }
        server.kill();
    }
    check(&setup.data_dir());
}

#[test]
fn what_the_upgrade_rewrites_is_copied_before() {
    let home = TempDir::new().unwrap();
    let data = unpack("format-5", home.path());
    let before = FILES.map(|file| fs::read(data.join(file)).unwrap());
    assert!(matches!(Store::verify(&data, CACHE_BYTES), Err(Error::OlderFormat { found: 5, .. })));
    assert_eq!(before, FILES.map(|file| fs::read(data.join(file)).unwrap()), "a check has written");
    let first = upgrade(&data);
    assert!(before == FILES.map(|file| fs::read(data.join(format!("{file}.format-5"))).unwrap()));
    Store::verify(&data, CACHE_BYTES).unwrap();
    // The copies are a data directory of their own, and give the same again.
    let again = home.path().join("again");
    fs::create_dir(&again).unwrap();
    for file in FILES {
        fs::copy(data.join(format!("{file}.format-5")), again.join(file)).unwrap();
    }
    let copied = Command::new("cp").arg("-r").arg(data.join("contents")).arg(&again).status().unwrap();
    assert!(copied.success());
    upgrade(&again).follows(&first).unwrap();
}

#[test]
fn an_upgrade_that_dies_at_any_sync_is_made_by_the_next_start() {
    if !strace::works() {
        return;
    }
    let expected = {
        let home = TempDir::new().unwrap();
        upgrade(&unpack("format-5", home.path()))
    };
    let mut died = 0;
    for when in 1..40 {
        let setup = Setup::new().flag("--accept-clock");
        let data = unpack("format-5", setup.beside("").as_path());
        let faulty = strace::faulty(&setup, &format!("fsync,fdatasync:signal=KILL:when={when}"));
        if faulty.try_start().is_ok() {
            break;
        }
        died += 1;
        let found = upgrade(&data);
        assert_eq!(found.tasks.len(), expected.tasks.len(), "killed at sync {when}");
        found.follows(&expected).unwrap();
    }
    assert!(died >= 4, "it was killed {died} times only: the copies and the commit alone sync as often");
}

const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");

#[test]
fn formats_before_5_are_refused_by_name_and_left_alone() {
    let home = TempDir::new().unwrap();
    let data = unpack("format-5", home.path());
    let database = redb::Database::open(data.join("dats.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", &4_u32.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = FILES.map(|file| fs::read(data.join(file)).unwrap());
    let refused = Store::open(&data, CACHE_BYTES).unwrap_err().to_string();
    assert!(refused.contains("format 4") && refused.contains("dats.redb"), "{refused}");
    assert!(before == FILES.map(|file| fs::read(data.join(file)).unwrap()));
}

/// A version before this one could leave such a directory on a full disk.
#[test]
fn a_new_journal_beside_old_tables_is_refused_and_left_alone() {
    let home = TempDir::new().unwrap();
    let data = unpack("format-5", home.path());
    let expected = upgrade(&data);
    let old = home.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::copy(data.join("dats.redb.format-5"), old.join("dats.redb")).unwrap();
    fs::copy(data.join("dats.journal"), old.join("dats.journal")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(data.join("contents")).arg(&old).status().unwrap();
    assert!(copied.success());
    let before = FILES.map(|file| fs::read(old.join(file)).unwrap());
    let refused = Store::open(&old, CACHE_BYTES).unwrap_err().to_string();
    assert!(refused.contains("dats.journal") && refused.contains("dats.journal.format-5"), "{refused}");
    assert!(before == FILES.map(|file| fs::read(old.join(file)).unwrap()));
    // What the error says is the way out.
    fs::copy(data.join("dats.journal.format-5"), old.join("dats.journal")).unwrap();
    upgrade(&old).follows(&expected).unwrap();
}
