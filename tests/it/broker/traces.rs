//! Events that the broker brings are spans of the traces that they name.

use serde_json::json;
use uuid::Uuid;

use super::world::{Names, Peer, event, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::collector::{CONSUMER, Collector, ERROR, Mood, Taken};
use crate::support::rabbitmq;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

#[tokio::test]
async fn an_event_s_span_is_below_the_one_that_it_names() {
    if !rabbitmq::is_installed("broker::traces") {
        return;
    }
    let (broker, names, collector) = (rabbitmq::shared().address(), Names::new(), Collector::start(Mood::Takes));
    let setup = names.setup(broker).with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    let server = setup.with("OTEL_BSP_SCHEDULE_DELAY", "50").start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}})).await;
    let peer = Peer::connect(broker, &names).await.unwrap();
    let publish = async |id: &str, task: &str, traceparent: serde_json::Value| {
        let data = json!({"task_id": task, "artifact_id": "a"});
        let mut output = event("task.output.created", "/worker", id, &data);
        output["traceparent"] = traceparent;
        let (exchange, text) = (names.exchange("task"), output.to_string());
        peer.publish(&exchange, "task.output.created", <_>::default(), text.as_bytes()).await.unwrap();
    };
    let is_event = |taken: &Taken| taken.span.name == format!("process {}", names.queue());
    publish("out-1", &task, json!(format!("00-{TRACE}-{PUBLISHER}-01"))).await;
    let span = collector.wait_for(is_event).await;
    assert_eq!((span.trace().as_str(), span.parent().as_str()), (TRACE, PUBLISHER));
    assert_eq!((span.span.kind, span.status()), (CONSUMER, 0));
    assert_eq!(span.attribute("messaging.system"), "rabbitmq");
    assert_eq!(span.attribute("messaging.destination.name"), names.queue());
    status_becomes(&client, &task, "completed").await;
    // What is no trace is no reason to refuse an event, and begins one.
    publish("out-2", &Uuid::now_v7().to_string(), json!(7)).await;
    let refused = collector.wait_for(|taken| is_event(taken) && taken.status() == ERROR).await;
    assert_eq!((refused.parent().as_str(), refused.attribute("error.type").as_str()), ("", "refused"));
}
