//! Answers that leave before the body of their request was read: the client's
//! next request on the connection is answered, or the answer said that the
//! connection ends with it.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::wire::Wire;
use crate::support::client::Client;
use crate::support::process::{Server, Setup};

const KEY: &str = "x-api-key: k\r\n";
const JSON: &str = "content-type: application/json\r\n";
const NEXT: &str = "GET /api/v1/tasks?limit=1 HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\n\r\n";
/// Tries of each kind.
const TRIES: usize = 200;

fn served() -> (Server, Client) {
    let server = Setup::new().with("DATS__SECURITY__API_KEY", "k").start();
    let client = Client::new(&server.address);
    (server, client)
}

/// A project that can't be deleted.
async fn make_busy(client: &Client) {
    let busy = json!({"description": "x", "project_id": "busy"});
    assert_eq!(client.try_post("tasks", &busy, &[("x-api-key", "k")]).await.unwrap().status, 201);
}

/// Requests that are answered without a look at their bodies: their first line,
/// their headers and the status of the answer.
fn early() -> Vec<(&'static str, String, u16)> {
    let usual = format!("host: x\r\n{KEY}{JSON}");
    vec![
        ("POST /api/v1/nowhere", usual.clone(), 404),
        ("POST /api/v1/tasks/no-task/cancel", usual.clone(), 404),
        ("PUT /api/v1/tasks", usual.clone(), 405),
        ("GET /api/v1/tasks?limit=1", usual.clone(), 200),
        ("DELETE /api/v1/projects/busy", usual.clone(), 409),
        ("POST /api/v1/tasks?x=1", usual, 422),
        ("POST /api/v1/tasks", format!("host: x\r\n{JSON}"), 401),
        ("POST /api/v1/tasks", format!("host: x\r\n{KEY}content-type: text/plain\r\n"), 415),
        ("POST /api/v1/tasks", format!("host: x\r\n{KEY}"), 415),
        ("POST /api/v1/tasks", format!("host: x\r\n{KEY}{JSON}origin: http://evil.example\r\n"), 403),
        ("POST /api/v1/tasks", format!("host: evil.example\r\n{KEY}{JSON}"), 421),
        ("POST /api/v1/tasks", format!("host: x\r\nhost: x\r\n{KEY}{JSON}"), 400),
    ]
}

/// How the bytes of a request come.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// All at once.
    Whole,
    /// The body behind the head.
    Apart,
    /// All at once, and the next request with it.
    Ahead,
    /// In chunks without a length.
    Chunked,
}

/// Sends a request that is answered early, then another one; whether the
/// connection was kept.
async fn then_next(wire: &mut Wire, (line, headers, status): &(&str, String, u16), size: usize, pace: Pace) -> bool {
    let body = "x".repeat(size);
    let length = format!("content-length: {size}\r\n\r\n");
    match pace {
        Pace::Whole => wire.send(format!("{line} HTTP/1.1\r\n{headers}{length}{body}")).await,
        Pace::Ahead => wire.send(format!("{line} HTTP/1.1\r\n{headers}{length}{body}{NEXT}")).await,
        Pace::Apart => {
            wire.send(format!("{line} HTTP/1.1\r\n{headers}{length}")).await;
            sleep(Duration::from_millis(2)).await;
            wire.send(body).await;
        }
        Pace::Chunked => {
            let chunks = format!("transfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n");
            wire.send(format!("{line} HTTP/1.1\r\n{headers}{chunks}")).await;
        }
    }
    let what = format!("{line} of {size} bytes, {pace:?}");
    let answer = wire.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!(answer.status, *status, "{what}: {answer:?}");
    if answer.closes() {
        assert_eq!(wire.rest().await, "", "{what}: an end that was announced");
        return false;
    }
    if !matches!(pace, Pace::Ahead) {
        wire.send(NEXT).await;
    }
    let next = wire.answer().await.unwrap_or_else(|| panic!("{what}: the next request was lost"));
    assert_eq!(next.status, 200, "{what}: {next:?}");
    !next.closes()
}

#[tokio::test]
async fn the_next_request_is_never_lost() {
    let (_server, client) = served();
    make_busy(&client).await;
    for kind in early() {
        let mut wire = Wire::to(&client).await;
        let mut kept = 0;
        for each in 0..TRIES {
            let pace = [Pace::Whole, Pace::Apart, Pace::Ahead, Pace::Chunked][each % 4];
            let size = [2, 300, 5000, 60_000][each / 4 % 4];
            if then_next(&mut wire, &kind, size, pace).await {
                kept += 1;
            } else {
                wire = Wire::to(&client).await;
            }
        }
        assert_eq!(kept, TRIES, "{kind:?}: a small body costs no connection");
    }
}

#[tokio::test]
async fn with_a_large_body_the_end_is_announced() {
    let (_server, client) = served();
    make_busy(&client).await;
    for kind in early() {
        for (size, pace) in [(70_000, Pace::Whole), (3 << 20, Pace::Apart), (3 << 20, Pace::Ahead)] {
            let mut wire = Wire::to(&client).await;
            assert!(!then_next(&mut wire, &kind, size, pace).await, "{kind:?}: {size} bytes were read");
        }
    }
    let mut wire = Wire::to(&client).await;
    let headers = format!("host: x\r\n{KEY}{JSON}");
    assert!(!then_next(&mut wire, &("POST /api/v1/tasks", headers, 413), 3 << 20, Pace::Whole).await);
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let (_server, client) = served();
    make_busy(&client).await;
    for (line, headers, status) in early() {
        let mut wire = Wire::to(&client).await;
        wire.send(format!("{line} HTTP/1.1\r\n{headers}content-length: 100\r\n\r\n")).await;
        let answer = timeout(Duration::from_secs(3), wire.answer()).await.expect("soon").unwrap();
        assert_eq!((answer.status, answer.closes()), (status, true), "{line}: {answer:?}");
        assert_eq!(wire.rest().await, "");
        // A client that asks first has its answer at once, and sends nothing.
        let mut wire = Wire::to(&client).await;
        wire.send(format!("{line} HTTP/1.1\r\n{headers}content-length: 100\r\nexpect: 100-continue\r\n\r\n")).await;
        let answer = timeout(Duration::from_millis(400), wire.answer()).await.expect("at once").unwrap();
        assert_eq!((answer.status, answer.closes()), (status, true), "{line}: {answer:?}");
        assert_eq!(wire.rest().await, "");
    }
}
