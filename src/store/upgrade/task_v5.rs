//! A task as format 5 has it, frozen, and what becomes of it.
//!
//! There, `dispatched` was a phase of `running` on both buses and held a slot,
//! and `started_at` was the time of the first dispatch. Here a task runs only
//! while a worker has it. The start that follows brings what waits into the
//! form that the configured bus knows ([`Task::fits`]).

use std::time::Duration;

use serde::Deserialize;

use crate::task::{
    ArtifactId, Attempt, Children, ClosedAttempt, Completion, Domain, Estimated, Holder, Lease, Mode, OutputArtifact,
    Parked, Pending, Priority, Product, Progress, ProjectId, QaProfile, Queued, RecordId, ReviewId, Routing, State,
    Task, TaskError, TaskId, Tier, Timestamp,
};

#[derive(Debug, Deserialize)]
pub(super) struct TaskV5 {
    id: TaskId,
    project: ProjectId,
    priority: Priority,
    tier: Tier,
    domain: Domain,
    qa_profile: QaProfile,
    timeout_seconds: u32,
    max_attempts: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: u64,
    started_at: Option<Timestamp>,
    rerun_of: Option<TaskId>,
    parent: Option<TaskId>,
    depth: u32,
    children: Vec<TaskId>,
    depends_on: Vec<TaskId>,
    inputs: Vec<ArtifactId>,
    mode: Option<Mode>,
    routing: Option<Routing>,
    has_findings: bool,
    estimate: Option<Estimated>,
    closed: Vec<ClosedAttemptV5>,
    parked: Vec<Parked>,
    state: StateV5,
}

#[derive(Debug, Deserialize)]
enum StateV5 {
    Pending(PendingV5),
    Running { attempt: AttemptV5, progress: ProgressV5 },
    Children(Children),
    Completed { at: Timestamp, by: CompletionV5 },
    Failed { at: Timestamp, error: TaskError },
    Cancelled { at: Timestamp, reason: Option<String> },
}

#[derive(Debug, Deserialize)]
enum CompletionV5 {
    Attempt { number: u32, product: ProductV5 },
    Children { artifacts: Vec<OutputArtifact> },
}

#[derive(Debug, Deserialize)]
enum PendingV5 {
    Scheduled { until: Timestamp, waits_for: Vec<TaskId> },
    Blocked { waits_for: Vec<TaskId> },
    Analyzing { since: Timestamp },
    Queued { since: Timestamp },
    Backoff { until: Timestamp },
}

#[derive(Debug, Deserialize)]
struct AttemptV5 {
    number: u32,
    dispatched_at: Timestamp,
    executed: Duration,
    taken_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
enum ProgressV5 {
    Dispatched,
    Leased { lease: Lease, deadline: Timestamp },
    Validating { product: ProductV5, deadline: Option<Timestamp> },
    Reviewing { product: ProductV5, review: ReviewId, deadline: Option<Timestamp> },
}

#[derive(Debug, Deserialize)]
struct ProductV5 {
    record: RecordId,
    artifact: ArtifactId,
    artifacts: Vec<OutputArtifact>,
    late: Vec<ArtifactId>,
    reviews: Vec<ReviewId>,
}

#[derive(Debug, Deserialize)]
struct ClosedAttemptV5 {
    number: u32,
    tier: Tier,
    dispatched_at: Timestamp,
    closed_at: Timestamp,
    error: TaskError,
    product: Option<(RecordId, ArtifactId)>,
    artifacts: Vec<ArtifactId>,
    reviews: Vec<ReviewId>,
}

impl From<ProductV5> for Product {
    fn from(product: ProductV5) -> Self {
        let ProductV5 { record, artifact, artifacts, late, reviews } = product;
        Self { record, artifact, artifacts, sender: Holder::default(), late, reviews }
    }
}

impl From<ClosedAttemptV5> for ClosedAttempt {
    fn from(closed: ClosedAttemptV5) -> Self {
        Self {
            number: closed.number,
            tier: closed.tier,
            began_at: closed.dispatched_at,
            closed_at: closed.closed_at,
            error: closed.error,
            product: closed.product,
            artifacts: closed.artifacts,
            reviews: closed.reviews,
        }
    }
}

impl From<PendingV5> for Pending {
    fn from(pending: PendingV5) -> Self {
        match pending {
            PendingV5::Scheduled { until, waits_for } => Self::Scheduled { until, waits_for },
            PendingV5::Blocked { waits_for } => Self::Blocked { waits_for },
            PendingV5::Analyzing { since } => Self::Analyzing { since },
            PendingV5::Queued { since } => {
                Self::Queued(Queued { since, announced: false, not_before: None, attempt: None })
            }
            PendingV5::Backoff { until } => Self::Backoff { until },
        }
    }
}

impl From<StateV5> for State {
    fn from(state: StateV5) -> Self {
        match state {
            StateV5::Pending(pending) => Self::Pending(pending.into()),
            StateV5::Running { attempt, progress } => running(&attempt, progress),
            StateV5::Children(children) => Self::Children(children),
            StateV5::Completed { at, by: CompletionV5::Attempt { number, product } } => {
                Self::Completed { at, by: Completion::Attempt { number, product: product.into() } }
            }
            StateV5::Completed { at, by: CompletionV5::Children { artifacts } } => {
                Self::Completed { at, by: Completion::Children { artifacts } }
            }
            StateV5::Failed { at, error } => Self::Failed { at, error },
            StateV5::Cancelled { at, reason } => Self::Cancelled { at, reason },
        }
    }
}

/// An attempt that was out: with a worker, with QA, or waiting for a worker.
fn running(before: &AttemptV5, progress: ProgressV5) -> State {
    let AttemptV5 { number, dispatched_at, executed, taken_at } = *before;
    let had_lease = (!executed.is_zero()).then_some(dispatched_at);
    let attempt = |started_at: Option<Timestamp>, holders, has_slot| Attempt {
        executed,
        started_at: had_lease.or(started_at),
        holders,
        has_slot,
        ..Attempt::open(number, dispatched_at, dispatched_at)
    };
    match (progress, taken_at) {
        (ProgressV5::Dispatched, None) => {
            State::Pending(Pending::Dispatched { attempt: attempt(None, 0, true), at: dispatched_at })
        }
        (ProgressV5::Dispatched, Some(since)) => State::Running {
            attempt: attempt(taken_at, 0, true),
            progress: Progress::Started { worker: None, since, inferred: true },
        },
        (ProgressV5::Leased { lease, deadline }, _) => {
            State::Running { attempt: attempt(Some(lease.since), 1, true), progress: Progress::Leased { lease, deadline } }
        }
        (ProgressV5::Validating { product, deadline }, _) => State::Running {
            attempt: attempt(taken_at.or(Some(dispatched_at)), 1, true),
            progress: Progress::Validating { product: product.into(), deadline },
        },
        (ProgressV5::Reviewing { product, review, deadline }, _) => State::Running {
            attempt: attempt(taken_at.or(Some(dispatched_at)), 1, false),
            progress: Progress::Reviewing { product: product.into(), review, deadline },
        },
    }
}

impl From<TaskV5> for Task {
    fn from(task: TaskV5) -> Self {
        let is_first = task.closed.is_empty();
        let moves = matches!(task.state, StateV5::Running { progress: ProgressV5::Dispatched, .. });
        let state = State::from(task.state);
        let mut converted = Self {
            id: task.id,
            project: task.project,
            priority: task.priority,
            tier: task.tier,
            domain: task.domain,
            qa_profile: task.qa_profile,
            timeout_seconds: task.timeout_seconds,
            max_attempts: task.max_attempts,
            created_at: task.created_at,
            updated_at: task.updated_at,
            version: task.version + u64::from(moves),
            started_at: task.started_at,
            rerun_of: task.rerun_of,
            parent: task.parent,
            depth: task.depth,
            children: task.children,
            depends_on: task.depends_on,
            inputs: task.inputs,
            mode: task.mode,
            routing: task.routing,
            has_findings: task.has_findings,
            estimate: task.estimate,
            closed: task.closed.into_iter().map(ClosedAttempt::from).collect(),
            parked: task.parked,
            state,
        };
        // It said when the first attempt was dispatched; a worker has it later, or not yet.
        if is_first && let Some(attempt) = converted.open_attempt() {
            converted.started_at = attempt.started_at;
        }
        converted
    }
}
