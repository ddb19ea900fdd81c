//! Workers on `RabbitMQ`: they have a buffer, take deliveries twice, vanish with what they
//! have taken, and come back.

use std::net::SocketAddr;
use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use uuid::Uuid;

use super::work::{Hand, Leased};
use super::world::Waiting;
use crate::cli::simulate::message::cloud_event;
use crate::workload::{Day, Worker};

/// The longest step with the broker: the library waits for ever where one was killed.
const STEP: Duration = Duration::from_secs(10);
/// Pause before a lost connection is made again.
const RECONNECT: Duration = Duration::from_millis(500);
/// Tasks in a worker's buffer.
const PREFETCH: u16 = 10;
/// How often a worker without work looks whether the day has ended.
const GLANCE: Duration = Duration::from_millis(500);
/// The exchange of events about tasks, as the defaults have it.
const EXCHANGE: &str = "task.events";
const USER: &str = "guest";

/// Why a connection is dropped.
enum Lost {
    Broker,
    /// The worker dies with what it has taken.
    OnPurpose,
}

impl<E: std::error::Error> From<E> for Lost {
    fn from(_: E) -> Self {
        Self::Broker
    }
}

async fn step<T>(step: impl Future<Output = lapin::Result<T>>) -> Result<T, Lost> {
    Ok(timeout(STEP, step).await??)
}

/// A hand whose tasks come from a broker.
pub(super) struct BrokerHand {
    pub(super) hand: Hand,
    pub(super) broker: SocketAddr,
}

impl BrokerHand {
    /// Works until the end of the day, whatever becomes of the broker.
    pub(super) async fn run(mut self) {
        while !self.hand.world.is_ended() {
            match self.serve().await {
                Ok(()) => return,
                // A worker that has died is replaced at once.
                Err(Lost::OnPurpose) => {}
                Err(Lost::Broker) => sleep(RECONNECT).await,
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Lost> {
        let mut uri = AMQPUri::default();
        uri.authority.host = self.broker.ip().to_string();
        uri.authority.port = self.broker.port();
        USER.clone_into(&mut uri.authority.userinfo.username);
        USER.clone_into(&mut uri.authority.userinfo.password);
        uri.query.heartbeat = Some(5);
        let connection = step(Connection::connect_uri(uri, ConnectionProperties::default())).await?;
        let channel = step(connection.create_channel()).await?;
        step(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        step(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let queue = format!("task.ready.{}", self.hand.tier);
        let consuming =
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = step(consuming).await?;
        while !self.hand.world.is_ended() {
            let Ok(next) = timeout(GLANCE, consumer.next()).await else { continue };
            let Some(delivery) = next else { return Err(Lost::Broker) };
            self.take(&channel, delivery?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, channel: &Channel, delivery: Delivery) -> Result<(), Lost> {
        let event: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
        let task = if event["data"].is_object() { &event["data"] } else { &event };
        let manner = if self.hand.world.is_working() { Day::worker(&mut self.hand.random) } else { Worker::Sound };
        let lease = json!({"lease_id": "", "task": task});
        let Some(leased) = Leased::of(&lease) else {
            self.hand.world.find("refusal", "a message on a work queue is no task", "", &event.to_string());
            step(delivery.ack(BasicAckOptions::default())).await?;
            return Ok(());
        };
        {
            let now = self.hand.world.now();
            self.hand.world.ledger().submitted(&leased.task, &leased.project, None, [Duration::ZERO, now]);
        }
        match manner {
            Worker::Dies => return Err(Lost::OnPurpose),
            Worker::Releases => {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                step(delivery.nack(options)).await?;
                return Ok(());
            }
            Worker::LateFailure => self.be_superseded(channel, &leased).await?,
            Worker::Slow => {
                self.started(channel, &leased, "").await?;
                sleep(Duration::from_millis(self.hand.random.between(1000, 4000))).await;
                self.hand.output(&leased, false).await;
            }
            Worker::Fails => {
                self.started(channel, &leased, "").await?;
                self.hand.fail(&leased).await;
            }
            Worker::VerdictFirst => self.hand.verdict_first(&leased).await,
            Worker::ReportsTwice => self.publish_output(channel, &leased).await?,
            Worker::Sound | Worker::LateOutput => {
                if self.hand.random.chance(50) {
                    self.started(channel, &leased, "").await?;
                }
                self.hand.work().await;
                self.hand.output(&leased, false).await;
            }
        }
        step(delivery.ack(BasicAckOptions::default())).await?;
        Ok(())
    }

    /// `task.started` of this worker, or of one whose id has this suffix.
    async fn started(&self, channel: &Channel, leased: &Leased, suffix: &str) -> Result<(), Lost> {
        let worker = format!("{}{suffix}", self.hand.id);
        let data = json!({"task_id": leased.task, "worker_id": worker, "attempt": leased.attempt});
        self.publish(channel, "task.started", &data).await
    }

    /// Another worker takes the same delivery and has the task; then the first one says
    /// that it has failed, and the second one has an output.
    async fn be_superseded(&mut self, channel: &Channel, leased: &Leased) -> Result<(), Lost> {
        self.started(channel, leased, "").await?;
        self.started(channel, leased, "-second").await?;
        sleep(Duration::from_millis(self.hand.random.between(100, 1000))).await;
        self.hand.fail(leased).await;
        self.hand.output(leased, false).await;
        Ok(())
    }

    /// An output through the broker, twice under one id.
    async fn publish_output(&mut self, channel: &Channel, leased: &Leased) -> Result<(), Lost> {
        let artifact = Uuid::now_v7().to_string();
        let size = Day::output_size(self.hand.world.hour(), &mut self.hand.random);
        let content = self.hand.random.text(size);
        let data = self.hand.data(leased, &artifact, &content);
        let event = cloud_event("/day/worker", "task.output.created", &data);
        for _ in 0..2 {
            self.publish_event(channel, "task.output.created", &event).await?;
        }
        // Its effect is not known here; a verdict for it waits in the service.
        self.hand.world.leave_to_qa(Waiting { task: leased.task.clone(), artifact });
        Ok(())
    }

    async fn publish(&self, channel: &Channel, name: &str, data: &Value) -> Result<(), Lost> {
        self.publish_event(channel, name, &cloud_event("/day/worker", name, data)).await
    }

    async fn publish_event(&self, channel: &Channel, name: &str, event: &Value) -> Result<(), Lost> {
        let properties =
            BasicProperties::default().with_content_type("application/cloudevents+json".into()).with_delivery_mode(2);
        let text = event.to_string();
        let publishing = channel.basic_publish(
            EXCHANGE.into(),
            name.into(),
            BasicPublishOptions::default(),
            text.as_bytes(),
            properties,
        );
        step(async { publishing.await?.await.map(drop) }).await
    }
}

/// The settings of a server at this broker, by their names in the environment.
pub(in crate::cli::bench) fn settings(broker: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("RABBITMQ_HOST", broker.ip().to_string()),
        ("RABBITMQ_PORT", broker.port().to_string()),
        ("DATS__EVENTS__RABBITMQ__CONFIRM_TIMEOUT_SECONDS", "5".to_owned()),
    ]
}
