//! Tasks from submission to end, through the broker.

use serde_json::{Value, json};

use super::world::{Names, Peer, Recorder, event, health, qa, soon, status_becomes, worker};
use crate::support::client::Client;
use crate::support::rabbitmq;

#[tokio::test]
async fn tasks_travel_through_the_broker() {
    if !rabbitmq::is_installed("broker::journey") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let (_worker, _qa) = (worker(broker, &names, "small"), qa(broker, &names).await);
    let mut tasks = Vec::new();
    for number in 0..5 {
        let body = json!({"description": format!("task {number}"), "options": {"tier": "small"}});
        tasks.push(client.submit(&body).await);
    }
    for task in &tasks {
        let done = status_becomes(&client, task, "completed").await;
        assert_eq!(done["artifacts"][0]["id"], format!("art-{task}-1"));
        let expected = ["task.created", "task.ready.small", "task.output.created", "task.validated", "task.finished"];
        soon("all is heard", async || recorder.of_task(task).len() >= expected.len()).await;
        assert_eq!(recorder.of_task(task), expected);
    }
    soon("all is told", async || health(&client).await["backlog_changes"] == 0).await;
    for heard in recorder.distinct().iter().filter(|heard| heard.event["source"] == "/orchestration") {
        let (event, properties) = (&heard.event, &heard.properties);
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
        assert_eq!(text(properties.message_id()).as_deref(), event["id"].as_str());
        assert_eq!(text(properties.kind()).as_deref(), event["type"].as_str());
        assert_eq!(text(properties.correlation_id()).as_deref(), Some(heard.task()));
        assert_eq!(text(properties.content_type()).as_deref(), Some("application/cloudevents+json"));
        assert_eq!(*properties.delivery_mode(), Some(2));
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(properties.timestamp().map(i64::try_from), Some(Ok(time.as_second())));
        assert_eq!((&event["specversion"], &event["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
        if heard.key == "task.ready.small" {
            assert_eq!((&event["type"], &event["data"]["tier"]), (&json!("dats.task.ready"), &json!("small")));
        }
    }
    // What is told over HTTP is what the broker carried.
    let page = client.get("events?limit=1000").await.json();
    let mut ids: Vec<&Value> = page["events"].as_array().unwrap().iter().map(|item| &item["event"]["id"]).collect();
    let heard = recorder.distinct();
    let mut carried: Vec<&Value> = heard.iter().map(|heard| &heard.event["id"]).collect();
    ids.sort_by_key(ToString::to_string);
    carried.sort_by_key(ToString::to_string);
    assert_eq!(ids, carried);
    // Each once, since nothing has gone wrong.
    assert_eq!(recorder.all().len(), heard.len());
    // What the Cascade service says of an artifact has its effect, too.
    let artifact = format!("art-{}-1", tasks[0]);
    let data = json!({"artifact_id": artifact, "cascade_id": "c-1", "reason": "wrong units"});
    let tainted = event("artifact.tainted", "/cascade", "taint-1", &data).to_string();
    let peer = Peer::connect(broker, &names).await.unwrap();
    let exchange = names.exchange("cascade");
    peer.publish(&exchange, "artifact.tainted", <_>::default(), tainted.as_bytes()).await.unwrap();
    let path = format!("provenance/{artifact}");
    soon("it is tainted", async || client.get(&path).await.json()["is_tainted"] == true).await;
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
}

#[tokio::test]
async fn events_over_http_go_to_the_broker_and_leases_do_not_exist() {
    if !rabbitmq::is_installed("broker::journey") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}})).await;
    let refused = client.post("queues/small/lease", &json!({"worker_id": "w"})).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "leasing_not_available"));
    let output = event("task.output.created", "/worker", "out-1", &json!({"task_id": task, "artifact_id": "a"}));
    let answer = client.post("events", &output).await;
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
    soon("it is heard", async || recorder.of_task(&task).contains(&"task.output.created".to_owned())).await;
    // It came back through our own queue, and was passed over.
    soon("it came back", async || {
        let metrics = client.get("metrics").await.body;
        String::from_utf8_lossy(&metrics).contains("dats_amqp_consumed_total 1")
    })
    .await;
    let figures = client.get("health/detailed").await.json()["figures"].clone();
    assert_eq!((&figures["events"]["duplicate"], &figures["events"]["applied"]), (&json!(0), &json!(1)), "{figures}");
    soon("the end is heard", async || recorder.of_task(&task).contains(&"task.finished".to_owned())).await;
    let outputs = recorder.all().into_iter().filter(|heard| heard.key == "task.output.created").count();
    assert_eq!(outputs, 1, "it was published again after it came back");
    soon("it has all come", async || health(&client).await["backlog_changes"] == 0).await;
    let metrics = String::from_utf8(client.get("metrics").await.body.to_vec()).unwrap();
    for line in [
        "dats_amqp_link{side=\"publisher\",state=\"connected\"} 1",
        "dats_amqp_link{side=\"consumer\",state=\"connected\"} 1",
        "dats_amqp_consumed_total 1",
        "dats_log_reader_behind_changes{reader=\"amqp\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
}
