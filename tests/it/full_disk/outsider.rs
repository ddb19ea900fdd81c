//! Somebody else fills the disk, suddenly and to the last byte.

use std::time::Duration;

use serde_json::{Value, json};

use super::{World, assert_refused, soon};
use crate::support::client::Client;
use crate::support::process::run_in;

/// What clients were told while the disk became full.
#[derive(Default)]
struct Told {
    tasks: Vec<String>,
    cancelled: Vec<String>,
}

/// Submits and cancels, with large and small descriptions, until told to stop.
async fn work(client: Client, side: usize, stop: tokio_util::sync::CancellationToken) -> Told {
    let mut told = Told::default();
    for round in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        let description = "d".repeat(if round.is_multiple_of(2) { 60_000 } else { 100 });
        let answer = client.post("tasks", &json!({"description": description, "options": {"tier": "tiny"}})).await;
        if answer.status == 201 {
            told.tasks.push(answer.json()["task_id"].as_str().unwrap().to_owned());
        } else {
            assert_refused(&answer, "a submission");
        }
        if let Some(task) = told.tasks.get(told.tasks.len().saturating_sub(3 + side)).cloned() {
            let answer = client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
            if answer.status == 200 {
                told.cancelled.push(task);
            } else {
                assert_refused(&answer, "a cancel");
            }
        }
    }
    told
}

async fn check(client: &Client, told: &[Told]) {
    for task in told.iter().flat_map(|told| &told.tasks) {
        assert_eq!(client.get(&format!("tasks/{task}")).await.status, 200, "{task} is lost");
    }
    for task in told.iter().flat_map(|told| &told.cancelled) {
        let status: Value = client.get(&format!("tasks/{task}")).await.json()["status"].clone();
        assert_eq!(status, "cancelled", "{task}");
    }
}

#[tokio::test]
async fn a_disk_that_is_suddenly_full_ends_nothing_and_loses_nothing() {
    let Some(mut world) = World::start(320, "full_disk::outsider") else { return };
    world.submit(10).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let working: Vec<_> = (0..6).map(|side| tokio::spawn(work(world.client.clone(), side, stop.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Whatever becomes free, the ballast too, is taken at once.
    let filler = world.disk.keep_full();
    soon("it is noticed", async || ["full", "waiting_for_room"].contains(&world.room().await.as_str())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let room = world.room().await;
    println!("the room is {room}");
    stop.cancel();
    let mut told = Vec::new();
    for side in working {
        told.push(side.await.unwrap());
    }
    world.check_runs();
    let client = world.client.clone();
    assert_refused(&client.post("tasks", &json!({"description": "x"})).await, "a submission");
    let ready = client.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["reason"].as_str()), (503, Some(room.as_str())));
    assert_eq!(client.get("/health").await.status, 200, "a restart would not help");
    if room == "full" {
        // Everything acknowledged is in the tables: all reads go on.
        check(&client, &told).await;
        assert_eq!(client.get("tasks?status=pending&limit=5").await.status, 200);
    }
    // A worker that waits is answered.
    let lease = client.post("queues/small/lease", &json!({"worker_id": "w", "wait_seconds": 1})).await;
    assert_refused(&lease, "a lease");
    drop(filler);
    world.disk.free();
    soon("it goes on by itself", async || client.post("tasks", &json!({"description": "x"})).await.status == 201).await;
    check(&client, &told).await;
    world.check_runs();
    world.server.kill();
    world.restart();
    check(&world.client, &told).await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_goes_through_and_so_does_a_pruning() {
    let Some(mut world) = World::start(256, "full_disk::outsider::start") else { return };
    world.submit(10).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let working = tokio::spawn(work(world.client.clone(), 0, stop.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    let told = [working.await.unwrap()];
    let ballast = world.disk.data().join("dats.ballast");
    soon("the ballast is there", async || ballast.exists()).await;
    // Its death is what leaves the journal to the next start.
    world.server.kill();
    world.disk.fill();
    assert_eq!(world.disk.free_bytes(), 0);
    world.restart();
    check(&world.client, &told).await;
    assert_refused(&world.client.post("tasks", &json!({"description": "x"})).await, "a submission");
    // Once more, with what the ballast has left.
    world.server.kill();
    world.restart();
    check(&world.client, &told).await;
    world.server.signal("TERM");
    assert_eq!(world.server.wait(Duration::from_secs(20)).code(), Some(0), "{}", world.setup.log());
    world.disk.fill();
    let data = world.disk.data();
    let pruned = run_in(&[], &["prune", "--older-than", "0s", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    assert!(!told[0].cancelled.is_empty());
    world.disk.free();
    world.restart();
    soon("the ballast is made again", async || ballast.exists()).await;
    let client = world.client.clone();
    soon("all goes on", async || client.post("tasks", &json!({"description": "x"})).await.status == 201).await;
    for task in told[0].tasks.iter().filter(|task| !told[0].cancelled.contains(task)) {
        assert_eq!(client.get(&format!("tasks/{task}")).await.status, 200, "{task} is lost");
    }
}

/// How long a service waits for room in a test: `DATS_ROUNDS` makes it longer than
/// the watchdog is patient.
fn wait_for_room() -> Duration {
    let rounds = std::env::var("DATS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    Duration::from_secs(3 * rounds)
}

/// Nothing is kept free, and there is no ballast: what was acknowledged waits for
/// room, no more is taken, and no caller hangs.
#[tokio::test]
async fn tables_without_room_wait_and_no_caller_does() {
    let Some(mut world) = World::start_with(0, 256, "full_disk::outsider::tables") else { return };
    world.submit(10).await;
    world.disk.fill();
    let stop = tokio_util::sync::CancellationToken::new();
    let working: Vec<_> = (0..6).map(|side| tokio::spawn(work(world.client.clone(), side, stop.clone()))).collect();
    soon("they wait", async || world.room().await == "waiting_for_room").await;
    tokio::time::sleep(wait_for_room()).await;
    stop.cancel();
    let mut told = Vec::new();
    for side in working {
        told.push(side.await.unwrap());
    }
    world.check_runs();
    assert_eq!(world.room().await, "waiting_for_room");
    let client = world.client.clone();
    assert_refused(&client.post("tasks", &json!({"description": "x"})).await, "a submission");
    for task in told.iter().flat_map(|told| &told.tasks) {
        let answer = client.get(&format!("tasks/{task}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let list = client.get("tasks?limit=5").await;
    if list.status != 200 {
        assert_refused(&list, "a list");
    }
    // A death now leaves all of it to the next start, which waits, too.
    world.server.kill();
    let setup = world.setup.clone();
    let starting = tokio::task::spawn_blocking(move || setup.start());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!starting.is_finished());
    world.disk.free();
    world.server = starting.await.unwrap();
    world.client = Client::new(&world.server.address);
    check(&world.client, &told).await;
    // Once more, and this time it goes on without a death.
    world.disk.fill();
    let stop = tokio_util::sync::CancellationToken::new();
    let working = tokio::spawn(work(world.client.clone(), 0, stop.clone()));
    soon("they wait again", async || world.room().await == "waiting_for_room").await;
    world.disk.free();
    let client = world.client.clone();
    soon("it goes on", async || client.post("tasks", &json!({"description": "x"})).await.status == 201).await;
    stop.cancel();
    let more = [working.await.unwrap()];
    check(&client, &told).await;
    check(&client, &more).await;
    // A stop does not wait for room.
    world.disk.fill();
    world.server.signal("TERM");
    assert_eq!(world.server.wait(Duration::from_secs(20)).code(), Some(0), "{}", world.setup.log());
    world.disk.free();
    world.restart();
    check(&world.client, &told).await;
    check(&world.client, &more).await;
}

/// The start does not fail where there is no room at all: it waits for some, and
/// a stop ends the wait.
#[tokio::test]
async fn a_start_without_any_room_waits_for_it() {
    let Some(mut world) = World::start(256, "full_disk::outsider::waiting") else { return };
    world.submit(500).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let working = tokio::spawn(work(world.client.clone(), 0, stop.clone()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.cancel();
    let told = [working.await.unwrap()];
    world.server.kill();
    let _ = std::fs::remove_file(world.disk.data().join("dats.ballast"));
    world.disk.fill();
    let setup = world.setup.clone();
    let starting = tokio::task::spawn_blocking(move || setup.start());
    soon("it waits", async || world.setup.log().contains("waiting for room")).await;
    assert!(!starting.is_finished());
    world.disk.free();
    world.server = starting.await.unwrap();
    world.client = Client::new(&world.server.address);
    check(&world.client, &told).await;
    world.check_runs();
}
