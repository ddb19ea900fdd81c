//! Waiting time of the only task of a project beside a project with 100 000 waiting tasks:
//! from its submission until a worker leases it, with workers that are always busy, and
//! until it is routed, with an Agent that is always busy. The limit is the waiting time
//! beside a project with as many waiting tasks as there are workers.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dats::clock::{Clock, Stopwatch};
use dats::engine::Engine;
use dats::routing::{Driver, Service, Services, Settings};
use dats::task::{TaskId, Tier};
use support::limits::{bare_hyper, submission};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MANY: u64 = 100_000;
const WORKERS: usize = 8;
/// Number of lone tasks, submitted one after another.
const LONE: usize = 200;
const ANSWER: &str = r#"{"mode":"modify","domain":"code-general","needs_decomposition":false,
"estimated_complexity":"small","qa_profile":"none","recommended_tier":"small","estimated_tokens":900,"confidence":0.8}"#;

async fn fill(engine: &Engine, count: u64) {
    for chunk in 0..count.div_ceil(1000) {
        let size = (count - chunk * 1000).min(1000);
        let submissions = (0..size).map(|_| submission("one of many", "others"));
        engine.tasks().submit(submissions.collect(), None).await.expect("room");
    }
}

async fn submit_lone(engine: &Engine) -> TaskId {
    let submitted = engine.tasks().submit(vec![submission("alone", "lone")], None).await.expect("room");
    submitted.results[0].as_ref().expect("to be taken").task
}

fn phase(engine: &Engine, task: TaskId) -> String {
    let answer = engine.tasks().status_now(task).expect("to read").expect("an answer in memory");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["phase"].as_str().expect("a phase").to_owned()
}

/// Measures the waiting times of lone tasks. Each is submitted when the one before has left
/// the phases in `waiting`. The number of other tasks is kept constant.
async fn waits(engine: &Engine, others: u64, waiting: &[&str]) -> Vec<Duration> {
    let mut waits = Vec::new();
    for _ in 0..LONE {
        let open = engine.figures().counters.open();
        fill(engine, others.saturating_sub(open)).await;
        let started = Stopwatch::start();
        let task = submit_lone(engine).await;
        while waiting.contains(&phase(engine, task).as_str()) {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        waits.push(started.elapsed());
    }
    waits.sort_unstable();
    waits
}

/// Measures the wait for a worker beside this number of waiting tasks.
async fn wait_for_workers(others: u64) -> Vec<Duration> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (engine, writer) = support::engine::start_limited(&dir.path().join("data"), false);
    fill(&engine, others).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (engine, stop) = (engine.clone(), stop.clone());
        workers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                support::engine::work_on_one(&engine).await;
            }
        });
    }
    let waits = waits(&engine, others, &["queued"]).await;
    stop.store(true, Ordering::Relaxed);
    workers.abort_all();
    while workers.join_next().await.is_some() {}
    drop(engine);
    writer.stop().expect("a clean end");
    waits
}

/// Measures the wait for an Agent that answers at once, beside this number of waiting tasks.
async fn wait_for_agent(others: u64) -> Vec<Duration> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (engine, writer) = support::engine::start_limited(&dir.path().join("data"), true);
    fill(&engine, others).await;
    let address = format!("http://{}/api/v1", bare_hyper(Bytes::from_static(ANSWER.as_bytes())));
    let agent = Service::agent(address.parse().expect("an address"));
    let settings = Settings { agent: Some(agent), ..Settings::new(vec![Tier::new("small").expect("a tier")]) };
    let clock = Clock::new();
    let services = Arc::new(Services::new(&settings, &clock).expect("no encryption"));
    let stop = CancellationToken::new();
    let driver = tokio::spawn(Driver::new(engine.clone(), services, &settings, clock).run(stop.clone()));
    let waits = waits(&engine, others, &["analyzing"]).await;
    stop.cancel();
    driver.await.expect("a driver that ended");
    drop(engine);
    writer.stop().expect("a clean end");
    waits
}

fn print(what: &str, few: &[Duration], many: &[Duration]) {
    let at = |waits: &[Duration], percent: usize| waits[(waits.len() - 1) * percent / 100];
    println!("\n{what}: waiting times of {LONE} lone tasks");
    for (name, waits) in [("beside few", few), ("beside 100000", many)] {
        println!("  {name:<14} p50 {:?}, p95 {:?}, worst {:?}", at(waits, 50), at(waits, 95), at(waits, 100));
    }
    println!("  ratio of the medians {:.2}", at(many, 50).as_secs_f64() / at(few, 50).as_secs_f64());
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let few = u64::try_from(WORKERS).expect("a count");
    let workers = (runtime.block_on(wait_for_workers(few)), runtime.block_on(wait_for_workers(MANY)));
    print("until a worker leases it", &workers.0, &workers.1);
    let agent = (runtime.block_on(wait_for_agent(few)), runtime.block_on(wait_for_agent(MANY)));
    print("until it is routed", &agent.0, &agent.1);
}
