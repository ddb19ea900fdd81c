//! Submissions: what the client leaves open is chosen, dependencies are looked up, and
//! idempotency keys are honoured.

use std::time::Duration;

use super::failure::{Failure, Stored};
use super::idempotency::IdempotencyKeys;
use super::ids::IdSource;
use super::transitions::EngineState;
use crate::engine::api::{IdempotencyKey, Refusal, Settings, Submissions, Submitted, UnknownDependency};
use crate::store;
use crate::task::{
    self, Chosen, Dependency, Domain, End, Now, OnChildFailure, Resolved, Router, Routing, Seq, Submission, TaskId,
    Tier,
};

type Results = Vec<Result<Submitted, UnknownDependency>>;

/// A submission and what the router chooses for it. Routing reads the whole description, so
/// it is done before the writer sees the submission.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) submission: Submission,
    pub(crate) domain: Domain,
    pub(crate) tier: Tier,
}

impl Routed {
    /// Routes a submission. What the request names takes precedence over the router.
    pub(crate) fn by(router: &Router, submission: Submission) -> Self {
        let options = &submission.options;
        let (domain, tier) = match (options.domain.clone(), options.tier.clone()) {
            (Some(domain), Some(tier)) => (domain, tier),
            (domain, tier) => {
                let found = router.route(&submission.description);
                (domain.unwrap_or(found.0), tier.unwrap_or(found.1))
            }
        };
        Self { submission, domain, tier }
    }

    /// Bytes of the texts that the client sent.
    pub(crate) fn text_bytes(&self) -> usize {
        let Submission { description, metadata, constitution_override, .. } = &self.submission;
        let optional = [metadata, constitution_override].into_iter().flatten();
        optional.fold(description.len(), |bytes, text| bytes.saturating_add(text.len()))
    }
}

/// Takes submissions. With a key that was used before, returns the first answer again.
pub(super) fn submit(
    state: &mut EngineState,
    keys: &mut IdempotencyKeys,
    (settings, ids): (&Settings, &IdSource),
    submissions: Vec<Routed>,
    key: Option<IdempotencyKey>,
    now: Now,
) -> Result<Submissions, Failure> {
    if let Some((key, used)) = key.and_then(|key| keys.get(&key).map(|used| (key, used))) {
        if used.body != key.body {
            return Err(Refusal::IdempotencyKeyReused.into());
        }
        return Ok(Submissions { results: first_answer(state, keys, used.seq)?, replayed: true });
    }
    if key.is_some() && keys.len() >= settings.idempotency_max_keys {
        return Err(too_many_keys(keys, settings, now).into());
    }
    state.projects.admit(submissions.iter().map(|routed| &routed.submission.project))?;
    let seq = state.log.head().next();
    let mut results = Vec::with_capacity(submissions.len());
    for submission in submissions {
        results.push(submit_one(state, settings, ids, &submission, now)?);
    }
    // Where nothing was taken there is nothing to remember.
    if let Some(key) = key.filter(|_| results.iter().any(Result::is_ok)) {
        let answer = postcard::to_stdvec(&results).map_err(corrupt)?;
        keys.put(&mut state.group.batch, seq, now.observed, key, answer)?;
    }
    Ok(Submissions { results, replayed: false })
}

/// No key is forgotten before its time, so a new one must wait for the oldest to leave.
fn too_many_keys(keys: &IdempotencyKeys, settings: &Settings, now: Now) -> Refusal {
    let room_at = keys.oldest().map(|at| at.after(settings.idempotency));
    let room_in = room_at.map_or(Duration::ZERO, |at| at.since(now.observed));
    Refusal::TooManyIdempotencyKeys { limit: settings.idempotency_max_keys, room_in }
}

fn first_answer(state: &EngineState, keys: &IdempotencyKeys, seq: Seq) -> Stored<Results> {
    if let Some(answer) = keys.new_answer(seq) {
        return postcard::from_bytes(answer).map_err(corrupt);
    }
    let row = state.storage.view()?.idempotency(seq)?;
    postcard::from_bytes(&row.map(|row| row.answer).unwrap_or_default()).map_err(corrupt)
}

/// Takes one submission, unless it depends on a task that does not exist.
pub(super) fn submit_one(
    state: &mut EngineState,
    settings: &Settings,
    ids: &IdSource,
    routed: &Routed,
    now: Now,
) -> Stored<Result<Submitted, UnknownDependency>> {
    let submission = &routed.submission;
    let mut dependencies = Vec::with_capacity(submission.options.depends_on.len());
    for (index, &task) in submission.options.depends_on.iter().enumerate() {
        match find_dependency(state, task)? {
            Some(dependency) => dependencies.push((task, dependency)),
            None => return Ok(Err(UnknownDependency { index, task })),
        }
    }
    state.projects.make_if_missing(&submission.project, &mut state.lines, &mut state.group, now)?;
    let id = TaskId::new(ids.next(now));
    let resolved = resolve(state, settings, routed);
    let mut step = task::submit(id, submission, resolved, &dependencies, now, &settings.policy);
    let EngineState { predictions, tasks, projects, lines, .. } = state;
    step.task.estimate = predictions.predict_completion(&step.task, tasks, projects, lines, now)?;
    let estimated_completion = step.task.estimate.as_ref().map(|estimate| now.calendar(estimate.at));
    state.group.batch.put_submission(id, submission)?;
    state.begin(step, submission, now)?;
    Ok(Ok(Submitted { task: id, project: submission.project.clone(), created_at: now.wall, estimated_completion }))
}

fn find_dependency(state: &EngineState, task: TaskId) -> Stored<Option<Dependency>> {
    Ok(state.find_task(task)?.map(|task| match End::of(&task) {
        None => Dependency::Open,
        Some(End::Completed { artifacts }) => {
            Dependency::Completed(artifacts.into_iter().map(|artifact| artifact.id).collect())
        }
        Some(End::Lost { .. }) => Dependency::Lost,
    }))
}

/// Chooses what the task gets: what the request names takes precedence over the project, and
/// that over the router and the configuration.
fn resolve(state: &EngineState, settings: &Settings, routed: &Routed) -> Resolved {
    let submission = &routed.submission;
    let options = &submission.options;
    let of_project = || state.projects.get(&submission.project).and_then(|project| project.qa_profile.clone());
    let qa_profile = options.qa_profile.clone().or_else(of_project);
    let chosen =
        Chosen { domain: options.domain.is_some(), tier: options.tier.is_some(), qa_profile: qa_profile.is_some() };
    let decompose = options.decompose.unwrap_or(true);
    let on_child_failure = options.on_child_failure.unwrap_or(OnChildFailure::Cancel);
    Resolved {
        priority: submission.priority.unwrap_or(settings.default_priority),
        tier: routed.tier.clone(),
        domain: routed.domain.clone(),
        qa_profile: qa_profile.unwrap_or_else(|| settings.default_qa_profile.clone()),
        timeout_seconds: options.timeout_seconds.unwrap_or(settings.default_timeout_seconds),
        max_attempts: options.max_attempts.unwrap_or(settings.default_max_attempts),
        routing: Routing::of_submission(chosen, decompose, on_child_failure, &settings.policy),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn corrupt(error: postcard::Error) -> store::Error {
    store::Error::Corrupt { table: "idempotency", detail: error.to_string() }
}
