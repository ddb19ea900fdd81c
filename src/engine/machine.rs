//! The state that the writer owns, and how commands change it: the pure core
//! decides, this keeps the tasks, the lines, the timers and the counters in
//! step with what it decided, and collects the rows of the group.
//!
//! It reads no clock: every call is told the time. An error here is an error
//! of the store, after which the writer stops.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::{ContextV7, Uuid};

use super::api::{ChangedAnswer, Estimates, Publication, Refusal, Settings, TaskEnd, Totals, Version};
use super::attempts;
use super::checkpoint::Automatic;
use super::dead_letters::Letters;
use super::entry::{Entry, Known};
use super::group::{Group, InStore};
use super::housekeeping::Removed;
use super::incoming::Original;
use super::lines::Lines;
use super::memory::{Keys, ProjectState, Taken};
use super::open::{OpenTasks, Submitted, enter_decoded};
use super::parking::Parking;
use super::plan::Begun;
use super::provenance::Provenance;
use super::shared::{IdHash, Shared};
use crate::planted::{self, Fault};
use crate::store::{self, About, Batch, Counters, DeadLetter, LogEntry, Place, Recent, Recovered, Standing, Store};
use crate::task::{
    self, Change, Effect, End, Estimator, Input, Moment, Now, Outcome, ProjectId, RecordId, Seq, Status, Step,
    Submission, Task, TaskId,
};
use crate::wire::{self, Fixed};

/// The state that the writer owns.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) settings: Arc<Settings>,
    pub(super) store: Store,
    /// The rows that its tables do not have yet.
    pub(super) recent: Recent,
    /// Tasks that have not ended, as of the last commit.
    pub(super) open: OpenTasks,
    /// Tasks that this group has changed.
    pub(super) changed: HashMap<TaskId, Entry, IdHash>,
    /// Tasks of `shared.given` that began lately.
    pub(super) begun: Begun,
    /// The group that has ended last.
    pub(super) version: Version,
    /// The group that made, changed or removed a checkpoint last.
    pub(super) checkpoints_changed: Version,
    /// Verdicts that wait for their outputs, which the tasks of `open` lack.
    pub(super) parking: Parking,
    /// The maps that the read side reads.
    pub(super) shared: Shared,
    pub(super) lines: Lines,
    pub(super) projects: BTreeMap<ProjectId, ProjectState>,
    pub(super) taken: Taken,
    pub(super) keys: Keys,
    pub(super) head: Seq,
    pub(super) tail: Seq,
    /// The readers of the log, as they are on disk.
    pub(super) readers: BTreeMap<String, Place>,
    pub(super) dead_letters: Letters,
    /// All tasks by phase.
    pub(super) totals: Counters,
    /// Projects that are not deleted.
    pub(super) live_projects: u64,
    /// What tasks took lately.
    pub(super) estimator: Estimator,
    pub(super) estimates: Estimates,
    pub(super) provenance: Provenance,
    /// The records whose fact does not say all that was said of them.
    pub(super) stated: BTreeSet<RecordId>,
    pub(super) automatic: Automatic,
    pub(super) group: Group,
    /// Open tasks from before the start, whose answers are not in memory yet.
    pub(super) cold: Vec<TaskId>,
    /// Open tasks from before the start in a phase that the configured bus does not know.
    pub(super) of_other_bus: Vec<TaskId>,
    /// From which moment on answers of waiting tasks show it by the clock before it was set.
    pub(super) show_again_from: Option<Moment>,
    /// What the clocks showed when they were last kept before the start.
    pub(super) clocks_found: Now,
    /// Tasks that the step under way cancels, and those that it has ended,
    /// whose dependents and parents must learn it.
    cancelled: Vec<(TaskId, String)>,
    ended: Vec<Ended>,
    /// The finished tasks that retention removed last.
    pub(super) removed: Removed,
    /// When it was last looked at what waits.
    pub(super) backlog_at: Option<Moment>,
    /// Parents of tasks that a worker has taken in the step under way, or (`false`) has not after all.
    started: Vec<(TaskId, bool)>,
    ids: ContextV7,
    /// The newest time of an id, in milliseconds: ids grow also where the wall clock is set back.
    ids_until_ms: Cell<u64>,
}

/// A task that has ended.
#[derive(Debug)]
struct Ended {
    task: TaskId,
    parent: Option<TaskId>,
    end: End,
}

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// The state at the last commit.
    pub(super) fn recovered(
        settings: Arc<Settings>,
        store: Store,
        recovered: Recovered,
        shared: Shared,
    ) -> Stored<Self> {
        let mut machine = Self {
            lines: Lines::new(&settings),
            store,
            recent: Recent::default(),
            open: OpenTasks::default(),
            changed: HashMap::default(),
            begun: Begun::default(),
            version: Version::default(),
            checkpoints_changed: Version::default(),
            parking: Parking::default(),
            shared,
            projects: BTreeMap::new(),
            taken: Taken::recovered(recovered.taken_events),
            keys: Keys::default(),
            head: recovered.head,
            tail: recovered.tail,
            readers: recovered.log_readers.into_iter().collect(),
            dead_letters: Letters::recovered(
                recovered.dead_letters,
                recovered.last_dead_letter,
                recovered.letter_removals,
            ),
            totals: Counters::default(),
            live_projects: 0,
            estimator: Estimator::recovered(recovered.estimates),
            estimates: Estimates::default(),
            provenance: Provenance::new(recovered.graph),
            stated: recovered.stated.into_iter().collect(),
            automatic: Automatic::recovered(
                settings.checkpoints,
                recovered.automatic_checkpoints,
                recovered.checkpoint_progress,
            ),
            group: Group::default(),
            cold: recovered.open.iter().map(|task| task.id).collect(),
            of_other_bus: Vec::new(),
            show_again_from: None,
            clocks_found: recovered.clocks.last,
            cancelled: Vec::new(),
            ended: Vec::new(),
            removed: Removed::default(),
            backlog_at: None,
            started: Vec::new(),
            ids: ContextV7::new(),
            // Later ids of that millisecond would not be above those made before the start.
            ids_until_ms: Cell::new(recovered.clocks.ids_until_ms + 1),
            settings,
        };
        for (seq, row) in recovered.idempotency {
            let key = super::api::IdempotencyKey { key: row.key, body: row.body };
            machine.keys.insert(seq, row.at, key);
        }
        for (tier, pause) in recovered.tier_pauses {
            machine.lines.set_tier_pause(&tier, pause);
        }
        machine.recover_projects(recovered.projects, recovered.counters);
        for (task, parked) in recovered.parked {
            machine.parking.set(task, parked);
        }
        enter_decoded(recovered.open, |task, row| machine.enter_recovered(task, &row))?;
        machine.version = machine.version.next();
        Ok(machine)
    }

    /// A new id, later than all before.
    pub(super) fn mint(&self, now: Now) -> Uuid {
        let millis = now.wall.as_millis().max(self.ids_until_ms.get());
        self.ids_until_ms.set(millis);
        let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.ids, millis / 1000, nanos))
    }

    /// Adds a new task.
    pub(super) fn begin(&mut self, step: Step, submission: &Submission, now: Now) -> Stored<()> {
        let Step { task, effects, .. } = step;
        self.group.touched.insert(task.id, None);
        self.count(&task, None, now);
        self.lines.enter_new(&task);
        self.carry_out(&task, effects, now)?;
        let fixed = Known::of(Fixed::of(submission, &task));
        let may_name_inputs = !submission.options.inputs.is_empty();
        self.changed.insert(task.id, Entry { task, fixed, may_name_inputs });
        Ok(())
    }

    /// Applies an input to a task, and what follows from it to others.
    /// `event` is the accepted event that the input came in.
    pub(super) fn apply(
        &mut self,
        id: TaskId,
        input: Input,
        event: Option<Original>,
        now: Now,
    ) -> Stored<Result<Outcome, Refusal>> {
        let outcome = self.apply_alone(id, input, event, now)?;
        self.follow(now)?;
        Ok(outcome)
    }

    /// Cancels several tasks, each for itself: none of them is failed by the
    /// end of another one.
    pub(super) fn cancel_all(&mut self, tasks: &[TaskId], reason: &str, now: Now) -> Stored<()> {
        self.cancelled.extend(tasks.iter().rev().map(|task| (*task, reason.to_owned())));
        self.follow(now)
    }

    /// What follows from a step for other tasks.
    fn follow(&mut self, now: Now) -> Stored<()> {
        loop {
            // Cancellations first: a task that is to be cancelled must not be
            // failed by the end of another one of them.
            if let Some((task, reason)) = self.cancelled.pop() {
                let _ = self.apply_alone(task, Input::Cancel { reason: Some(reason) }, None, now)?;
            } else if let Some((parent, is_taken)) = self.started.pop() {
                let input = if is_taken { Input::ChildStarted } else { self.child_taken_back(parent)? };
                let _ = self.apply_alone(parent, input, None, now)?;
            } else if let Some(ended) = self.ended.pop() {
                self.tell_of(ended, now)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Tells those who wait for a task that it has ended. One that has ended
    /// itself meanwhile has nothing to learn from it, and refuses.
    fn tell_of(&mut self, Ended { task, parent, end }: Ended, now: Now) -> Stored<()> {
        for dependent in self.lines.dependents_of(task) {
            let input = Input::DependencyEnded { task, end: end.clone() };
            let _ = self.apply_alone(dependent, input, None, now)?;
        }
        if let Some(parent) = parent {
            let _ = self.apply_alone(parent, Input::ChildEnded { task, end }, None, now)?;
        }
        Ok(())
    }

    fn apply_alone(
        &mut self,
        id: TaskId,
        input: Input,
        event: Option<Original>,
        now: Now,
    ) -> Stored<Result<Outcome, Refusal>> {
        let accepted = match (&input, event) {
            (Input::Report { report, .. }, Some(event)) => Some((report.name().to_owned(), event)),
            (_, _) => None,
        };
        let Some(entry) = self.take_entry(id)? else { return Ok(Err(Refusal::TaskNotFound(id))) };
        match task::apply(&entry.task, input, now, &self.settings.policy) {
            Ok(step) => self.adopt(entry, step, accepted, now).map(Ok),
            Err(refusal) => {
                self.put_back(entry);
                Ok(Err(refusal.into()))
            }
        }
    }

    pub(super) fn adopt(
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
        // Not by outcome: a stale review changes what the task remembers.
        if entry.task != task || !effects.is_empty() {
            if entry.task.qa_profile != task.qa_profile {
                entry.fixed = Known::No;
            }
            let old = std::mem::replace(&mut entry.task, task);
            attempts::follow(&old, &mut entry.task, self.provenance.graph().newest());
            self.group.touched.entry(old.id).or_insert(Some(old.status()));
            self.lines.follow(&old, &entry.task);
            match (old.holds_slot(), entry.task.holds_slot()) {
                (true, false) => self.lines.admission.release(&old.project),
                (false, true) => self.lines.admission.occupy(&old.project),
                (true, true) | (false, false) => {}
            }
            let is_taken = entry.task.started_at.is_some();
            if let Some(parent) = old.parent.filter(|_| old.started_at.is_some() != is_taken) {
                self.started.push((parent, is_taken));
            }
            self.count(&entry.task, Some(&old), now);
            self.carry_out(&entry.task, effects, now)?;
        }
        self.put_back(entry);
        Ok(outcome)
    }

    fn count(&mut self, task: &Task, old: Option<&Task>, now: Now) {
        let status = task.status();
        if let Some(end) = End::of(task).filter(|_| old.is_none_or(|old| !old.status().is_terminal())) {
            self.ended.push(Ended { task: task.id, parent: task.parent, end });
            self.group
                .projects
                .entry(task.project.clone())
                .or_default()
                .ends
                .push(TaskEnd { at: now.observed, status });
            if status == Status::Completed {
                self.automatic.completed(&task.project, now.observed);
            }
            self.note_ended(task, now);
        }
        let (from, to) = (old.map(Task::phase), task.phase());
        if from != Some(to) || old.is_some_and(|old| old.inputs != task.inputs) {
            self.touch_project(&task.project);
        }
        if from != Some(to) && !(planted::is(Fault::CounterNotMoved) && status == Status::Failed) {
            if let Some(state) = self.projects.get_mut(&task.project) {
                state.counters.moved(from, Some(to));
            }
            self.totals.moved(from, Some(to));
            if !self.group.counted.contains(&task.project) {
                self.group.counted.insert(task.project.clone());
            }
        }
    }

    fn carry_out(&mut self, task: &Task, effects: Vec<Effect>, now: Now) -> Stored<()> {
        for effect in effects {
            match effect {
                Effect::Log(change) => self.log(task, change, None, now)?,
                Effect::StoreRecord(new) => {
                    self.touch_project(&task.project);
                    let began = attempts::began(task, new.attempt);
                    let record =
                        self.group.store_record(InStore { store: &self.store, recent: &self.recent }, task, &new)?;
                    self.provenance.insert(record, began)?;
                }
                Effect::FillRecord(new) => self.fill_record(task, *new)?,
                Effect::ExtendRecord { record, output } => {
                    self.extend_record(record, &output)?;
                    self.provenance.extend(record, &output)?;
                }
                Effect::JudgeRecord { record, status, verification } => {
                    self.provenance.judge(record, status)?;
                    if let Some(record) =
                        self.group.record(InStore { store: &self.store, recent: &self.recent }, record)?
                    {
                        record.status = status;
                        record.verification = verification.or(record.verification.take());
                    }
                }
                Effect::KeepFindings(findings) => {
                    let stored = InStore { store: &self.store, recent: &self.recent };
                    self.group.findings(stored, task.id)?.merge(*findings);
                }
                Effect::Spawn(children) => self.spawn(task, &children, now)?,
                Effect::Cancel { task, reason } => self.cancelled.push((task, reason)),
                Effect::DeadLetter { raw, reason, event } => {
                    if let Some(event) = event {
                        self.taken.forget(event);
                    }
                    self.bury(vec![DeadLetter { at: now.wall, task: Some(task.id), reason, raw }], now)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the record that an output of another worker began the record of
    /// the output that counts.
    fn fill_record(&mut self, task: &Task, new: task::NewRecord) -> Stored<()> {
        let (id, status) = (new.id, new.status);
        let stored = InStore { store: &self.store, recent: &self.recent };
        let (inputs, output) = self.group.fill_record(stored, task, new)?;
        self.provenance.fill(id, &inputs, &output)?;
        self.provenance.judge(id, status)
    }

    fn extend_record(&mut self, id: RecordId, output: &task::Output) -> Stored<()> {
        let outputs = self.group.outputs(output);
        let Some(record) = self.group.record(InStore { store: &self.store, recent: &self.recent }, id)? else {
            return Ok(());
        };
        for output in outputs {
            let known = record.outputs.iter().any(|known| known.artifact.id == output.artifact.id);
            if !known {
                record.outputs.push(output);
            }
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
        self.append(LogEntry { at, project, about, change, event, on_bus, observed })
    }

    /// Appends to the log.
    pub(super) fn append(&mut self, entry: LogEntry) -> Stored<()> {
        self.head = self.head.next();
        self.group.batch.append(self.head, entry)
    }
    /// Ends the group: its rows, and what the read side learns when they are
    /// committed.
    pub(super) fn finish(&mut self, now: Now) -> Stored<(Batch, Publication)> {
        self.make_automatic_checkpoints(now)?;
        let mut group = std::mem::take(&mut self.group);
        let warmed = group.warmed.into_iter();
        let warmed = warmed.map(|(task, answer)| ChangedAnswer { task, has_ended: false, answer: Some(answer) });
        let mut publication = Publication {
            answers: warmed.collect(),
            removed: group.removed,
            pauses: group.pauses,
            backlog: group.backlog,
            projects: self.shown_projects(std::mem::take(&mut group.projects), &group.counted),
            queues: self.shown_queues(),
            graph: self.provenance.finish(&mut group.batch, self.store.id(), now)?,
            ..self.publication()
        };
        for (id, before) in group.touched {
            let Some(mut entry) = self.changed.remove(&id) else { continue };
            let row = self.put_row(&mut group.batch, before, &mut entry.task)?;
            let ended = entry.task.status().is_terminal();
            let (task, fixed, may_name_inputs) = self.with_fixed(entry)?;
            let compact = match &fixed {
                Known::Small(fixed) => Some(wire::compact(&task, fixed, now)),
                Known::No | Known::Hot | Known::Large => None,
            };
            publication.answers.push(ChangedAnswer { task: id, has_ended: ended, answer: compact });
            self.keep_given_inputs(&task, may_name_inputs);
            if ended {
                self.open.remove(id);
            } else {
                self.open.insert(id, Submitted { fixed: fixed.place(), may_name_inputs }, &row);
                self.open.keep_decoded(task);
            }
        }
        for project in group.counted {
            let counters = self.projects.get(&project).map_or(Counters::default(), |state| state.counters);
            group.batch.put_counters(&project, &counters)?;
        }
        for record in group.unlisted.values() {
            group.batch.unlist_record(record);
        }
        for record in group.records.values() {
            group.batch.put_record(record)?;
        }
        self.automatic.finish(&mut group.batch)?;
        let said = std::mem::take(&mut group.statements);
        self.keep_statements(&mut group.batch, said)?;
        for checkpoint in group.checkpoints.values() {
            group.batch.put_checkpoint(checkpoint)?;
        }
        for (task, findings) in &group.findings {
            group.batch.put_findings(*task, findings)?;
        }
        for (cohort, statistics) in self.estimator.take_changed() {
            group.batch.put_estimate(&cohort, statistics.as_ref())?;
        }
        if let Some(events) = self.taken.committed(self.head, now.observed) {
            group.batch.put_taken_events(&events);
        }
        group.batch.keep_ids_until(self.ids_until_ms.get());
        self.version = self.version.next();
        publication.version = self.version;
        Ok((group.batch, publication))
    }

    /// A publication of the newest group with its totals alone.
    pub(super) fn publication(&self) -> Publication {
        Publication {
            version: self.version,
            head: self.head,
            has_routing_work: self.lines.routing.has_next(),
            totals: Totals {
                tail: self.tail,
                counters: self.totals,
                projects: self.live_projects,
                paused_projects: u64::try_from(self.lines.paused_projects().len()).unwrap_or(u64::MAX),
                dead_letters: self.dead_letters.counts(),
                estimates: self.estimates,
            },
            ..Publication::default()
        }
    }
}
