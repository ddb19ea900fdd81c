//! Creation of a task from a checked submission.

use super::change::{Change, Effect, Outcome};
use super::course::Course;
use super::draft::{Step, add_inputs, first_effects};
use super::error::{ErrorCode, TaskError};
use super::id::{ArtifactId, Domain, QaProfile, TaskId, Tier};
use super::moment::Now;
use super::policy::Policy;
use super::request::{Priority, Submission};
use super::routing::Routing;
use super::state::{Pending, Queued, State, Task};
use super::status::Status;

/// The choices that the client left open, made by the project, the router and the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Priority class among waiting tasks.
    pub priority: Priority,
    /// Tier of the first attempt.
    pub tier: Tier,
    /// The kind of work.
    pub domain: Domain,
    /// How outputs are validated.
    pub qa_profile: QaProfile,
    /// Execution limit of one attempt, in seconds.
    pub timeout_seconds: u32,
    /// Attempts after which the task fails.
    pub max_attempts: u32,
    /// What routing has to find out; `None` if nothing.
    pub routing: Option<Routing>,
}

/// State of a task that another one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependency {
    /// Not ended.
    Open,
    /// Completed, with these artifacts.
    Completed(Vec<ArtifactId>),
    /// Failed or cancelled.
    Lost,
}

/// Creates a task.
///
/// `dependencies` gives the state of each of the submission's `depends_on`. A lost dependency fails
/// the task at once.
#[must_use]
pub fn submit(
    id: TaskId,
    submission: &Submission,
    resolved: Resolved,
    dependencies: &[(TaskId, Dependency)],
    now: Now,
    policy: &Policy,
) -> Step {
    let of_kind = |kind| dependencies.iter().filter(move |(_, dependency)| *dependency == kind).map(|(task, _)| *task);
    let waits_for: Vec<TaskId> = of_kind(Dependency::Open).collect();
    let mut inputs = Vec::new();
    for (_, dependency) in dependencies {
        if let Dependency::Completed(artifacts) = dependency {
            add_inputs(&mut inputs, artifacts.iter().cloned());
        }
    }
    let ahead = submission.options.not_before.filter(|until| *until > now.wall);
    let mut lost_effects = Vec::new();
    let state = if let Some(lost) = of_kind(Dependency::Lost).next() {
        let message = format!("task {lost}, on which this one depends, did not complete");
        let error = TaskError { code: ErrorCode::DependencyFailed, message, attempt: None };
        let finished = Change::Finished { status: Status::Failed, error: Some(error.clone()), record: None };
        lost_effects.push(Effect::Log(finished));
        State::Failed { at: now.wall, error }
    } else if let Some(until) = ahead {
        State::Pending(Pending::Scheduled { until, waits_for })
    } else if !waits_for.is_empty() {
        State::Pending(Pending::Blocked { waits_for })
    } else if resolved.routing.is_some() {
        State::Pending(Pending::Analyzing { since: now.observed })
    } else {
        let announced = policy.announces_early();
        State::Pending(Pending::Queued(Queued { since: now.observed, announced, not_before: None, attempt: None }))
    };
    let task = Task {
        id,
        project: submission.project.clone(),
        priority: resolved.priority,
        tier: resolved.tier,
        domain: resolved.domain,
        qa_profile: resolved.qa_profile,
        timeout_seconds: resolved.timeout_seconds,
        max_attempts: resolved.max_attempts,
        created_at: now.wall,
        updated_at: now.wall,
        version: 1,
        started_at: None,
        rerun_of: submission.rerun_of,
        parent: None,
        depth: 0,
        children: Vec::new(),
        depends_on: submission.options.depends_on.clone(),
        inputs,
        mode: None,
        routing: resolved.routing,
        has_findings: false,
        estimate: None,
        closed: Vec::new(),
        parked: Vec::new(),
        course: Course::submitted(matches!(state, State::Failed { .. }), now),
        state,
    };
    let mut effects = first_effects(&task);
    effects.extend(lost_effects);
    Step { task, outcome: Outcome::Applied, effects }
}
