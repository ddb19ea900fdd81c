//! Promise 10, one request at a time: whatever is sent, the answer is no
//! 5xx, nothing is left behind, and the next request is served.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{count, event, served};
use crate::support::client::Client;
use crate::support::process::Setup;

const SILENCE: Duration = Duration::from_secs(3);

/// The status line's code; 0 where the connection was just closed.
fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

async fn unharmed(client: &Client, tasks: u64, after: &str) {
    assert_eq!(count(client).await, tasks, "after {after}");
    assert_eq!(client.get("/readyz").await.status, 200, "after {after}");
}

#[tokio::test]
async fn bodies_that_are_no_submission() {
    let (_server, client) = served();
    let before = client.submit(&json!({"description": "x"})).await;
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat();
    let hostile: Vec<(Vec<u8>, u16)> = vec![
        (Vec::new(), 400),
        (b"{".to_vec(), 400),
        (b"{\"description\":\"x\"}}".to_vec(), 400),
        (b"{\"description\":\"x\"} {}".to_vec(), 400),
        (b"nul".to_vec(), 400),
        (b"\xff\xfe{}".to_vec(), 400),
        (b"{\"description\":\"\xc3\x28\"}".to_vec(), 400),
        (br#"{"description":"\ud800"}"#.to_vec(), 400),
        (deep("[", "]").into_bytes(), 400),
        (deep("{\"a\":", "}").into_bytes(), 400),
        (format!("{{\"description\":\"x\",\"metadata\":{}}}", deep("[", "]")).into_bytes(), 400),
        (b"[]".to_vec(), 422),
        (b"\"x\"".to_vec(), 422),
        (b"1e999".to_vec(), 400),
        (br#"{"description":"x","metadata":{"n":1e999}}"#.to_vec(), 400),
        (br#"{"description":"x","description":"y"}"#.to_vec(), 422),
        (br#"{"description":"a\u0000b"}"#.to_vec(), 422),
        (br#"{"description":"x","metadata":{"a\u0000":1}}"#.to_vec(), 422),
        (br#"{"description":"x","metadata":{"a":["\u0000"]}}"#.to_vec(), 422),
        (br#"{"description":"x","project_id":"a\nb"}"#.to_vec(), 422),
        (br#"{"description":"x","priority":["high"]}"#.to_vec(), 422),
        (br#"{"description":"x","options":{"timeout_seconds":1e400}}"#.to_vec(), 400),
        (br#"{"description":"x","options":{"timeout_seconds":99999999999999999999}}"#.to_vec(), 422),
        (br#"{"description":"x","options":{"not_before":"9999999-01-01T00:00:00Z"}}"#.to_vec(), 422),
        (br#"{"description":"x","unknown":1}"#.to_vec(), 422),
        (format!("{{\"description\":\"{}\"}}", "x".repeat(2 << 20)).into_bytes(), 413),
    ];
    for path in ["tasks", "tasks/batch", "projects", "queues/small/lease", &format!("tasks/{before}/cancel")] {
        for (body, wanted) in &hostile {
            let answer = client.ask("POST", path, &[("content-type", "application/json")], body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            // An answer before the end of a large body may close the connection.
            let Ok(answer) = answer else {
                assert!(*wanted == 413, "{path} {shown} got no answer");
                continue;
            };
            if path == "tasks" {
                assert_eq!(answer.status, *wanted, "{shown}: {answer:?}");
                assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
            }
            assert!(answer.status < 500, "{path} {shown}: {answer:?}");
        }
    }
    let lenient = client.get(&format!("tasks/{before}")).await.json();
    // An empty body is a cancellation without a reason, and so is `{}`.
    assert_eq!(lenient["status"], "cancelled");
    unharmed(&client, 1, "hostile bodies").await;
}

#[tokio::test]
async fn events_that_are_none() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small"}})).await;
    let leased = client.post("queues/small/lease", &json!({"worker_id": "w"})).await;
    assert_eq!(leased.json()["leases"][0]["task"]["task_id"], task, "{leased:?}");
    let good = event("1", "task.failed", &json!({"task_id": task, "error": "e"}));
    let change = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        event.to_string()
    };
    let structured = ("content-type", "application/cloudevents+json");
    let batch = ("content-type", "application/cloudevents-batch+json");
    let hostile = [
        (structured, change("specversion", json!("0.3")), 422),
        (structured, change("id", json!("")), 422),
        (structured, change("id", json!("a\u{0}b")), 422),
        (structured, change("source", json!("x".repeat(5000))), 422),
        (structured, change("data", json!([1])), 422),
        (structured, change("data", json!({"task_id": [task], "error": 5})), 422),
        (structured, change("data_base64", json!("AAAA")), 422),
        (structured, change("time", json!("yesterday")), 422),
        (structured, change("type", json!("dats.task.created")), 422),
        (structured, "[]".to_owned(), 422),
        (structured, format!("{{\"data\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)), 400),
        (batch, "{}".to_owned(), 422),
        (batch, "[".to_owned(), 400),
        (batch, format!("[{}]", vec!["{}"; 1001].join(",")), 422),
        (("content-type", "text/xml"), "<a/>".to_owned(), 415),
        (("content-encoding", "gzip"), "x".to_owned(), 415),
    ];
    for (header, body, wanted) in hostile {
        let answer = client.ask("POST", "events", &[header], body.clone()).await.unwrap();
        assert_eq!(answer.status, wanted, "{}: {answer:?}", &body[..body.len().min(100)]);
    }
    let answer = client.ask("POST", "events", &[batch], format!("[1, {{}}, {good}, null]")).await.unwrap();
    let results = answer.json()["results"].clone();
    assert_eq!((answer.status, &results[2]["outcome"]), (200, &json!("applied")), "{answer:?}");
    assert_eq!(results[0]["problem"]["status"], 422, "{results}");
    let headers = [("ce-specversion", "1.0"), ("ce-type", "task.failed"), ("ce-source", "/b"), ("ce-id", "\u{e4}")];
    let data = json!({"task_id": task, "error": "e"}).to_string();
    let answer = client.ask("POST", "events", &headers, data).await.unwrap();
    assert!(answer.status < 500, "{answer:?}");
    unharmed(&client, 1, "hostile events").await;
}

#[tokio::test]
async fn paths_and_queries_that_name_nothing() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x"})).await;
    let long = "x".repeat(6000);
    let not_found = [
        "tasks/",
        "tasks/%00",
        "tasks/%ff%fe",
        "tasks/..%2f..",
        "projects/%00",
        "projects/a%0ab",
        "provenance/%00",
        "artifacts/%ff/content",
        "dead-letters/-1/requeue/x",
        "//tasks",
        "/",
        "/api/v2/tasks",
        "leases",
        &format!("projects/{long}"),
        &format!("provenance/{long}"),
        &format!("tasks/{task}/tree/x"),
    ];
    for path in not_found {
        assert_eq!(client.get(path).await.status, 404, "{}", &path[..path.len().min(60)]);
    }
    let invalid = [
        "tasks?limit=0",
        "tasks?limit=1001",
        "tasks?limit=1&limit=2",
        "tasks?limit=x",
        "tasks?offset=-1",
        "tasks?x",
        "tasks?offset=18446744073709551616",
        "tasks?cursor=!",
        "tasks?cursor=AAAAAAAAAAAAAAAA",
        "tasks?status=",
        "tasks?project_id=%00",
        "tasks?created_after=now",
        "tasks?parent_id=x",
        "events?after=-1",
        "events?cursor=x",
        "events?limit=0",
        "projects?cursor=x",
        "projects?limit=1001",
        "dead-letters?cursor=x",
        "queues?x=1",
        "projects/p/status?x=1",
        &format!("tasks/{task}?wait=61"),
        &format!("tasks/{task}?wiat=1"),
        &format!("tasks/{task}/events?cursor=x"),
        &format!("provenance/{task}?x=1"),
    ];
    for path in invalid {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "validation_failed"), "{path}: {answer:?}");
        assert!(!answer.json()["errors"][0]["pointer"].is_null(), "{path}: {answer:?}");
    }
    for path in [
        "tasks?offset=18446744073709551615",
        "projects?offset=18446744073709551615",
        "events?after=18446744073709551615",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    unharmed(&client, 1, "hostile paths").await;
}

#[tokio::test]
async fn methods_that_are_not_there() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x"})).await;
    let paths = [
        ("tasks".to_owned(), "GET, HEAD, POST"),
        (format!("tasks/{task}"), "GET, HEAD"),
        (format!("tasks/{task}/cancel"), "POST"),
        ("projects/p".to_owned(), "GET, HEAD, PATCH, DELETE"),
        ("/health".to_owned(), "GET, HEAD"),
    ];
    for (path, allow) in &paths {
        for method in ["PUT", "OPTIONS", "TRACE", "BREW", "get"] {
            let answer = client.ask(method, path, &[], "").await.unwrap();
            assert_eq!((answer.status, answer.header("allow")), (405, *allow), "{method} {path}");
        }
    }
    let head = client.ask("HEAD", &format!("tasks/{task}"), &[], "").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_ne!(head.header("content-length"), "0");
    // Of a stream there is only the head, and the connection goes on.
    let head = client.ask("HEAD", "events", &[], "").await.unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    unharmed(&client, 1, "other methods").await;
}

#[tokio::test]
async fn bytes_that_are_hardly_http() {
    let (_server, client) = served();
    let body = r#"{"description":"x"}"#;
    let post = |headers: &str, body: &str| {
        format!("POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n{body}")
    };
    let hostile = [
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("two lengths", post("content-length: 3\r\ncontent-length: 19\r\n", body)),
        ("length and chunks", post("content-length: 19\r\ntransfer-encoding: chunked\r\n", body)),
        ("a negative length", post("content-length: -1\r\n", body)),
        ("an endless length", post("content-length: 99999999999999999999\r\n", body)),
        ("a huge length", post("content-length: 1099511627776\r\n", body)),
        ("a bad chunk", post("transfer-encoding: chunked\r\n", "zz\r\nx\r\n")),
        ("a huge chunk", post("transfer-encoding: chunked\r\n", "ffffffffffffffff\r\nx")),
        ("an unknown coding", post("transfer-encoding: rot13\r\n", body)),
        ("an unmet expectation", post("expect: 200-ok\r\ncontent-length: 3\r\n", "{}\n")),
        ("a huge header", post(&format!("x: {}\r\n", "y".repeat(200_000)), "")),
        ("many headers", post(&"x: y\r\n".repeat(5000), "")),
        ("a huge target", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000))),
        ("a broken header", "GET /livez HTTP/1.1\r\nhost x\r\n\r\n".to_owned()),
        ("no such version", "GET /livez HTTP/9.9\r\n\r\n".to_owned()),
    ];
    for (what, bytes) in hostile {
        let answer = client.raw(bytes.as_bytes(), SILENCE).await;
        let status = status(&answer);
        assert!(status == 0 || (400..500).contains(&status), "{what}: {answer}");
        unharmed(&client, 0, what).await;
    }
    let chunked = format!(
        "{}{}",
        post("transfer-encoding: chunked\r\n", ""),
        "10000\r\n".to_owned() + &"x".repeat(65_536) + "\r\n"
    );
    let endless = chunked + &format!("10000\r\n{}\r\n", "x".repeat(65_536)).repeat(40);
    let answer = client.raw(endless.as_bytes(), SILENCE).await;
    assert_eq!(status(&answer), 413, "an endless chunked body: {answer}");
    // Or the client's next request on this connection would be lost.
    assert!(answer.contains("connection: close"), "{answer}");
    let cut = post("content-length: 19\r\n", "{\"descr");
    let mut stream = client.connect().await;
    stream.write_all(cut.as_bytes()).await.unwrap();
    drop(stream);
    sleep(Duration::from_millis(50)).await;
    unharmed(&client, 0, "a body cut short").await;
}

#[tokio::test]
async fn unusual_but_correct_http() {
    let (_server, client) = served();
    let absolute = "GET http://elsewhere/livez HTTP/1.1\r\nhost: elsewhere\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&client.raw(absolute.as_bytes(), SILENCE).await), 200, "absolute form");
    let old = client.raw(b"GET /livez HTTP/1.0\r\n\r\n", SILENCE).await;
    assert!(old.contains("200 OK") && old.ends_with("{\"status\":\"alive\"}"), "{old}");
    let folded = "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n\
                  connection: close\r\n\r\n5\r\n{\"des\r\ne\r\ncription\":\"x\"}\r\n0\r\n\r\n";
    let answer = client.raw(folded.as_bytes(), SILENCE).await;
    assert!(answer.contains("100 Continue") && answer.contains("201 Created"), "{answer}");
    let many: String = (0..50).map(|_| "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").collect();
    let last = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = client.raw((many + last).as_bytes(), SILENCE).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 51, "pipelined");
    unharmed(&client, 1, "unusual requests").await;
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let setup =
        Setup::new().with("DATS__SERVER__HEADER_TIMEOUT_SECONDS", "1").with("DATS__SERVER__BODY_TIMEOUT_SECONDS", "1");
    let server = setup.start();
    let client = Client::new(&server.address);
    let mut head = client.connect().await;
    let mut body = client.connect().await;
    body.write_all(
        b"POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n",
    )
    .await
    .unwrap();
    let dripping = async {
        for _ in 0..15 {
            // Each byte in time, the whole never.
            let _ = head.write_all(b"x").await;
            let _ = body.write_all(b" ").await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    dripping.await;
    for (what, mut stream) in [("head", head), ("body", body)] {
        let mut answer = Vec::new();
        let ended = timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "a slow {what} is still waited for");
        let answer = String::from_utf8_lossy(&answer);
        assert!([0, 408].contains(&status(&answer)), "{what}: {answer}");
    }
    unharmed(&client, 0, "slow clients").await;
}
