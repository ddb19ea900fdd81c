//! The broker is optional at any time: away, added late, removed.

use std::time::Duration;

use serde_json::json;

use super::world::{Names, Recorder, health, qa, soon, status_becomes, worker};
use crate::support::client::Client;
use crate::support::process::Setup;
use crate::support::proxy::{Proxy, Traffic};
use crate::support::rabbitmq;

#[tokio::test]
async fn without_the_broker_everything_else_goes_on_and_nothing_is_missed() {
    if !rabbitmq::is_installed("broker::switching") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let proxy = Proxy::to(broker);
    proxy.traffic(Traffic::Refuse);
    let setup = names.setup(proxy.address);
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!((client.get("health").await.status, client.get("readyz").await.status), (200, 200));
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await);
    }
    let cancelled = tasks.pop().unwrap();
    assert_eq!(client.post(&format!("tasks/{cancelled}/cancel"), &json!({"reason": "no"})).await.status, 200);
    soon("the backlog is seen", async || {
        let told = health(&client).await;
        told["status"] == "away" && told["backlog_changes"].as_u64() > Some(40) && told["last_error"].is_object()
    })
    .await;
    // Over a stop as well.
    drop(client);
    server.signal("TERM");
    let mut server = server;
    server.wait(std::time::Duration::from_secs(20));
    proxy.traffic(Traffic::Pass);
    let server = setup.start();
    let client = Client::new(&server.address);
    let _others = (worker(broker, &names, "small"), qa(broker, &names).await);
    for task in &tasks {
        status_becomes(&client, task, "completed").await;
    }
    let expected = ["task.created", "task.ready.small", "task.cancelled", "task.finished"];
    soon("the cancelled one is told of", async || recorder.own_of_task(&cancelled) == expected).await;
    soon("nothing is behind", async || health(&client).await["backlog_changes"] == 0).await;
}

#[tokio::test]
async fn a_broker_that_is_added_late_gets_the_tasks_that_wait_and_one_that_is_removed_leaves_them() {
    if !rabbitmq::is_installed("broker::switching") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let embedded = Setup::new();
    let mut server = embedded.start();
    let client = Client::new(&server.address);
    let body = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
    let (waits, leased, ended) = (client.submit(&body).await, client.submit(&body).await, client.submit(&body).await);
    let lease = |lease_seconds: u32| json!({"worker_id": "w", "max": 1, "lease_seconds": lease_seconds});
    client.post(&format!("tasks/{ended}/cancel"), &json!({})).await;
    let first = client.post("queues/small/lease", &lease(60)).await.json();
    let second = client.post("queues/small/lease", &lease(3)).await.json();
    assert_eq!(first["leases"][0]["task"]["task_id"], waits.as_str());
    assert_eq!(second["leases"][0]["task"]["task_id"], leased.as_str());
    let first = first["leases"][0]["lease_id"].as_str().unwrap();
    assert_eq!(client.post(&format!("leases/{first}/release"), &json!({})).await.status, 204);
    let ready_id = client.get(&format!("events?task_id={waits}&types=task.ready")).await.json();
    let ready_id = ready_id["events"][0]["event"]["id"].as_str().unwrap().to_owned();
    server.signal("TERM");
    server.wait(std::time::Duration::from_secs(20));

    let mut server = names.on(embedded.clone(), broker).start();
    let client = Client::new(&server.address);
    soon("the one that waits is told of", async || recorder.of_task(&waits) == ["task.ready.small"]).await;
    let heard = recorder.all();
    assert_eq!(heard[0].id(), ready_id, "it has another id");
    // The lease of the other one runs out: then the broker has it, too.
    soon("the other one is told of", async || recorder.of_task(&leased) == ["task.ready.small"]).await;
    assert_eq!(recorder.of_task(&ended), Vec::<String>::new(), "what has ended is told of");
    let new = client.submit(&body).await;
    soon("a new one is told of", async || recorder.of_task(&new) == ["task.created", "task.ready.small"]).await;
    soon("all is told", async || health(&client).await["backlog_changes"] == 0).await;
    server.signal("TERM");
    server.wait(std::time::Duration::from_secs(20));

    let server = embedded.start();
    let client = Client::new(&server.address);
    let given = client.post("queues/small/lease", &json!({"worker_id": "w", "max": 10, "wait_seconds": 5})).await;
    assert_eq!(given.json()["leases"].as_array().map(Vec::len), Some(3), "{given:?}");
    let metrics = String::from_utf8(client.get("metrics").await.body.to_vec()).unwrap();
    assert!(!metrics.contains("amqp"), "{metrics}");
}

/// Its deadline would end an attempt that nobody can have begun.
#[tokio::test]
async fn a_task_from_before_the_switch_has_no_deadline_until_the_broker_has_it() {
    if !rabbitmq::is_installed("broker::switching") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let embedded = Setup::new();
    let mut server = embedded.start();
    let task = Client::new(&server.address).submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    server.signal("TERM");
    server.wait(Duration::from_secs(20));
    // No queue takes it, and none can be counted.
    let setup = names
        .on(embedded, broker)
        .with("DATS__EVENTS__RABBITMQ__WORK_QUEUES__DECLARE", "false")
        .with("DATS__EVENTS__RABBITMQ__UNOBSERVED_WAIT_SECONDS", "1");
    let server = setup.start();
    let client = Client::new(&server.address);
    soon("it came back", async || health(&client).await["held"] == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told = client.get(&format!("tasks/{task}")).await.json();
    assert_eq!(told["phase"], "dispatched", "{told}");
}
