//! A data directory that was copied, lost, and made again from the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::fails;
use crate::support::client::Client;
use crate::support::process::{Ran, Server, Setup, run};
use crate::support::small_disk::SmallDisk;
use crate::upgrade::unpack;

const STORE_FAILED: i32 = 4;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A command on a data directory, without a server.
fn on(dir: &Path, arguments: &[&str]) -> Ran {
    run("127.0.0.1:1", &[], &[arguments, &["--data-dir", &text(dir)]].concat())
}

fn backup(dir: &Path, to: &Path) -> Ran {
    on(dir, &["backup", &text(to)])
}

fn restore(from: &Path, dir: &Path) -> Ran {
    on(dir, &["restore", "--from", &text(from)])
}

async fn lease(client: &Client) -> Value {
    let ask = json!({"worker_id": "w", "max": 1, "lease_seconds": 600, "wait_seconds": 10});
    client.post("queues/small/lease", &ask).await.json()["leases"][0]["task"].clone()
}

/// Does a task, with a content that is a file of its own.
async fn complete(client: &Client, content: &str) -> String {
    let options = json!({"tier": "small", "qa_profile": "none"});
    let task = client.submit(&json!({"description": "a long text", "project_id": "p", "options": options})).await;
    assert_eq!(lease(client).await["task_id"], *task);
    let data =
        json!({"task_id": task, "artifact_id": "long", "output": {"content": content, "artifacts": [{"id": "long"}]}});
    let event =
        json!({"specversion": "1.0", "id": task, "source": "/t", "type": "dats.task.output.created", "data": data});
    let headers = [("content-type", "application/cloudevents+json")];
    let answer = client.ask("POST", "events", &headers, event.to_string()).await.unwrap();
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
    task
}

async fn event_ids(client: &Client) -> BTreeSet<String> {
    let headers = [("accept", "application/json")];
    let page = client.ask("GET", "events?limit=1000", &headers, "").await.unwrap().json();
    page["events"].as_array().unwrap().iter().map(|event| event["event"]["id"].to_string()).collect()
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert!(server.wait(std::time::Duration::from_secs(30)).success());
}

#[tokio::test]
async fn a_lost_directory_comes_back_as_it_was_at_the_backup() {
    let lost = Setup::new();
    let mut server = lost.start();
    let client = Client::new(&server.address);
    let content = "a long text ".repeat(10_000);
    let done = complete(&client, &content).await;
    let under_way = client.submit(&json!({"description": "under way", "options": {"tier": "small"}})).await;
    assert_eq!(lease(&client).await["task_id"], *under_way);
    let copy = lost.beside("copy");
    assert_eq!(backup(&lost.data_dir(), &copy).code, STORE_FAILED, "of a service that runs there is no backup");
    assert!(!copy.exists());
    // What only the journal has is in a backup, too.
    server.kill();
    let made = backup(&lost.data_dir(), &copy);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(made.stdout.contains("checked"), "{}", made.stdout);
    // The first one goes on for a while: what it publishes now no other may publish again.
    let server = lost.start();
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "after the backup"})).await;
    let before = event_ids(&client).await;
    let figures = client.get("/health/detailed").await.json()["figures"].clone();
    let shown = client.get(&format!("tasks/{done}")).await.json();
    stop(server);

    let new = Setup::new();
    let restored = restore(&copy, &new.data_dir());
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert!(restored.stdout.contains("1 tasks continue, 1 of them with a new attempt"), "{}", restored.stdout);
    assert_eq!(restore(&copy, &new.data_dir()).code, 1, "a directory with something in it is left alone");
    let server = new.start();
    let client = Client::new(&server.address);
    assert_eq!(client.get("tasks?limit=1").await.json()["total"], 2);
    assert_eq!(client.get(&format!("tasks/{done}")).await.json(), shown);
    assert!(client.get("artifacts/long/content").await.body == content.as_bytes());
    let again = lease(&client).await;
    assert_eq!((&again["task_id"], &again["attempt"]), (&json!(under_way), &json!(2)), "{again}");
    client.submit(&json!({"description": "another after the backup"})).await;
    let after = event_ids(&client).await;
    assert!(!after.is_empty() && after.is_disjoint(&before), "{after:?}");
    // Positions of the first one are of another time.
    let head = figures["log_head"].as_u64().unwrap();
    let headers = [("accept", "application/json")];
    let events = client.ask("GET", &format!("events?after={head}&limit=1"), &headers, "").await.unwrap().json();
    assert!(events["events"][0]["seq"].as_u64() > Some(head), "{events}");
    stop(server);
    assert_eq!(on(&new.data_dir(), &["verify"]).code, 0);
    // The backup is as it was.
    let third = Setup::new();
    assert_eq!(restore(&copy, &third.data_dir()).code, 0);
}

/// Every file below a directory: its bytes, and when it was written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), (written, fs::read(path).unwrap()));
        }
    }
    found
}

/// Also one of an earlier format, and one with a journal that is to be applied.
#[test]
fn a_restore_changes_nothing_in_the_backup() {
    let home = Setup::new();
    let backup = home.beside("backup");
    fs::create_dir(&backup).unwrap();
    for (format, file) in [(5, "format-5"), (6, "format-6")] {
        let from = unpack(file, &backup);
        let before = files(&from);
        assert!(!before.contains_key(&from.join("dats.lock")), "the fixture has no lock");
        let new = home.beside(file);
        let restored = restore(&from, &new);
        assert_eq!(restored.code, 0, "{}", restored.stderr);
        let after = files(&from);
        assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
        assert!(before == after, "a file of the backup of format {format} has changed");
        assert_eq!(on(&new, &["verify"]).code, 0);
        let kept = fs::read_dir(&new).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(kept.filter(|name| name.contains("format-5")).count(), 0, "copies of copies");
        fs::remove_dir_all(&from).unwrap();
    }
}

/// A backup may lie where nothing can be written.
#[test]
fn a_backup_that_can_only_be_read_is_restored() {
    let Some(disk) = SmallDisk::mount(80, "journey::backup") else { return };
    let from = unpack("format-6", disk.data().parent().unwrap());
    disk.make_read_only();
    let home = Setup::new();
    let restored = restore(&from, &home.beside("new"));
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(on(&home.beside("new"), &["verify"]).code, 0);
}

/// The files of a store that a process has open change while they are copied.
#[test]
fn a_directory_that_is_in_use_is_no_backup() {
    let setup = Setup::new();
    let server = setup.start();
    let refused = restore(&setup.data_dir(), &setup.beside("new"));
    assert_eq!(refused.code, STORE_FAILED, "{}", refused.stderr);
    assert!(!setup.beside("new").exists());
    stop(server);
}

#[tokio::test]
async fn what_is_no_sound_store_is_refused() {
    let setup = Setup::new();
    let (dir, copy) = (setup.data_dir(), setup.beside("copy"));
    assert_eq!(backup(&dir, &copy).code, 1, "there is no store yet");
    let server = setup.start();
    let client = Client::new(&server.address);
    complete(&client, &"x".repeat(100_000)).await;
    stop(server);
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("mine"), "").unwrap();
    let refused = backup(&dir, &copy);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);
    fs::remove_file(copy.join("mine")).unwrap();
    let inside = backup(&dir, &dir.join("copy"));
    assert!(inside.code == 1 && inside.stderr.contains("inside"), "{}", inside.stderr);
    assert!(!dir.join("copy.unfinished").exists());
    assert_eq!(backup(&dir, &copy).code, 0, "an empty directory is as good as none");

    let new = setup.beside("new");
    fails("", 1, &["restore", "--from", &text(&setup.beside("nothing")), "--data-dir", &text(&new)]);
    let shards = fs::read_dir(copy.join("contents")).unwrap();
    let shard = shards.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let content = fs::read_dir(shard).unwrap().next().unwrap().unwrap().path();
    fs::write(content, "other").unwrap();
    let damaged = restore(&copy, &new);
    assert_eq!(damaged.code, STORE_FAILED, "{}", damaged.stderr);
    assert!(damaged.stderr.contains("damaged"), "{}", damaged.stderr);
    assert!(!new.exists() && !setup.beside("new.unfinished").exists());
    let store = fs::read(copy.join("dats.redb")).unwrap();
    fs::write(copy.join("dats.redb"), &store[..store.len() / 2]).unwrap();
    assert_eq!(restore(&copy, &new).code, STORE_FAILED);
    assert!(!new.exists());
}
