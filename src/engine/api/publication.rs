//! The data that the writer publishes to the read side after each commit.
//!
//! It is plain data, so that the read side depends on nothing that the writer owns.

use super::dead_letters::DeadLetterCounts;
use super::figures::{Backlog, Estimates};
use super::records::RecordCounts;
use super::work::WorkQueue;
use crate::lineage::Graph;
use crate::store::{Counters, Project};
use crate::task::{Moment, ProjectId, Seq, Status, TaskId, Tier};
use crate::wire::CompactAnswer;

/// The number of a group of commands, counted since the start. State that carries the
/// version of a group was changed last by that group or by an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Version(pub(crate) u64);

impl Version {
    /// Returns the version of the group that follows.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The changes of a committed group of commands, for the read side.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// Version of the group.
    pub(crate) version: Version,
    /// The newest position of the log.
    pub(crate) head: Seq,
    /// Status answers that have changed.
    pub(crate) answers: Vec<ChangedAnswer>,
    /// Tasks that retention removed.
    pub(crate) removed: Vec<TaskId>,
    /// Pauses that began or ended.
    pub(crate) pauses: Vec<PauseChange>,
    /// Times of the oldest waiting tasks, if this group has looked them up.
    pub(crate) backlog: Option<Backlog>,
    /// Projects in which something has changed.
    pub(crate) projects: Vec<ProjectChange>,
    /// Work queues in which something has changed.
    pub(crate) queues: Vec<WorkQueue>,
    /// The provenance graph, if it has changed.
    pub(crate) graph: Option<Graph>,
    /// Whether a task waits in the routing line.
    pub(crate) has_routing_work: bool,
    /// Totals of the whole store.
    pub(crate) totals: Totals,
}

impl Publication {
    /// Returns whether readers see a difference although the group wrote nothing.
    pub(crate) const fn is_visible(&self) -> bool {
        !(self.answers.is_empty() && self.backlog.is_none() && self.pauses.is_empty() && self.queues.is_empty())
    }
}

/// The status answer of a task as a group leaves it.
#[derive(Debug)]
pub(crate) struct ChangedAnswer {
    pub(crate) task: TaskId,
    /// Whether the task has ended.
    pub(crate) has_ended: bool,
    /// The answer; `None`: it is too large for memory, and is read from the store.
    pub(crate) answer: Option<CompactAnswer>,
}

/// A pause that began or ended.
#[derive(Debug)]
pub(crate) enum PauseChange {
    Project {
        project: ProjectId,
        is_paused: bool,
    },
    Tier {
        tier: Tier,
        is_paused: bool,
    },
    /// The work queue of a tier at the broker has lost its consumers, or has some again.
    Consumers {
        tier: Tier,
        are_missing: bool,
    },
}

/// A project as a group leaves it.
#[derive(Debug)]
pub(crate) struct ProjectChange {
    pub(crate) id: ProjectId,
    /// The project; `None`: it has not changed.
    pub(crate) project: Option<Project>,
    pub(crate) figures: ProjectFigures,
    /// Tasks of the project that ended.
    pub(crate) ends: Vec<TaskEnd>,
}

/// The end of a task, for the rates of its project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskEnd {
    pub(crate) at: Moment,
    pub(crate) status: Status,
}

/// Counts of a project.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProjectFigures {
    pub(crate) counters: Counters,
    pub(crate) slots_in_use: u32,
    /// Slots that the project has.
    pub(crate) limit: u32,
    pub(crate) records: RecordCounts,
}

/// Totals of the whole store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// The oldest position that the log still has.
    pub(crate) tail: Seq,
    /// All tasks by phase.
    pub(crate) counters: Counters,
    /// Projects that are not deleted.
    pub(crate) projects: u64,
    pub(crate) paused_projects: u64,
    pub(crate) dead_letters: DeadLetterCounts,
    /// Accuracy of the estimated completion times, since the start.
    pub(crate) estimates: Estimates,
}
