//! The state that a transition of a task can change, and how the writer carries out what the
//! pure core decides.

use std::sync::Arc;

use super::checkpoints::Checkpoints;
use super::event_log::EventLog;
use super::failure::{Failure, Stored, unless_refused};
use super::group::{Cancellation, ChildStart, Ended, Group};
use super::inbox::Inbox;
use super::lines::Lines;
use super::predictions::Predictions;
use super::projects::Projects;
use super::provenance::Provenance;
use super::snapshot::Snapshot;
use super::storage::Storage;
use super::tasks::{Entry, Tasks};
use crate::engine::api::{Refusal, TaskEnd};
use crate::lineage::WorkStart;
use crate::planted::{self, Fault};
use crate::store::{self, About, DeadLetter, LogEntry, Standing};
use crate::task::{
    self, Change, Child, Effect, End, Input, Now, Options, Outcome, Seq, Status, Step, Submission, Task, TaskId,
};

/// The owners of all state that a transition of a task can change.
#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) storage: Storage,
    pub(super) tasks: Tasks,
    pub(super) lines: Lines,
    pub(super) projects: Projects,
    pub(super) provenance: Provenance,
    pub(super) log: EventLog,
    pub(super) inbox: Inbox,
    pub(super) checkpoints: Checkpoints,
    pub(super) predictions: Predictions,
    pub(super) group: Group,
}

/// An accepted event as it came.
#[derive(Debug)]
pub(super) struct Original {
    /// A structured `CloudEvent` in JSON.
    pub(super) text: String,
    /// Whether the other services have it from the bus already.
    pub(super) on_bus: bool,
}

impl EngineState {
    /// Returns a task as it is in this group, or in the store.
    pub(super) fn find_task(&self, id: TaskId) -> Stored<Option<Task>> {
        self.tasks.find(&self.storage, id)
    }

    /// Returns what plans are made from, as the writer has it. Nothing of the group may be
    /// uncommitted.
    pub(super) fn snapshot(&self) -> Stored<Snapshot> {
        Ok(Snapshot {
            version: self.group.last_finished(),
            graph: Arc::new(self.provenance.graph().clone()),
            view: self.storage.view()?,
            given: self.tasks.given_ids(),
        })
    }

    /// Adds a new task.
    pub(super) fn begin(&mut self, step: Step, submission: &Submission, now: Now) -> Stored<()> {
        let Step { task, effects, .. } = step;
        self.tasks.record_change(task.id, None);
        self.count(&task, None, now);
        self.lines.enter_new(&task);
        self.carry_out(&task, effects, now)?;
        self.tasks.begin(task, submission);
        Ok(())
    }

    /// Applies an input to a task, and what follows from it for others. `event` is the
    /// accepted event that brought the input. A refusal stages nothing.
    pub(super) fn apply(
        &mut self,
        id: TaskId,
        input: Input,
        event: Option<Original>,
        now: Now,
    ) -> Result<Outcome, Failure> {
        let outcome = self.apply_alone(id, input, event, now);
        if !matches!(outcome, Err(Failure::Store(_))) {
            self.follow_up(now)?;
        }
        outcome
    }

    /// Cancels several tasks, each for itself: none of them fails because of the end of
    /// another one.
    pub(super) fn cancel_all(&mut self, tasks: &[TaskId], reason: &str, now: Now) -> Stored<()> {
        let cancellation = |task: &TaskId| Cancellation { task: *task, reason: reason.to_owned() };
        self.group.follow_ups.cancellations.extend(tasks.iter().rev().map(cancellation));
        self.follow_up(now)
    }

    /// Has the oldest parked verdict of a task become a dead letter.
    pub(super) fn give_up_parked_verdict(&mut self, id: TaskId, now: Now) -> Stored<()> {
        let Some(entry) = self.tasks.take(&self.storage, id)? else { return Ok(()) };
        let step = task::give_up_oldest_parked(&entry.task, now, &self.tasks.policy);
        self.adopt(entry, step, None, now).map(drop)
    }

    /// Carries out what follows from a step for other tasks.
    fn follow_up(&mut self, now: Now) -> Stored<()> {
        loop {
            let follow_ups = &mut self.group.follow_ups;
            // Cancellations first: a task that is to be cancelled must not fail because of
            // the end of another one.
            if let Some(Cancellation { task, reason }) = follow_ups.cancellations.pop() {
                unless_refused(self.apply_alone(task, Input::Cancel { reason: Some(reason) }, None, now))?;
            } else if let Some(ChildStart { parent, is_taken }) = follow_ups.starts.pop() {
                let input = if is_taken { Input::ChildStarted } else { self.child_taken_back(parent)? };
                unless_refused(self.apply_alone(parent, input, None, now))?;
            } else if let Some(ended) = follow_ups.ends.pop() {
                self.report_end(ended, now)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Tells the dependents and the parent of a task that it has ended. One that has ended
    /// itself meanwhile refuses the input.
    fn report_end(&mut self, Ended { task, parent, end }: Ended, now: Now) -> Stored<()> {
        for dependent in self.lines.take_dependents(task) {
            let input = Input::DependencyEnded { task, end: end.clone() };
            unless_refused(self.apply_alone(dependent, input, None, now))?;
        }
        if let Some(parent) = parent {
            unless_refused(self.apply_alone(parent, Input::ChildEnded { task, end }, None, now))?;
        }
        Ok(())
    }

    /// What a parent learns when a worker never got the subtask that was leased for it: when
    /// another subtask began first, if one has.
    fn child_taken_back(&self, parent: TaskId) -> Stored<Input> {
        let mut first: Option<Now> = None;
        for child in self.tasks.find_open(parent)?.into_iter().flat_map(|parent| parent.children) {
            let Some(child) = self.find_task(child)? else { continue };
            let began = child.started().zip(child.started_at).map(|(observed, wall)| Now { observed, wall });
            first = first.into_iter().chain(began).min_by_key(|began| began.observed);
        }
        Ok(Input::ChildTakenBack { first })
    }

    fn apply_alone(&mut self, id: TaskId, input: Input, event: Option<Original>, now: Now) -> Result<Outcome, Failure> {
        let accepted = match (&input, event) {
            (Input::Report { report, .. }, Some(event)) => Some((report.name().to_owned(), event)),
            (_, _) => None,
        };
        let Some(entry) = self.tasks.take(&self.storage, id)? else { return Err(Refusal::TaskNotFound(id).into()) };
        match task::apply(&entry.task, input, now, &self.tasks.policy) {
            Ok(step) => Ok(self.adopt(entry, step, accepted, now)?),
            Err(refusal) => {
                self.tasks.put_back(entry);
                Err(refusal.into())
            }
        }
    }

    /// Adopts what the core has decided: the lines, the counters and the log follow the task.
    fn adopt(
        &mut self,
        mut entry: Entry,
        step: Step,
        accepted: Option<(String, Original)>,
        now: Now,
    ) -> Stored<Outcome> {
        let Step { task, outcome, effects } = step;
        if let Some((name, event)) = accepted {
            self.log(&task, Change::Accepted { name, outcome }, Some(event), now)?;
        }
        // The outcome does not tell: a stale review changes what the task remembers.
        if entry.task != task || !effects.is_empty() {
            if entry.task.qa_profile != task.qa_profile {
                entry.forget_fixed();
            }
            let old = std::mem::replace(&mut entry.task, task);
            record_began(&old, &mut entry.task, self.provenance.graph().newest());
            self.tasks.record_change(old.id, Some(old.status()));
            self.lines.follow(&old, &entry.task);
            let is_taken = entry.task.started_at.is_some();
            if let Some(parent) = old.parent.filter(|_| old.started_at.is_some() != is_taken) {
                self.group.follow_ups.starts.push(ChildStart { parent, is_taken });
            }
            self.count(&entry.task, Some(&old), now);
            self.carry_out(&entry.task, effects, now)?;
        }
        self.tasks.put_back(entry);
        Ok(outcome)
    }

    /// Counts a task that has moved from `old`, and records its end.
    fn count(&mut self, task: &Task, old: Option<&Task>, now: Now) {
        let status = task.status();
        if let Some(end) = End::of(task).filter(|_| old.is_none_or(|old| !old.status().is_terminal())) {
            self.group.follow_ups.ends.push(Ended { task: task.id, parent: task.parent, end });
            self.projects.record_end(&task.project, TaskEnd { at: now.observed, status });
            if status == Status::Completed {
                self.checkpoints.automatic.record_completion(&task.project, now.observed);
            }
            self.predictions.record_end(task, &self.projects, &self.lines, now);
        }
        let (from, to) = (old.map(Task::phase), task.phase());
        if from != Some(to) || old.is_some_and(|old| old.inputs != task.inputs) {
            self.projects.touch(&task.project, self.group.version);
        }
        if from != Some(to) && !(planted::is(Fault::CounterNotMoved) && status == Status::Failed) {
            self.projects.count(&task.project, from, Some(to));
        }
    }

    fn carry_out(&mut self, task: &Task, effects: Vec<Effect>, now: Now) -> Stored<()> {
        for effect in effects {
            match effect {
                Effect::Log(change) => self.log(task, change, None, now)?,
                Effect::StoreRecord(new) => {
                    self.projects.touch(&task.project, self.group.version);
                    let began = task.began_after(new.attempt).map_or(WorkStart::Unknown, WorkStart::After);
                    self.provenance.make_record(&self.storage, &mut self.group.batch, task, &new, began)?;
                }
                Effect::FillRecord(new) => {
                    self.provenance.fill_record(&self.storage, &mut self.group.batch, task, *new)?;
                }
                Effect::ExtendRecord { record, output } => {
                    self.provenance.extend_record(&self.storage, &mut self.group.batch, record, &output)?;
                }
                Effect::JudgeRecord { record, status, verification } => {
                    self.provenance.judge_record(&self.storage, record, status, verification)?;
                }
                Effect::KeepFindings(findings) => {
                    self.provenance.records.findings_mut(&self.storage, task.id)?.merge(*findings);
                }
                Effect::Spawn(children) => self.spawn(task, &children, now)?,
                Effect::Cancel { task, reason } => {
                    self.group.follow_ups.cancellations.push(Cancellation { task, reason });
                }
                Effect::DeadLetter { raw, reason, event } => {
                    if let Some(event) = event {
                        self.inbox.taken.forget(event);
                    }
                    let letter = DeadLetter { at: now.wall, task: Some(task.id), reason, raw };
                    self.inbox.dead_letters.put(&mut self.group.batch, vec![letter], self.log.head(), now)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the subtasks of a task.
    fn spawn(&mut self, parent: &Task, children: &[Child], now: Now) -> Stored<()> {
        let Some(submission) = self.storage.submission(parent.id)? else {
            let detail = format!("task {} has none", parent.id);
            return Err(store::Error::Corrupt { table: "submissions", detail });
        };
        for child in children {
            let submission = submission_of(child, &submission);
            let step = task::spawn(parent, child, now, &self.tasks.policy);
            self.group.batch.put_submission(child.id, &submission)?;
            self.begin(step, &submission, now)?;
        }
        Ok(())
    }

    fn log(&mut self, task: &Task, change: Change, event: Option<Original>, now: Now) -> Stored<()> {
        let standing = Standing {
            task: task.id,
            version: task.version,
            status: task.status(),
            phase: task.phase(),
            attempt: task.attempts(),
        };
        let on_bus = event.as_ref().is_some_and(|event| event.on_bus);
        let event = event.map(|event| event.text);
        let about = About::Task(standing);
        let (at, observed, project) = (now.wall, now.observed, task.project.clone());
        let entry = LogEntry { at, project, about, change, event, on_bus, observed };
        self.log.append(&mut self.group.batch, entry)
    }
}

/// Records after which step of the graph an attempt began, if one has begun. What came before
/// that step can have been its input. A lost lease leaves the attempt open: it began with the
/// first lease. An output on which no worker was known to work begins its attempt, and can
/// complete the task at once.
fn record_began(old: &Task, new: &mut Task, newest: Seq) {
    if let Some(number) = new.attempt_begun()
        && old.attempt_begun() != Some(number)
    {
        new.set_began_after(number, newest);
    }
}

/// The submission of a subtask: what the client of its parent asked for, for its part.
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
