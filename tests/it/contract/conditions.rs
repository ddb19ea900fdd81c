//! What requests say besides their body: versions, waits, keys, ids, the API
//! key.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{count, served};
use crate::support::client::Client;
use crate::support::process::Setup;

#[tokio::test]
async fn versions_save_transfers_and_waits_end_on_change() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x"})).await;
    let path = format!("tasks/{task}");
    let first = client.get(&path).await;
    let etag = first.header("etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"0\", {etag}"), "*".to_owned()] {
        let answer = client.ask("GET", &path, &[("if-none-match", &known)], "").await.unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, etag.as_str()), "{known}");
    }
    let other = client.ask("GET", &path, &[("if-none-match", "\"0\"")], "").await.unwrap();
    assert_eq!(other.status, 200);

    let since = Instant::now();
    let known = [("if-none-match", etag.as_str())];
    let unchanged = client.ask("GET", &format!("{path}?wait=1"), &known, "").await.unwrap();
    assert_eq!(unchanged.status, 304);
    assert!(since.elapsed() >= Duration::from_millis(900), "it waited {:?}", since.elapsed());

    let since = Instant::now();
    let waiting = format!("{path}?wait=30");
    let (changed, ended, _) =
        tokio::join!(client.ask("GET", &waiting, &known, ""), client.ask("GET", &waiting, &[], ""), async {
            sleep(Duration::from_millis(200)).await;
            client.post(&format!("{path}/cancel"), &json!({})).await
        });
    let (changed, ended) = (changed.unwrap(), ended.unwrap());
    assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("cancelled")));
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("cancelled")));
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn one_key_makes_one_task() {
    let (_server, client) = served();
    let body = json!({"description": "x"});
    let asked = (0..50).map(|_| client.try_post("tasks", &body, &[("idempotency-key", "k-1")]));
    let answers: Vec<_> = futures(asked).await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.json()["task_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "fifty identical submissions at once");
    let first = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).count();
    assert_eq!(first, 1);
    assert_eq!(count(&client).await, 1);
    let quoted = client.try_post("tasks", &body, &[("idempotency-key", "\"k-1\"")]).await.unwrap();
    assert_eq!(quoted.header("idempotent-replayed"), "true");
    let other = client.try_post("tasks", &json!({"description": "y"}), &[("idempotency-key", "k-1")]).await.unwrap();
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"));
    for bad in ["", " ", "a b", &"x".repeat(256)] {
        let answer = client.try_post("tasks", &body, &[("idempotency-key", bad)]).await.unwrap();
        assert_eq!(answer.status, 422, "{bad:?}");
    }
    let twice = client.try_post("tasks", &body, &[("idempotency-key", "a"), ("idempotency-key", "b")]).await.unwrap();
    assert_eq!(twice.status, 422);
    // A refused submission does not use up its key.
    let refused = client.try_post("tasks", &json!({}), &[("idempotency-key", "k-2")]).await.unwrap();
    let taken = client.try_post("tasks", &body, &[("idempotency-key", "k-2")]).await.unwrap();
    assert_eq!((refused.status, taken.status), (422, 201));
    assert_eq!(count(&client).await, 2);
}

async fn futures<T: Send + 'static, E: std::fmt::Debug + Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|cx| {
        all.retain_mut(|each| match each.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers
}

#[tokio::test]
async fn pages_by_cursor_see_each_task_once_while_others_come() {
    let (_server, client) = served();
    let batch = |from: u32| json!({"tasks": (from..from + 30).map(|n| json!({"description": format!("{n}")})).collect::<Vec<_>>()});
    assert_eq!(client.post("tasks/batch", &batch(0)).await.status, 200);
    let mut seen = Vec::new();
    let mut path = "tasks?limit=7".to_owned();
    loop {
        let page = client.get(&path).await.json();
        seen.extend(
            page["tasks"].as_array().unwrap().iter().map(|task| task["description"].as_str().unwrap().to_owned()),
        );
        assert_eq!(client.post("tasks/batch", &batch(100)).await.status, 200);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("tasks?limit=7&cursor={cursor}");
        let elsewhere = client.get(&format!("tasks?limit=7&status=running&cursor={cursor}")).await;
        assert_eq!(elsewhere.status, 422, "a cursor goes with its filter");
    }
    let expected: Vec<String> = (0..30).rev().map(|n| n.to_string()).collect();
    assert_eq!(seen, expected, "newest first, each once");
}

#[tokio::test]
async fn requests_are_known_by_an_id() {
    let (_server, client) = served();
    let given = client.ask("GET", "/livez", &[("x-request-id", "abc-1")], "").await.unwrap();
    assert_eq!(given.header("x-request-id"), "abc-1");
    let made = client.ask("GET", "nothing", &[("x-request-id", "not valid")], "").await.unwrap();
    assert!(!["", "not valid"].contains(&made.header("x-request-id")));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = client.try_post("tasks", &json!({"description": "x"}), &[("traceparent", trace)]).await.unwrap();
    assert_eq!(traced.status, 201);
    let page = client.get("events").await.json();
    assert_eq!(page["events"][0]["event"]["traceparent"], trace, "{page}");
}

#[tokio::test]
async fn the_key_is_asked_of_all_but_health() {
    let server = Setup::new().with("DATS__SECURITY__API_KEY", "s3cret").start();
    let client = Client::new(&server.address);
    for path in ["/health", "/livez", "/readyz", "health"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    for path in ["tasks", "/metrics", "/health/detailed", "events", "nothing", "/"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
        assert!(!answer.header("www-authenticate").is_empty(), "{path}");
    }
    for (name, value) in [("x-api-key", "wrong"), ("authorization", "Bearer wrong"), ("authorization", "Basic s3cret")]
    {
        assert_eq!(client.ask("GET", "tasks", &[(name, value)], "").await.unwrap().status, 401, "{name}: {value}");
    }
    for (name, value) in
        [("x-api-key", "s3cret"), ("authorization", "Bearer s3cret"), ("authorization", "bearer s3cret")]
    {
        assert_eq!(client.ask("GET", "tasks", &[(name, value)], "").await.unwrap().status, 200, "{name}: {value}");
    }
    let refused = client.try_post("tasks", &json!({"description": "x"}), &[]).await.unwrap();
    assert_eq!(refused.status, 401);
    let total = client.ask("GET", "tasks", &[("x-api-key", "s3cret")], "").await.unwrap();
    assert_eq!(total.json()["total"], 0);
}
