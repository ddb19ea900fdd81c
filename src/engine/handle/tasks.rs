//! Tasks: submissions, cancels, status answers, lists and histories.

use std::task::Poll;
use std::time::Duration;

use super::client::Client;
use crate::engine::api::{
    Answer, Error, IdempotencyKey, PageStart, Refusal, Revision, Submissions, Submitted, TaskFilter, TaskPage, TreeNode,
};
use crate::engine::read::signals::TaskChanged;
use crate::engine::read::{list, tree};
use crate::engine::state::{self, Routed};
use crate::engine::writer::Command;
use crate::store::{HistoryEntry, Page, PageBudget};
use crate::task::{Seq, Submission, TaskId};

/// Tasks, by [`Engine::tasks`](crate::engine::Engine::tasks).
#[derive(Debug, Clone, Copy)]
pub struct TasksHandle<'a>(pub(super) &'a Client);

impl TasksHandle<'_> {
    /// Submits tasks in one durable commit. A repeated request with the same key
    /// and body gets the first answer.
    pub async fn submit(self, submissions: Vec<Submission>, key: Option<IdempotencyKey>) -> Result<Submissions, Error> {
        let route = |submission| Routed::by(&self.0.settings.router, submission);
        let submissions = submissions.into_iter().map(route).collect();
        let full = match self.0.ask(|reply| Command::Submit { submissions, key, reply }).await {
            Err(full @ Error::DiskFull { .. }) => full,
            answer => return answer,
        };
        // The answer to a repeated request takes no space.
        match self.replayed(key).await {
            Ok(Some(first)) => Ok(first),
            Err(reused @ Error::Refused(Refusal::IdempotencyKeyReused)) => Err(reused),
            Ok(None) | Err(_) => Err(full),
        }
    }

    /// Returns the first answer under a key, if there was one.
    async fn replayed(self, key: Option<IdempotencyKey>) -> Result<Option<Submissions>, Error> {
        if key.is_none() {
            return Ok(None);
        }
        let submissions = Vec::new();
        let answer = self.0.ask(|reply| Command::Submit { submissions, key, reply }).await?;
        Ok(Some(answer).filter(|answer| answer.replayed))
    }

    /// Submits an ended task again, with the same inputs.
    ///
    /// Each of its dependencies is replaced by the newest completed re-run of that
    /// task, or else by the newest open one; without either the request is refused.
    /// A repeated request with the same key gets the first answer, in which case the
    /// second value is `true`.
    pub async fn rerun(self, task: TaskId, key: Option<IdempotencyKey>) -> Result<(Submitted, bool), Error> {
        let found = self.0.read(move |side| state::answer(state::rerun(&side.store.view()?, task))).await?;
        let submission = match found {
            Ok(submission) => vec![submission],
            // A re-run that is impossible now may have succeeded earlier, under this key.
            Err(refusal) => {
                let first = self.replayed(key).await?.and_then(|first| first.results.into_iter().next()?.ok());
                return first.map(|submitted| (submitted, true)).ok_or_else(|| refusal.into());
            }
        };
        let Submissions { results, replayed } = self.submit(submission, key).await?;
        match results.into_iter().next() {
            Some(Ok(submitted)) => Ok((submitted, replayed)),
            // Retention has removed the dependency since the read.
            Some(Err(unknown)) => Err(Refusal::DependencyNotCompleted { task, dependency: unknown.task }.into()),
            None => Err(Refusal::TaskNotFound(task).into()),
        }
    }

    /// Cancels an open task. A cancelled task stays as it is.
    pub async fn cancel(self, task: TaskId, reason: Option<String>) -> Result<Answer, Error> {
        self.0.ask(|reply| Command::Cancel { task, reason, reply }).await
    }

    /// Returns the status answer of a task; `None`: there is no such task.
    pub async fn status(self, task: TaskId) -> Result<Option<Answer>, Error> {
        match self.0.read.statuses.get_now(task)? {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => self.0.read(move |side| side.statuses.get(task)).await,
        }
    }

    /// Returns the status answer without waiting. `None`: there is no such task, or
    /// only [`Self::status`] can read its answer.
    pub fn status_now(self, task: TaskId) -> Result<Option<Answer>, Error> {
        match self.0.read.statuses.get_now(task)? {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => Ok(None),
        }
    }

    /// Waits until the status answer differs from the `known` one, or, without that,
    /// until the task has ended. Returns the latest answer after `timeout` at most.
    pub async fn wait(self, task: TaskId, known: Option<Revision>, timeout: Duration) -> Result<Option<Answer>, Error> {
        let wait = async {
            loop {
                let changed = self.changed(task);
                let answer = self.status(task).await?;
                let done = answer.as_ref().is_none_or(|answer| match known {
                    Some(known) => answer.revision() != known,
                    None => answer.ended,
                });
                if done || self.0.read.is_stopped() {
                    return Ok(answer);
                }
                changed.await;
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(answer) => answer,
            Err(_) => self.status(task).await,
        }
    }

    /// Returns a future that completes with the next change of a task. Changes count
    /// from this call on: call it before reading, and await it afterwards.
    #[must_use]
    pub fn changed(self, task: TaskId) -> TaskChanged {
        self.0.read.signals.changed(task)
    }

    /// Returns a page of tasks, newest first.
    pub async fn list(self, filter: TaskFilter, start: PageStart, limit: usize) -> Result<TaskPage, Error> {
        let counters = self.0.read.figures().counters;
        self.0.read(move |side| list::page(side, &filter, start, limit, &counters)).await
    }

    /// Returns a task and all tasks below it, parents before their children, at most
    /// `most`. Empty: there is no such task.
    pub async fn tree(self, task: TaskId, most: usize) -> Result<Vec<TreeNode>, Error> {
        self.0.read(move |side| tree::tree(side, task, most)).await
    }

    /// Returns a page of the history of a task after a position, in order; `None`:
    /// there is no such task.
    pub async fn history(
        self,
        task: TaskId,
        after: Seq,
        budget: impl Into<PageBudget>,
    ) -> Result<Option<Page<HistoryEntry>>, Error> {
        let budget = budget.into();
        self.0
            .read(move |side| {
                let view = side.store.view()?;
                if view.has_task(task)? { view.history(task, after, budget).map(Some) } else { Ok(None) }
            })
            .await
    }
}
