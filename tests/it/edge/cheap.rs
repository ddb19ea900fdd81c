//! Refusals are cheap: an answer about a bad body is small, whatever the body,
//! and takes nobody else's time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::wire::Wire;
use crate::support::client::{Answer, Client};
use crate::support::process::{Server, Setup};

/// Most bytes of an answer about one bad body: 32 errors of 768 bytes at most,
/// each byte of which JSON may write as six. Of a body without control characters
/// it is a sixth of that.
const MAX_ANSWER_BYTES: usize = 160 << 10;
/// The limit of bodies.
const MEBIBYTE: usize = 1 << 20;

fn served() -> (Server, Client) {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    (server, client)
}

/// A list of as many elements as fit into a body.
fn filled(prefix: &str, element: &str, suffix: &str) -> String {
    let count = (MEBIBYTE - prefix.len() - suffix.len()) / (element.len() + 1);
    format!("{prefix}{}{suffix}", vec![element; count].join(","))
}

async fn refused(client: &Client, path: &str, body: String) -> Answer {
    assert!(body.len() <= MEBIBYTE);
    let kind = [("content-type", "application/json")];
    let answer = client.ask("POST", path, &kind, body).await.unwrap();
    assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
    assert!(answer.body.len() <= MAX_ANSWER_BYTES, "{path}: an answer of {} bytes", answer.body.len());
    answer
}

fn errors(answer: &Answer) -> usize {
    answer.json()["errors"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn at_most_32_errors_are_listed() {
    let (_server, client) = served();
    let event = r#"{"specversion":"1.0","type":"task.output.created","source":"/w","id":"1","data":{"task_id":"t","artifact_id":"","#;
    let keys = |count: usize, length: usize| {
        let key = |number: usize| format!("\"{number}{}\":1", "\u{1}".repeat(length).replace('\u{1}', "\\u0001"));
        (0..count).map(key).collect::<Vec<_>>().join(",")
    };
    let bodies = [
        ("tasks", filled(r#"{"description":"x","options":{"inputs":["#, "\"\"", "]}}"), 1),
        ("tasks", filled(r#"{"description":"x","options":{"depends_on":["#, "\"\"", "]}}"), 1),
        ("tasks", format!(r#"{{"description":"x","options":{{"inputs":[{}]}}}}"#, vec!["\"\""; 256].join(",")), 32),
        ("tasks", filled(r#"{"description":"","tier":["#, "\"\"", "]}"), 2),
        ("tasks", format!("{{{}}}", keys(150, 1000)), 32),
        ("tasks", format!("{{\"description\":\"x\",\"{}\":1}}", "y".repeat(1_000_000)), 1),
        (
            "tasks",
            format!("{{\"description\":\"x\",\"options\":{{\"timeout_seconds\":\"{}\"}}}}", "y".repeat(1_000_000)),
            1,
        ),
        ("tasks", filled("{", "\"a\":1", "}"), 32),
        ("events", filled(&format!("{event}\"inputs_consumed\":["), "\"\"", "]}}"), 32),
        ("events", filled(&format!("{event}\"output\":{{\"artifacts\":["), "{}", "]}}}"), 32),
        ("events", format!("{{{}}}", keys(150, 1000)), 32),
    ];
    for (path, body, least) in bodies {
        let shown: String = body.chars().take(90).collect();
        let answer = refused(&client, path, body).await;
        let listed = errors(&answer);
        assert!((least..=32).contains(&listed), "{path} {shown}: {listed} errors");
    }
    let query = (0..2000).fold(String::new(), |all, number| all + &format!("&a{number}=1"));
    let answer = client.get(&format!("tasks?{query}")).await;
    assert_eq!((answer.status, errors(&answer)), (422, 32));
    assert!(answer.body.len() <= MAX_ANSWER_BYTES + query.len());
}

#[tokio::test]
async fn a_batch_of_bad_tasks_has_a_bound_as_well() {
    let (_server, client) = served();
    let ids = vec!["\"\""; 200].join(",");
    let task = format!(r#"{{"description":"x","options":{{"inputs":[{ids}]}}}}"#);
    let body = format!("{{\"tasks\":[{}]}}", vec![task; 1000].join(","));
    let kind = [("content-type", "application/json")];
    let answer = client.ask("POST", "tasks/batch", &kind, body).await.unwrap();
    assert_eq!(answer.status, 200);
    let results = answer.json()["results"].clone();
    let counts: Vec<usize> =
        results.as_array().unwrap().iter().map(|each| each["problem"]["errors"].as_array().unwrap().len()).collect();
    assert_eq!((counts.len(), counts[0], counts[999]), (1000, 32, 1));
    assert!(answer.body.len() <= MEBIBYTE, "{} bytes", answer.body.len());
    // Neither of the two values is taken in silence.
    let twice = r#"{"tasks":[{"description":"x","description":"y"}]}"#;
    let answer = client.ask("POST", "tasks/batch", &kind, twice).await.unwrap();
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/tasks/0/description")));
}

/// The longest of some probes on connections of their own.
async fn longest_probe(client: &Client, times: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        for path in ["/livez", "/readyz", "/health"] {
            let since = Instant::now();
            let mut wire = Wire::to(client).await;
            wire.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            let told = wire.answer().await.unwrap();
            assert_eq!(told.status, 200, "{told:?}");
            longest = longest.max(since.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    longest
}

/// Longest answer to a probe. The machine of a test has other work, too.
const PROMPT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_beside_large_bodies() {
    let (_server, client) = served();
    // Much to decode and to refuse: each error takes another look at all of it.
    let fields: Vec<String> = (0..40).map(|number| format!("\"f{number}\":1")).collect();
    let padding = vec!["[]"; 300_000].join(",");
    let body = format!("{{{},\"description\":\"x\",\"metadata\":{{\"a\":[{padding}]}}}}", fields.join(","));
    let attack: Vec<_> = (0..16)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                loop {
                    let kind = [("content-type", "application/json")];
                    let answer = client.ask("POST", "tasks", &kind, body.clone()).await;
                    assert!(answer.is_ok_and(|answer| [422, 503].contains(&answer.status)));
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    let longest = longest_probe(&client, 30).await;
    let since = Instant::now();
    client.submit(&json!({"description": "x"})).await;
    let submission = since.elapsed();
    attack.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(longest < PROMPT, "a probe took {longest:?}");
    assert!(submission < Duration::from_secs(5), "a submission took {submission:?}");
}

/// On a connection that served other requests, probes share its threads with those: what
/// takes long is decoded elsewhere, however small it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_on_a_kept_connection_are_answered_beside_wrong_bodies() {
    let (_server, client) = served();
    let mut kept = Wire::to(&client).await;
    kept.send("GET /api/v1/tasks?limit=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(kept.answer().await.unwrap().status, 200);
    let fields: Vec<String> = (0..40).map(|number| format!("\"f{number}\":1")).collect();
    let padding = vec!["[]"; 5_000].join(",");
    let body = format!("{{{},\"description\":\"x\",\"metadata\":{{\"a\":[{padding}]}}}}", fields.join(","));
    assert!(body.len() < 16 << 10, "{}", body.len());
    let attack: Vec<_> = (0..32)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                loop {
                    let kind = [("content-type", "application/json")];
                    let answer = client.ask("POST", "tasks", &kind, body.clone()).await;
                    assert!(answer.is_ok_and(|answer| [422, 503].contains(&answer.status)));
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        for path in ["/livez", "/readyz"] {
            let since = Instant::now();
            kept.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert_eq!(kept.answer().await.unwrap().status, 200);
            longest = longest.max(since.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    attack.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(longest < PROMPT, "a probe took {longest:?}");
}

#[tokio::test]
async fn probes_are_answered_when_all_connections_are_taken() {
    let setup = Setup::new().with("DATS__SERVER__MAX_CONNECTIONS", "16");
    let server = setup.start();
    let client = Client::new(&server.address);
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(client.connect().await);
    }
    // More than the reserve holds, all of them silent.
    for _ in 0..1500 {
        held.push(client.connect().await);
    }
    let longest = longest_probe(&client, 20).await;
    assert!(longest < PROMPT, "a probe took {longest:?}");
    let mut wire = Wire::to(&client).await;
    wire.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(wire.answer().await.unwrap().closes(), "a connection over the limit does not stay");
    assert_eq!(wire.rest().await, "");
    let mut wire = Wire::to(&client).await;
    wire.send("GET /api/v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let told = wire.answer().await.unwrap();
    assert_eq!((told.status, told.code().as_str(), told.closes()), (503, "overloaded", true));
    drop(held);
}

#[tokio::test]
async fn an_address_has_1024_connections() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    if files.unwrap_or(0_usize) < 3000 {
        eprintln!("skipped: the test needs 3000 open files, there may be {files:?}");
        return;
    }
    let (_server, client) = served();
    let mut held = Vec::new();
    for _ in 0..1024 {
        let mut wire = Wire::to(&client).await;
        wire.send("GET /api/v1/tasks?limit=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
        held.push(wire);
    }
    let mut wire = Wire::to(&client).await;
    wire.send("GET /api/v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 503);
    assert!(longest_probe(&client, 3).await < PROMPT);
    held.truncate(1000);
    sleep(Duration::from_millis(100)).await;
    let mut wire = Wire::to(&client).await;
    wire.send("GET /api/v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
}

/// A system that hands out few descriptors gives the service as many as it may have.
#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let server = Setup::new().under(&["sh", "-c", "ulimit -S -n 64 && exec \"$0\" \"$@\""]).start();
    let client = Client::new(&server.address);
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::to(&client).await;
        wire.send("GET /api/v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
        held.push(wire);
    }
    let few = Setup::new().under(&["sh", "-c", "ulimit -n 128 && exec \"$0\" \"$@\""]);
    let server = few.start();
    let client = Client::new(&server.address);
    for _ in 0..300 {
        held.push(Wire::to(&client).await);
    }
    let told: Value = client_probe(&client).await;
    assert_eq!(told["status"], "alive");
    assert!(few.log().contains("the limit of open files allows fewer connections"), "{}", few.log());
}

async fn client_probe(client: &Client) -> Value {
    let mut wire = Wire::to(client).await;
    wire.send("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    serde_json::from_str(&wire.answer().await.unwrap().body).unwrap()
}

#[tokio::test]
async fn probes_share_their_connection_with_requests() {
    let (_server, client) = served();
    let mut wire = Wire::to(&client).await;
    let probe = "GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n";
    let body = r#"{"description":"x"}"#;
    let length = body.len();
    let submit = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let head = "HEAD /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for _ in 0..3 {
        wire.send(probe).await;
        let told = wire.answer().await.unwrap();
        assert_eq!((told.status, told.body.as_str(), told.closes()), (200, "{\"status\":\"alive\"}", false));
    }
    wire.send([probe, probe, &submit, probe].concat()).await;
    for status in [200, 200, 201, 200] {
        assert_eq!(wire.answer().await.unwrap().status, status);
    }
    wire.send(probe.as_bytes().split_at(20).0).await;
    sleep(Duration::from_millis(20)).await;
    wire.send(probe.as_bytes().split_at(20).1).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let mut wire = Wire::to(&client).await;
    wire.send(head).await;
    let text = wire.rest().await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("\r\n\r\n"), "{text}");
    let metrics = client.get("/metrics").await.body;
    assert!(
        String::from_utf8_lossy(&metrics)
            .contains("http_requests_total{method=\"GET\",route=\"/livez\",status=\"2xx\"}")
    );
}
