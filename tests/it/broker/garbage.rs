//! What can't be taken ends where somebody can look at it, and what comes
//! behind it is taken.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::world::{Names, Peer, Recorder, event, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::rabbitmq;

fn structured() -> BasicProperties {
    BasicProperties::default().with_content_type("application/cloudevents+json".into())
}

/// An output with one artifact more than there may be.
fn crowd(task: &str) -> Vec<u8> {
    let artifacts: Vec<Value> = (0..1025).map(|number| json!({"id": format!("a{number}")})).collect();
    let data = json!({"task_id": task, "artifact_id": "crowd", "output": {"artifacts": artifacts}});
    event("task.output.created", "/worker", "crowd", &data).to_string().into_bytes()
}

#[tokio::test]
async fn garbage_becomes_dead_letters_and_the_consumer_goes_on() {
    if !rabbitmq::is_installed("broker::garbage") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let tasks = names.exchange("task");
    let mut headers = FieldTable::default();
    headers.insert("ce-specversion".into(), AMQPValue::LongString("1.0".into()));
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("nowhere".into())].into()));
    let unknown = json!({"task_id": "01890a5d-ac96-774b-bcce-b302099a8057", "artifact_id": "a", "score": 1});
    let good = |name: &str, id: &str, data: &Value| event(name, "/qa", id, data).to_string().into_bytes();
    let no_task = json!({"task_id": "task-456", "error": "e"});
    let future = json!({"task_id": task, "error": "e", "attempt": 7});
    let garbage: Vec<(&str, BasicProperties, Vec<u8>, &str)> = vec![
        ("task.failed", structured(), Vec::new(), "EOF"),
        ("task.failed", structured(), b"{\"specversion\":".to_vec(), "not JSON"),
        ("task.failed", structured(), b"\xff\xfe\x00garbage".to_vec(), ""),
        ("task.failed", structured(), "[".repeat(100_000).into_bytes(), "deep"),
        ("task.failed", structured(), b"{\"specversion\":\"1.0\"}".to_vec(), "/id is required"),
        ("task.failed", BasicProperties::default(), b"7".to_vec(), "/data"),
        ("task.failed", BasicProperties::default(), b"{}".to_vec(), "/data/task_id is required"),
        ("task.failed", BasicProperties::default().with_headers(headers), b"{}".to_vec(), "/id is required"),
        ("task.failed", structured(), good("task.failed", "1", &no_task), "no task task-456"),
        ("task.failed", structured(), good("task.failed", "2", &future), "attempt 7 was never announced"),
        ("task.failed", structured(), good("task.nonsense", "3", &future), "are not accepted"),
        ("task.validated", structured(), good("task.validated", "4", &unknown), "there is no task 01890a5d"),
        ("task.failed", structured(), vec![b'x'; 2 << 20], "2097152 bytes"),
        ("task.output.created", structured(), crowd(&task), "at most 1024 artifacts"),
        // Its name is in the reason: more than the broker takes as a header.
        ("task.failed", structured(), good(&"x".repeat(300_000), "5", &future), "are not accepted"),
    ];
    for (key, properties, payload, _) in &garbage {
        peer.publish(&tasks, key, properties.clone(), payload).await.unwrap();
    }
    // Past the exchange: whatever the key is.
    peer.publish("", &names.queue(), BasicProperties::default(), b"{\"task_id\": \"x\"}").await.unwrap();
    let all = garbage.len() + 1;
    // The last word is a good one, and has its effect.
    let output = json!({"task_id": task, "artifact_id": "a"});
    peer.event("task.output.created", "/worker", "out", &output).await.unwrap();
    soon("it goes on", async || client.get(&format!("tasks/{task}")).await.json()["phase"] == "validating").await;
    let mut letters = Value::Null;
    soon("all are kept", async || {
        letters = client.get("dead-letters?limit=100").await.json()["dead_letters"].clone();
        letters.as_array().is_some_and(|letters| letters.len() >= all)
    })
    .await;
    let reasons: Vec<&str> =
        letters.as_array().unwrap().iter().rev().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), all, "{reasons:?}");
    for (_, _, _, expected) in &garbage {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected} in {reasons:?}");
    }
    // Each is in the dead-letter queue, with its reason.
    let recorder = Recorder::of(broker, &names, &names.dead_letters());
    soon("all are there", async || recorder.all().len() == all).await;
    for heard in recorder.all() {
        let headers = heard.properties.headers().clone().unwrap_or_default();
        let Some(AMQPValue::LongString(reason)) = headers.inner().get("dats-reason") else { panic!("{headers:?}") };
        let reason = reason.to_string();
        assert!(reasons.iter().any(|whole| whole.starts_with(&reason)), "{reason}");
        assert!(reason.len() <= 1024, "{} bytes of reason", reason.len());
    }
    soon("all are counted", async || {
        let metrics = client.get("metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        metrics.contains(&format!("dats_amqp_dead_lettered_total {all}"))
    })
    .await;
    // Nothing waits unacknowledged: another consumer would get nothing.
    assert_eq!(health(&client).await["status"], "connected");
}

#[tokio::test]
async fn events_are_taken_in_every_form_and_once() {
    if !rabbitmq::is_installed("broker::garbage") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let tasks = names.exchange("task");
    let submission = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
    for prefix in ["cloudEvents:", "cloudEvents_", "ce-", ""] {
        let task = client.submit(&submission).await;
        let mut headers = FieldTable::default();
        for (name, value) in [("specversion", "1.0"), ("source", "/worker"), ("id", task.as_str())] {
            headers.insert(format!("{prefix}{name}").into(), AMQPValue::LongString(value.into()));
        }
        // Without a prefix they are no attributes: it is bare data.
        let properties = BasicProperties::default().with_headers(headers).with_message_id(task.as_str().into());
        let data = json!({"task_id": task, "artifact_id": "a"}).to_string();
        for _ in 0..3 {
            peer.publish(&tasks, "task.output.created", properties.clone(), data.as_bytes()).await.unwrap();
        }
        status_becomes(&client, &task, "completed").await;
    }
    soon("the others were known", async || {
        client.get("health/detailed").await.json()["figures"]["events"]["duplicate"] == 8
    })
    .await;
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
}

#[tokio::test]
async fn what_is_large_about_a_dead_letter_does_not_stop_the_publisher() {
    if !rabbitmq::is_installed("broker::garbage") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let tasks = names.exchange("task");
    // A name that is long, and headers that fill a frame by themselves.
    let name = format!("task.{}", "\u{e4}".repeat(100_000));
    let long = event(&name, "/worker", "long", &json!({})).to_string();
    peer.publish(&tasks, "task.failed", structured(), long.as_bytes()).await.unwrap();
    let header = |bytes: usize| {
        let mut headers = FieldTable::default();
        headers.insert("trace".into(), AMQPValue::LongString("x".repeat(bytes).into()));
        BasicProperties::default().with_headers(headers)
    };
    peer.publish(&tasks, "task.failed", header(120_000), b"7").await.unwrap();
    peer.publish(&tasks, "task.failed", header(1000), b"7").await.unwrap();
    let letters = Recorder::of(broker, &names, &names.dead_letters());
    soon("all are there", async || letters.all().len() == 3).await;
    for heard in letters.all() {
        let headers = heard.properties.headers().clone().unwrap_or_default();
        let Some(AMQPValue::LongString(reason)) = headers.inner().get("dats-reason") else { panic!("{headers:?}") };
        assert!((1..=1024).contains(&reason.as_bytes().len()), "{reason}");
        assert!(std::str::from_utf8(reason.as_bytes()).is_ok(), "a character is cut in two");
    }
    let traces = letters.all().into_iter().filter_map(|heard| heard.properties.headers().clone());
    let traces: Vec<bool> = traces.map(|headers| headers.inner().contains_key("trace")).collect();
    assert_eq!(traces.iter().filter(|has| **has).count(), 1, "headers go along as far as they are small: {traces:?}");
    // All are in the table, and events still go out.
    let kept = client.get("dead-letters?limit=10").await.json();
    assert_eq!(kept["dead_letters"].as_array().unwrap().len(), 3, "{kept}");
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    soon("it is published", async || {
        let heard = recorder.all().into_iter().filter(|heard| heard.key == "task.ready.small");
        heard.map(|heard| heard.task().to_owned()).eq([task.clone()])
    })
    .await;
    let figures = health(&client).await;
    assert_eq!((&figures["status"], &figures["last_error"]), (&json!("connected"), &Value::Null), "{figures}");
}

#[tokio::test]
async fn equal_messages_without_an_id_do_not_pass_for_each_other() {
    if !rabbitmq::is_installed("broker::garbage") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let server = names.setup(broker).with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    // Verdicts before their output, which nothing waits for here.
    let verdict = json!({"task_id": task, "artifact_id": "a", "score": 0.9}).to_string();
    let mut letters = Vec::new();
    for count in 1..=2 {
        let tasks = names.exchange("task");
        peer.publish(&tasks, "task.validated", BasicProperties::default(), verdict.as_bytes()).await.unwrap();
        soon("it is a dead letter", async || {
            let page = client.get("dead-letters").await.json();
            letters = page["dead_letters"].as_array().unwrap().iter().map(|letter| letter["id"].to_string()).collect();
            letters.len() == count
        })
        .await;
    }
    peer.event("task.output.created", "/worker", "out", &json!({"task_id": task, "artifact_id": "a"})).await.unwrap();
    soon("its output is here", async || client.get(&format!("tasks/{task}")).await.json()["phase"] == "validating")
        .await;
    let mut outcomes = Vec::new();
    for letter in letters {
        let letter = letter.trim_matches('"');
        let answer = client.post(&format!("dead-letters/{letter}/requeue"), &json!({})).await;
        outcomes.push(answer.json()["outcome"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(outcomes, ["applied", "stale"]);
    status_becomes(&client, &task, "completed").await;
}
