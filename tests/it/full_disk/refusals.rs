//! What makes the store grow is refused before the disk is full, whatever it
//! is; everything else goes on.

use std::time::Duration;

use serde_json::json;

use super::{MIB, RESERVE_MIB, World, assert_refused, soon};
use crate::support::client::Client;

/// Bytes of a large content: its event is within the limit.
const LARGE: usize = 1000 * 1000;

/// Refusals in a row after which no room is expected any more: a checkpoint can
/// show that there is some.
const REFUSALS: usize = 3;
const PAUSE: Duration = Duration::from_millis(700);

/// Submits ever smaller tasks until none is taken.
async fn use_up(client: &Client) {
    for bytes in [50_000, 2_000, 1] {
        let mut refused = 0;
        while refused < REFUSALS {
            let answer = client.post("tasks", &json!({"description": "d".repeat(bytes)})).await;
            if answer.status == 201 {
                refused = 0;
                continue;
            }
            assert_refused(&answer, "a submission");
            refused += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Goes on with what is no growth, and is refused what is.
async fn check_nearly_full(world: &mut World) {
    use_up(&world.client).await;
    let free = world.disk.free_bytes();
    assert!(free >= RESERVE_MIB * MIB / 2, "only {free} bytes are free");
    // Room for small things all the same.
    let client = &world.client;
    let tasks = client.get("tasks?status=pending&limit=3").await;
    assert_eq!(tasks.status, 200, "{tasks:?}");
    assert_refused(&client.post("tasks", &json!({"description": "x"})).await, "a submission");
    assert_refused(&client.post("tasks/batch", &json!({"tasks": [{"description": "x"}]})).await, "a batch");
    assert_refused(&client.post("projects", &json!({"project_id": "new"})).await, "a project");
    assert_refused(&client.post("projects/default/checkpoints", &json!({})).await, "a checkpoint");
    let leases = world.lease(2).await;
    let [(first, _), (second, task)] = &leases[..] else { panic!("{leases:?}") };
    let renewed = client.post(&format!("leases/{first}/renew"), &json!({"lease_seconds": 60})).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let released = client.post(&format!("leases/{first}/release"), &json!({})).await;
    assert_eq!(released.status, 204, "{released:?}");
    let small = world.output(task, 100).await;
    assert_eq!((small.status, small.json()["outcome"].as_str()), (200, Some("applied")), "{second}: {small:?}");
    world.check_content(task, 100).await;
    let pending = tasks.json()["tasks"][0]["task_id"].as_str().unwrap().to_owned();
    let cancelled = client.post(&format!("tasks/{pending}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(world.room().await, "nearly_full");
    let health = client.get("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("degraded")));
    assert_eq!(client.get("/readyz").await.status, 200);
    let metrics = client.get("/metrics").await.body;
    let metrics = std::str::from_utf8(&metrics).unwrap();
    assert!(metrics.contains("dats_store_room{state=\"nearly_full\"} 1"), "{metrics}");
    world.check_runs();
}

#[tokio::test]
async fn events_with_contents_are_refused_in_time() {
    let Some(mut world) = World::start(256, "full_disk::refusals::events") else { return };
    world.disk.take(60);
    world.submit(200).await;
    let leases = world.lease(150).await;
    let mut taken = Vec::new();
    let mut refused = None;
    for (_, task) in &leases {
        let answer = world.output(task, LARGE).await;
        if answer.status != 200 {
            assert_refused(&answer, "an event");
            refused = Some(task.clone());
            break;
        }
        taken.push(task.clone());
    }
    let refused = refused.expect("nothing was refused");
    assert!(taken.len() >= 10, "only {} events had room", taken.len());
    check_nearly_full(&mut world).await;
    for task in &taken {
        world.check_content(task, LARGE).await;
    }
    world.disk.free();
    let client = world.client.clone();
    soon("an event is taken again", async || world.output(&refused, LARGE).await.status == 200).await;
    soon("a submission is taken again", async || {
        client.post("tasks", &json!({"description": "x"})).await.status == 201
    })
    .await;
    soon("the room is named", async || world.room().await == "enough").await;
    world.server.kill();
    world.restart();
    for task in taken.iter().chain([&refused]) {
        world.check_content(task, LARGE).await;
    }
    world.check_runs();
}

/// Submits from several sides at once until all are refused; what was taken.
async fn submit_until_refused(client: &Client) -> Vec<String> {
    let sides = (0..8).map(|side| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            let description = format!("{side}").repeat(60_000);
            for _ in 0..400 {
                let answer = client.post("tasks", &json!({"description": description})).await;
                if answer.status != 201 {
                    assert_refused(&answer, "a submission");
                    return taken;
                }
                taken.push(answer.json()["task_id"].as_str().unwrap().to_owned());
            }
            panic!("nothing was refused")
        })
    });
    let mut taken = Vec::new();
    for side in sides.collect::<Vec<_>>() {
        taken.extend(side.await.unwrap());
    }
    taken
}

#[tokio::test]
async fn submissions_are_refused_in_time() {
    let Some(mut world) = World::start(160, "full_disk::refusals::submissions") else { return };
    world.submit(20).await;
    let mut taken = submit_until_refused(&world.client).await;
    check_nearly_full(&mut world).await;
    // A death in between changes nothing.
    world.server.kill();
    world.restart();
    taken.extend(submit_until_refused(&world.client).await);
    check_nearly_full(&mut world).await;
    for task in &taken {
        assert_eq!(world.client.get(&format!("tasks/{task}")).await.status, 200, "{task} is lost");
    }
}

#[tokio::test]
async fn imports_are_refused_in_time() {
    let Some(mut world) = World::start(160, "full_disk::refusals::imports") else { return };
    world.submit(20).await;
    let headers = [("content-type", "application/x-ndjson")];
    let mut created = 0;
    let mut is_refused = false;
    for round in 0..400 {
        let lines = (0..10).map(|number| {
            let record = json!({
                "id": format!("r-{round}-{number}"), "task_id": "t", "project_id": "old", "inputs_consumed": [],
                "outputs": [], "verification": {"status": "passed"}, "created_at": "2026-01-09T18:00:00",
                "started_at": "2026-01-09T18:00:00", "notes": "n".repeat(50_000),
            });
            record.to_string() + "\n"
        });
        let answer = world.client.ask("POST", "provenance/import", &headers, lines.collect::<String>()).await.unwrap();
        if answer.status == 503 {
            assert_refused(&answer, "an import");
            is_refused = true;
            break;
        }
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        created += text.matches("\"outcome\":\"created\"").count();
        if text.contains("storage_full") {
            is_refused = true;
            break;
        }
    }
    assert!(is_refused && created >= 100, "{created} were taken");
    // The connection of a refused import ends, since its body was not read.
    world.client = Client::new(&world.server.address);
    check_nearly_full(&mut world).await;
    world.server.kill();
    world.restart();
    let exported = world.client.get("provenance/export?project_id=old").await;
    let text = std::str::from_utf8(&exported.body).unwrap();
    let records = text.lines().filter(|line| line.contains("\"r-")).count();
    let begin: String = text.chars().take(300).collect();
    assert!(records >= created, "{records} of {created} imported records are there: {} {begin}", exported.status);
}

/// A reserve that no disk has: not even the first submission is taken.
#[tokio::test]
async fn a_reserve_that_is_never_free_refuses_from_the_first_request_on() {
    use crate::support::process::Setup;
    for _ in 0..5 {
        let server = Setup::new().with("DATS__ENGINE__MIN_FREE_DISK_MIB", "900000000").start();
        let answer = Client::new(&server.address).post("tasks", &json!({"description": "x"})).await;
        assert_refused(&answer, "the first submission");
    }
}
