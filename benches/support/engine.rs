//! The engine without HTTP, and data directories with finished tasks.

use std::path::Path;
use std::time::Duration;

use dats::amqp;
use dats::clock::Clock;
use dats::engine::{CheckpointRules, Engine, EventContent, IncomingEvent, LeaseRequest, Settings, WriterThread};
use dats::store::Store;
use dats::task::{
    ArtifactId, Bus, Correlation, Domain, Holder, Output, OutputArtifact, Policy, Priority, QaProfile, Report, Router,
    TaskId, Tier, WorkerId,
};

use super::limits::submission;

const CACHE_BYTES: usize = 128 << 20;
/// Tasks in one commit while a store is filled.
const CHUNK: u64 = 1000;

/// Returns the default settings, but without a limit of slots and without validation.
fn settings(hot_bytes: usize) -> Settings {
    let tier = || Tier::new("small").expect("a tier");
    let day = Duration::from_hours(24);
    Settings {
        policy: Policy::default(),
        router: Router::new(Vec::new(), Domain::new("code-general").expect("a domain"), tier())
            .expect("a router without keywords"),
        tiers: vec![tier()],
        default_priority: Priority::Normal,
        default_qa_profile: QaProfile::new("none").expect("a profile"),
        default_timeout_seconds: 600,
        default_max_attempts: 3,
        max_concurrent: u32::MAX,
        aging: Duration::from_mins(5),
        queue_capacity: 8192,
        group_max: 256,
        hot_bytes,
        retention: None,
        idempotency: day,
        dedup_window: day,
        idempotency_max_keys: 1_000_000,
        max_projects: 1_000_000,
        dedup_max_ids: 1_000_000,
        log_retention: day,
        log_readers: Vec::new(),
        min_free_mib: 0,
        checkpoints: CheckpointRules::default(),
    }
}

/// Starts the engine on a data directory, with `hot_bytes` of memory for the answers of finished
/// tasks.
pub(crate) fn start(dir: &Path, hot_bytes: usize) -> (Engine, WriterThread) {
    let store = Store::open(dir, CACHE_BYTES).expect("a store");
    Engine::start(store, settings(hot_bytes), &Clock::new()).expect("an engine")
}

/// As [`start`], with a broker that delivers the tasks.
pub(crate) fn start_with_broker(dir: &Path) -> (Engine, WriterThread) {
    let store = Store::open(dir, CACHE_BYTES).expect("a store");
    let log_readers = vec![amqp::READER.to_owned()];
    let mut settings = Settings { log_readers, ..settings(64 << 20) };
    settings.policy.bus = Bus::Broker;
    Engine::start(store, settings, &Clock::new()).expect("an engine")
}

/// As [`start`], with an Agent that routes the tasks.
pub(crate) fn start_with_agent(dir: &Path) -> (Engine, WriterThread) {
    let store = Store::open(dir, CACHE_BYTES).expect("a store");
    let policy = Policy { agent: true, ..Policy::default() };
    Engine::start(store, Settings { policy, ..settings(64 << 20) }, &Clock::new()).expect("an engine")
}

/// As [`start`], with the usual number of slots for each project.
pub(crate) fn start_limited(dir: &Path, agent: bool) -> (Engine, WriterThread) {
    let store = Store::open(dir, CACHE_BYTES).expect("a store");
    let policy = Policy { agent, ..Policy::default() };
    let settings = Settings { policy, max_concurrent: 10, ..settings(64 << 20) };
    Engine::start(store, settings, &Clock::new()).expect("an engine")
}

/// Completes `count` tasks and returns their ids.
pub(crate) async fn finish(engine: &Engine, count: u64) -> Vec<TaskId> {
    let mut finished = Vec::new();
    for chunk in 0..count / CHUNK {
        let description = "Create a Python function that calculates fibonacci numbers";
        let submissions = (0..CHUNK).map(|n| submission(description, &format!("proj-{}", (chunk + n) % 20)));
        engine.tasks().submit(submissions.collect(), None).await.expect("room");
        let granted = engine.work().lease(lease_request()).await.expect("tasks");
        let ids: Vec<TaskId> = granted.iter().map(|granted| id_of(&granted.task)).collect();
        let outcomes = engine.events().accept(ids.iter().map(|id| output(*id)).collect()).await.expect("room");
        assert!(outcomes.iter().all(Result::is_ok), "an output was refused");
        finished.extend(ids);
    }
    finished
}

/// Completes the next task and returns its id.
pub(crate) async fn work_on_one(engine: &Engine) -> Option<TaskId> {
    let request = LeaseRequest { max: 1, ..lease_request() };
    let granted = engine.work().lease(request).await.expect("an answer").pop()?;
    let id = id_of(&granted.task);
    engine.events().accept(vec![output(id)]).await.expect("room");
    Some(id)
}

pub(crate) fn lease_request() -> LeaseRequest {
    LeaseRequest {
        tier: Tier::new("small").expect("a tier"),
        worker: WorkerId::new("bench").expect("a worker"),
        max: usize::try_from(CHUNK).expect("a count"),
        lease: Duration::from_mins(1),
        wait: Duration::from_secs(10),
    }
}

/// Returns the id of the task in the data of a lease.
pub(crate) fn id_of(task: &[u8]) -> TaskId {
    let task: serde_json::Value = serde_json::from_slice(task).expect("JSON");
    task["task_id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

fn output(task: TaskId) -> IncomingEvent {
    let artifact = ArtifactId::new(&format!("art-{task}")).expect("an artifact");
    let named = OutputArtifact {
        id: artifact.clone(),
        kind: Some("code".to_owned()),
        path: Some("fibonacci.py".to_owned()),
        language: None,
        checksum: None,
        size_bytes: None,
    };
    IncomingEvent {
        identity: Some(("/bench".to_owned(), task.to_string())),
        message: EventContent::Report {
            correlation: Correlation { task: Some(task), artifact: None, review: None },
            report: Report::Output(Box::new(output_of(artifact, named))),
        },
        raw: "{}".to_owned(),
        on_bus: false,
    }
}

/// Returns the output of a worker.
pub(crate) fn output_of(artifact: ArtifactId, named: OutputArtifact) -> Output {
    Output {
        artifact,
        attempt: None,
        contents: std::collections::BTreeMap::new(),
        artifacts: vec![named],
        inputs_consumed: Vec::new(),
        model_used: Some("model-7b".to_owned()),
        sender: Holder::default(),
        tokens_input: Some(120),
        tokens_output: Some(800),
        execution_time_ms: None,
        confidence: None,
        started_at: None,
    }
}
