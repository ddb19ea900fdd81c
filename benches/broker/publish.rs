//! Events published a second, compared with a bare loop of the client library: the same
//! messages, to the same exchange and queues, with as many unconfirmed messages.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dats::amqp::{Broker, Credentials, Driver, Exchanges, LinkState, QueueType, Settings, WorkQueues};
use dats::clock::{Clock, Stopwatch};
use dats::engine::Engine;
use dats::task::Tier;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::support::engine::start_with_broker;
use super::support::limits::submission;
use super::support::run::{setting, verdict};
use super::world::{Peer, RabbitMq, WORK_QUEUE, pause};

const WINDOW: usize = 1024;
const CHUNK: u64 = 500;
const EXCHANGE: &str = "task.events";
const RECORDER: &str = "bench.recorder";
/// Two events a task: `task.created` and `task.ready`.
pub(crate) const EVENTS: u64 = 2;
const TARGET: f64 = 0.70;

/// A message as a queue received it.
pub(crate) struct Sample {
    pub(crate) key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    /// Publishes the message again and returns the pending confirm.
    pub(crate) async fn send(&self, channel: &Channel) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: self.key == WORK_QUEUE, immediate: false };
        let (key, properties) = (self.key.as_str().into(), self.properties.clone());
        channel.basic_publish(EXCHANGE.into(), key, options, &self.payload, properties).await
    }
}

/// Records the messages of some submissions, in their order.
pub(crate) async fn samples(broker: &RabbitMq) -> Vec<Sample> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (engine, writer) = start_with_broker(&dir.path().join("data"));
    let peer = Peer::connect(broker.address()).await.expect("a broker");
    let samples = record(&engine, broker, &peer).await;
    peer.purge().await;
    writer.stop().expect("a clean end");
    samples
}

pub(crate) async fn measure(broker: &RabbitMq) {
    let events = setting("DATS_BENCH_EVENTS", 20_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (engine, writer) = start_with_broker(&dir.path().join("data"));
    let peer = Peer::connect(broker.address()).await.expect("a broker");
    let samples = record(&engine, broker, &peer).await;
    let (mut limits, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..setting("DATS_BENCH_ROUNDS", 3) {
        peer.purge().await;
        limits.push(bare(broker, &samples, events).await);
        peer.purge().await;
        submit(&engine, events / EVENTS).await;
        ours.push(publish(&engine, broker, events).await);
    }
    peer.purge().await;
    let (limit, our) = (median(limits), median(ours));
    println!("\nevents published, {events} a round, window {WINDOW}, persistent, confirmed, quorum queue");
    println!("  limit, the bare client library  {limit:>8.0} /s");
    println!("  the outbox                      {our:>8.0} /s");
    println!("  ratio    {:.2}, target {TARGET:.2}: {}", our / limit, verdict(our / limit >= TARGET));
    writer.stop().expect("a clean end");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn settings(broker: &RabbitMq) -> Settings {
    let guest = || "guest".to_owned();
    Settings {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: broker.port,
        credentials: Credentials { username: guest(), password: guest() },
        vhost: "/".to_owned(),
        tls: false,
        ca_file: None,
        exchanges: Exchanges {
            task: EXCHANGE.to_owned(),
            cascade: "cascade.events".to_owned(),
            qa: "qa.events".to_owned(),
        },
        queue: "orchestration-events".to_owned(),
        work_queues: WorkQueues {
            declare: true,
            name: "task.ready.{tier}".to_owned(),
            require_consumer: dats::amqp::RequireConsumer::Auto,
        },
        queue_type: QueueType::Quorum,
        prefetch: 512,
        window: WINDOW,
        confirm_timeout: Duration::from_secs(30),
        unobserved_wait: Duration::from_hours(1),
        tiers: vec![Tier::new("small").expect("a tier")],
    }
}

async fn submit(engine: &Engine, count: u64) {
    for chunk in 0..count / CHUNK {
        let description = "Create a Python function that calculates fibonacci numbers";
        let submissions = (0..CHUNK).map(|n| submission(description, &format!("proj-{}", (chunk + n) % 20)));
        engine.tasks().submit(submissions.collect(), None).await.expect("room");
    }
}

/// Publishes the waiting events. Returns events a second, measured from the connection on.
async fn publish(engine: &Engine, broker: &RabbitMq, events: u64) -> f64 {
    let shown = Arc::new(Broker::new("the broker".to_owned(), Clock::new()));
    let driver = Driver::new(engine.clone(), settings(broker), shown.clone(), Clock::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(driver.run(stop.clone()));
    while shown.figures().publisher.state != LinkState::Connected {
        pause(1).await;
    }
    let stopwatch = Stopwatch::start();
    while shown.figures().published < events {
        pause(1).await;
    }
    let seconds = stopwatch.elapsed().as_secs_f64();
    stop.cancel();
    running.await.expect("a clean end");
    f64::from(u32::try_from(events).expect("a count")) / seconds
}

/// Records messages of the service as another service receives them.
async fn record(engine: &Engine, broker: &RabbitMq, peer: &Peer) -> Vec<Sample> {
    submit(engine, CHUNK).await;
    // The first call declares the exchange.
    publish(engine, broker, EVENTS * CHUNK).await;
    let channel = &peer.channel;
    let recorder = || RECORDER.into();
    channel.queue_declare(recorder(), QueueDeclareOptions::default(), FieldTable::default()).await.expect("a queue");
    let binding = QueueBindOptions::default();
    let bound = channel.queue_bind(recorder(), EXCHANGE.into(), "#".into(), binding, FieldTable::default()).await;
    bound.expect("an exchange");
    channel.basic_qos(256, BasicQosOptions::default()).await.expect("a channel");
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(recorder(), "".into(), options, FieldTable::default()).await;
    let mut messages = consuming.expect("a subscription");
    submit(engine, CHUNK).await;
    publish(engine, broker, EVENTS * CHUNK).await;
    let mut samples = Vec::new();
    while u64::try_from(samples.len()) != Ok(EVENTS * CHUNK) {
        let delivery = messages.next().await.expect("a message").expect("a message");
        delivery.ack(BasicAckOptions::default()).await.expect("a channel");
        let key = delivery.routing_key.to_string();
        samples.push(Sample { key, properties: delivery.properties, payload: delivery.data });
    }
    channel.queue_delete(recorder(), QueueDeleteOptions::default()).await.expect("no queue");
    samples
}

/// Publishes the same messages with the client library alone. Returns messages a second.
async fn bare(broker: &RabbitMq, samples: &[Sample], events: u64) -> f64 {
    let peer = Peer::connect(broker.address()).await.expect("a broker");
    let stopwatch = Stopwatch::start();
    let mut confirms = VecDeque::new();
    for (_, sample) in (0..events).zip(samples.iter().cycle()) {
        confirms.push_back(sample.send(&peer.channel).await.expect("a channel"));
        if confirms.len() == WINDOW {
            let oldest = confirms.pop_front().expect("one");
            assert!(oldest.await.expect("a channel").is_ack());
        }
    }
    for confirm in confirms {
        assert!(confirm.await.expect("a channel").is_ack());
    }
    f64::from(u32::try_from(events).expect("a count")) / stopwatch.elapsed().as_secs_f64()
}
