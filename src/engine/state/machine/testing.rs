//! The state machine on a store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::InMemoryBackend;

use super::Machine;
use crate::engine::api::{CheckpointRules, EventContent, IncomingEvent, LeaseRequest, PreparedEvent, Settings};
use crate::engine::shared::Shared;
use crate::engine::state::Routed;
use crate::store::Store;
use crate::task::{
    ArtifactId, Bus, Correlation, Domain, ExecutionMode, Holder, Now, Options, Output, Phase, Policy, Priority,
    ProjectId, QaProfile, Report, Router, Submission, TaskId, Tier, Timestamp, WorkerId,
};

pub(crate) fn settings(bus: Bus) -> Settings {
    Settings {
        policy: Policy { bus, ..Policy::default() },
        router: Router::new(Vec::new(), Domain::new("code").unwrap(), Tier::new("small").unwrap()).unwrap(),
        tiers: vec![Tier::new("small").unwrap()],
        default_priority: Priority::Normal,
        default_qa_profile: QaProfile::new("none").unwrap(),
        default_timeout_seconds: 600,
        default_max_attempts: 3,
        max_concurrent: 100_000,
        aging: Duration::from_mins(5),
        queue_capacity: 1024,
        group_max: 256,
        hot_bytes: 1 << 20,
        retention: None,
        idempotency: Duration::from_hours(24),
        idempotency_max_keys: 1000,
        max_projects: 1000,
        dedup_window: Duration::from_hours(72),
        dedup_max_ids: 1_000_000,
        log_retention: Duration::from_hours(72),
        log_readers: Vec::new(),
        min_free_mib: 0,
        checkpoints: CheckpointRules { kept: 0, ..CheckpointRules::default() },
    }
}

pub(crate) fn store() -> Store {
    Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 24, 1 << 24).unwrap()
}

pub(super) fn artifact(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

/// The state machine on a store of its own, and a time that advances.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now: Now,
    events: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        let store = store();
        let recovered = store.recover().unwrap();
        let shared = Shared::new(1 << 20);
        let machine = Machine::recovered(Arc::new(settings(Bus::Embedded)), store, recovered, shared).unwrap();
        Self { machine, now: Now::aligned(Timestamp::from_micros(1_795_000_000_000_000)), events: 0 }
    }

    pub(crate) fn commit(&mut self) {
        let (batch, _) = self.machine.finish(self.now).unwrap();
        batch.commit(self.machine.store(), self.now).unwrap();
        self.now = Now::aligned(Timestamp::from_micros(self.now.wall.as_micros() + 1000));
    }

    pub(crate) fn submit(&mut self, project: &str, inputs: &[&str]) -> TaskId {
        let inputs = inputs.iter().map(|name| artifact(name)).collect();
        let submission = Submission {
            description: "d".to_owned(),
            project: ProjectId::new(project).unwrap(),
            priority: None,
            options: Options { inputs, ..Options::default() },
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        };
        let routed = Routed::by(&self.machine.settings().router, submission);
        let submitted = self.machine.submit(vec![routed], None, self.now).unwrap();
        self.commit();
        submitted.results[0].as_ref().unwrap().task
    }

    /// Leases all tasks that wait to a worker.
    pub(crate) fn lease(&mut self) {
        while let Some((task, tier)) = self.machine.next_to_lease(|_| true, self.now) {
            let (worker, long) = (WorkerId::new("w").unwrap(), Duration::from_hours(1));
            let request = LeaseRequest { tier, worker, max: 1, lease: long, wait: Duration::ZERO };
            self.machine.grant(task, &request, self.now).unwrap().unwrap();
        }
        self.commit();
    }

    /// Makes a task that has made an artifact from others.
    pub(crate) fn make(&mut self, project: &str, name: &str, of: &[&str]) -> TaskId {
        let task = self.submit(project, &[]);
        let output = Output {
            artifact: artifact(name),
            attempt: None,
            contents: BTreeMap::new(),
            artifacts: Vec::new(),
            inputs_consumed: of.iter().map(|name| artifact(name)).collect(),
            model_used: None,
            sender: Holder::default(),
            tokens_input: None,
            tokens_output: None,
            execution_time_ms: None,
            confidence: None,
            started_at: None,
        };
        self.events += 1;
        let event = IncomingEvent {
            identity: None,
            message: EventContent::Report {
                correlation: Correlation { task: Some(task), artifact: None, review: None },
                report: Report::Output(Box::new(output)),
            },
            raw: format!("{{\"id\":\"{}\"}}", self.events),
            on_bus: false,
        };
        self.machine.accept(PreparedEvent { event, files: Vec::new() }, None, self.now).unwrap();
        self.commit();
        task
    }

    /// The phase of an open task.
    pub(crate) fn phase(machine: &Machine, task: TaskId) -> Phase {
        machine.state.tasks.find_open(task).unwrap().unwrap().phase()
    }
}
