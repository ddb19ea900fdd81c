//! Tasks in format 5, frozen, and their conversion: a task was `running` from the moment it got a
//! slot, whether or not a worker had it.
//!
//! Its times are those of the wall clock. Fields that are in observed time today keep their
//! numbers, because the axis of observed time starts at the reading of the wall clock.
//!
//! Converted tasks fit both buses: at a start the engine moves tasks in a phase that its bus does
//! not have into one that it has.

use std::time::Duration;

use serde::Deserialize;

use crate::task::{
    ArtifactId, Attempt, Children, ClosedAttempt, Completion, Course, Domain, Estimated, Holder, Lease, Mode, Moment,
    Now, OutputArtifact, Parked, Pending, Priority, Product, Progress, ProjectId, QaProfile, Queued, RecordId,
    ReviewId, Routing, State, Task, TaskError, TaskId, Tier, Timestamp,
};

/// A row of `open_tasks` or `finished_tasks`.
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
    /// In the current form: only the name of a field has changed.
    closed: Vec<ClosedAttempt>,
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
enum PendingV5 {
    Scheduled { until: Timestamp, waits_for: Vec<TaskId> },
    Blocked { waits_for: Vec<TaskId> },
    Analyzing { since: Moment },
    Queued { since: Moment },
    Backoff { until: Moment },
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
    Leased { lease: Lease, deadline: Moment },
    Validating { product: ProductV5, deadline: Option<Moment> },
    Reviewing { product: ProductV5, review: ReviewId, deadline: Option<Moment> },
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
enum CompletionV5 {
    Attempt { number: u32, product: ProductV5 },
    Children { artifacts: Vec<OutputArtifact> },
}

impl From<ProductV5> for Product {
    fn from(old: ProductV5) -> Self {
        let ProductV5 { record, artifact, artifacts, late, reviews } = old;
        // Format 5 does not store the worker that sent it.
        Self { record, artifact, artifacts, sender: Holder::default(), late, reviews }
    }
}

impl AttemptV5 {
    /// The open attempt in the current form.
    fn opened(self, started_at: Option<Timestamp>, has_slot: bool) -> Attempt {
        let opened = Attempt::open(self.number, Moment::aligned(self.dispatched_at), Now::aligned(self.dispatched_at));
        Attempt { started_at, executed: self.executed, has_slot, holders: u32::from(started_at.is_some()), ..opened }
    }
}

/// An attempt in progress. An attempt that no worker has taken waits, since its dispatch, because
/// format 5 does not store when it began to wait for a slot.
fn running(attempt: AttemptV5, progress: ProgressV5) -> State {
    let dispatched_at = attempt.dispatched_at;
    // An attempt whose lease expired has been executed before.
    let was_executed = (attempt.executed > Duration::ZERO).then_some(dispatched_at);
    let began = attempt.taken_at.or(was_executed).unwrap_or(dispatched_at);
    match progress {
        ProgressV5::Dispatched => match attempt.taken_at {
            Some(taken_at) => {
                let since = Moment::aligned(taken_at).before(attempt.executed);
                let progress = Progress::Started { worker: None, since, inferred: true };
                State::Running { attempt: attempt.opened(Some(taken_at), true), progress }
            }
            None => State::Pending(Pending::Dispatched {
                attempt: attempt.opened(was_executed, true),
                at: Moment::aligned(dispatched_at),
            }),
        },
        ProgressV5::Leased { lease, deadline } => {
            let started_at = was_executed.unwrap_or(Timestamp::from_micros(lease.since.as_micros()));
            State::Running {
                attempt: attempt.opened(Some(started_at), true),
                progress: Progress::Leased { lease, deadline },
            }
        }
        ProgressV5::Validating { product, deadline } => State::Running {
            attempt: attempt.opened(Some(began), true),
            progress: Progress::Validating { product: product.into(), deadline },
        },
        ProgressV5::Reviewing { product, review, deadline } => State::Running {
            attempt: attempt.opened(Some(began), false),
            progress: Progress::Reviewing { product: product.into(), review, deadline },
        },
    }
}

impl From<StateV5> for State {
    fn from(old: StateV5) -> Self {
        match old {
            StateV5::Pending(pending) => Self::Pending(match pending {
                PendingV5::Scheduled { until, waits_for } => Pending::Scheduled { until, waits_for },
                PendingV5::Blocked { waits_for } => Pending::Blocked { waits_for },
                PendingV5::Analyzing { since } => Pending::Analyzing { since },
                PendingV5::Queued { since } => {
                    Pending::Queued(Queued { since, announced: false, not_before: None, attempt: None })
                }
                PendingV5::Backoff { until } => Pending::Backoff { until },
            }),
            StateV5::Running { attempt, progress } => running(attempt, progress),
            StateV5::Children(children) => Self::Children(children),
            StateV5::Completed { at, by } => Self::Completed {
                at,
                by: match by {
                    CompletionV5::Attempt { number, product } => {
                        Completion::Attempt { number, product: product.into() }
                    }
                    CompletionV5::Children { artifacts } => Completion::Children { artifacts },
                },
            },
            StateV5::Failed { at, error } => Self::Failed { at, error },
            StateV5::Cancelled { at, reason } => Self::Cancelled { at, reason },
        }
    }
}

impl From<TaskV5> for Task {
    /// Raises the version if the visible state differs: a dispatched task that no worker has is
    /// `pending` today.
    fn from(old: TaskV5) -> Self {
        let state = State::from(old.state);
        let is_dispatched = matches!(state, State::Pending(Pending::Dispatched { .. }));
        let is_started = matches!(state, State::Running { progress: Progress::Started { .. }, .. });
        let was_never_taken = match &state {
            State::Pending(Pending::Dispatched { attempt, .. }) => {
                attempt.started_at.is_none() && old.closed.is_empty()
            }
            State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => false,
        };
        Self {
            id: old.id,
            project: old.project,
            priority: old.priority,
            tier: old.tier,
            domain: old.domain,
            qa_profile: old.qa_profile,
            timeout_seconds: old.timeout_seconds,
            max_attempts: old.max_attempts,
            created_at: old.created_at,
            updated_at: old.updated_at,
            version: old.version + u64::from(is_dispatched || is_started),
            started_at: old.started_at.filter(|_| !was_never_taken),
            rerun_of: old.rerun_of,
            parent: old.parent,
            depth: old.depth,
            children: old.children,
            depends_on: old.depends_on,
            inputs: old.inputs,
            mode: old.mode,
            routing: old.routing,
            has_findings: old.has_findings,
            estimate: old.estimate,
            closed: old.closed,
            parked: old.parked,
            state,
            course: Course::default(),
        }
    }
}

/// Parses a task written as JSON by this version or by one of format 5. A replica can have rows of
/// both.
pub fn task_of_document(text: &str) -> Result<Task, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| serde_json::from_str::<TaskV5>(text).map(Task::from).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::task::{Phase, Status};

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn document(state: &Value) -> String {
        let closed = json!([{
            "number": 1, "tier": "small", "dispatched_at": 5_000, "closed_at": 6_000,
            "error": {"code": "deadline_exceeded", "message": "m", "attempt": 1}, "product": null, "artifacts": [], "reviews": [],
        }]);
        json!({
            "id": ID, "project": "p", "priority": "normal", "tier": "small", "domain": "d", "qa_profile": "none",
            "timeout_seconds": 600, "max_attempts": 3, "created_at": 1_000, "updated_at": 2_000, "version": 4,
            "started_at": 3_000, "rerun_of": null, "parent": null, "depth": 0, "children": [], "depends_on": [],
            "inputs": [], "mode": null, "routing": null, "has_findings": false, "estimate": null, "closed": closed,
            "parked": [], "state": state,
        })
        .to_string()
    }

    #[test]
    fn documents_of_format_5_are_read() {
        let attempt =
            json!({"number": 2, "dispatched_at": 7_000, "executed": {"secs": 0, "nanos": 0}, "taken_at": null});
        let product = json!({"record": ID, "artifact": "a", "artifacts": [], "late": [], "reviews": []});
        let dispatched =
            task_of_document(&document(&json!({"Running": {"attempt": attempt, "progress": "Dispatched"}})));
        let dispatched = dispatched.unwrap();
        assert_eq!((dispatched.status(), dispatched.phase()), (Status::Pending, Phase::Dispatched));
        assert_eq!((dispatched.version, dispatched.closed[0].began_at.as_micros()), (5, 5_000));
        let queued = task_of_document(&document(&json!({"Pending": {"Queued": {"since": 8_000}}}))).unwrap();
        assert_eq!(queued.phase(), Phase::Queued);
        let by = json!({"Attempt": {"number": 2, "product": product}});
        let completed = task_of_document(&document(&json!({"Completed": {"at": 9_000, "by": by}}))).unwrap();
        assert_eq!(completed.status(), Status::Completed);
        // What this version writes is read as it is.
        for task in [dispatched, queued, completed] {
            assert_eq!(task_of_document(&serde_json::to_string(&task).unwrap()).unwrap(), task);
        }
        assert!(task_of_document("{}").unwrap_err().to_string().contains("missing field"));
    }
}
