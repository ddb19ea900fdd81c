//! Routing, as the writer sees it: which tasks wait to be routed, which of
//! them somebody is asking about, and what is done with the findings.
//!
//! Who asks takes jobs, in turns between projects, and answers or returns
//! each. What is out follows from memory alone: after a restart every task
//! that still waits is handed out again, and a finding that comes twice is
//! taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::api::Settings;
use super::machine::Machine;
use super::shared::ChunkedQueue;
use crate::store;
use crate::task::{
    self, Child, FairLine, Finding, Input, Moment, Now, Options, Outcome, Pending, Place, Policy, Priority, ProjectId,
    RoutingStep, State, Submission, Task, TaskId,
};

/// In which line a task stands.
type Standing = (ProjectId, Priority);

/// The tasks that are to be routed.
#[derive(Debug)]
pub(super) struct RoutingLine {
    /// All of them, by since when they wait.
    waiting: BTreeSet<(Moment, TaskId)>,
    /// Those nobody asks about yet.
    line: FairLine,
    aging: Duration,
    /// Those that somebody asks about.
    taken: BTreeSet<TaskId>,
    /// Those that were returned, by when they join the line again.
    returned: BTreeMap<(Moment, TaskId), Standing>,
    returned_until: BTreeMap<TaskId, Moment>,
    /// Those that joined the line again, behind who waited meanwhile: since when.
    rejoined: BTreeMap<TaskId, Moment>,
    /// Those whose services are no longer configured.
    unserved: ChunkedQueue<TaskId>,
    agent: bool,
    rag: bool,
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
            agent,
            rag,
        }
    }

    /// A task is to be routed since `since`.
    pub(super) fn enter(&mut self, task: &Task, since: Moment) {
        self.waiting.insert((since, task.id));
        if self.serves(task) {
            self.line.insert(&task.project, task.priority, Place { since, task: task.id });
        } else {
            self.unserved.push_back(task.id);
        }
    }

    fn serves(&self, task: &Task) -> bool {
        task.routing.is_some_and(|routing| match routing.step {
            RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => self.agent,
            RoutingStep::Context => self.rag,
        })
    }

    /// The reverse of [`Self::enter`], wherever the task stands meanwhile.
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

    fn take(&mut self, now: Now) -> Option<TaskId> {
        let task = self.line.pop(now.observed, self.aging)?;
        self.rejoined.remove(&task);
        Some(task)
    }

    fn put_back(&mut self, task: &Task, until: Moment) {
        if !self.taken.remove(&task.id) {
            return;
        }
        self.returned.insert((until, task.id), (task.project.clone(), task.priority));
        self.returned_until.insert(task.id, until);
    }

    /// Lets returned tasks join the line again.
    pub(super) fn wake(&mut self, now: Now) {
        while let Some(entry) = self.returned.first_entry() {
            if entry.key().0 > now.observed {
                break;
            }
            let ((since, task), (project, priority)) = entry.remove_entry();
            self.returned_until.remove(&task);
            self.rejoined.insert(task, since);
            self.line.insert(&project, priority, Place { since, task });
        }
    }

    /// When the next returned task joins the line again.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        self.returned.first_key_value().map(|((until, _), _)| *until)
    }

    /// Since when the oldest task waits.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.waiting.first().map(|(since, _)| *since)
    }

    /// Whether there is a task that nobody asks about.
    pub(super) fn has_next(&self) -> bool {
        !self.line.is_empty()
    }

    /// Whether there are tasks that nobody will ever ask about.
    pub(super) fn has_unserved(&self) -> bool {
        self.unserved.front().is_some()
    }
}

/// A task that somebody is to ask about.
#[derive(Debug)]
pub(super) struct TakenRouting {
    pub(super) task: Task,
    pub(super) since: Moment,
    pub(super) step: RoutingStep,
}

/// Since when a task is to be routed, if it is.
pub(super) fn since(task: &Task) -> Option<Moment> {
    match &task.state {
        State::Pending(Pending::Analyzing { since }) => Some(*since),
        State::Pending(
            Pending::Scheduled { .. }
            | Pending::Blocked { .. }
            | Pending::Queued(_)
            | Pending::Backoff { .. }
            | Pending::Dispatched { .. },
        )
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Hands out tasks that are to be routed, at most `max`.
    pub(super) fn take_routing(&mut self, max: usize, now: Now) -> Stored<Vec<TakenRouting>> {
        let mut jobs = Vec::new();
        while jobs.len() < max {
            let Some(id) = self.lines.routing.take(now) else { break };
            let Some(task) = self.find(id)? else { continue };
            let (Some(since), Some(routing)) = (since(&task), task.routing) else { continue };
            self.lines.routing.taken.insert(id);
            jobs.push(TakenRouting { task, since, step: routing.step });
        }
        Ok(jobs)
    }

    /// Takes a finding.
    pub(super) fn route(
        &mut self,
        task: TaskId,
        step: RoutingStep,
        finding: Finding,
        now: Now,
    ) -> Stored<Result<Outcome, super::api::Refusal>> {
        let parts = match &finding {
            Finding::Decomposed(decomposition) => decomposition.subtasks.len(),
            Finding::Analyzed(_) | Finding::Estimated { .. } | Finding::Builtin { .. } => 0,
        };
        let ids = (0..parts.min(self.settings.policy.max_subtasks)).map(|_| TaskId::new(self.mint(now))).collect();
        self.apply(task, Input::Route { step, finding, ids }, None, now)
    }

    /// Takes a job back, to hand it out again at `until`.
    pub(super) fn return_routing(&mut self, id: TaskId, until: Moment) -> Stored<()> {
        if let Some(task) = self.find(id)?
            && since(&task).is_some()
        {
            self.lines.routing.put_back(&task, until);
        }
        Ok(())
    }

    /// Returned jobs whose time has come join the line again; tasks whose
    /// services are gone from the configuration get what the built-in rules
    /// say, at most `max`.
    pub(super) fn settle_routing(&mut self, max: usize, now: Now) -> Stored<()> {
        self.lines.routing.wake(now);
        for _ in 0..max {
            let Some(id) = self.lines.routing.unserved.pop_front() else { break };
            let Some(routing) = self.find(id)?.and_then(|task| task.routing) else { continue };
            let _ = self.route(id, routing.step, Finding::Builtin { context: None }, now)?;
        }
        Ok(())
    }

    /// Makes the subtasks of a task.
    pub(super) fn spawn(&mut self, parent: &Task, children: &[Child], now: Now) -> Stored<()> {
        let Some(submission) = store::Recent::submission(&self.store, parent.id)? else {
            let detail = format!("task {} has none", parent.id);
            return Err(store::Error::Corrupt { table: "submissions", detail });
        };
        for child in children {
            let submission = submission_of(child, &submission);
            let step = task::spawn(parent, child, now, &self.settings.policy);
            self.group.batch.put_submission(child.id, &submission)?;
            self.begin(step, &submission, now)?;
        }
        Ok(())
    }
}

/// What a subtask asks for: what its parent's client asked for, of its part.
fn submission_of(child: &Child, parent: &Submission) -> Submission {
    Submission {
        description: child.description.clone(),
        options: Options {
            domain: child.domain.clone().or_else(|| parent.options.domain.clone()),
            depends_on: child.depends_on.clone(),
            not_before: None,
            ..parent.options.clone()
        },
        metadata: None,
        rerun_of: None,
        ..parent.clone()
    }
}
