//! Time from the publishing of an event by another service to its effect over HTTP.
//!
//! Each sample is a task of its own: a client waits for its end over HTTP (`?wait=`), another
//! service publishes the output that ends it, and the time runs from the start of the
//! attempt to publish that the broker confirmed. So it includes the publishing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dats::clock::Stopwatch;
use dats::workload::load::{Connection, Pace, get_request, post_request};
use hdrhistogram::Histogram;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::support::pace::{CONNECTIONS, run_at_pace};
use super::support::run::{setting, verdict};

use super::support::server::Process;
use super::world::{Peer, RabbitMq, environment, pause};

/// Samples a second.
const SAMPLES: u64 = 25;
/// Submissions a second beside the samples.
const LOAD: u32 = 2000;
const TARGET: Duration = Duration::from_secs(2);

/// Another service, which publishes and reconnects.
struct Publisher {
    broker: SocketAddr,
    peer: Mutex<Option<Arc<Peer>>>,
}

impl Publisher {
    async fn peer(&self) -> lapin::Result<Arc<Peer>> {
        let mut peer = self.peer.lock().await;
        if let Some(peer) = peer.as_ref().filter(|peer| peer.channel.status().connected()) {
            return Ok(peer.clone());
        }
        let made = Arc::new(Peer::connect(self.broker).await?);
        *peer = Some(made.clone());
        Ok(made)
    }

    async fn try_publish(&self, event: &[u8]) -> lapin::Result<()> {
        let peer = self.peer().await?;
        let (exchange, key) = ("task.events".into(), "task.output.created".into());
        let properties =
            BasicProperties::default().with_content_type("application/cloudevents+json".into()).with_delivery_mode(2);
        let sending = peer.channel.basic_publish(exchange, key, BasicPublishOptions::default(), event, properties);
        sending.await?.await.map(|_| ())
    }

    /// Publishes until the broker confirms. Returns when the confirmed attempt began.
    async fn publish(&self, event: &[u8], started: &Stopwatch) -> Duration {
        loop {
            let began = started.elapsed();
            let attempt = tokio::time::timeout(Duration::from_secs(3), self.try_publish(event)).await;
            if attempt.is_ok_and(|sent| sent.is_ok()) {
                return began;
            }
            pause(50).await;
        }
    }
}

pub(crate) async fn measure(broker: &RabbitMq) {
    let span = Duration::from_secs(setting("DATS_BENCH_SECONDS", 10));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let service = Process::start_with(&dir.path().join("data"), &environment(broker));
    pause(2000).await;
    let publisher = Arc::new(Publisher { broker: broker.address(), peer: Mutex::new(None) });
    println!("\nfrom publishing an event to its effect over HTTP, {SAMPLES} samples a second");
    report("at rest", &samples(service.address, publisher.clone(), span).await);
    let pace = Pace { per_second: LOAD, duration: span, connections: CONNECTIONS };
    let load = run_at_pace(service.address, pace, |number| submission(number, "load"));
    let (_, found) = tokio::join!(load, samples(service.address, publisher.clone(), span));
    report(&format!("beside {LOAD} submissions a second"), &found);
    let restart = async {
        pause(2000).await;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.run();
        });
    };
    let span = span.max(Duration::from_secs(20));
    // A separate task, because the restart blocks this thread.
    let sampling = tokio::spawn(samples(service.address, publisher.clone(), span));
    restart.await;
    report("during a kill and restart of the broker", &sampling.await.expect("samples"));
    if let Ok(peer) = Peer::connect(broker.address()).await {
        peer.purge().await;
    }
}

fn submission(number: u64, project: &str) -> Vec<u8> {
    let description = "Create a Python function that calculates fibonacci numbers";
    let body = json!({"description": description, "project_id": format!("{project}-{}", number % 20), "options": {"tier": "small", "qa_profile": "none"}});
    post_request("/api/v1/tasks", &body.to_string(), "application/json")
}

/// Takes samples at a fixed pace.
async fn samples(address: SocketAddr, publisher: Arc<Publisher>, span: Duration) -> Histogram<u64> {
    let started = Stopwatch::start();
    let mut under_way = JoinSet::new();
    for number in 0..SAMPLES * span.as_secs() {
        let due =
            Duration::from_secs(1) * u32::try_from(number).expect("a count") / u32::try_from(SAMPLES).expect("one");
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        under_way.spawn(sample(address, publisher.clone(), started, number));
    }
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(taken) = under_way.join_next().await {
        let micros = u64::try_from(taken.expect("a sample").as_micros()).unwrap_or(u64::MAX);
        latency.record(micros.max(1)).expect("a latency within range");
    }
    latency
}

async fn sample(address: SocketAddr, publisher: Arc<Publisher>, started: Stopwatch, number: u64) -> Duration {
    let mut connection = Connection::open(address).await.expect("a server that listens");
    let (status, body) = connection.call(&submission(number, "sample")).await.expect("a server that answers");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(body));
    let task: Value = serde_json::from_slice(body).expect("JSON");
    let task = task["task_id"].as_str().expect("an id").to_owned();
    let artifact = format!("art-{task}");
    let event = json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/worker", "id": task,
        "data": {"task_id": task, "artifact_id": artifact, "model_used": "model-7b", "tokens_input": 120,
                 "output": {"artifacts": [{"id": artifact, "type": "code", "path": "fibonacci.py"}]}},
    });
    let event = event.to_string().into_bytes();
    let waiting = async {
        loop {
            let (_, body) = connection
                .call(&get_request(&format!("/api/v1/tasks/{task}?wait=30")))
                .await
                .expect("a server that answers");
            let found: Value = serde_json::from_slice(body).expect("JSON");
            if found["status"] == "completed" {
                return started.elapsed();
            }
        }
    };
    let (seen, began) = tokio::join!(waiting, publisher.publish(&event, &started));
    // The effect of an attempt whose confirm was lost may be visible earlier.
    seen.saturating_sub(began)
}

fn report(name: &str, latency: &Histogram<u64>) {
    let at = |part| Duration::from_micros(latency.value_at_quantile(part));
    println!(
        "  {name}: P50 {:.1?}, P95 {:.1?}, P99 {:.1?}, worst {:.1?} of {}; target: within 2 s: {}",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        latency.len(),
        verdict(at(1.0) <= TARGET)
    );
}
