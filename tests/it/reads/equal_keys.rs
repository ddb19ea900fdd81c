//! Pages over entries with equal keys: many records, checkpoints and entries of
//! the audit trail of one and the same moment. With every limit from one to
//! more than there are, the pages together are the same whole.

use serde_json::{Value, json};

use super::{event, import, record, whole, whole_by_offset};
use crate::support::client::Client;
use crate::support::process::Setup;

/// How many entries have the same key.
const SAME: usize = 7;

/// Goes through a list with every limit; it has `count` entries, each once.
async fn is_whole(client: &Client, path: &str, name: &str, count: usize) {
    let (all, _) = whole(client, path, name, 1000).await;
    assert_eq!(all.len(), count, "{path}");
    for (at, entry) in all.iter().enumerate() {
        assert!(!all[..at].contains(entry), "{path}: {entry} stands there twice");
    }
    for limit in 1..=count + 1 {
        let (entries, pages) = whole(client, path, name, limit).await;
        assert_eq!(entries, all, "{path} with limit {limit}");
        // A full page may end before entries that are looked at and not wanted.
        let fewest = count.div_ceil(limit).max(1);
        assert!((fewest..=fewest + 1).contains(&pages), "{path} with limit {limit}: {pages} pages");
    }
}

async fn is_whole_by_offset(client: &Client, path: &str, name: &str, count: usize) {
    let (all, _) = whole(client, path, name, 1000).await;
    for limit in 1..=count + 1 {
        assert_eq!(whole_by_offset(client, path, name, limit).await, all, "{path} with limit {limit}");
    }
}

#[tokio::test]
async fn records_checkpoints_and_the_audit_trail() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let mut lines = vec![record("root", &[], &["root".to_owned()])];
    for number in 0..SAME {
        lines.push(record(&format!("user {number}"), &["root"], &[format!("made {number}")]));
        lines.push(json!({
            "id": format!("checkpoint {number}"), "project_id": "old", "created_at": "2026-01-09T18:00:00", "git_ref": "",
            "provenance_count": 1, "artifact_count": 1, "last_provenance_id": "root", "last_task_id": "task",
            "rag_state_ref": "", "work_product_ref": "", "description": "", "trigger": "manual", "is_valid": true,
        }));
        lines.push(json!({
            "id": format!("event {number}"), "timestamp": "2026-01-09T18:00:00", "artifact_id": "root",
            "provenance_id": "root", "reason": "why", "source_artifact_id": "", "source_provenance_id": "",
            "cascade_depth": 0, "cascade_id": "old", "action": "suspect",
        }));
    }
    import(&client, &lines).await;
    for query in ["", "?project_id=old", "?task_id=task", "?created_after=2026-01-09T18:00:00Z", "?tainted=false"] {
        is_whole(&client, &format!("provenance{query}"), "records", SAME + 1).await;
    }
    is_whole(&client, "provenance?created_before=2026-01-09T18:00:00Z", "records", 0).await;
    is_whole(&client, "projects/old/checkpoints", "checkpoints", SAME).await;
    is_whole(&client, "taint-events?cascade_id=old", "taint_events", SAME).await;
    is_whole(&client, "provenance/root/dependents", "dependents", SAME).await;
    // One step changes all of them.
    let answer = client.post("provenance/root/taint", &json!({"reason": "bad", "cascade_id": "c"})).await;
    assert_eq!(answer.json()["total"], json!(SAME + 1), "{answer:?}");
    is_whole(&client, "taint-events?cascade_id=c", "taint_events", SAME + 1).await;
    is_whole(&client, "provenance/path?from=root&to=made%200", "path", 2).await;
}

#[tokio::test]
async fn tasks_projects_events_and_histories() {
    let server = Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = Client::new(&server.address);
    let tasks: Vec<Value> =
        (0..SAME).map(|_| json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}})).collect();
    let made = client.post("tasks/batch", &json!({"tasks": tasks})).await.json();
    for query in ["", "?project_id=p", "?status=pending,running", "?tier=tiny", "?project_id=p&status=pending,running"]
    {
        is_whole(&client, &format!("tasks{query}"), "tasks", SAME).await;
        is_whole_by_offset(&client, &format!("tasks{query}"), "tasks", SAME).await;
    }
    for number in 0..SAME {
        assert_eq!(client.post("projects", &json!({"project_id": format!("q{number}")})).await.status, 201);
    }
    is_whole(&client, "projects", "projects", SAME + 1).await;
    is_whole_by_offset(&client, "projects", "projects", SAME + 1).await;
    is_whole(&client, "events?types=task.created", "events", SAME).await;
    let task = made["results"][0]["task"]["task_id"].as_str().unwrap();
    // All in one commit, so that their times are equal.
    let late: Vec<Value> = (0..SAME)
        .map(|number| event(&number.to_string(), "task.failed", &json!({"task_id": task, "error": "late"})))
        .collect();
    client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = client.ask("POST", "events", &headers, Value::from(late).to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = format!("tasks/{task}/events");
    let (history, _) = whole(&client, &path, "events", 1000).await;
    assert!(history.len() > SAME, "{history:?}");
    is_whole(&client, &path, "events", history.len()).await;
}
