//! A rollback is whole or absent, at whatever moment the service is killed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::Setup;

const TASKS: u64 = 12;

/// Some finished tasks with a record each, and as many running ones.
async fn work(client: &Client, round: u64) {
    let task = |number: u64, profile: &str| json!({"description": format!("work {number}"), "project_id": "p", "options": {"tier": "small", "qa_profile": profile}});
    let tasks: Vec<Value> = (0..TASKS).map(|number| task(number, "none")).collect();
    let done = client.post("tasks/batch", &json!({ "tasks": tasks })).await.json();
    let outputs = done["results"].as_array().unwrap().iter().enumerate().map(|(number, result)| {
        let artifact = format!("made-{round}-{number}");
        let inputs: Vec<String> =
            number.checked_sub(1).map(|before| format!("made-{round}-{before}")).into_iter().collect();
        json!({
            "specversion": "1.0", "type": "dats.task.output.created", "source": "/w", "id": artifact,
            "data": {"task_id": result["task"]["task_id"], "artifact_id": artifact, "inputs_consumed": inputs},
        })
    });
    for output in outputs {
        // Most of them wait for a slot until one before has completed.
        let mut answer = client.post("events", &output).await;
        while answer.status == 409 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            answer = client.post("events", &output).await;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let open: Vec<Value> = (0..TASKS).map(|number| task(number, "consensus")).collect();
    client.post("tasks/batch", &json!({ "tasks": open })).await;
    let leased = client.post("queues/small/lease", &json!({"worker_id": "w", "max": TASKS})).await.json();
    assert_eq!(leased["leases"].as_array().map(Vec::len), usize::try_from(TASKS).ok(), "{leased}");
}

/// Cancels what is left.
async fn end(client: &Client) {
    for status in ["pending", "running"] {
        let left = client.get(&format!("tasks?project_id=p&status={status}&limit=1000")).await.json();
        for task in left["tasks"].as_array().unwrap() {
            client.post(&format!("tasks/{}/cancel", task["task_id"].as_str().unwrap()), &json!({})).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_rollback_is_whole_or_absent() {
    let setup = Setup::new().with("DATS__TASK_MANAGEMENT__MAX_CONCURRENT_PER_PROJECT", "100");
    let mut server = setup.start();
    client_project(&Client::new(&server.address)).await;
    let (mut whole, mut absent) = (0, 0);
    for round in 0..8 {
        let client = Client::new(&server.address);
        let before = client.get("projects/p/status").await.json();
        let first = client.post("projects/p/checkpoints", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
        work(&client, round).await;
        let later = client.post("projects/p/checkpoints", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
        let asked = client.clone();
        let path = format!("checkpoints/{first}/rollback");
        let rollback =
            tokio::spawn(async move { asked.try_post(&path, &json!({"reason": "bad", "requeue": true}), &[]).await });
        // From before it comes to after its answer.
        tokio::time::sleep(Duration::from_micros(round * 1500)).await;
        server.kill();
        let acknowledged = rollback.await.unwrap().is_ok_and(|answer| answer.status == 200);
        server = setup.start();
        let client = Client::new(&server.address);
        let now = client.get("projects/p/status").await.json();
        let count = |name: &str| now[name].as_u64().unwrap() - before[name].as_u64().unwrap();
        let total = |name: &str| {
            let of = |status: &Value| status["by_status"][name].as_u64().unwrap();
            of(&now) - of(&before)
        };
        let is_valid = client.get(&format!("checkpoints/{later}")).await.json()["is_valid"].as_bool().unwrap();
        let is_whole = !is_valid;
        let expected = if is_whole { (TASKS, TASKS, 4 * TASKS) } else { (0, 0, 2 * TASKS) };
        assert_eq!((count("tainted"), total("cancelled"), count("total")), expected, "round {round}");
        assert!(is_whole || !acknowledged, "round {round}: it was acknowledged, and is gone");
        whole += u32::from(is_whole);
        absent += u32::from(!is_whole);
        // Nothing of this round is open in the next one.
        client.post(&format!("checkpoints/{first}/rollback"), &json!({"reason": "to the start"})).await;
        end(&client).await;
    }
    println!("{whole} were whole, {absent} absent");
}

async fn client_project(client: &Client) {
    assert_eq!(client.post("projects", &json!({"project_id": "p"})).await.status, 201);
}
