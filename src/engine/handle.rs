//! The engine's handle: cheap to clone, safe to use from any task.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::api::{
    Answer, Error, EventOutcome, Figures, Granted, IdempotencyKey, Incoming, LeaseRequest, LogPage, NewProject,
    PageStart, ProjectPatch, ProjectStatus, Queue, Refusal, Submissions, Submitted, TaskFilter, TaskPage,
};
use crate::store::{DeadLetter, LogEntry, Project, Record};
use crate::task::{ArtifactId, LeaseId, ProjectId, RecordId, Seq, Submission, TaskId, Timestamp};

/// The engine's handle.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Submits tasks: one durable commit for all. With a key, the first
    /// answer is given again for the same body.
    pub async fn submit(&self, submissions: Vec<Submission>, key: Option<IdempotencyKey>) -> Result<Submissions, Error> {
        todo!()
    }

    /// Ends an open task; on a cancelled one nothing changes.
    pub async fn cancel(&self, task: TaskId, reason: Option<String>) -> Result<Answer, Error> {
        todo!()
    }

    /// Makes a new task from a finished one.
    pub async fn rerun(&self, task: TaskId) -> Result<Submitted, Error> {
        todo!()
    }

    /// Takes events of other services, in order, in one durable commit.
    pub async fn accept(&self, events: Vec<Incoming>) -> Result<Vec<Result<EventOutcome, Refusal>>, Error> {
        todo!()
    }

    /// Gives waiting tasks of a tier to a worker; waits for the first if
    /// there are none. Dropping the future gives up the wait.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Granted>, Error> {
        todo!()
    }

    /// Prolongs a lease from now on; until when it is then held.
    pub async fn renew(&self, lease: LeaseId, duration: Duration) -> Result<Timestamp, Error> {
        todo!()
    }

    /// Gives a lease back: the task waits for a worker again.
    pub async fn release(&self, lease: LeaseId) -> Result<(), Error> {
        todo!()
    }

    /// Makes a project.
    pub async fn create_project(&self, project: NewProject) -> Result<Project, Error> {
        todo!()
    }

    /// Changes a project.
    pub async fn update_project(&self, project: ProjectId, patch: ProjectPatch) -> Result<Project, Error> {
        todo!()
    }

    /// Deletes a project without open tasks; its tasks and provenance stay.
    pub async fn delete_project(&self, project: ProjectId) -> Result<(), Error> {
        todo!()
    }

    /// A project and what goes on in it.
    pub async fn project_status(&self, project: ProjectId) -> Result<ProjectStatus, Error> {
        todo!()
    }

    /// The work queue of every configured tier.
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        todo!()
    }

    /// Takes a dead letter again as an event; when it is taken, it is no
    /// dead letter any more.
    pub async fn requeue(&self, dead_letter: u64) -> Result<EventOutcome, Error> {
        todo!()
    }

    /// The status answer of a task; `None`: there is no such task.
    pub fn status(&self, task: TaskId) -> Result<Option<Answer>, Error> {
        todo!()
    }

    /// The status answer as soon as its version is not `known`, or, without
    /// that, as soon as the task has ended; what it is then at the latest
    /// after `timeout`.
    pub async fn wait(&self, task: TaskId, known: Option<u64>, timeout: Duration) -> Result<Option<Answer>, Error> {
        todo!()
    }

    /// A page of tasks, newest first.
    pub async fn tasks(&self, filter: TaskFilter, start: PageStart, limit: usize) -> Result<TaskPage, Error> {
        todo!()
    }

    /// The history of a task after a position, in order; `None`: no such task.
    pub async fn history(&self, task: TaskId, after: Seq, limit: usize) -> Result<Option<Vec<(Seq, LogEntry)>>, Error> {
        todo!()
    }

    /// Published and accepted events after a position, at most `limit`;
    /// with `keep` deciding which.
    pub async fn log(
        &self,
        after: Seq,
        limit: usize,
        keep: impl Fn(&LogEntry) -> bool + Send + 'static,
    ) -> Result<LogPage, Error> {
        todo!()
    }

    /// The newest position of the log, and a signal when it moves.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Seq> {
        todo!()
    }

    /// Completes as soon as a task may have changed: ask before reading,
    /// await after.
    pub async fn changed(&self, task: TaskId) {
        todo!()
    }

    /// A project; `None`: no such, or deleted.
    pub async fn project(&self, project: ProjectId) -> Result<Option<Project>, Error> {
        todo!()
    }

    /// Projects by id, after one of them, and how many there are in all.
    pub async fn projects(&self, offset: usize, after: Option<ProjectId>, limit: usize) -> Result<(Vec<Project>, u64), Error> {
        todo!()
    }

    /// A provenance record.
    pub async fn record(&self, record: RecordId) -> Result<Option<Record>, Error> {
        todo!()
    }

    /// The newest record that names the artifact as an output.
    pub async fn record_of_artifact(&self, artifact: ArtifactId) -> Result<Option<Record>, Error> {
        todo!()
    }

    /// The content of an artifact, where an output carried it.
    pub async fn content(&self, hash: [u8; 32]) -> Result<Option<Bytes>, Error> {
        todo!()
    }

    /// Dead letters, newest first, before one of them.
    pub async fn dead_letters(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, DeadLetter)>, Error> {
        todo!()
    }

    /// Figures for metrics and health.
    #[must_use]
    pub fn figures(&self) -> Figures {
        todo!()
    }

    /// Whether commands are taken: `false` when shutting down or failed.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        todo!()
    }
}
