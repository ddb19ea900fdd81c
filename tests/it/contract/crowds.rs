//! Promise 10, many at once: those who hold connections, never read or wait
//! for ever do not keep others from being served.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{count, event, served};
use crate::support::client::Client;
use crate::support::process::Setup;

/// Longest time that a request may take on a loaded machine.
const SOON: Duration = Duration::from_secs(5);

async fn is_served(client: &Client, beside: &str) {
    let since = Instant::now();
    let task = client.submit(&json!({"description": "x"})).await;
    assert_eq!(client.get(&format!("tasks/{task}")).await.status, 200);
    assert!(since.elapsed() < SOON, "beside {beside} it took {:?}", since.elapsed());
}

#[tokio::test]
async fn idle_connections_are_borne_and_then_closed() {
    let setup = Setup::new().with("DATS__SERVER__HEADER_TIMEOUT_SECONDS", "5");
    let server = setup.with("DATS__SERVER__MAX_CONNECTIONS_PER_ADDRESS", "3000").start();
    let client = Client::new(&server.address);
    let mut idle = Vec::new();
    for _ in 0..2000 {
        idle.push(client.connect().await);
    }
    is_served(&client, "2000 idle connections").await;
    let closed = timeout(Duration::from_secs(15), idle[1999].read(&mut [0; 1])).await;
    assert!(closed.is_ok(), "an idle connection is kept for ever");
    is_served(&client, "connections that were closed").await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_told_so() {
    let setup = Setup::new().with("DATS__SERVER__MAX_CONNECTIONS", "8");
    let server = setup.start();
    let client = Client::new(&server.address);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client.connect().await);
    }
    let ask = b"GET /api/v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n";
    let refused = client.raw(ask, Duration::from_secs(1)).await;
    assert!(
        refused.contains("503") && refused.contains("\"overloaded\"") && refused.contains("retry-after"),
        "{refused}"
    );
    drop(held);
    sleep(Duration::from_millis(100)).await;
    is_served(&client, "connections that are gone").await;
}

async fn follow(client: &Client, path: &str) -> TcpStream {
    let mut stream = client.connect().await;
    let request = format!("GET /api/v1/{path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn readers_that_never_read_hold_nobody_up() {
    let (_server, client) = served();
    let mut deaf = Vec::new();
    for _ in 0..150 {
        deaf.push(follow(&client, "events?after=0").await);
    }
    let mut attentive = follow(&client, "events?after=0&types=task.created").await;
    let padding = "x".repeat(10_000);
    for _ in 0..20 {
        let tasks: Vec<Value> = (0..20).map(|_| json!({"description": padding})).collect();
        assert_eq!(client.post("tasks/batch", &json!({"tasks": tasks})).await.status, 200);
    }
    is_served(&client, "150 readers that do not read").await;
    let (mut text, mut piece) = (String::new(), vec![0; 1 << 16]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while text.matches("event: task.created\n").count() < 401 {
        let count = timeout(deadline - Instant::now(), attentive.read(&mut piece)).await.unwrap().unwrap();
        assert!(count > 0, "the stream ended");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "the stream is out of order");
    drop(deaf);
}

#[tokio::test]
async fn streams_resume_where_they_were() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small", "qa_profile": "none"}})).await;
    let output = json!({"task_id": task, "artifact_id": "a"});
    client.post("events", &event("1", "task.output.created", &output)).await;
    let stream = |last: &str| {
        let request = format!(
            "GET /api/v1/tasks/{task}/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\nlast-event-id: {last}\r\n\r\n"
        );
        let client = client.clone();
        async move { client.raw(request.as_bytes(), Duration::from_secs(2)).await }
    };
    let whole = stream("0").await;
    let events: Vec<&str> = whole.lines().filter(|line| line.starts_with("event: ")).collect();
    let expected = ["event: task.created", "event: task.ready", "event: task.output.created", "event: task.finished"];
    assert_eq!(events, expected, "{whole}");
    let rest = stream("2").await;
    assert!(!rest.contains("id: 2\n") && rest.contains("id: 3\n") && rest.contains("id: 4\n"), "{rest}");
    assert!(stream("18446744073709551615").await.contains("200 OK"));
    assert!(stream("x").await.contains("422"));
    // A position that this log never had begins it again, and says so.
    let mut ahead = follow(&client, "events?after=18446744073709551615").await;
    let mut piece = [0; 4096];
    sleep(Duration::from_millis(300)).await;
    let count = timeout(SOON, ahead.read(&mut piece)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&piece[..count]).into_owned();
    assert!(text.contains("event: reset"), "{text}");
    let page = client.get("events?after=99").await.json();
    assert_eq!((&page["reset"], &page["read_to"]), (&json!(5), &json!(4)), "{page}");
}

#[tokio::test]
async fn workers_that_wait_and_go_take_nothing_with_them() {
    let (_server, client) = served();
    let waiting: Vec<TcpStream> = {
        let body = r#"{"worker_id":"gone","wait_seconds":60}"#;
        let request = format!(
            "POST /api/v1/queues/small/lease HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut all = Vec::new();
        for _ in 0..200 {
            let mut stream = client.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            all.push(stream);
        }
        all
    };
    sleep(Duration::from_millis(200)).await;
    is_served(&client, "200 workers that wait").await;
    assert_eq!(count(&client).await, 1);
    drop(waiting);
    sleep(Duration::from_millis(200)).await;
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small"}})).await;
    let asked = json!({"worker_id": "here", "wait_seconds": 5, "max": 10});
    let leases = client.post("queues/small/lease", &asked).await.json();
    let given = leases["leases"].as_array().unwrap();
    assert!(given.iter().any(|lease| lease["task"]["task_id"] == task), "{leases}");
}
