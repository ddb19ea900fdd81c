//! Clients that close their own direction behind a request: they get the
//! answer, and hold nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::wire::{Told, Wire};
use crate::support::client::Client;
use crate::support::process::{Server, Setup};

fn served() -> (Server, Client) {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    (server, client)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(path: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /api/v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Sends, closes the own direction and has the only answer.
async fn finished(client: &Client, request: &str, pause: Duration) -> Told {
    let mut wire = Wire::to(client).await;
    wire.send(request).await;
    sleep(pause).await;
    wire.finish().await;
    let answer = wire.answer().await.unwrap_or_else(|| panic!("no answer to {request}"));
    assert_eq!(wire.rest().await, "", "{request}");
    answer
}

#[tokio::test]
async fn a_request_is_answered() {
    let (_server, client) = served();
    for _ in 0..200 {
        let body = r#"{"description":"x"}"#;
        let answer = finished(&client, &post("tasks", "application/json", body), Duration::ZERO).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    for path in ["/livez", "/readyz", "/health", "/metrics", "/api/v1/tasks?limit=1000", "/api/v1/events?limit=10"] {
        for pause in [Duration::ZERO, Duration::from_millis(3)] {
            let request = get(path).replace("host: x", "host: x\r\naccept: application/json, */*");
            let answer = finished(&client, &request, pause).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    let large = client.get("tasks?limit=1000").await;
    assert_eq!(large.json()["tasks"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn requests_that_were_sent_ahead_are_all_answered() {
    let (_server, client) = served();
    let mut wire = Wire::to(&client).await;
    let body = r#"{"description":"x"}"#;
    wire.send([post("tasks", "application/json", body), get("/api/v1/tasks"), post("nowhere", "x/y", body)].concat())
        .await;
    wire.finish().await;
    for status in [201, 200, 404] {
        assert_eq!(wire.answer().await.unwrap().status, status);
    }
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_told() {
    let (_server, client) = served();
    let mut wire = Wire::to(&client).await;
    wire.send(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{",
    )
    .await;
    wire.finish().await;
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "body_broken"), "{answer:?}");
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn an_import_tells_of_every_line() {
    let (_server, client) = served();
    let lines = "{}\n".repeat(20_000);
    let mut wire = Wire::to(&client).await;
    wire.send(post("provenance/import", "application/x-ndjson", &lines)).await;
    wire.finish().await;
    let text = wire.rest().await;
    assert_eq!(text.matches("\"line\":").count(), 20_000, "{}", &text[text.len().saturating_sub(300)..]);
}

/// A client that has gone looks the same: it is not given what it waits for.
#[tokio::test]
async fn a_wait_ends_and_takes_nothing() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x", "options": {"tier": "large"}})).await;
    let since = Instant::now();
    let waiting = finished(&client, &get(&format!("/api/v1/tasks/{task}?wait=30")), Duration::from_millis(100)).await;
    let told: Value = serde_json::from_str(&waiting.body).unwrap();
    assert_eq!((waiting.status, &told["status"]), (200, &json!("pending")), "{waiting:?}");
    let ask = r#"{"worker_id":"w","wait_seconds":30}"#;
    let lease = post("queues/small/lease", "application/json", ask);
    let leased = finished(&client, &lease, Duration::from_millis(100)).await;
    assert_eq!((leased.status, leased.body.as_str()), (200, r#"{"leases":[]}"#));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let mut stream = Wire::to(&client).await;
    stream.send(get("/api/v1/events").replace("host: x", "host: x\r\naccept: text/event-stream")).await;
    sleep(Duration::from_millis(100)).await;
    stream.finish().await;
    assert!(stream.rest().await.contains("200 OK"));
    let next = client.submit(&json!({"description": "x", "options": {"tier": "small"}})).await;
    let given = client.post("queues/small/lease", &json!({"worker_id": "here"})).await.json();
    assert_eq!(given["leases"][0]["task"]["task_id"], json!(next), "{given}");
}
