//! Events that this service has accepted itself come back from the broker.

use serde_json::{Value, json};

use super::world::{Names, Peer, event, health, soon};
use crate::support::client::Client;
use crate::support::proxy::{Proxy, Traffic};
use crate::support::rabbitmq;

async fn letters(client: &Client) -> Vec<Value> {
    client.get("dead-letters").await.json()["dead_letters"].as_array().unwrap().clone()
}

/// A verdict that waited in vain is forgotten, so that it can be sent again: the
/// broker must not be who does so.
#[tokio::test]
async fn an_event_that_came_over_http_is_not_taken_again_from_the_broker() {
    if !rabbitmq::is_installed("broker::accepted") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let proxy = Proxy::to(broker);
    proxy.traffic(Traffic::Refuse);
    let server = names.setup(proxy.address).with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    let verdict = |id: &str| {
        let data = json!({"task_id": task, "artifact_id": "never made", "score": 1});
        event("task.validated", "/qa", id, &data)
    };
    assert_eq!(client.post("events", &verdict("1")).await.json()["outcome"], "parked");
    soon("it is given up", async || letters(&client).await.len() == 1).await;
    proxy.traffic(Traffic::Pass);
    soon("all is published", async || {
        let told = health(&client).await;
        told["status"] == "connected" && told["backlog_changes"] == 0
    })
    .await;
    // One of another service comes behind it, with the headers of the first or not.
    let peer = Peer::connect(broker, &names).await.unwrap();
    let data = json!({"task_id": task, "artifact_id": "never made", "score": 1});
    peer.event("task.validated", "/qa", "2", &data).await.unwrap();
    soon("the other one is given up", async || {
        letters(&client).await.iter().any(|it| it["raw"].as_str().unwrap().contains("\"2\""))
    })
    .await;
    let raws: Vec<Value> = letters(&client).await.iter().map(|it| it["raw"].clone()).collect();
    assert_eq!(raws.len(), 2, "it was taken again: {raws:?}");
    let page = client.get("events?types=task.validated").await.json();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2), "{page}");
}
