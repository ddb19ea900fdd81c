//! Tasks of the benches over HTTP, submitted and completed in batches on one connection.

use serde_json::{Value, json};

use dats::workload::load::{Connection, post_request};

/// Number of projects of the tasks: `proj-0` and so on.
pub(crate) const PROJECTS: u64 = 20;
const DESCRIPTION: &str = "Create a Python function that calculates fibonacci numbers";

/// Returns the submission with a number.
pub(crate) fn submission_request(number: u64) -> Vec<u8> {
    let project = number % PROJECTS;
    let body = format!("{{\"description\":\"{DESCRIPTION}\",\"project_id\":\"proj-{project}\"}}");
    post_request("/api/v1/tasks", &body, "application/json")
}

/// Sends a request, checks the status of the answer, and returns its body.
pub(crate) async fn call(connection: &mut Connection, request: &[u8], status: u16) -> Value {
    let (found, body) = connection.call(request).await.expect("a server that answers");
    assert_eq!(found, status, "{}", String::from_utf8_lossy(body));
    serde_json::from_slice(body).unwrap_or_default()
}

/// Submits `count` tasks in one batch.
pub(crate) async fn submit_batch(connection: &mut Connection, count: u64) {
    let task = |n: u64| {
        let project = n % PROJECTS;
        json!({ "description": DESCRIPTION, "project_id": format!("proj-{project}"), "options": { "tier": "small" } })
    };
    let body = json!({ "tasks": (0..count).map(task).collect::<Vec<_>>() }).to_string();
    call(connection, &post_request("/api/v1/tasks/batch", &body, "application/json"), 200).await;
}

/// Leases all waiting tasks and sends an output for each, and a verdict if `is_judged`. Returns
/// the ids of the tasks.
pub(crate) async fn finish_all(connection: &mut Connection, is_judged: bool) -> Vec<String> {
    let mut finished = Vec::new();
    loop {
        let body = "{\"worker_id\":\"bench\",\"max\":100,\"lease_seconds\":60,\"wait_seconds\":0}";
        let answer = call(connection, &post_request("/api/v1/queues/small/lease", body, "application/json"), 200).await;
        let leases = answer["leases"].as_array().cloned().unwrap_or_default();
        if leases.is_empty() {
            return finished;
        }
        let ids: Vec<String> =
            leases.iter().map(|lease| lease["task"]["task_id"].as_str().expect("an id").to_owned()).collect();
        send(connection, ids.iter().map(|id| output(id))).await;
        if is_judged {
            send(connection, ids.iter().map(|id| verdict(id))).await;
        }
        finished.extend(ids);
    }
}

async fn send(connection: &mut Connection, events: impl Iterator<Item = Value>) {
    let body = events.collect::<Value>().to_string();
    call(connection, &post_request("/api/v1/events", &body, "application/cloudevents-batch+json"), 200).await;
}

fn output(id: &str) -> Value {
    let artifact = format!("art-{id}");
    let artifacts = [json!({ "id": artifact, "type": "code", "path": "fibonacci.py" })];
    json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/worker", "id": id,
        "data": { "task_id": id, "artifact_id": artifact, "output": { "artifacts": artifacts },
                  "model_used": "model-7b", "worker_id": "bench", "tokens_input": 120, "tokens_output": 800 }
    })
}

fn verdict(id: &str) -> Value {
    json!({
        "specversion": "1.0", "type": "dats.task.validated", "source": "/qa", "id": id,
        "data": { "task_id": id, "artifact_id": format!("art-{id}"), "score": 0.9 }
    })
}
