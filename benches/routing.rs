//! Tasks routed a second with an Agent that answers at once. The limit is the client alone,
//! which sends the same two requests for each task, with as many requests at once.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use dats::clock::{Clock, Stopwatch};
use dats::routing::{Agent, Driver, Service, Services, Settings};
use dats::task::{Domain, ProjectId, TaskId, Tier};
use support::limits::{bare_hyper, submission};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An answer that is valid for every endpoint.
const ANSWER: &str = r#"{"mode":"modify","domain":"code-general","needs_decomposition":false,
"estimated_complexity":"small","qa_profile":"none","recommended_tier":"small","estimated_tokens":900,"confidence":0.8}"#;
const DESCRIPTION: &str = "Create a Python function that calculates fibonacci numbers";
/// Tasks in one commit while they are submitted.
const CHUNK: u64 = 1000;
const POLL: Duration = Duration::from_micros(200);

fn settings(concurrency: usize) -> Settings {
    let address = format!("http://{}/api/v1", bare_hyper(Bytes::from_static(ANSWER.as_bytes())));
    let agent = Service { concurrency, ..Service::agent(address.parse().expect("an address")) };
    Settings { agent: Some(agent), ..Settings::new(vec![Tier::new("small").expect("a tier")]) }
}

/// Sends the requests of `count` tasks with the client alone.
async fn send_requests(agent: &Arc<Agent>, concurrency: usize, count: u64) -> Duration {
    let started = Stopwatch::start();
    let left = Arc::new(AtomicU64::new(count));
    let mut askers = JoinSet::new();
    for _ in 0..concurrency {
        let (agent, left) = (agent.clone(), left.clone());
        askers.spawn(async move {
            let project = ProjectId::new("proj-1").expect("a project");
            let domain = Domain::new("code-general").expect("a domain");
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                agent.analyze(DESCRIPTION, &project, None, None).await.expect("an answer");
                let task = TaskId::new(Uuid::now_v7());
                agent.estimate(task, DESCRIPTION, &domain, None).await.expect("an answer");
            }
        });
    }
    while askers.join_next().await.is_some() {}
    started.elapsed()
}

/// Routes `count` tasks of an engine; measured from the start of the driver.
async fn route(settings: &Settings, count: u64) -> Duration {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (engine, writer) = support::engine::start_with_agent(&dir.path().join("data"));
    let mut left = count;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let submissions = (0..chunk).map(|number| submission(DESCRIPTION, &format!("proj-{}", number % 20)));
        engine.tasks().submit(submissions.collect(), None).await.expect("room");
        left -= chunk;
    }
    let clock = Clock::new();
    let services = Arc::new(Services::new(settings, &clock).expect("no encryption"));
    let driver = Driver::new(engine, services.clone(), settings, clock);
    let stop = CancellationToken::new();
    let started = Stopwatch::start();
    let driver = tokio::spawn(driver.run(stop.clone()));
    while services.figures().routed < 2 * count {
        tokio::time::sleep(POLL).await;
    }
    let took = started.elapsed();
    stop.cancel();
    driver.await.expect("a driver that ended");
    writer.stop().expect("a clean end");
    took
}

fn routing(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("routing");
    group.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1)).sample_size(10);
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    for concurrency in [1_usize, 16, 64] {
        let settings = settings(concurrency);
        let of_client = settings.agent.clone().expect("it is there");
        let agent = Arc::new(Agent::new(of_client, settings.tiers.clone(), Clock::new()).expect("no encryption"));
        group.bench_function(BenchmarkId::new("limit: client alone", concurrency), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(send_requests(&agent, concurrency, count)));
        });
        group.bench_function(BenchmarkId::new("routed", concurrency), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(route(&settings, count)));
        });
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
