//! A broker that is there and does not take what it is given.

use lapin::options::{BasicAckOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio_stream::StreamExt as _;

use super::world::{Names, Peer, Recorder, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::proxy::{Proxy, Traffic};
use crate::support::rabbitmq::{self, RabbitMq};

/// The value of a metric without labels.
async fn metric(client: &Client, name: &str) -> u64 {
    let body = client.get("metrics").await.body;
    let text = String::from_utf8_lossy(&body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("{name} in {text}"))
}

#[tokio::test]
async fn what_the_broker_refuses_is_published_again_under_the_same_id() {
    if !rabbitmq::is_installed("broker::refusing") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).with("DATS__EVENTS__RABBITMQ__WORK_QUEUES__DECLARE", "false").start();
    let client = Client::new(&server.address);
    let peer = Peer::connect(broker, &names).await.unwrap();
    // A queue of workers that takes one task and refuses the next.
    let queue = names.work_queue("small");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    peer.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    let (exchange, key) = (names.exchange("task"), "task.ready.small");
    let binding = QueueBindOptions::default();
    let bound = peer.channel.queue_bind(
        queue.as_str().into(),
        exchange.as_str().into(),
        key.into(),
        binding,
        FieldTable::default(),
    );
    bound.await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let options = json!({"tier": "small", "qa_profile": "none"});
        tasks.push(client.submit(&json!({"description": "d", "options": options})).await);
    }
    soon("some are refused", async || metric(&client, "dats_amqp_nacked_total").await > 0).await;
    soon("they are held", async || health(&client).await["held"].as_u64() > Some(0)).await;
    let dispatched = client.get("events?types=task.ready&limit=100").await.json();
    let id_of = |task: &str| {
        let mut events = dispatched["events"].as_array().unwrap().iter().map(|item| &item["event"]);
        events.find(|event| event["data"]["task_id"] == task).map(|event| event["id"].clone()).unwrap()
    };
    // Each comes as soon as there is room, under the id that it had from the beginning.
    let mut deliveries = peer.consume(&queue).await.unwrap();
    let mut left = tasks.clone();
    while !left.is_empty() {
        let delivery = deliveries.next().await.unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_slice(&delivery.data).unwrap();
        let task = event["data"]["task_id"].as_str().unwrap();
        assert_eq!(event["id"], id_of(task), "{event}");
        left.retain(|waiting| waiting != task);
        let output = json!({"task_id": task, "artifact_id": format!("art-{task}")});
        peer.event("task.output.created", "/worker", task, &output).await.unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    for task in &tasks {
        status_becomes(&client, task, "completed").await;
    }
    soon("nothing is behind", async || health(&client).await["backlog_changes"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_short_of_memory_only_publishing_waits() {
    if !rabbitmq::is_installed("broker::refusing") {
        return;
    }
    let (broker, names) = (RabbitMq::start(), Names::new());
    let server = names.setup(broker.address()).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let options = json!({"tier": "small", "qa_profile": "none"});
    let first = client.submit(&json!({"description": "d", "options": options})).await;
    soon("it is published", async || health(&client).await["backlog_changes"] == 0).await;
    let peer = Peer::connect(broker.address(), &names).await.unwrap();
    let mut deliveries = peer.consume(&names.work_queue("small")).await.unwrap();
    deliveries.next().await.unwrap().unwrap().ack(BasicAckOptions::default()).await.unwrap();
    broker.alarm(true);
    // The broker blocks a connection when it publishes next, and still takes that.
    let mut waiting = vec![client.submit(&json!({"description": "d", "options": options})).await];
    soon("it says so", async || health(&client).await["publisher"]["status"] == "blocked").await;
    waiting.push(client.submit(&json!({"description": "d", "options": options})).await);
    let told = health(&client).await;
    assert_eq!((&told["status"], &told["consumer"]["status"]), (&json!("blocked"), &json!("connected")), "{told}");
    soon("the backlog is seen", async || health(&client).await["backlog_changes"].as_u64() > Some(0)).await;
    // Longer than a confirm may take: the connection is not given up for it.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let told = health(&client).await;
    assert_eq!((&told["status"], &told["last_error"]), (&json!("blocked"), &serde_json::Value::Null), "{told}");
    assert_eq!(client.get("health").await.status, 200);
    broker.alarm(false);
    soon("it goes on", async || health(&client).await["status"] == "connected").await;
    for task in &waiting {
        let next = deliveries.next().await.unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_slice(&next.data).unwrap();
        assert_eq!(event["data"]["task_id"], json!(task));
    }
    let output = json!({"task_id": first, "artifact_id": "a"});
    peer.event("task.output.created", "/worker", "out", &output).await.unwrap();
    status_becomes(&client, &first, "completed").await;
}

#[tokio::test]
async fn a_wrong_password_is_told_once_and_never_shown() {
    if !rabbitmq::is_installed("broker::refusing") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let setup = names.setup(broker).with("DATS__EVENTS__RABBITMQ__PASSWORD", "hunter2hunter2");
    let server = setup.start();
    let client = Client::new(&server.address);
    let mut told = serde_json::Value::Null;
    soon("it is refused", async || {
        told = health(&client).await;
        ["publisher", "consumer"].iter().all(|side| told[*side]["status"] == "refused")
    })
    .await;
    assert!(told["last_error"]["message"].as_str().unwrap().contains("ACCESS_REFUSED"), "{told}");
    client.submit(&json!({"description": "meanwhile"})).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (log, told) = (setup.log(), health(&client).await.to_string());
    assert_eq!(log.matches("the broker refuses").count(), 2, "once a connection: {log}");
    assert!(!log.contains("hunter2") && !told.contains("hunter2"), "{log}{told}");
}

/// The broker closes the channel for a message above its limit, and does not say
/// which one of a wave it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_for_the_broker_holds_up_no_other() {
    if !rabbitmq::is_installed("broker::refusing") {
        return;
    }
    let (broker, names) = (RabbitMq::start_limited(8 * 1024), Names::new());
    let recorder = Recorder::start(broker.address(), &names).await;
    let proxy = Proxy::to(broker.address());
    proxy.traffic(Traffic::Refuse);
    let setup = names.setup(proxy.address);
    let server = setup.start();
    let client = Client::new(&server.address);
    let (mut tasks, mut large) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let is_large = [3, 4, 17].contains(&number);
        let description = "x".repeat(if is_large { 10_000 } else { 10 });
        let options = json!({"tier": "small", "qa_profile": "none"});
        let task = client.submit(&json!({"description": description, "options": options})).await;
        if is_large { large.push(task) } else { tasks.push(task) }
    }
    // All of it waits, and goes out in few waves.
    proxy.traffic(Traffic::Pass);
    recorder.hears(&tasks, &["task.created", "task.ready.small"]).await.unwrap();
    soon("each large one is found", async || metric(&client, "dats_amqp_refused_total").await == 3).await;
    let told = health(&client).await;
    assert_eq!((&told["publisher"]["status"], &told["held"]), (&json!("connected"), &json!(3)), "{told}");
    let error = told["last_error"]["message"].as_str().unwrap();
    assert!(error.contains("(task.created) can't be published: PRECONDITION_FAILED"), "{error}");
    let connects = metric(&client, "dats_amqp_connects_total{side=\"publisher\"}").await;
    // What comes later goes out as well, over the same connection.
    let later = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    recorder.hears(&[later], &["task.created", "task.ready.small"]).await.unwrap();
    for task in &large {
        assert_eq!(recorder.of_task(task), Vec::<String>::new(), "its events come in their order");
    }
    assert_eq!(metric(&client, "dats_amqp_connects_total{side=\"publisher\"}").await, connects);
    assert_eq!(setup.log().matches("a message can't be published").count(), 3, "{}", setup.log());
}
