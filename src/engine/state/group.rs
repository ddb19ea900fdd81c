//! The group of commands under way: what is collected until it is committed.

use crate::engine::api::{Publication, Version};
use crate::store::Batch;
use crate::task::{End, TaskId};

/// What a group of commands has collected so far. Each owner of state adds its rows and
/// its part of the publication; most of them when the group ends.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The version of this group.
    pub(super) version: Version,
    /// Rows that are ready to be committed.
    pub(super) batch: Batch,
    /// What the read side learns after the commit.
    pub(super) publication: Publication,
    /// What follows for other tasks from the step under way.
    pub(super) follow_ups: FollowUps,
}

impl Group {
    /// The version of the state that a start recovers.
    pub(super) const RECOVERED: Version = Version(1);

    /// Returns the first group after a start.
    pub(super) fn first() -> Self {
        Self { version: Self::RECOVERED.next(), ..Self::default() }
    }

    /// The version of the group that ended last.
    pub(super) const fn last_finished(&self) -> Version {
        Version(self.version.0 - 1)
    }

    /// Ends the group: returns its rows and its publication, and begins the next one.
    /// What follows from a step outlives the group.
    pub(super) fn take(&mut self) -> (Batch, Publication) {
        self.version = self.version.next();
        (std::mem::take(&mut self.batch), std::mem::take(&mut self.publication))
    }
}

/// What follows for other tasks from the step under way. Each list is a stack.
#[derive(Debug, Default)]
pub(super) struct FollowUps {
    pub(super) cancellations: Vec<Cancellation>,
    pub(super) starts: Vec<ChildStart>,
    pub(super) ends: Vec<Ended>,
}

/// A task that the step cancels.
#[derive(Debug)]
pub(super) struct Cancellation {
    pub(super) task: TaskId,
    pub(super) reason: String,
}

/// A worker has taken a subtask, or has not after all.
#[derive(Debug)]
pub(super) struct ChildStart {
    pub(super) parent: TaskId,
    pub(super) is_taken: bool,
}

/// A task that the step has ended. Its dependents and its parent must learn of it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) task: TaskId,
    pub(super) parent: Option<TaskId>,
    pub(super) end: End,
}
