//! The deadline counts execution, not the wait for a worker.

use std::time::Duration;

use lapin::options::BasicAckOptions;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;

use super::world::{Names, Peer, health, soon};
use crate::support::client::Client;
use crate::support::rabbitmq;

#[tokio::test]
async fn a_task_that_waits_for_a_worker_does_not_run_out_of_time() {
    if !rabbitmq::is_installed("broker::waiting") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let body = json!({"description": "d", "options": {"tier": "small", "timeout_seconds": 1, "max_attempts": 2}});
    let task = client.submit(&body).await;
    let shown = async || client.get(&format!("tasks/{task}")).await.json();
    // Several counts, and more than its time: nobody is there.
    sleep(Duration::from_secs(4)).await;
    assert_eq!((&shown().await["phase"], &shown().await["attempts"]), (&json!("dispatched"), &json!(1)));
    // A worker that takes it and never says anything.
    let peer = Peer::connect(broker, &names).await.unwrap();
    let mut tasks = peer.consume(&names.work_queue("small")).await.unwrap();
    let delivery = timeout(Duration::from_secs(10), tasks.next()).await.unwrap().unwrap().unwrap();
    delivery.ack(BasicAckOptions::default()).await.unwrap();
    soon("it has run out of time", async || shown().await["attempts"] == 2).await;
    let history = client.get(&format!("tasks/{task}/events")).await.json();
    let names: Vec<&str> =
        history["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap_or("?")).collect();
    assert!(names.contains(&"task.taken"), "{history}");
    // The second one comes, and fails it for good.
    let again = timeout(Duration::from_secs(10), tasks.next()).await.unwrap().unwrap().unwrap();
    again.ack(BasicAckOptions::default()).await.unwrap();
    soon("it has failed", async || shown().await["status"] == "failed").await;
    assert_eq!(shown().await["error"]["code"], "deadline_exceeded");
}

#[tokio::test]
async fn a_worker_can_say_that_it_begins() {
    if !rabbitmq::is_installed("broker::waiting") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let body = json!({"description": "d", "options": {"tier": "small", "timeout_seconds": 1, "max_attempts": 1}});
    let task = client.submit(&body).await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    // Nobody consumes: only the word of the worker can start its time.
    let began = Instant::now();
    let started = json!({"task_id": task, "attempt": 1, "worker_id": "w"});
    peer.event("task.started", "/worker", "started-1", &started).await.unwrap();
    soon("it has failed", async || client.get(&format!("tasks/{task}")).await.json()["status"] == "failed").await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it had less than its time");
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
}
