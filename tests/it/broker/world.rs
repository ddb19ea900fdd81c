//! A service in front of a real broker, and the others around it: workers, QA,
//! and a recorder that hears everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;

use crate::support::client::Client;
use crate::support::process::Setup;

/// The longest that anything may take that is bound to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// The longest that one step of a peer may take.
const STEP: Duration = Duration::from_secs(10);

/// The names that one test uses at a broker which it shares with others.
#[derive(Debug, Clone)]
pub(super) struct Names(pub(super) String);

impl Names {
    /// Names that nobody else has.
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn exchange(&self, area: &str) -> String {
        format!("{}.{area}.events", self.0)
    }

    /// The queue of the service.
    pub(super) fn queue(&self) -> String {
        format!("{}.orchestration-events", self.0)
    }

    pub(super) fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.queue())
    }

    pub(super) fn work_queue(&self, tier: &str) -> String {
        format!("{}.task.ready.{tier}", self.0)
    }

    /// A service at the broker of this address.
    pub(super) fn setup(&self, broker: SocketAddr) -> Setup {
        self.on(Setup::new(), broker)
    }

    /// The same on the data of another one.
    pub(super) fn on(&self, setup: Setup, broker: SocketAddr) -> Setup {
        let exchanges = ["task", "cascade", "qa"].map(|area| self.exchange(area)).join(", ");
        setup
            .with("RABBITMQ_HOST", &broker.ip().to_string())
            .with("RABBITMQ_PORT", &broker.port().to_string())
            .with("DATS__EVENTS__RABBITMQ__EXCHANGES", &format!("[{exchanges}]"))
            .with("DATS__EVENTS__RABBITMQ__QUEUES", &format!("[{}]", self.queue()))
            .with("DATS__EVENTS__RABBITMQ__WORK_QUEUES__NAME", &format!("{}.task.ready.{{tier}}", self.0))
            .with("DATS__EVENTS__RABBITMQ__CONFIRM_TIMEOUT_SECONDS", "3")
            .with("DATS__TASK_MANAGEMENT__MAX_CONCURRENT_PER_PROJECT", "1000")
            .with("DATS__TASK_MANAGEMENT__BACKOFF_INITIAL_SECONDS", "0")
    }
}

/// A connection of another service.
pub(super) struct Peer {
    _connection: Connection,
    pub(super) channel: Channel,
    names: Names,
}

impl Peer {
    pub(super) async fn connect(broker: SocketAddr, names: &Names) -> lapin::Result<Self> {
        in_time(Self::connect_at_last(broker, names)).await
    }

    async fn connect_at_last(broker: SocketAddr, names: &Names) -> lapin::Result<Self> {
        let mut uri = AMQPUri::default();
        uri.authority.host = broker.ip().to_string();
        uri.authority.port = broker.port();
        "guest".clone_into(&mut uri.authority.userinfo.username);
        "guest".clone_into(&mut uri.authority.userinfo.password);
        uri.query.heartbeat = Some(5);
        let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(256, BasicQosOptions::default()).await?;
        let peer = Self { _connection: connection, channel, names: names.clone() };
        for area in ["task", "cascade", "qa"] {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let exchange = names.exchange(area).into();
            peer.channel.exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default()).await?;
        }
        Ok(peer)
    }

    /// A durable queue bound to keys of the exchange of tasks.
    pub(super) async fn queue(&self, queue: &str, queue_type: &str, keys: &[&str]) -> lapin::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
        self.channel.queue_declare(queue.into(), options, arguments).await?;
        for key in keys {
            let exchange = self.names.exchange("task").into();
            let binding = QueueBindOptions::default();
            self.channel.queue_bind(queue.into(), exchange, (*key).into(), binding, FieldTable::default()).await?;
        }
        Ok(())
    }

    pub(super) async fn consume(&self, queue: &str) -> lapin::Result<Consumer> {
        let options = BasicConsumeOptions::default();
        in_time(self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await
    }

    /// Deletes the queue where the service hears of events, and waits until it
    /// is there again, with all its bindings: what others say before is lost.
    pub(super) async fn delete_queue_of_service(&self, client: &Client) {
        let before = health(client).await["consumer"]["since"].clone();
        self.channel.queue_delete(self.names.queue().into(), QueueDeleteOptions::default()).await.unwrap();
        soon("it is subscribed again", async || {
            let consumer = &health(client).await["consumer"];
            consumer["status"] == "connected" && consumer["since"] != before
        })
        .await;
    }

    /// Publishes and waits for the confirm.
    pub(super) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        payload: &[u8],
    ) -> lapin::Result<()> {
        let options = BasicPublishOptions::default();
        let publishing = self.channel.basic_publish(exchange.into(), key.into(), options, payload, properties);
        in_time(async { publishing.await?.await.map(|_| ()) }).await
    }

    /// Publishes an event in structured mode on the exchange of tasks.
    pub(super) async fn event(&self, name: &str, source: &str, id: &str, data: &Value) -> lapin::Result<()> {
        let properties =
            BasicProperties::default().with_content_type("application/cloudevents+json".into()).with_delivery_mode(2);
        let event = event(name, source, id, data).to_string();
        self.publish(&self.names.exchange("task"), name, properties, event.as_bytes()).await
    }
}

/// An event in structured mode.
pub(super) fn event(name: &str, source: &str, id: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0", "type": format!("dats.{name}"), "source": source, "id": id,
        "time": "2026-01-09T18:00:00Z", "datacontenttype": "application/json", "data": data,
    })
}

/// A service around ours; it ends with this.
pub(super) struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Does something with a connection, again and again when it fails.
fn keep<F: Future<Output = lapin::Result<()>> + Send + 'static>(doing: impl Fn() -> F + Send + 'static) -> Running {
    Running(vec![tokio::spawn(async move {
        loop {
            if let Err(error) = doing().await {
                println!("a peer: {error}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    })])
}

async fn acknowledge(delivery: &Delivery) -> lapin::Result<()> {
    in_time(async { delivery.ack(BasicAckOptions::default()).await.map(|_| ()) }).await
}

/// A step of another service: the library waits for ever where a broker was
/// killed in the middle of one.
async fn in_time<T>(step: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    match timeout(STEP, step).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn data_of(delivery: &Delivery) -> Value {
    let event: Value = serde_json::from_slice(&delivery.data).unwrap();
    event["data"].clone()
}

/// Workers of a tier that hand in an output at once. The same task gives the
/// same event, however often it is delivered.
pub(super) fn worker(broker: SocketAddr, names: &Names, tier: &str) -> Running {
    let (names, tier) = (names.clone(), tier.to_owned());
    keep(move || {
        let (names, tier) = (names.clone(), tier.clone());
        async move {
            let peer = Peer::connect(broker, &names).await?;
            let mut tasks = peer.consume(&names.work_queue(&tier)).await?;
            while let Some(delivery) = tasks.next().await {
                let delivery = delivery?;
                let task = data_of(&delivery);
                let (id, attempt) = (task["task_id"].as_str().unwrap(), &task["attempt"]);
                let output = json!({
                    "task_id": id, "attempt": attempt, "artifact_id": format!("art-{id}-{attempt}"),
                    "worker_id": "worker-1", "model_used": "model-7b", "output": {"content": "print('hello')"},
                });
                peer.event("task.output.created", "/worker", &format!("out-{id}-{attempt}"), &output).await?;
                acknowledge(&delivery).await?;
            }
            Ok(())
        }
    })
}

/// QA that finds everything good. Its queue is there when this returns.
pub(super) async fn qa(broker: SocketAddr, names: &Names) -> Running {
    let names = names.clone();
    let peer = Peer::connect(broker, &names).await.unwrap();
    peer.queue(&format!("{}.qa", names.0), "quorum", &["task.output.created"]).await.unwrap();
    keep(move || {
        let names = names.clone();
        async move {
            let peer = Peer::connect(broker, &names).await?;
            let mut outputs = peer.consume(&format!("{}.qa", names.0)).await?;
            while let Some(delivery) = outputs.next().await {
                let delivery = delivery?;
                let output = data_of(&delivery);
                let verdict = json!({"task_id": output["task_id"], "artifact_id": output["artifact_id"], "score": 0.9});
                let id = format!("val-{}", output["artifact_id"].as_str().unwrap());
                peer.event("task.validated", "/qa", &id, &verdict).await?;
                acknowledge(&delivery).await?;
            }
            Ok(())
        }
    })
}

/// What a recorder has heard.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) key: String,
    pub(super) event: Value,
    pub(super) properties: BasicProperties,
}

impl Heard {
    pub(super) fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }

    pub(super) fn task(&self) -> &str {
        self.event["data"]["task_id"].as_str().unwrap()
    }
}

/// Hears every event of the exchange of tasks, in a durable queue that is
/// there before the service is.
pub(super) struct Recorder {
    heard: Arc<Mutex<Vec<Heard>>>,
    _running: Running,
}

impl Recorder {
    pub(super) async fn start(broker: SocketAddr, names: &Names) -> Self {
        let queue = format!("{}.recorder", names.0);
        Peer::connect(broker, names).await.unwrap().queue(&queue, "quorum", &["#"]).await.unwrap();
        Self::of(broker, names, &queue)
    }

    /// Hears what comes into a queue.
    pub(super) fn of(broker: SocketAddr, names: &Names, queue: &str) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (names, kept, queue) = (names.clone(), heard.clone(), queue.to_owned());
        let running = keep(move || {
            let (names, kept, queue) = (names.clone(), kept.clone(), queue.clone());
            async move {
                let peer = Peer::connect(broker, &names).await?;
                let mut all = peer.consume(&queue).await?;
                while let Some(delivery) = all.next().await {
                    let delivery = delivery?;
                    let body: Value = serde_json::from_slice(&delivery.data).unwrap_or(Value::Null);
                    // In binary mode the id stands in a property, too.
                    let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
                    let is_envelope = body.get("specversion").is_some();
                    let event = if is_envelope { body } else { json!({"id": id, "source": "?", "data": body}) };
                    let (key, properties) = (delivery.routing_key.to_string(), delivery.properties.clone());
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(Heard { key, event, properties });
                    acknowledge(&delivery).await?;
                }
                Ok(())
            }
        });
        Self { heard, _running: running }
    }

    pub(super) fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it heard first of each event, in that order.
    pub(super) fn distinct(&self) -> Vec<Heard> {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        let mut distinct = Vec::new();
        for heard in self.all() {
            let key = format!("{} {}", heard.event["source"], heard.id());
            if let Some(event) = known.get(&key) {
                assert_eq!(event["data"]["task_id"], heard.event["data"]["task_id"], "{key} is two");
            } else {
                known.insert(key, heard.event.clone());
                distinct.push(heard);
            }
        }
        distinct
    }

    /// Keys that were heard of a task, each event once, in order.
    pub(super) fn of_task(&self, task: &str) -> Vec<String> {
        let distinct = self.distinct().into_iter();
        distinct.filter(|heard| heard.task() == task).map(|heard| heard.key).collect()
    }

    /// Waits until it has heard these keys of tasks; else of which it has not.
    pub(super) async fn hears(&self, tasks: &[String], keys: &[&str]) -> Result<(), Vec<(String, Vec<String>)>> {
        let started = Instant::now();
        loop {
            let unheard = self.unheard(tasks, keys);
            if unheard.is_empty() {
                return Ok(());
            }
            if started.elapsed() >= PATIENCE {
                return Err(unheard);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Tasks of which it has not heard as much, each with what it has.
    fn unheard(&self, tasks: &[String], expected: &[&str]) -> Vec<(String, Vec<String>)> {
        let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for each in self.distinct() {
            heard.entry(each.task().to_owned()).or_default().push(each.key);
        }
        let of = |task: &String| (task.clone(), heard.get(task).cloned().unwrap_or_default());
        tasks.iter().map(of).filter(|(_, keys)| keys.len() < expected.len()).collect()
    }

    /// Those of them that our service made.
    pub(super) fn own_of_task(&self, task: &str) -> Vec<String> {
        let distinct = self.distinct().into_iter();
        let own = distinct.filter(|heard| heard.event["source"] == "/orchestration" && heard.task() == task);
        own.map(|heard| heard.key).collect()
    }
}

/// Waits for what is bound to happen.
pub(super) async fn soon(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !happened().await {
        assert!(started.elapsed() < PATIENCE, "{what}: it did not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a task is in a status.
pub(super) async fn status_becomes(client: &Client, task: &str, status: &str) -> Value {
    status_within_patience(client, task, status).await.unwrap_or_else(|found| panic!("{found}"))
}

/// The same; `Err`: what is found instead.
pub(super) async fn status_within_patience(client: &Client, task: &str, status: &str) -> Result<Value, String> {
    let started = Instant::now();
    loop {
        let last = client.get(&format!("tasks/{task}")).await.json();
        if last["status"] == status {
            return Ok(last);
        }
        if started.elapsed() >= PATIENCE {
            let history = client.get(&format!("tasks/{task}/events")).await.json();
            return Err(format!("not {status} but {last}, after {history}; the broker is {}", health(client).await));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What health says of the broker.
pub(super) async fn health(client: &Client) -> Value {
    client.get("health/detailed").await.json()["dependencies"]["rabbitmq"].clone()
}
