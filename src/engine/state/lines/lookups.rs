//! Open tasks by the things that refer to them.

use std::collections::BTreeSet;

use crate::engine::shared::ShardedMap;
use crate::task::{ArtifactId, Correlation, LeaseId, Product, Progress, ReviewId, State, Task, TaskId};

/// Open tasks by the things that refer to them.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// Tasks by the task that they wait for.
    dependents: ShardedMap<TaskId, Vec<TaskId>>,
    leases: ShardedMap<LeaseId, TaskId>,
    /// Tasks by the artifact or the review that a verdict may name instead. Several tasks
    /// can have the same artifact or review: each has an entry of its own.
    artifacts: BTreeSet<(ArtifactId, TaskId)>,
    reviews: BTreeSet<(ReviewId, TaskId)>,
}

impl Lookups {
    /// Enters a new task under the tasks that it waits for.
    pub(super) fn enter_dependencies(&mut self, task: &Task) {
        for dependency in task.waits_for() {
            self.dependents.entry_or_default(*dependency).push(task.id);
        }
    }

    /// Enters a task under its lease, its product and its review.
    pub(super) fn enter(&mut self, task: &Task) {
        match progress(task) {
            Some(Progress::Leased { lease, .. }) => drop(self.leases.insert(lease.id, task.id)),
            Some(Progress::Validating { product, .. }) => self.enter_product(product, task.id),
            Some(Progress::Reviewing { product, review, .. }) => {
                self.enter_product(product, task.id);
                self.reviews.insert((review.clone(), task.id));
            }
            Some(Progress::Started { .. }) | None => {}
        }
    }

    /// Takes back what [`Self::enter`] entered.
    pub(super) fn leave(&mut self, task: &Task) {
        match progress(task) {
            Some(Progress::Leased { lease, .. }) => drop(self.leases.remove(&lease.id)),
            Some(Progress::Validating { product, .. }) => self.leave_product(product, task.id),
            Some(Progress::Reviewing { product, review, .. }) => {
                self.leave_product(product, task.id);
                self.reviews.remove(&(review.clone(), task.id));
            }
            Some(Progress::Started { .. }) | None => {}
        }
    }

    /// Returns the tasks that wait for one that has ended, and forgets them.
    pub(super) fn take_dependents(&mut self, ended: TaskId) -> Vec<TaskId> {
        self.dependents.remove(&ended).unwrap_or_default()
    }

    /// The task that a lease holds.
    pub(super) fn leased_task(&self, lease: LeaseId) -> Option<TaskId> {
        self.leases.get(&lease).copied()
    }

    /// The task that an event is about: the one it names, else the newest that matches its
    /// artifact, else the newest that matches its review.
    pub(super) fn correlate(&self, correlation: &Correlation) -> Option<TaskId> {
        let by_artifact = || newest(&self.artifacts, correlation.artifact.as_ref()?);
        let by_review = || newest(&self.reviews, correlation.review.as_ref()?);
        correlation.task.or_else(by_artifact).or_else(by_review)
    }

    fn enter_product(&mut self, product: &Product, task: TaskId) {
        self.artifacts.extend(product.artifacts.iter().map(|artifact| (artifact.id.clone(), task)));
    }

    fn leave_product(&mut self, product: &Product, task: TaskId) {
        for artifact in &product.artifacts {
            self.artifacts.remove(&(artifact.id.clone(), task));
        }
    }
}

fn progress(task: &Task) -> Option<&Progress> {
    match &task.state {
        State::Running { progress, .. } => Some(progress),
        State::Pending(_)
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}

fn newest<K: Ord + Clone>(entries: &BTreeSet<(K, TaskId)>, key: &K) -> Option<TaskId> {
    let (first, last) = (TaskId::from_bytes([0; 16]), TaskId::from_bytes([0xff; 16]));
    entries.range((key.clone(), first)..=(key.clone(), last)).next_back().map(|(_, task)| *task)
}
