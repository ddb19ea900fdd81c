//! A message is the broker's until its event is committed: a service that dies in
//! between gets it again.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::world::{Names, Peer, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::rabbitmq;
use crate::support::strace::{self, Attached};

/// Writes take so long, in microseconds, that a service is killed before the first
/// one: much longer than messages take to reach it.
const SLOW_WRITES: &str = "pwrite64:delay_enter=20000000";
const UNDER_WAY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_message_whose_event_is_not_committed_comes_again() {
    if !rabbitmq::is_installed("broker::commits") || !strace::works() {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let setup = names.setup(broker);
    let mut server = setup.start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let wanted = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
        tasks.push(client.submit(&wanted).await);
    }
    let peer = Peer::connect(broker, &names).await.unwrap();
    let slow = Attached::to(&server.pids()[0], SLOW_WRITES);
    for task in &tasks {
        let output = json!({"task_id": task, "artifact_id": format!("of {task}")});
        peer.event("task.output.created", "/worker", task, &output).await.unwrap();
    }
    // The service has the messages by now, and its first commit waits for the disk.
    sleep(UNDER_WAY).await;
    for task in &tasks {
        assert_ne!(client.get(&format!("tasks/{task}")).await.json()["status"], "completed");
    }
    server.signal("KILL");
    // The process is gone only when strace, which delays its calls, lets it go.
    drop(slow);
    server.kill();
    let server = setup.start();
    let client = Client::new(&server.address);
    for task in &tasks {
        status_becomes(&client, task, "completed").await;
    }
}
