//! A page ends by its bytes, in every list, and the pages together are all of
//! it; what does not fit into a document is refused with its limit.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::{event, import, record, whole, whole_by_offset};
use crate::support::client::Client;
use crate::support::process::Setup;

fn served() -> (crate::support::process::Server, Client) {
    // Verdicts that come too early become dead letters at once.
    let server = Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = Client::new(&server.address);
    (server, client)
}

/// Goes through a list of `count` large entries, in pages that end by their bytes.
async fn is_cut(client: &Client, path: &str, name: &str, count: usize) -> Vec<Value> {
    let (all, pages) = whole(client, path, name, 1000).await;
    assert_eq!(all.len(), count, "{path}");
    assert!(pages > 1, "{path} is one page");
    let (by_small_pages, _) = whole(client, path, name, 2).await;
    assert_eq!(by_small_pages, all, "{path}");
    all
}

#[tokio::test]
async fn tasks_and_projects() {
    let (_server, client) = served();
    let long = "d".repeat(60_000);
    for _ in 0..3 {
        let tasks: Vec<Value> = (0..12).map(|_| json!({"description": long, "project_id": "p"})).collect();
        assert_eq!(client.post("tasks/batch", &json!({"tasks": tasks})).await.status, 200);
    }
    let all = is_cut(&client, "tasks?project_id=p", "tasks", 36).await;
    assert_eq!(whole_by_offset(&client, "tasks?project_id=p", "tasks", 1000).await, all);
    assert_eq!(whole_by_offset(&client, "tasks?tier=frontier&project_id=p", "tasks", 7).await.len(), 0);
    // Characters that take six bytes in JSON and one in a row.
    let escaped = "\u{1}".repeat(16_000);
    for number in 0..20 {
        let project = json!({"project_id": format!("q{number}"), "description": escaped});
        assert_eq!(client.post("projects", &project).await.status, 201);
    }
    let all = is_cut(&client, "projects", "projects", 21).await;
    assert_eq!(whole_by_offset(&client, "projects", "projects", 1000).await, all);
}

#[tokio::test]
async fn checkpoints_and_dead_letters() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}})).await;
    let description = "d".repeat(16_000);
    for _ in 0..80 {
        assert_eq!(client.post("projects/p/checkpoints", &json!({"description": description})).await.status, 201);
    }
    is_cut(&client, "projects/p/checkpoints", "checkpoints", 80).await;
    let issue = "i".repeat(400_000);
    for number in 0..5 {
        let verdict =
            json!({"task_id": task, "artifact_id": format!("early {number}"), "issues": [issue], "score": 0.1});
        client.post("events", &event(&format!("early {number}"), "task.rejected", &verdict)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while whole(&client, "dead-letters", "dead_letters", 1000).await.0.len() < 5 {
        assert!(Instant::now() < deadline, "the verdicts stay parked");
        sleep(Duration::from_millis(50)).await;
    }
    is_cut(&client, "dead-letters", "dead_letters", 5).await;
}

#[tokio::test]
async fn events_and_histories() {
    let (_server, client) = served();
    let task = client.submit(&json!({"description": "x", "project_id": "p", "options": {"tier": "small"}})).await;
    client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    let text = "e".repeat(400_000);
    for number in 0..6 {
        let failure = json!({"task_id": task, "error": text});
        let answer = client.post("events", &event(&format!("late {number}"), "task.failed", &failure)).await;
        assert_eq!(answer.json()["outcome"], "stale", "{answer:?}");
    }
    is_cut(&client, "events?types=task.failed", "events", 6).await;
    // A history does not repeat the texts of events.
    let (history, pages) = whole(&client, &format!("tasks/{task}/events"), "events", 1000).await;
    assert!(pages == 1 && history.len() >= 8, "{history:?}");
}

/// `count` artifacts with ids of 250 bytes.
fn artifacts(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{of} {number} {:a<230}", "")).collect()
}

#[tokio::test]
async fn records_and_walks() {
    let (_server, client) = served();
    let root = "root".to_owned();
    let mut lines = vec![record("root", &[], std::slice::from_ref(&root))];
    for number in 0..6 {
        lines.push(record(&format!("user {number}"), &["root"], &artifacts(&number.to_string(), 900)));
    }
    import(&client, &lines).await;
    is_cut(&client, "provenance", "records", 7).await;
    is_cut(&client, "provenance?tainted=false&project_id=old", "records", 7).await;
    is_cut(&client, "provenance?task_id=task", "records", 7).await;
    let id = |record: &Value| record["provenance_id"].as_str().unwrap().to_owned();
    let dependents = is_cut(&client, "provenance/root/dependents", "dependents", 6).await;
    let user = id(&dependents[0]);
    let (dependencies, _) = whole(&client, &format!("provenance/{user}/dependencies"), "dependencies", 9).await;
    assert_eq!(dependencies.len(), 1);
    let firsts: Vec<String> = (0..6).map(|number| artifacts(&number.to_string(), 1).remove(0)).collect();
    let inputs: Vec<&str> = firsts.iter().map(String::as_str).collect();
    import(&client, &[record("sink", &inputs, &["sunk".to_owned()])]).await;
    is_cut(&client, "provenance/sink/dependencies", "dependencies", 7).await;
    let tainted = client.post("provenance/root/taint?limit=1000", &json!({"reason": "bad"})).await;
    assert!(tainted.body.len() < super::PAGE_BYTES + 300_000, "{} bytes", tainted.body.len());
    let told = tainted.json();
    assert_eq!((&told["total"], &told["truncated"]), (&json!(8), &json!(true)));
    let shown = told["affected"].as_array().unwrap().len();
    let next = told["next_cursor"].as_str().unwrap();
    let rest = client.get(&format!("provenance/root/affected?limit=1000&cursor={next}")).await.json();
    let rest_of_it = rest["affected"].as_array().unwrap().len();
    assert!(rest_of_it > 0 && (shown + rest_of_it == 8 || rest["truncated"] == json!(true)), "{shown} + {rest_of_it}");
}

#[tokio::test]
async fn the_audit_trail() {
    let (_server, client) = served();
    import(&client, &[record("root", &[], &["root".to_owned()])]).await;
    let reason = "r".repeat(4_000);
    for number in 0..150 {
        let reason = format!("{number} {reason}");
        for action in ["taint", "clear"] {
            let said = json!({"reason": reason, "cascade_id": "c"});
            let answer = client.post(&format!("provenance/root/{action}"), &said).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    is_cut(&client, "taint-events", "taint_events", 300).await;
    is_cut(&client, "taint-events?artifact_id=root", "taint_events", 300).await;
    is_cut(&client, "cascades/c", "steps", 300).await;
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused() {
    let (_server, client) = served();
    let mut lines = vec![record("root", &[], &["root".to_owned()])];
    for number in 0..20 {
        lines.push(record(&format!("user {number}"), &["root"], &artifacts(&number.to_string(), 900)));
    }
    import(&client, &lines).await;
    let refused = client.get("provenance/root/export?format=prov").await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "validation_failed"));
    let told = refused.json().to_string();
    assert!(told.contains("depth") && told.contains("4 MiB"), "{told}");
    assert_eq!(client.get("provenance/root/export?format=prov&depth=0").await.status, 200);
    // A picture names the first artifact of each record alone.
    assert_eq!(client.get("provenance/root/export?format=dot").await.status, 200);
}

#[tokio::test]
async fn clients_that_do_not_read_their_page_keep_nobody_from_reading() {
    let (_server, client) = served();
    let long = "d".repeat(60_000);
    let tasks: Vec<Value> = (0..15).map(|_| json!({"description": long, "project_id": "p"})).collect();
    for _ in 0..2 {
        assert_eq!(client.post("tasks/batch", &json!({"tasks": tasks})).await.status, 200);
    }
    let mut deaf = Vec::new();
    for _ in 0..60 {
        let mut stream = client.connect().await;
        stream.write_all(b"GET /api/v1/tasks?project_id=p&limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    let (all, _) = whole(&client, "tasks?project_id=p", "tasks", 1000).await;
    assert_eq!(all.len(), 30);
    drop(deaf);
}
