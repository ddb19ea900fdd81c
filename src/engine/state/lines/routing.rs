//! The tasks that are to be routed: which wait, which are handed out as jobs, and which come
//! back later.
//!
//! What is handed out is kept in memory only: after a restart every task that still waits is
//! handed out again, and a finding that comes twice counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::api::Settings;
use crate::engine::shared::ChunkedQueue;
use crate::task::{FairLine, Moment, Now, Place, Policy, Priority, ProjectId, RoutingStep, Task, TaskId};

/// The tasks that are to be routed.
#[derive(Debug)]
pub(in crate::engine::state) struct RoutingLine {
    /// All of them, by the time since which they wait.
    waiting: BTreeSet<(Moment, TaskId)>,
    /// Tasks that are not handed out.
    line: FairLine,
    aging: Duration,
    /// Tasks that are handed out as jobs.
    taken: BTreeSet<TaskId>,
    /// Tasks whose job was returned, by the time at which they join the line again.
    returned: BTreeMap<(Moment, TaskId), LineOf>,
    /// The times in the keys of `returned`.
    returned_until: BTreeMap<TaskId, Moment>,
    /// Since when tasks stand in the line that have joined it again, behind those that
    /// waited meanwhile.
    rejoined: BTreeMap<TaskId, Moment>,
    /// Tasks whose services are no longer configured.
    unserved: ChunkedQueue<TaskId>,
    has_agent: bool,
    has_rag: bool,
}

/// The line in which a task stands.
#[derive(Debug)]
struct LineOf {
    project: ProjectId,
    priority: Priority,
}

impl RoutingLine {
    pub(super) fn new(settings: &Settings) -> Self {
        let Policy { agent, rag, .. } = settings.policy;
        Self {
            waiting: BTreeSet::new(),
            line: FairLine::default(),
            aging: settings.aging,
            taken: BTreeSet::new(),
            returned: BTreeMap::new(),
            returned_until: BTreeMap::new(),
            rejoined: BTreeMap::new(),
            unserved: ChunkedQueue::default(),
            has_agent: agent,
            has_rag: rag,
        }
    }

    /// Enters a task that is to be routed since `since`.
    pub(super) fn enter(&mut self, task: &Task, since: Moment) {
        self.waiting.insert((since, task.id));
        if self.serves(task) {
            self.line.insert(&task.project, task.priority, Place { since, task: task.id });
        } else {
            self.unserved.push_back(task.id);
        }
    }

    /// Whether the service that the next step of a task asks is configured.
    fn serves(&self, task: &Task) -> bool {
        task.routing.is_some_and(|routing| match routing.step {
            RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => self.has_agent,
            RoutingStep::Context => self.has_rag,
        })
    }

    /// Removes a task, wherever it stands meanwhile. `since` is that of [`Self::enter`].
    pub(super) fn leave(&mut self, task: &Task, since: Moment) {
        self.waiting.remove(&(since, task.id));
        if self.taken.remove(&task.id) {
            return;
        }
        if let Some(until) = self.returned_until.remove(&task.id) {
            self.returned.remove(&(until, task.id));
        } else {
            let since = self.rejoined.remove(&task.id).unwrap_or(since);
            self.line.remove(&task.project, task.priority, Place { since, task: task.id });
        }
    }

    /// Takes the next task out of the line.
    pub(in crate::engine::state) fn pop(&mut self, now: Now) -> Option<TaskId> {
        let task = self.line.pop(now.observed, self.aging)?;
        self.rejoined.remove(&task);
        Some(task)
    }

    /// Records that a task is handed out.
    pub(in crate::engine::state) fn hand_out(&mut self, task: TaskId) {
        self.taken.insert(task);
    }

    /// Takes a job back, whose task joins the line again at `until`. Does nothing if it is
    /// not handed out.
    pub(in crate::engine::state) fn return_job(&mut self, task: &Task, until: Moment) {
        if !self.taken.remove(&task.id) {
            return;
        }
        let line = LineOf { project: task.project.clone(), priority: task.priority };
        self.returned.insert((until, task.id), line);
        self.returned_until.insert(task.id, until);
    }

    /// Lets returned tasks whose time has come join the line again.
    pub(in crate::engine::state) fn rejoin_due(&mut self, now: Now) {
        while let Some(entry) = self.returned.first_entry() {
            if entry.key().0 > now.observed {
                break;
            }
            let ((since, task), LineOf { project, priority }) = entry.remove_entry();
            self.returned_until.remove(&task);
            self.rejoined.insert(task, since);
            self.line.insert(&project, priority, Place { since, task });
        }
    }

    /// Takes a task whose services are no longer configured.
    pub(in crate::engine::state) fn pop_unserved(&mut self) -> Option<TaskId> {
        self.unserved.pop_front()
    }

    /// When the next returned task joins the line again.
    pub(in crate::engine::state) fn next_rejoin(&self) -> Option<Moment> {
        self.returned.first_key_value().map(|((until, _), _)| *until)
    }

    /// Since when the oldest task waits.
    pub(in crate::engine::state) fn oldest(&self) -> Option<Moment> {
        self.waiting.first().map(|(since, _)| *since)
    }

    /// Whether a task waits to be handed out.
    pub(in crate::engine::state) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// Whether there are tasks whose services are no longer configured.
    pub(in crate::engine::state) fn has_unserved(&self) -> bool {
        self.unserved.front().is_some()
    }
}
