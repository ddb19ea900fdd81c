//! Short ways to write down ids, times, reports and submissions of the core.

use std::time::Duration;

use dats::task::{
    ArtifactId, Decision, Domain, ExecutionMode, Failure, Holder, LeaseId, Moment, Now, Options, Output,
    OutputArtifact, Policy, Priority, ProjectId, QaProfile, RecordId, Report, Resolved, Review, ReviewDecision,
    ReviewId, ReviewRequest, Started, Submission, TaskId, Tier, Timestamp, Verdict, WorkerId,
};
use uuid::Uuid;

pub(crate) fn task_id(number: u128) -> TaskId {
    TaskId::new(Uuid::from_u128(number))
}

pub(crate) fn lease_id(number: u128) -> LeaseId {
    LeaseId::new(Uuid::from_u128(number))
}

pub(crate) fn record_id(number: u128) -> RecordId {
    RecordId::new(Uuid::from_u128(number))
}

pub(crate) fn artifact(name: &str) -> ArtifactId {
    ArtifactId::new(name).expect("a valid artifact id")
}

pub(crate) fn review(name: &str) -> ReviewId {
    ReviewId::new(name).expect("a valid review id")
}

pub(crate) fn project(name: &str) -> ProjectId {
    ProjectId::new(name).expect("a valid project id")
}

pub(crate) fn tier(name: &str) -> Tier {
    Tier::new(name).expect("a valid tier")
}

pub(crate) fn worker() -> WorkerId {
    WorkerId::new("worker").expect("a valid worker id")
}

/// Seconds on the tests' own clock.
pub(crate) fn at(second: i64) -> Moment {
    Moment::from_micros(second * 1_000_000)
}

/// A moment while the wall clock shows the same.
pub(crate) fn present(moment: Moment) -> Now {
    Now::aligned(calendar(moment))
}

/// What the wall clock then shows.
pub(crate) fn calendar(moment: Moment) -> Timestamp {
    Timestamp::from_micros(moment.as_micros())
}

/// The configured defaults, with the usual way up and both deadlines set to
/// `deadline` seconds.
pub(crate) fn policy(deadline: Option<u64>) -> Policy {
    let up = [("tiny", "small"), ("small", "large"), ("large", "frontier"), ("coding", "frontier")];
    Policy {
        escalate_to: up.into_iter().map(|(from, to)| (tier(from), tier(to))).collect(),
        validation_timeout: deadline.map(Duration::from_secs),
        review_timeout: deadline.map(Duration::from_secs),
        ..Policy::default()
    }
}

pub(crate) fn submission(project: ProjectId, depends_on: &[TaskId], not_before: Option<Timestamp>) -> Submission {
    Submission {
        description: "sort a list".to_owned(),
        project,
        priority: None,
        options: Options { depends_on: depends_on.to_vec(), not_before, ..Options::default() },
        metadata: None,
        execution_mode: ExecutionMode::Autonomous,
        constitution_override: None,
        traceparent: None,
        rerun_of: None,
    }
}

pub(crate) fn resolved(max_attempts: u32, timeout_seconds: u32, qa_profile: &str) -> Resolved {
    Resolved {
        priority: Priority::Normal,
        tier: tier("small"),
        domain: Domain::new("code-general").expect("a valid domain"),
        qa_profile: QaProfile::new(qa_profile).expect("a valid profile"),
        timeout_seconds,
        max_attempts,
        routing: None,
    }
}

/// An output whose verdicts name `main` or one of `more`.
pub(crate) fn output(attempt: Option<u32>, main: &str, more: &[&str]) -> Report {
    let artifacts = more.iter().map(|&id| OutputArtifact {
        id: artifact(id),
        kind: Some("code".to_owned()),
        path: None,
        language: None,
        checksum: None,
        size_bytes: Some(7),
    });
    Report::Output(Box::new(Output {
        artifact: artifact(main),
        attempt,
        contents: std::collections::BTreeMap::new(),
        artifacts: artifacts.collect(),
        inputs_consumed: Vec::new(),
        model_used: None,
        sender: Holder::default(),
        tokens_input: None,
        tokens_output: None,
        execution_time_ms: None,
        confidence: Some(0.5),
        started_at: None,
    }))
}

pub(crate) fn validated(name: &str) -> Report {
    Report::Verdict(Verdict { artifact: artifact(name), decision: Decision::Validated, details: "{}".to_owned() })
}

pub(crate) fn rejected(name: &str) -> Report {
    let decision = Decision::Rejected { reason: "too short".to_owned() };
    Report::Verdict(Verdict { artifact: artifact(name), decision, details: "{}".to_owned() })
}

pub(crate) fn failed(attempt: Option<u32>, retryable: bool) -> Report {
    Report::Failed(Failure {
        error: "out of memory".to_owned(),
        retryable,
        attempt,
        sender: Holder::default(),
        from_qa: false,
    })
}

pub(crate) fn started(attempt: Option<u32>) -> Report {
    Report::Started(Started { attempt, sender: Holder::default() })
}

/// The same report from a worker that says who it is.
pub(crate) fn sent_by(report: Report, lease: Option<u128>, worker: Option<&str>) -> Report {
    let worker = worker.map(|name| WorkerId::new(name).expect("a valid worker id"));
    let sender = Holder { lease: lease.map(lease_id), worker };
    match report {
        Report::Output(output) => Report::Output(Box::new(Output { sender, ..*output })),
        Report::Failed(failure) => Report::Failed(Failure { sender, ..failure }),
        Report::Started(started) => Report::Started(Started { sender, ..started }),
        other @ (Report::Verdict(_) | Report::ReviewRequested(_) | Report::ReviewCompleted(_)) => other,
    }
}

/// The same failure from a QA service.
pub(crate) fn from_qa(report: Report) -> Report {
    match report {
        Report::Failed(failure) => Report::Failed(Failure { from_qa: true, ..failure }),
        other => other,
    }
}

pub(crate) fn review_requested(id: &str, about: Option<&str>) -> Report {
    let artifact = about.map(artifact);
    Report::ReviewRequested(ReviewRequest { review: review(id), reason: "unsure".to_owned(), artifact })
}

pub(crate) fn review_completed(id: &str, decision: ReviewDecision, about: Option<&str>) -> Report {
    let artifact = about.map(artifact);
    let comments = Some("as I see it".to_owned());
    Report::ReviewCompleted(Review { review: review(id), decision, reviewer: None, artifact, comments })
}
