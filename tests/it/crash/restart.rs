//! Promise 9: a restart brings back exactly the state before it, timers and
//! leases included.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::check::all_tasks;
use crate::support::client::Client;
use crate::support::process::Setup;

async fn lease(client: &Client, seconds: u64) -> Value {
    let answer = client.post("queues/small/lease", &json!({"worker_id": "w", "lease_seconds": seconds})).await;
    answer.json()["leases"][0].clone()
}

async fn phase(client: &Client, task: &Value) -> Value {
    client.get(&format!("tasks/{}", task.as_str().unwrap())).await.json()["phase"].clone()
}

async fn becomes(client: &Client, task: &Value, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while phase(client, task).await != wanted {
        assert!(Instant::now() < deadline, "{task} does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that is to be seen, but for what changes with time alone.
async fn seen(client: &Client) -> Vec<Value> {
    let mut all = all_tasks(client).await;
    for task in all.clone() {
        let id = task["task_id"].as_str().unwrap().to_owned();
        all.push(client.get(&format!("tasks/{id}/events")).await.json());
    }
    for path in ["projects", "projects/p/status", "events?after=0", "dead-letters", "provenance/a-0"] {
        all.push(client.get(path).await.json());
    }
    let mut queues = client.get("queues").await.json();
    for queue in queues["queues"].as_array_mut().unwrap() {
        queue["oldest_age_seconds"] = Value::Null;
    }
    all.push(queues);
    all
}

#[tokio::test]
async fn state_timers_and_leases_come_back() {
    let setup = Setup::new().with("DATS__TASK_MANAGEMENT__BACKOFF_INITIAL_SECONDS", "5");
    let mut server = setup.start();
    let client = Client::new(&server.address);
    for number in 0..6 {
        let body = json!({"description": format!("work {number}"), "project_id": "p", "options": {"tier": "small"}});
        client.submit(&body).await;
    }
    let scheduled = json!({"description": "later", "options": {"not_before": "2100-01-01T00:00:00Z"}});
    let scheduled = client.submit(&scheduled).await;
    client.submit(&json!({"description": "blocked", "options": {"depends_on": [scheduled]}})).await;
    let (held, lapsing) = (lease(&client, 600).await, lease(&client, 4).await);
    let (done, failed) = (lease(&client, 600).await, lease(&client, 600).await);
    let event = |id: &str, name: &str, data: Value| json!({"specversion": "1.0", "type": name, "source": "/w", "id": id, "data": data});
    let output = json!({"task_id": done["task"]["task_id"], "artifact_id": "a-0", "output": {"content": "x"}});
    assert_eq!(client.post("events", &event("1", "task.output.created", output)).await.status, 200);
    let failure = json!({"task_id": failed["task"]["task_id"], "error": "no"});
    assert_eq!(client.post("events", &event("2", "task.failed", failure)).await.status, 200);
    let parked = json!({"task_id": held["task"]["task_id"], "artifact_id": "a-1", "score": 1});
    assert_eq!(client.post("events", &event("3", "task.validated", parked)).await.json()["outcome"], "parked");

    let before = seen(&client).await;
    server.kill();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(seen(&client).await, before, "after kill -9");
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(seen(&client).await, before, "after SIGTERM");

    let renewed = client.post(&format!("leases/{}/renew", held["lease_id"].as_str().unwrap()), &json!({})).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    becomes(&client, &lapsing["task"]["task_id"], "queued").await;
    let lost = client.post(&format!("leases/{}/renew", lapsing["lease_id"].as_str().unwrap()), &json!({})).await;
    assert_eq!((lost.status, lost.code().as_str()), (409, "lease_lost"));
    becomes(&client, &failed["task"]["task_id"], "queued").await;
    let output = json!({"task_id": held["task"]["task_id"], "artifact_id": "a-1"});
    assert_eq!(client.post("events", &event("4", "task.output.created", output)).await.json()["outcome"], "applied");
    assert_eq!(phase(&client, &held["task"]["task_id"]).await, "completed", "by the verdict that was parked");
    drop(server);
}
