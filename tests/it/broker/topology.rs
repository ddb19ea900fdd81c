//! Queues that are there in another form, that are deleted, or that are not
//! there at all.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::json;

use super::world::{Names, Peer, Recorder, event, health, qa, soon, status_becomes, worker};
use crate::support::client::Client;
use crate::support::proxy::Proxy;
use crate::support::rabbitmq;

#[tokio::test]
async fn a_queue_in_another_form_is_an_error_of_the_settings_and_nothing_else_stops() {
    if !rabbitmq::is_installed("broker::topology") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let peer = Peer::connect(broker, &names).await.unwrap();
    peer.queue(&names.queue(), "classic", &[]).await.unwrap();
    let setup = names.setup(broker);
    let server = setup.start();
    let client = Client::new(&server.address);
    soon("it is refused", async || health(&client).await["status"] == "refused").await;
    let told = health(&client).await;
    let message = told["last_error"]["message"].as_str().unwrap();
    let queue = names.queue();
    for part in [queue.as_str(), "declare the queue", "PRECONDITION_FAILED"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    soon("the other side is connected", async || health(&client).await["publisher"]["status"] == "connected").await;
    assert_eq!(client.get("health/detailed").await.json()["status"], "degraded");
    assert_eq!((client.get("health").await.status, client.get("readyz").await.status), (200, 200));
    // Publishing goes on, and so does everything else.
    let recorder = Recorder::start(broker, &names).await;
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    soon("it is published", async || recorder.of_task(&task).contains(&"task.ready.small".to_owned())).await;
    let told = setup.log().matches("the broker refuses").count();
    assert_eq!(told, 1, "{}", setup.log());
    assert!(!setup.log().contains("guest"), "{}", setup.log());
}

/// Where answers arrive is there before a task goes out, however long the
/// connection that consumes is in coming.
#[tokio::test]
async fn a_worker_may_answer_as_soon_as_it_is_given_a_task() {
    if !rabbitmq::is_installed("broker::topology") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let proxy = Proxy::to(broker);
    proxy.at_most(1);
    let server = names.setup(proxy.address).start();
    let client = Client::new(&server.address);
    soon("only the side that publishes is connected", async || {
        let told = health(&client).await;
        if told["consumer"]["status"] == "connected" {
            proxy.reset();
        }
        told["publisher"]["status"] == "connected" && told["consumer"]["status"] == "away"
    })
    .await;
    let _worker = worker(broker, &names, "small");
    let options = json!({"tier": "small", "qa_profile": "none"});
    let task = client.submit(&json!({"description": "d", "options": options})).await;
    let channel = Peer::connect(broker, &names).await.unwrap().channel;
    let look = || QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    soon("the answer is there", async || {
        let queue = channel.queue_declare(names.queue().into(), look(), FieldTable::default()).await;
        queue.expect("a queue for answers").message_count() > 0
    })
    .await;
    proxy.at_most(usize::MAX);
    status_becomes(&client, &task, "completed").await;
}

#[tokio::test]
async fn deleted_queues_are_declared_again() {
    if !rabbitmq::is_installed("broker::topology") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let queue = names.work_queue("small");
    peer.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    peer.delete_queue_of_service(&client).await;
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    let _others = (worker(broker, &names, "small"), qa(broker, &names).await);
    status_becomes(&client, &task, "completed").await;
    let metrics = String::from_utf8(client.get("metrics").await.body.to_vec()).unwrap();
    assert!(!metrics.contains("dats_amqp_returned_total 0\n"), "nothing came back: {metrics}");
}

/// Nothing comes back of what is published meanwhile: another queue takes it.
#[tokio::test]
async fn what_waited_in_a_deleted_queue_is_published_again() {
    if !rabbitmq::is_installed("broker::topology") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let setup = names.setup(broker);
    let server = setup.start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let body = |tier: &str| json!({"description": "d", "options": {"tier": tier, "qa_profile": "none"}});
    let before = client.submit(&body("small")).await;
    let other = client.submit(&body("large")).await;
    let ready = |task: &str| {
        recorder.all().iter().filter(|heard| heard.task() == task && heard.key.starts_with("task.ready")).count()
    };
    soon("both are published", async || ready(&before) == 1 && ready(&other) == 1).await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let queue = names.work_queue("small");
    peer.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let after = client.submit(&body("small")).await;
    soon("it is published again", async || ready(&before) == 2).await;
    let _worker = worker(broker, &names, "small");
    for task in [&before, &after] {
        status_becomes(&client, task, "completed").await;
    }
    let page = client.get(&format!("events?task_id={before}&types=task.ready")).await.json();
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "it is the same attempt: {page}");
    assert_eq!(ready(&other), 1, "its queue was there");
    assert_eq!(setup.log().matches("a work queue was missing").count(), 1, "{}", setup.log());
    soon("all is published", async || health(&client).await["backlog_changes"] == 0).await;
}

#[tokio::test]
async fn a_task_that_no_queue_takes_is_published_until_one_does() {
    if !rabbitmq::is_installed("broker::topology") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let server = names.setup(broker).with("DATS__EVENTS__RABBITMQ__WORK_QUEUES__DECLARE", "false").start();
    let client = Client::new(&server.address);
    let peer = Peer::connect(broker, &names).await.unwrap();
    peer.queue(&names.work_queue("small"), "classic", &["task.ready.small"]).await.unwrap();
    // The recorder hears every key: only without it does a task find no queue.
    let others = names.exchange("task");
    let queue = format!("{}.recorder", names.0);
    let unbinding =
        peer.channel.queue_unbind(queue.as_str().into(), others.as_str().into(), "#".into(), <_>::default());
    unbinding.await.unwrap();
    let body = |tier: &str| json!({"description": "d", "options": {"tier": tier, "qa_profile": "none"}});
    let lost = client.submit(&body("large")).await;
    let given_up = client.submit(&body("large")).await;
    let taken = client.submit(&body("small")).await;
    let work = Recorder::of(broker, &names, &names.work_queue("small"));
    soon("others are published", async || work.of_task(&taken) == ["task.ready.small"]).await;
    soon("it is held", async || health(&client).await["held"] == 2).await;
    assert_eq!(client.get(&format!("tasks/{lost}")).await.json()["phase"], "dispatched");
    // Nobody needs to hear of it any more: what follows of it is published.
    let cancelled = client.post(&format!("tasks/{given_up}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200);
    soon("one is held", async || health(&client).await["held"] == 1).await;
    peer.queue(&names.work_queue("large"), "classic", &["task.ready.large"]).await.unwrap();
    let work = Recorder::of(broker, &names, &names.work_queue("large"));
    soon("it is delivered", async || work.of_task(&lost) == ["task.ready.large"]).await;
    let page = client.get(&format!("events?task_id={lost}&types=task.ready")).await.json();
    assert_eq!(page["events"][0]["event"]["id"], work.all()[0].id(), "it has another id");
    soon("nothing is held", async || health(&client).await["held"] == 0).await;
    soon("all is published", async || health(&client).await["backlog_changes"] == 0).await;
    drop(recorder);
    let output = event("task.output.created", "/worker", "o", &json!({"task_id": lost, "artifact_id": "a"}));
    assert_eq!(client.post("events", &output).await.json()["outcome"], "applied");
}
