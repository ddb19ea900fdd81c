//! What goes through the broker is as the document says that the service
//! serves: names, properties, bodies, and what is taken and what is not.

use std::collections::BTreeSet;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Map, Value, json};

use super::world::{Heard, Names, Peer, Recorder, Running, event, health, soon, status_becomes, worker};
use crate::support::client::Client;
use crate::support::process::Server;
use crate::support::rabbitmq;
use crate::support::schemas::{strictly_wrong, wrong};
use crate::support::stand_in::StandIn;

const TIERS: [&str; 5] = ["tiny", "small", "large", "coding", "frontier"];
const TASK_OF_EXAMPLES: &str = "01a204b0-4fa3-7360-8ccf-d910346c28ac";
const CHECKPOINT_OF_EXAMPLES: &str = "01a204b0-6b1e-7c20-8a7d-4f5e6d7c8b9a";

/// A service, and the document that it serves.
struct World {
    names: Names,
    client: Client,
    document: Value,
    peer: Peer,
    _server: Server,
}

impl World {
    async fn new(
        names: Names,
        change: impl FnOnce(crate::support::process::Setup) -> crate::support::process::Setup,
    ) -> Self {
        let broker = rabbitmq::shared().address();
        let server = change(names.setup(broker)).start();
        let client = Client::new(&server.address);
        soon("it is connected", async || health(&client).await["status"] == "connected").await;
        let document = client.get("asyncapi.json").await.json();
        let peer = Peer::connect(broker, &names).await.unwrap();
        Self { names, client, document, peer, _server: server }
    }

    fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
        pointer.map_or(value, |pointer| self.at(self.document.pointer(pointer).unwrap()))
    }

    fn channels(&self) -> &Map<String, Value> {
        self.document["channels"].as_object().unwrap()
    }

    /// The messages of what this service does with a channel.
    fn messages(&self, action: &str, channel: &str) -> Vec<&Value> {
        let operations = self.document["operations"].as_object().unwrap().values();
        let channel = format!("#/channels/{channel}");
        let mine = operations.filter(|one| one["action"] == action && one["channel"]["$ref"] == channel.as_str());
        mine.flat_map(|one| one["messages"].as_array().unwrap()).map(|message| self.at(message)).collect()
    }

    /// What is wrong with a message that this service has published on a channel.
    fn wrong(&self, channel: &str, heard: &Heard) -> Vec<String> {
        let message = self.messages("send", channel)[0];
        let mut found = strictly_wrong(&self.document, self.at(&message["headers"]), &told(&heard.properties));
        found.extend(strictly_wrong(&self.document, self.at(&message["payload"]), &heard.event));
        found
    }

    /// Something that happens over HTTP.
    async fn happens(&self, name: &str, id: &str, data: &Value) {
        let answer = self.client.post("events", &event(name, "/http", id, data)).await;
        assert_eq!(answer.json()["outcome"], "applied", "{name}: {answer:?}");
    }
}

/// The properties of a message as the document has them.
fn told(properties: &BasicProperties) -> Value {
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("type", properties.kind()),
        ("app_id", properties.app_id()),
        ("reply_to", properties.reply_to()),
        ("user_id", properties.user_id()),
        ("expiration", properties.expiration()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?.to_string().into())));
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", *properties.timestamp()),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, Value::from(number?))));
    let mut all: Map<String, Value> = texts.chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(headers) = properties.headers() {
        let headers = headers.inner().iter().map(|(name, value)| match value {
            AMQPValue::LongString(text) => (name.to_string(), Value::from(text.to_string())),
            other => (name.to_string(), json!(format!("{other:?}"))),
        });
        all.insert("headers".to_owned(), Value::Object(headers.collect()));
    }
    Value::Object(all)
}

/// The properties that an example has.
fn properties_of(told: &Value) -> BasicProperties {
    let text = |name: &str| told[name].as_str().map(Into::into);
    let mut properties = BasicProperties::default();
    if let Some(text) = text("content_type") {
        properties = properties.with_content_type(text);
    }
    if let Some(text) = text("message_id") {
        properties = properties.with_message_id(text);
    }
    if let Some(text) = text("app_id") {
        properties = properties.with_app_id(text);
    }
    if let Some(headers) = told["headers"].as_object() {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().unwrap().into()));
        }
        properties = properties.with_headers(table);
    }
    properties
}

/// A journey in which everything is published that can be.
async fn journey(world: &World, broker: std::net::SocketAddr, recorder: &Recorder) -> Running {
    let client = &world.client;
    let worker = worker(broker, &world.names, "small");
    let rules = json!({"style": "plain words"});
    let split = json!({
        "description": "two parts", "project_id": "p", "constitution_override": rules,
        "options": {"tier": "small", "qa_profile": "none", "decompose": true, "inputs": ["given"]},
    });
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let answer =
        client.ask("POST", "tasks", &[trace, ("content-type", "application/json")], split.to_string()).await.unwrap();
    let split = answer.json()["task_id"].as_str().unwrap().to_owned();
    status_becomes(client, &split, "completed").await;
    let plain = |tier: &str| json!({"description": "plain", "options": {"tier": tier, "qa_profile": "strict", "decompose": false}});
    // The Agent chooses its tier.
    let asked = json!({"description": "asked", "options": {"qa_profile": "none", "decompose": false}});
    status_becomes(client, &client.submit(&asked).await, "completed").await;
    // Rejected, tried again one tier up, and cancelled.
    let task = client.submit(&plain("small")).await;
    let phase = async |phase: &str| client.get(&format!("tasks/{task}")).await.json()["phase"] == phase;
    soon("its output is here", async || phase("validating").await).await;
    let issues = json!({"task_id": task, "artifact_id": format!("art-{task}-1"), "issues": ["no tests"], "score": 0.2});
    world.happens("task.rejected", "rejected", &issues).await;
    soon("it is tried again", async || phase("dispatched").await).await;
    assert_eq!(client.post(&format!("tasks/{task}/cancel"), &json!({"reason": "enough"})).await.status, 200);
    let task = client.submit(&plain("tiny")).await;
    assert_eq!(client.post(&format!("tasks/{task}/cancel"), &json!({})).await.status, 200);
    let task = client.submit(&plain("tiny")).await;
    soon("it is out", async || client.get(&format!("tasks/{task}")).await.json()["phase"] == "dispatched").await;
    world.happens("task.failed", "failed", &json!({"task_id": task, "error": "no", "retryable": false})).await;
    status_becomes(client, &task, "failed").await;
    let page = client.get("events?limit=1000").await.json();
    let count = page["events"].as_array().unwrap().len();
    soon("all is heard", async || recorder.distinct().len() >= count).await;
    worker
}

#[tokio::test]
async fn what_is_published_is_as_described() {
    if !rabbitmq::is_installed("broker::described") {
        return;
    }
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let splitting = [
        "--decompose-rate",
        "1",
        "--subtasks-min",
        "2",
        "--subtasks-max",
        "2",
        "--dependencies",
        "chain",
        "--tiers",
        "small",
    ];
    let (agent, rag) = (StandIn::agent(&splitting), StandIn::rag(&[]));
    let world = World::new(names, |setup| {
        setup.with("DATS__ROUTING__AGENT_SERVICE_URL", &agent.url).with("DATS__ROUTING__RAG_SERVICE_URL", &rag.url)
    })
    .await;
    let _worker = journey(&world, broker, &recorder).await;
    let (mut seen, mut helped, mut ends) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for heard in recorder.all() {
        let by_tier = heard.key.strip_prefix("task.ready.");
        let channel = by_tier.map_or(heard.key.as_str(), |_| "task.ready");
        if heard.event["source"] == "/worker" {
            let said = world.messages("receive", channel)[0];
            assert_eq!(wrong(&world.document, world.at(&said["payload"]), &heard.event), [""; 0], "{heard:?}");
            continue;
        }
        assert_eq!(world.wrong(channel, &heard), [""; 0], "{heard:?}");
        let address = world.channels()[channel]["address"].as_str().unwrap();
        assert_eq!(address.replace("{tier}", by_tier.unwrap_or_default()), heard.key);
        let data = &heard.event["data"];
        helped.extend(data["context"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        ends.extend(data["status"].as_str().map(str::to_owned));
        for (field, is_there) in [
            ("traceparent", data["traceparent"].is_string() && heard.event["traceparent"].is_string()),
            ("constitution", data["constitution"].is_object()),
            ("error", data["error"].is_object()),
            ("provenance_id", data["provenance_id"].is_string()),
        ] {
            seen.extend(is_there.then_some(field.to_owned()));
        }
        seen.insert(heard.key.clone());
    }
    let of = |words: &str| words.split(' ').map(str::to_owned).collect::<BTreeSet<String>>();
    assert_eq!(ends, of("completed failed cancelled"));
    // Each of these was there, so what is said of it was tried.
    let helps = "parent dependencies acceptance_criteria estimate text sources previous_attempt";
    assert_eq!(helped, of(helps));
    let own = "task.created task.ready.small task.ready.large task.ready.tiny task.cancelled task.finished";
    let passed_on = "task.rejected task.failed";
    let fields = "traceparent constitution error provenance_id";
    assert_eq!(seen, of(&format!("{own} {passed_on} {fields}")));
}

/// To declare something in the form in which it is there is no error.
#[tokio::test]
async fn exchanges_and_queues_are_as_described() {
    if !rabbitmq::is_installed("broker::described") {
        return;
    }
    let world = World::new(Names::new(), |setup| setup).await;
    let mut queues = 0;
    for channel in world.channels().values() {
        let amqp = &channel["bindings"]["amqp"];
        if amqp["is"] == "routingKey" {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let name = amqp["exchange"]["name"].as_str().unwrap();
            let passive = ExchangeDeclareOptions { passive: true, ..options };
            for options in [passive, options] {
                let table = FieldTable::default();
                world.peer.channel.exchange_declare(name.into(), ExchangeKind::Topic, options, table).await.unwrap();
            }
            continue;
        }
        let mut arguments = FieldTable::default();
        for (name, value) in channel["x-arguments"].as_object().unwrap() {
            arguments.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().unwrap().into()));
        }
        let address = channel["address"].as_str().unwrap();
        let tiers = if address.contains("{tier}") { &TIERS[..] } else { &[""] };
        for tier in tiers {
            let name = address.replace("{tier}", tier);
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let passive = QueueDeclareOptions { passive: true, ..options };
            for options in [passive, options] {
                world.peer.channel.queue_declare(name.as_str().into(), options, arguments.clone()).await.unwrap();
            }
            queues += 1;
        }
    }
    assert_eq!(queues, TIERS.len() + 2);
}

/// An example of a message, about things that are there.
struct Example {
    id: String,
    told: Value,
    payload: Value,
}

impl Example {
    /// Makes what the example is about.
    async fn of(world: &World, number: usize, name: &str, message: &Value) -> Self {
        let options = json!({"tier": "small", "qa_profile": "strict"});
        let submission = json!({"description": "d", "project_id": "proj-123", "options": options});
        let task = world.client.submit(&submission).await;
        let (artifact, review) = (format!("made-{number}"), format!("asked-{number}"));
        let source = format!("source-{number}");
        let artifacts = json!([{"id": artifact}, {"id": source}]);
        let output = json!({"task_id": task, "artifact_id": artifact, "output": {"artifacts": artifacts}});
        // What is made after it is what a rollback changes.
        let checkpoint = if name == "rollback.requested" {
            let made = world.client.post("projects/proj-123/checkpoints", &json!({})).await;
            made.json()["id"].as_str().unwrap().to_owned()
        } else {
            String::new()
        };
        let judged = ["task.validated", "task.rejected"].contains(&name);
        if judged || ["review", "artifact", "rollback"].iter().any(|area| name.starts_with(area)) {
            world.happens("task.output.created", &format!("output-{number}"), &output).await;
        }
        if name == "review.completed" {
            let data = json!({"review_id": review, "reason": "r", "priority": 1, "task_id": task});
            world.happens("review.requested", &format!("review-{number}"), &data).await;
        }
        let id = format!("{name}-{number}");
        let text = message["examples"][0].to_string();
        let text = text.replace(&format!("\"{name}-1\""), &format!("\"{id}\"")).replace(TASK_OF_EXAMPLES, &task);
        let text = text.replace("\"art-1\"", &format!("\"{artifact}\"")).replace("review-1", &review);
        let text = text.replace("\"art-0\"", &format!("\"{source}\""));
        let text = text.replace("cascade-1", &format!("cascade-{number}"));
        let example: Value = serde_json::from_str(&text.replace(CHECKPOINT_OF_EXAMPLES, &checkpoint)).unwrap();
        Self { id, told: example["headers"].clone(), payload: example["payload"].clone() }
    }

    async fn publish(&self, world: &World, channel: &Value) {
        let exchange = channel["bindings"]["amqp"]["exchange"]["name"].as_str().unwrap();
        let (key, payload) = (channel["address"].as_str().unwrap(), self.payload.to_string());
        world.peer.publish(exchange, key, properties_of(&self.told), payload.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn examples_are_taken_and_what_is_wrong_is_not() {
    if !rabbitmq::is_installed("broker::described") {
        return;
    }
    let world = World::new(Names::new(), |setup| setup).await;
    let letters = async || world.client.get("dead-letters?limit=100").await.json()["dead_letters"].clone();
    let count = |letters: &Value| letters.as_array().unwrap().len();
    let mut number = 0;
    let queue = world.messages("receive", "queue").len();
    for (name, channel) in
        world.channels().iter().filter(|(_, channel)| channel["bindings"]["amqp"]["is"] == "routingKey")
    {
        // Verdicts have a channel at each of two exchanges, for the same event.
        let event = channel["address"].as_str().unwrap();
        for message in world.messages("receive", name) {
            let example = Example::of(&world, number, event, message).await;
            let schema = world.at(&message["payload"]);
            assert_eq!(wrong(&world.document, schema, &example.payload), [""; 0], "{name}");
            example.publish(&world, channel).await;
            soon(&format!("{} is taken", message["name"]), async || {
                let page = world.client.get("events?limit=1000").await.json();
                let mut events = page["events"].as_array().unwrap().iter();
                events.any(|item| item["event"]["id"] == example.id.as_str()) || count(&letters().await) > number
            })
            .await;
            assert_eq!(count(&letters().await), number, "{}: {}", message["name"], letters().await);
            let outcomes = world.client.get("health/detailed").await.json()["figures"]["events"].clone();
            let others = ["stale", "parked", "unchanged"].map(|other| outcomes[other].as_u64().unwrap_or_default());
            assert_eq!(others, [0; 3], "{} has no effect", message["name"]);
            // Without a field that must be there.
            let mut payload = example.payload.clone();
            let is_envelope = payload.get("specversion").is_some();
            let data = if is_envelope { &mut payload["data"] } else { &mut payload };
            data.as_object_mut()
                .unwrap()
                .retain(|field, _| !["task_id", "artifact_id", "checkpoint_id", "review_id"].contains(&field.as_str()));
            assert_ne!(wrong(&world.document, schema, &payload), [""; 0], "{name}: {payload}");
            Example { payload, ..example }.publish(&world, channel).await;
            number += 1;
            soon("it is a dead letter", async || count(&letters().await) == number).await;
        }
    }
    assert_eq!((number, queue), (36, 30), "the two verdicts come by two exchanges");
    let recorder = Recorder::of(rabbitmq::shared().address(), &world.names, &world.names.dead_letters());
    soon("all are there", async || recorder.all().len() == number).await;
    let letter = world.messages("send", "dead-letters")[0];
    for heard in recorder.all() {
        let told = told(&heard.properties);
        assert_eq!(wrong(&world.document, world.at(&letter["headers"]), &told), [""; 0], "{told}");
    }
}
