//! Submissions: choices made for the client, dependencies looked up,
//! idempotency keys honoured.

use std::time::Duration;

use super::api::{IdempotencyKey, PauseChange, Refusal, Submissions, Submitted, UnknownDependency, Version};
use super::command::Routed;
use super::machine::Machine;
use super::memory::ProjectState;
use crate::store::{self, Counters, IdempotencyRow, Project};
use crate::task::{self, Chosen, Dependency, End, Now, OnChildFailure, ProjectId, Resolved, Routing, TaskId};

type Stored<T> = Result<T, store::Error>;
type Results = Vec<Result<Submitted, UnknownDependency>>;

impl Machine {
    /// Takes submissions; with a key that was used before, the first answer
    /// again.
    pub(super) fn submit(
        &mut self,
        submissions: Vec<Routed>,
        key: Option<IdempotencyKey>,
        now: Now,
    ) -> Stored<Result<Submissions, Refusal>> {
        if let Some(used) = key.and_then(|key| self.keys.get(&key).map(|used| (key, used))) {
            let (key, used) = used;
            if used.body != key.body {
                return Ok(Err(Refusal::IdempotencyKeyReused));
            }
            return self.first_answer(used.seq).map(|results| Ok(Submissions { results, replayed: true }));
        }
        if key.is_some() && self.keys.len() >= self.settings.idempotency_max_keys {
            return Ok(Err(self.too_many_keys(now)));
        }
        if let Err(refusal) = self.admit_projects(submissions.iter().map(|routed| &routed.submission.project)) {
            return Ok(Err(refusal));
        }
        let seq = self.head.next();
        let mut results = Vec::with_capacity(submissions.len());
        for submission in submissions {
            results.push(self.submit_one(&submission, now)?);
        }
        // Where nothing was taken there is nothing to remember.
        if let Some(key) = key.filter(|_| results.iter().any(Result::is_ok)) {
            let answer = postcard::to_stdvec(&results).map_err(corrupt)?;
            let row = IdempotencyRow { at: now.observed, key: key.key, body: key.body, answer };
            self.group.batch.put_idempotency(seq, &row)?;
            self.group.answers.insert(seq, row.answer);
            self.keys.insert(seq, now.observed, key);
        }
        Ok(Ok(Submissions { results, replayed: false }))
    }

    /// A key is never forgotten before its time: a new one has to wait for the
    /// oldest to leave.
    fn too_many_keys(&self, now: Now) -> Refusal {
        let room_at = self.keys.oldest().map(|at| at.after(self.settings.idempotency));
        let room_in = room_at.map_or(Duration::ZERO, |at| at.since(now.observed));
        Refusal::TooManyIdempotencyKeys { limit: self.settings.idempotency_max_keys, room_in }
    }

    fn first_answer(&self, seq: task::Seq) -> Stored<Results> {
        if let Some(bytes) = self.group.answers.get(&seq) {
            return postcard::from_bytes(bytes).map_err(corrupt);
        }
        let row = self.store.view()?.idempotency(seq)?;
        postcard::from_bytes(&row.map(|row| row.answer).unwrap_or_default()).map_err(corrupt)
    }

    pub(super) fn submit_one(&mut self, routed: &Routed, now: Now) -> Stored<Result<Submitted, UnknownDependency>> {
        let submission = &routed.submission;
        let mut dependencies = Vec::with_capacity(submission.options.depends_on.len());
        for (index, &task) in submission.options.depends_on.iter().enumerate() {
            match self.dependency(task)? {
                Some(dependency) => dependencies.push((task, dependency)),
                None => return Ok(Err(UnknownDependency { index, task })),
            }
        }
        self.use_project(&submission.project, now)?;
        let id = TaskId::new(self.mint(now));
        let resolved = self.resolve(routed);
        let mut step = task::submit(id, submission, resolved, &dependencies, now, &self.settings.policy);
        step.task.estimate = self.foretell(&step.task, now)?;
        let estimated_completion = step.task.estimate.as_ref().map(|estimate| now.calendar(estimate.at));
        self.group.batch.put_submission(id, submission)?;
        self.begin(step, submission, now)?;
        Ok(Ok(Submitted { task: id, project: submission.project.clone(), created_at: now.wall, estimated_completion }))
    }

    fn dependency(&self, task: TaskId) -> Stored<Option<Dependency>> {
        Ok(self.find(task)?.map(|task| match End::of(&task) {
            None => Dependency::Open,
            Some(End::Completed { artifacts }) => {
                Dependency::Completed(artifacts.into_iter().map(|artifact| artifact.id).collect())
            }
            Some(End::Lost { .. }) => Dependency::Lost,
        }))
    }

    /// What the request names wins, then the project, then the router and
    /// the configuration.
    fn resolve(&self, routed: &Routed) -> Resolved {
        let settings = &self.settings;
        let submission = &routed.submission;
        let options = &submission.options;
        let of_project = || self.projects.get(&submission.project).and_then(|state| state.project.qa_profile.clone());
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

    /// A project is made on first use; one that was deleted is made again.
    pub(super) fn use_project(&mut self, id: &ProjectId, now: Now) -> Stored<()> {
        if self.projects.get(id).is_some_and(|state| state.project.archived_at.is_none()) {
            return Ok(());
        }
        let project = Project {
            id: id.clone(),
            name: id.to_string(),
            description: None,
            qa_profile: None,
            constitution: None,
            max_concurrent: None,
            created_at: now.wall,
            updated_at: now.wall,
            version: 1,
            archived_at: None,
            paused_at: None,
            resumed_at: None,
        };
        self.put_project(project)
    }

    /// Keeps a project, new or changed.
    pub(super) fn put_project(&mut self, project: Project) -> Stored<()> {
        self.group.batch.put_project(&project)?;
        self.group.projects.entry(project.id.clone()).or_default().is_changed = true;
        self.lines.admission.set_limit(&project.id, project.max_concurrent);
        if self.lines.set_project_paused(&project.id, project.paused_at.is_some()) {
            let is_paused = project.paused_at.is_some();
            self.group.pauses.push(PauseChange::Project { project: project.id.clone(), is_paused });
        }
        let was_live = self.projects.get(&project.id).is_some_and(|state| state.project.archived_at.is_none());
        let is_live = project.archived_at.is_none();
        self.live_projects = self.live_projects + u64::from(is_live) - u64::from(was_live);
        if let Some(state) = self.projects.get_mut(&project.id) {
            state.project = project;
        } else {
            let id = project.id.clone();
            let (counters, changed) = (Counters::default(), Version::default());
            self.projects.insert(id, ProjectState { project, counters, changed });
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn corrupt(error: postcard::Error) -> store::Error {
    store::Error::Corrupt { table: "idempotency", detail: error.to_string() }
}
