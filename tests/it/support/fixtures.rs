//! Settings, submissions and events with short names.

use std::time::Duration;

use dats::engine::{CheckpointRules, EventContent, IncomingEvent, LeaseRequest, Settings};
use dats::task::{
    ArtifactId, Correlation, Decision, Domain, ExecutionMode, Failure, Holder, Options, Output, Policy, Priority,
    ProjectId, QaProfile, Report, Router, Submission, TaskId, Tier, Verdict, WorkerId,
};

pub(crate) const CACHE_BYTES: usize = 8 * 1024 * 1024;

pub(crate) fn tier(name: &str) -> Tier {
    Tier::new(name).expect("a tier")
}

pub(crate) fn project(name: &str) -> ProjectId {
    ProjectId::new(name).expect("a project")
}

pub(crate) fn artifact(name: &str) -> ArtifactId {
    ArtifactId::new(name).expect("an artifact")
}

/// Settings with short waits.
pub(crate) fn settings() -> Settings {
    Settings {
        policy: Policy {
            backoff_initial: Duration::from_millis(4),
            backoff_max: Duration::from_millis(8),
            escalate_to: [(tier("small"), tier("large"))].into(),
            park: Duration::from_millis(200),
            validation_timeout: None,
            review_timeout: None,
            ..Policy::default()
        },
        router: Router::new(Vec::new(), Domain::new("code-general").expect("a domain"), tier("small"))
            .expect("a router without keywords"),
        tiers: vec![tier("small"), tier("large")],
        default_priority: Priority::Normal,
        default_qa_profile: QaProfile::new("consensus").expect("a profile"),
        default_timeout_seconds: 600,
        default_max_attempts: 3,
        max_concurrent: 10,
        aging: Duration::from_mins(5),
        queue_capacity: 4096,
        group_max: 256,
        hot_bytes: 64 * 1024 * 1024,
        retention: None,
        idempotency: Duration::from_hours(24),
        dedup_window: Duration::from_hours(72),
        idempotency_max_keys: 1_000_000,
        max_projects: 1_000_000,
        dedup_max_ids: 1_000_000,
        log_retention: Duration::from_hours(72),
        log_readers: Vec::new(),
        min_free_mib: 0,
        checkpoints: CheckpointRules::default(),
    }
}

pub(crate) fn submission(project_name: &str, description: &str) -> Submission {
    Submission {
        description: description.to_owned(),
        project: project(project_name),
        priority: None,
        options: Options::default(),
        metadata: None,
        execution_mode: ExecutionMode::Autonomous,
        constitution_override: None,
        traceparent: None,
        rerun_of: None,
    }
}

pub(crate) fn lease_request(tier_name: &str, max: usize) -> LeaseRequest {
    LeaseRequest {
        tier: tier(tier_name),
        worker: WorkerId::new("worker-1").expect("a worker"),
        max,
        lease: Duration::from_mins(1),
        wait: Duration::ZERO,
    }
}

pub(crate) fn output_report(artifact_name: &str) -> Report {
    Report::Output(Box::new(Output {
        artifact: artifact(artifact_name),
        attempt: None,
        contents: std::collections::BTreeMap::new(),
        artifacts: Vec::new(),
        inputs_consumed: Vec::new(),
        model_used: Some("a-model".to_owned()),
        sender: Holder::default(),
        tokens_input: Some(3),
        tokens_output: Some(5),
        execution_time_ms: None,
        confidence: Some(0.5),
        started_at: None,
    }))
}

pub(crate) fn verdict_report(artifact_name: &str, good: bool) -> Report {
    let decision = if good { Decision::Validated } else { Decision::Rejected { reason: "not good".to_owned() } };
    let details = format!("{{\"artifact\":\"{artifact_name}\",\"issues\":[\"one\"]}}");
    Report::Verdict(Verdict { artifact: artifact(artifact_name), decision, details })
}

pub(crate) fn failure_report(retryable: bool) -> Report {
    Report::Failed(Failure {
        error: "it broke".to_owned(),
        retryable,
        attempt: None,
        sender: Holder::default(),
        from_qa: false,
    })
}

/// An event of source `test` about a task. Its raw form tells what it is
/// known by.
pub(crate) fn event(id: &str, task: TaskId, report: Report) -> IncomingEvent {
    IncomingEvent {
        identity: Some(("test".to_owned(), id.to_owned())),
        message: EventContent::Report {
            correlation: Correlation { task: Some(task), artifact: None, review: None },
            report,
        },
        raw: format!("{{\"source\":\"test\",\"id\":\"{id}\"}}"),
        on_bus: false,
    }
}
