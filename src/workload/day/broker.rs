//! Workers on `RabbitMQ`: they prefetch tasks, crash with unacknowledged deliveries, lose
//! deliveries to another worker, and reconnect.

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

use super::context::UnjudgedOutput;
use super::ledger::Submitted;
use super::plan::{Day, WorkerBehaviour};
use super::work::{DayWorker, LeasedTask};
use crate::workload::event::cloud_event;

/// Longest time for one operation: the client library waits without a limit for a broker
/// that was killed.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a lost connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Unacknowledged deliveries of a worker.
const PREFETCH: u16 = 10;
/// How often a worker without deliveries checks whether the day has ended.
const POLL: Duration = Duration::from_millis(500);
/// Exchange of task events in the default settings.
const EXCHANGE: &str = "task.events";
const USER: &str = "guest";

/// Why a connection ends.
enum Disconnect {
    /// The connection failed.
    Failed,
    /// The worker crashes with unacknowledged deliveries.
    Crash,
}

impl<E: std::error::Error> From<E> for Disconnect {
    fn from(_: E) -> Self {
        Self::Failed
    }
}

async fn within_timeout<T>(operation: impl Future<Output = lapin::Result<T>>) -> Result<T, Disconnect> {
    Ok(timeout(OPERATION_TIMEOUT, operation).await??)
}

/// A worker that gets its tasks from a broker.
pub(super) struct BrokerWorker {
    pub(super) worker: DayWorker,
    pub(super) broker: SocketAddr,
}

impl BrokerWorker {
    /// Works until the end of the day, and reconnects when the connection fails.
    pub(super) async fn run(mut self) {
        while !self.worker.context.is_ended() {
            match self.serve().await {
                Ok(()) => return,
                // A worker that has crashed is replaced at once.
                Err(Disconnect::Crash) => {}
                Err(Disconnect::Failed) => sleep(RECONNECT_PAUSE).await,
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Disconnect> {
        let mut uri = AMQPUri::default();
        uri.authority.host = self.broker.ip().to_string();
        uri.authority.port = self.broker.port();
        USER.clone_into(&mut uri.authority.userinfo.username);
        USER.clone_into(&mut uri.authority.userinfo.password);
        uri.query.heartbeat = Some(5);
        let connection = within_timeout(Connection::connect_uri(uri, ConnectionProperties::default())).await?;
        let channel = within_timeout(connection.create_channel()).await?;
        within_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        within_timeout(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let queue = format!("task.ready.{}", self.worker.tier);
        let consuming =
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = within_timeout(consuming).await?;
        while !self.worker.context.is_ended() {
            let Ok(next) = timeout(POLL, consumer.next()).await else { continue };
            let Some(delivery) = next else { return Err(Disconnect::Failed) };
            self.take(&channel, delivery?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, channel: &Channel, delivery: Delivery) -> Result<(), Disconnect> {
        let event: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
        let task = if event["data"].is_object() { &event["data"] } else { &event };
        let behaviour = if self.worker.context.is_working() {
            Day::worker_behaviour(&mut self.worker.random)
        } else {
            WorkerBehaviour::Sound
        };
        let lease = json!({"lease_id": "", "task": task});
        let Some(leased) = LeasedTask::parse(&lease) else {
            self.worker.context.report("refusal", "a message on a work queue is not a task", "", &event.to_string());
            within_timeout(delivery.ack(BasicAckOptions::default())).await?;
            return Ok(());
        };
        {
            let submitted = Submitted { sent: Duration::ZERO, acknowledged: self.worker.context.now() };
            self.worker.context.ledger().record_submission(&leased.task, &leased.project, None, submitted);
        }
        match behaviour {
            WorkerBehaviour::Dies => return Err(Disconnect::Crash),
            WorkerBehaviour::Releases => {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                within_timeout(delivery.nack(options)).await?;
                return Ok(());
            }
            WorkerBehaviour::LateFailure => self.lose_to_another(channel, &leased).await?,
            WorkerBehaviour::Slow => {
                self.publish_started(channel, &leased, "").await?;
                sleep(Duration::from_millis(self.worker.random.between(1000, 4000))).await;
                self.worker.report_output(&leased, false).await;
            }
            WorkerBehaviour::Fails => {
                self.publish_started(channel, &leased, "").await?;
                self.worker.report_failure(&leased).await;
            }
            WorkerBehaviour::VerdictFirst => self.worker.report_after_verdict(&leased).await,
            WorkerBehaviour::ReportsTwice => self.publish_output(channel, &leased).await?,
            WorkerBehaviour::Sound | WorkerBehaviour::LateOutput => {
                if self.worker.random.chance(50) {
                    self.publish_started(channel, &leased, "").await?;
                }
                self.worker.work().await;
                self.worker.report_output(&leased, false).await;
            }
        }
        within_timeout(delivery.ack(BasicAckOptions::default())).await?;
        Ok(())
    }

    /// Publishes `task.started` for this worker, or for one whose id has this suffix.
    async fn publish_started(&self, channel: &Channel, leased: &LeasedTask, suffix: &str) -> Result<(), Disconnect> {
        let worker = format!("{}{suffix}", self.worker.id);
        let data = json!({"task_id": leased.task, "worker_id": worker, "attempt": leased.attempt});
        self.publish(channel, "task.started", &data).await
    }

    /// A second worker takes the same delivery and with it the task; then the first one
    /// reports a failure, and the second one an output.
    async fn lose_to_another(&mut self, channel: &Channel, leased: &LeasedTask) -> Result<(), Disconnect> {
        self.publish_started(channel, leased, "").await?;
        self.publish_started(channel, leased, "-second").await?;
        sleep(Duration::from_millis(self.worker.random.between(100, 1000))).await;
        self.worker.report_failure(leased).await;
        self.worker.report_output(leased, false).await;
        Ok(())
    }

    /// Publishes an output twice under one id.
    async fn publish_output(&mut self, channel: &Channel, leased: &LeasedTask) -> Result<(), Disconnect> {
        let artifact = Uuid::now_v7().to_string();
        let size = Day::output_size(self.worker.context.hour(), &mut self.worker.random);
        let content = self.worker.random.text(size);
        let data = self.worker.output_data(leased, &artifact, &content);
        let event = cloud_event("/day/worker", "task.output.created", &data);
        for _ in 0..2 {
            self.publish_event(channel, "task.output.created", &event).await?;
        }
        // Whether the output has arrived is not known here; the service keeps an early verdict.
        self.worker.context.queue_for_qa(UnjudgedOutput { task: leased.task.clone(), artifact });
        Ok(())
    }

    async fn publish(&self, channel: &Channel, name: &str, data: &Value) -> Result<(), Disconnect> {
        self.publish_event(channel, name, &cloud_event("/day/worker", name, data)).await
    }

    async fn publish_event(&self, channel: &Channel, name: &str, event: &Value) -> Result<(), Disconnect> {
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
        within_timeout(async { publishing.await?.await.map(drop) }).await
    }
}

/// Returns the environment variables of a server that uses this broker.
#[must_use]
pub fn broker_environment(broker: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("RABBITMQ_HOST", broker.ip().to_string()),
        ("RABBITMQ_PORT", broker.port().to_string()),
        ("DATS__EVENTS__RABBITMQ__CONFIRM_TIMEOUT_SECONDS", "5".to_owned()),
    ]
}
