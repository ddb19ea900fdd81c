//! Every list there is, as `OpenAPI` names them, over entries with equal keys:
//! with pages of every small size the pages together are the whole. A list that
//! is added without a row here is noticed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{event, import, record, with};
use crate::support::client::Client;
use crate::support::process::Setup;

/// How many entries have the same key.
const SAME: usize = 7;
/// Sizes of pages: the smallest ones, one entry less than there are, and as many.
const LIMITS: [usize; 5] = [1, 2, 3, SAME - 1, SAME];

/// A server with entries, and the lists that were gone through.
struct Lists {
    client: Client,
    covered: BTreeSet<String>,
}

impl Lists {
    /// Goes through a list, page by page from its beginning.
    async fn is_whole(&mut self, template: &str, path: &str, name: &str, count: usize) {
        let all = joined(&self.client, None, path, name, 1000).await;
        check(path, &all, count);
        for limit in LIMITS {
            assert_eq!(joined(&self.client, None, path, name, limit).await, all, "{path} with limit {limit}");
        }
        self.covered.insert(template.to_owned());
    }

    /// The same of a list whose first page is the answer to a POST, which changes
    /// nothing.
    async fn is_whole_behind(&mut self, template: &str, post: &str, body: &Value, count: usize) {
        let path = format!("{}/affected", post.rsplit_once('/').unwrap().0);
        let all = joined(&self.client, Some((post, body)), &path, "affected", 1000).await;
        check(post, &all, count);
        for limit in LIMITS {
            let pages = joined(&self.client, Some((post, body)), &path, "affected", limit).await;
            assert_eq!(pages, all, "{post} with limit {limit}");
        }
        self.covered.insert(template.to_owned());
    }
}

fn check(path: &str, all: &[Value], count: usize) {
    assert_eq!(all.len(), count, "{path}: {all:?}");
    for (at, entry) in all.iter().enumerate() {
        assert!(!all[..at].contains(entry), "{path}: {entry} stands there twice");
    }
}

/// All entries of a list, page by page; the first page may come from a POST.
async fn joined(client: &Client, first: Option<(&str, &Value)>, path: &str, name: &str, limit: usize) -> Vec<Value> {
    let limit = format!("limit={limit}");
    let mut answer = match first {
        Some((post, body)) => client.post(&with(post, &limit), body).await,
        None => client.get(&with(path, &limit)).await,
    };
    let mut all = Vec::new();
    loop {
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let body = answer.json();
        all.extend(body[name].as_array().unwrap_or_else(|| panic!("no {name} in {body}")).clone());
        assert!(all.len() <= 100, "{path} has no end");
        let Some(cursor) = body["next_cursor"].as_str() else { return all };
        answer = client.get(&with(path, &format!("{limit}&cursor={cursor}"))).await;
    }
}

/// Records of one and the same second: `root`, its users, a sink behind them all,
/// and a chain. All but the sink and the chain have made `shared` as well.
async fn import_records(client: &Client) {
    let of_task = |mut record: Value, task: String| {
        record["task_id"] = json!(task);
        record
    };
    let mut lines = vec![record("root", &[], &["root".to_owned()])];
    let made: Vec<String> = (0..SAME).map(|number| format!("made {number}")).collect();
    for (number, output) in made.iter().enumerate() {
        let outputs = [output.clone(), "shared".to_owned()];
        lines.push(of_task(record(&format!("user {number}"), &["root"], &outputs), format!("task {number}")));
    }
    let inputs: Vec<&str> = made.iter().map(String::as_str).collect();
    lines.push(of_task(record("sink", &inputs, &["sunk".to_owned()]), "task 0".to_owned()));
    for number in 0..SAME {
        let before = format!("link {number}");
        let inputs = if number == 0 { vec![] } else { vec![before.as_str()] };
        let after = [format!("link {}", number + 1)];
        lines.push(of_task(record(&format!("chain {number}"), &inputs, &after), "chain".to_owned()));
    }
    for number in 0..SAME {
        lines.push(json!({
            "id": format!("checkpoint {number}"), "project_id": "old", "created_at": "2026-01-09T17:00:00",
            "git_ref": "", "provenance_count": 1, "artifact_count": 1, "last_provenance_id": "root",
            "last_task_id": "task", "rag_state_ref": "", "work_product_ref": "", "description": "",
            "trigger": "manual", "is_valid": true,
        }));
    }
    import(client, &lines).await;
}

async fn provenance(lists: &mut Lists) {
    import_records(&lists.client).await;
    let records = 1 + SAME + 1 + SAME;
    lists.is_whole("/provenance", "provenance", "records", records).await;
    lists.is_whole("/projects/{id}/checkpoints", "projects/old/checkpoints", "checkpoints", SAME).await;
    let root = "provenance/root";
    lists.is_whole("/provenance/{id}/dependents", &format!("{root}/dependents"), "dependents", SAME + 1).await;
    lists.is_whole("/provenance/{id}/impact", &format!("{root}/impact"), "tasks", SAME).await;
    let behind = "provenance/sink/dependencies";
    lists.is_whole("/provenance/{id}/dependencies", behind, "dependencies", SAME + 1).await;
    let path = format!("provenance/path?from=link%201&to=link%20{SAME}");
    lists.is_whole("/provenance/path", &path, "path", SAME).await;
    lists.is_whole("/artifacts/{id}", "artifacts/shared", "records", SAME).await;
    let dry = json!({"reason": "bad", "dry_run": true});
    lists.is_whole_behind("/provenance/{id}/affected", &format!("{root}/taint"), &dry, SAME + 2).await;
    let checkpoint = "checkpoints/checkpoint%200/rollback";
    lists.is_whole_behind("/checkpoints/{id}/affected", checkpoint, &dry, records).await;
    // One cascade of several steps, each of which changes one record.
    for number in 0..SAME {
        let subject = format!("provenance/chain%20{number}/taint");
        let answer = lists.client.post(&subject, &json!({"reason": "bad", "cascade_id": "c"})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    lists.is_whole("/cascades/{id}", "cascades/c", "steps", SAME).await;
    lists.is_whole_behind("/cascades/{id}/affected", "cascades/c/clear", &dry, SAME).await;
    let trail = lists.client.get("taint-events?limit=1000").await.json()["taint_events"].as_array().unwrap().len();
    assert!(trail >= SAME, "{trail} entries of the audit trail");
    lists.is_whole("/taint-events", "taint-events", "taint_events", trail).await;
}

async fn tasks(lists: &mut Lists) {
    let wanted: Vec<Value> =
        (0..SAME).map(|_| json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}})).collect();
    let made = lists.client.post("tasks/batch", &json!({"tasks": wanted})).await.json();
    lists.is_whole("/tasks", "tasks?project_id=p", "tasks", SAME).await;
    lists.is_whole("/events", "events?types=task.created", "events", SAME).await;
    // Without a filter, so that no position between two entries is left out.
    let count = joined(&lists.client, None, "events", "events", 1000).await.len();
    lists.is_whole("/events", "events", "events", count).await;
    let task = made["results"][0]["task"]["task_id"].as_str().unwrap();
    lists.client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    // All in one commit, so that their times are equal.
    let late: Vec<Value> = (0..SAME)
        .map(|number| event(&format!("late {number}"), "task.failed", &json!({"task_id": task, "error": "late"})))
        .collect();
    let open = made["results"][1]["task"]["task_id"].as_str().unwrap();
    let early: Vec<Value> = (0..SAME)
        .map(|number| json!({"task_id": open, "artifact_id": format!("early {number}"), "issues": [], "score": 0.1}))
        .map(|verdict| event(verdict["artifact_id"].as_str().unwrap(), "task.rejected", &verdict))
        .collect();
    let headers = [("content-type", "application/cloudevents-batch+json")];
    for events in [late, early] {
        let answer = lists.client.ask("POST", "events", &headers, Value::from(events).to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let path = format!("tasks/{task}/events");
    let count = joined(&lists.client, None, &path, "events", 1000).await.len();
    assert!(count > SAME, "{count} entries");
    lists.is_whole("/tasks/{id}/events", &path, "events", count).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while joined(&lists.client, None, "dead-letters", "dead_letters", 1000).await.len() < SAME {
        assert!(Instant::now() < deadline, "the verdicts stay parked");
        sleep(Duration::from_millis(50)).await;
    }
    lists.is_whole("/dead-letters", "dead-letters", "dead_letters", SAME).await;
    let letters = joined(&lists.client, None, "dead-letters", "dead_letters", 1000).await;
    for letter in letters {
        let gone = lists.client.ask("DELETE", &format!("dead-letters/{}", letter["id"]), &[], "").await.unwrap();
        assert_eq!(gone.status, 204, "{gone:?}");
    }
    lists.is_whole("/dead-letters/removals", "dead-letters/removals", "removals", SAME).await;
    for number in 0..SAME - 2 {
        assert_eq!(lists.client.post("projects", &json!({"project_id": format!("q{number}")})).await.status, 201);
    }
    lists.is_whole("/projects", "projects", "projects", SAME).await;
}

/// The paths that take a cursor.
fn lists_of(document: &Value) -> BTreeSet<String> {
    let is_cursor = |parameter: &Value| {
        let named = parameter["$ref"].as_str().and_then(|pointer| document.pointer(pointer.strip_prefix('#')?));
        named.unwrap_or(parameter)["name"] == "cursor"
    };
    let paths = document["paths"].as_object().unwrap().iter();
    let parameters = |path: &Value| path["get"]["parameters"].as_array().cloned().unwrap_or_default();
    paths
        .filter(|(_, path)| parameters(path).iter().any(is_cursor))
        .map(|(path, _)| path.trim_start_matches("/api/v1").to_owned())
        .collect()
}

#[tokio::test]
async fn every_list_is_the_same_in_pages_of_any_size() {
    // Verdicts that come too early become dead letters at once.
    let server = Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let mut lists = Lists { client: Client::new(&server.address), covered: BTreeSet::new() };
    provenance(&mut lists).await;
    tasks(&mut lists).await;
    let document = lists.client.get("openapi.json").await.json();
    assert_eq!(lists.covered, lists_of(&document));
}
