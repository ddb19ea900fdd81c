//! A content that the disk does not take holds up no other message, is seen,
//! and is taken once the disk takes it again.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::world::{Names, Peer, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::process::Setup;
use crate::support::rabbitmq;
use crate::support::small_disk::SmallDisk;

async fn phase(client: &Client, task: &str) -> Value {
    client.get(&format!("tasks/{task}")).await.json()["phase"].clone()
}

#[tokio::test]
async fn a_content_that_can_not_be_written_waits_alone() {
    if !rabbitmq::is_installed("broker::storage") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let setup = names.setup(broker);
    let server = setup.start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let wanted = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
    let (large, small) = (client.submit(&wanted).await, client.submit(&wanted).await);
    let content = "x".repeat(100_000);
    let sha256 = Sha256::digest(&content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    // A file where the directory of the content should be.
    let blocked = setup.data_dir().join("contents").join(&sha256[..2]);
    fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    fs::write(&blocked, "in the way").unwrap();
    let peer = Peer::connect(broker, &names).await.unwrap();
    let output = json!({"task_id": large, "artifact_id": "a", "output": {"content": content}});
    peer.event("task.output.created", "/worker", "large", &output).await.unwrap();
    soon("it is seen", async || health(&client).await["consumer"]["status"] == "storage_failed").await;
    let error = health(&client).await["last_error"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("failed to") && error.contains(&sha256[..2]), "{error}");
    // Others are taken and acknowledged meanwhile.
    let output = json!({"task_id": small, "artifact_id": "b"});
    peer.event("task.output.created", "/worker", "small", &output).await.unwrap();
    status_becomes(&client, &small, "completed").await;
    assert_ne!(phase(&client, &large).await, "completed");
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
    assert_eq!(setup.log().matches("messages wait because the disk does not take them").count(), 1);
    fs::remove_file(&blocked).unwrap();
    status_becomes(&client, &large, "completed").await;
    soon("it is well again", async || health(&client).await["consumer"]["status"] == "connected").await;
    assert_eq!(client.get("artifacts/a/content").await.body, content.as_bytes());
}

/// A delivery that would make the store grow on a disk that is nearly full is not
/// acknowledged, waits as a named state, and is taken when there is room again;
/// small ones are taken meanwhile.
#[tokio::test]
async fn a_large_event_waits_while_the_disk_is_nearly_full() {
    if !rabbitmq::is_installed("broker::storage::nearly_full") {
        return;
    }
    let Some(disk) = SmallDisk::mount(128, "broker::storage::nearly_full") else { return };
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let setup = Setup::new().with("DATS__ENGINE__MIN_FREE_DISK_MIB", "16").data_in(&disk.data());
    let setup = names.on(setup, broker);
    let server = setup.start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let wanted = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
    let (large, small) = (client.submit(&wanted).await, client.submit(&wanted).await);
    let free = usize::try_from(disk.free_bytes() >> 20).unwrap();
    disk.take(free - 12);
    let room = async || {
        let health = client.get("/health/detailed").await.json();
        health["dependencies"]["store"]["room"].clone()
    };
    soon("the service has looked at the disk", async || room().await == "nearly_full").await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let content = "x".repeat(100_000);
    let output = json!({"task_id": large, "artifact_id": "a", "output": {"content": content}});
    peer.event("task.output.created", "/worker", "large", &output).await.unwrap();
    soon("it is seen", async || health(&client).await["consumer"]["status"] == "storage_full").await;
    let output = json!({"task_id": small, "artifact_id": "b"});
    peer.event("task.output.created", "/worker", "small", &output).await.unwrap();
    status_becomes(&client, &small, "completed").await;
    assert_ne!(phase(&client, &large).await, "completed");
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
    disk.free();
    status_becomes(&client, &large, "completed").await;
    soon("it is well again", async || health(&client).await["consumer"]["status"] == "connected").await;
    assert_eq!(client.get("artifacts/a/content").await.body, content.as_bytes());
    assert_eq!(setup.log().matches("messages wait because the disk does not take them").count(), 1);
}
