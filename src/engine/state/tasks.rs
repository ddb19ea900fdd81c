//! Tasks as a group changes them: found among the open ones, in the group or in the store,
//! and kept until the group ends, with the fixed part of their answers.

use std::collections::HashMap;

use bytes::Bytes;

use super::failure::Stored;
use super::open_tasks::{FixedIn, OpenTasks, Submitted};
use super::parking::Parking;
use super::recent_users::RecentUsers;
use super::storage::Storage;

use crate::engine::api::{Answer, ChangedAnswer, Version};
use crate::engine::shared::{IdHash, Shared};
use crate::store::{Batch, OpenRow};
use crate::task::{Now, Pending, Policy, Queued, State, Status, Submission, Task, TaskId};
use crate::wire::{CompactAnswer, FixedValues};

/// A task that this group has changed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: Task,
    fixed: FixedPart,
    may_name_inputs: bool,
}

/// The fixed part of a task's answer, which never changes.
#[derive(Debug)]
enum FixedPart {
    /// Still to be read from the store.
    Unread,
    /// In the answer that is in memory.
    InMemory,
    /// Of a task that is new in this group, or just read.
    Known(FixedValues),
    /// Too large for memory.
    Large,
}

/// The tasks that have not ended, and those that the group has changed.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) policy: Policy,
    /// Tasks that have not ended, as of the last commit.
    open: OpenTasks,
    /// Tasks that this group has changed.
    changed: HashMap<TaskId, Entry, IdHash>,
    /// Their status in the store; `None`: the task is new.
    stored: HashMap<TaskId, Option<Status>, IdHash>,
    /// Verdicts that wait for their outputs, which the tasks of `open` lack.
    parking: Parking,
    shared: Shared,
    /// Tasks that were added to the given ones lately.
    recent_users: RecentUsers,
    /// Open tasks from before the start whose answers are not in memory yet.
    unwarmed: Vec<TaskId>,
}

impl Tasks {
    pub(super) fn new(policy: Policy, parking: Parking, shared: Shared, unwarmed: Vec<TaskId>) -> Self {
        Self {
            policy,
            open: OpenTasks::default(),
            changed: HashMap::default(),
            stored: HashMap::default(),
            parking,
            shared,
            recent_users: RecentUsers::default(),
            unwarmed,
        }
    }

    /// Enters an open task from before the start.
    pub(super) fn enter_recovered(&mut self, task: &Task, row: &OpenRow, version: Version) {
        self.open.insert(task.id, Submitted::UNREAD, &row.bytes);
        self.update_given(task, true, version);
    }

    /// Returns a task as it is in this group, or in the store.
    pub(super) fn find(&self, storage: &Storage, id: TaskId) -> Stored<Option<Task>> {
        match self.find_open(id)? {
            Some(task) => Ok(Some(task)),
            None => storage.ended_task(id),
        }
    }

    /// Returns a task that had not ended when this group began, as it is in this group.
    pub(super) fn find_open(&self, id: TaskId) -> Stored<Option<Task>> {
        match self.changed.get(&id) {
            Some(entry) => Ok(Some(entry.task.clone())),
            None => Ok(self.open.get(id)?.map(|(mut task, _)| {
                self.add_parked(&mut task);
                task
            })),
        }
    }

    /// The tasks that had not ended at the last commit, in no order.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = TaskId> {
        self.open.ids()
    }

    /// The tasks that this group has changed, in no order.
    pub(super) fn changed_ids(&self) -> impl Iterator<Item = TaskId> {
        self.changed.keys().copied()
    }

    /// Whether this group has changed the row of a task.
    pub(super) fn is_changed(&self, id: TaskId) -> bool {
        self.stored.contains_key(&id)
    }

    /// The tasks with an open attempt that were or may have been given artifacts, as of the
    /// last commit, in no order.
    pub(super) fn given_ids(&self) -> Vec<TaskId> {
        self.shared.given.ids()
    }

    /// The tasks that began to use artifacts after a version; `None`: they are no longer
    /// all remembered.
    pub(super) fn users_since(&self, version: Version) -> Option<impl Iterator<Item = TaskId>> {
        self.recent_users.since(version)
    }

    /// The tasks that must give up a parked verdict.
    pub(super) fn with_excess_parked(&self) -> Vec<TaskId> {
        self.parking.excess()
    }

    /// Adds a new task.
    pub(super) fn begin(&mut self, task: Task, submission: &Submission) {
        let fixed = FixedPart::of(FixedValues::new(submission, &task));
        let may_name_inputs = !submission.options.inputs.is_empty();
        self.changed.insert(task.id, Entry { task, fixed, may_name_inputs });
    }

    /// Takes a task out to change it: see [`Self::put_back`].
    pub(super) fn take(&mut self, storage: &Storage, id: TaskId) -> Stored<Option<Entry>> {
        if let Some(entry) = self.changed.remove(&id) {
            return Ok(Some(entry));
        }
        if let Some((mut task, Submitted { fixed, may_name_inputs })) = self.open.take(id)? {
            self.add_parked(&mut task);
            return Ok(Some(Entry { task, fixed: FixedPart::at(fixed), may_name_inputs }));
        }
        let ended = storage.ended_task(id)?;
        Ok(ended.map(|task| Entry { task, fixed: FixedPart::Unread, may_name_inputs: true }))
    }

    /// Records that the row of a task changes, which the store has with `before`, or not yet.
    pub(super) fn record_change(&mut self, id: TaskId, before: Option<Status>) {
        self.stored.entry(id).or_insert(before);
    }

    /// Keeps an entry, if its row has changed.
    pub(super) fn put_back(&mut self, entry: Entry) {
        let id = entry.task.id;
        if self.stored.contains_key(&id) {
            self.changed.insert(id, entry);
        }
    }

    /// Gives a task the verdicts that are parked for it. A row of an earlier version may
    /// still have them in itself.
    pub(super) fn add_parked(&self, task: &mut Task) {
        let parked = self.parking.of(task.id);
        if !parked.is_empty() {
            task.parked = parked.to_vec();
        }
    }

    /// Ends the group: stages the rows of its tasks, and returns their answers.
    pub(super) fn finish(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        version: Version,
        now: Now,
    ) -> Stored<Vec<ChangedAnswer>> {
        let stored = std::mem::take(&mut self.stored);
        let mut answers = Vec::with_capacity(stored.len());
        for (id, before) in stored {
            let Some(Entry { mut task, fixed, may_name_inputs }) = self.changed.remove(&id) else { continue };
            let row = self.put_row(batch, before, &mut task)?;
            let has_ended = task.status().is_terminal();
            let (fixed, may_name_inputs) = self.read_fixed(storage, &task, fixed, may_name_inputs)?;
            let answer = match &fixed {
                FixedPart::Known(fixed) => Some(CompactAnswer::new(&task, fixed, now)),
                FixedPart::Unread | FixedPart::InMemory | FixedPart::Large => None,
            };
            answers.push(ChangedAnswer { task: id, has_ended, answer });
            self.update_given(&task, may_name_inputs, version);
            if has_ended {
                self.open.remove(id);
            } else {
                self.open.insert(id, Submitted { fixed: fixed.place(), may_name_inputs }, &row);
                self.open.keep_decoded(task);
            }
        }
        Ok(answers)
    }

    /// Stages the row of a task, and what is parked for it beside it.
    fn put_row(&mut self, batch: &mut Batch, before: Option<Status>, task: &mut Task) -> Stored<Bytes> {
        let parked = std::mem::take(&mut task.parked);
        if parked != self.parking.of(task.id) {
            batch.put_parked(task.id, &parked)?;
            self.parking.set(task.id, parked);
        }
        batch.put_task(before, task)
    }

    /// Returns the fixed part of a task's answer, and whether the client may have named
    /// artifacts as inputs.
    fn read_fixed(
        &self,
        storage: &Storage,
        task: &Task,
        fixed: FixedPart,
        may_name_inputs: bool,
    ) -> Stored<(FixedPart, bool)> {
        let in_memory = if matches!(fixed, FixedPart::InMemory) { self.shared.hot.fixed(task.id) } else { None };
        match (fixed, in_memory) {
            (_, Some(fixed)) => Ok((FixedPart::Known(fixed), may_name_inputs)),
            (FixedPart::Unread | FixedPart::InMemory, None) => Ok(fixed_of(storage.submission(task.id)?, task)),
            (known @ (FixedPart::Known(_) | FixedPart::Large), None) => Ok((known, may_name_inputs)),
        }
    }

    /// Adds a task to the given ones, or removes it.
    fn update_given(&mut self, task: &Task, may_name_inputs: bool, version: Version) {
        let given = may_name_inputs || !task.inputs.is_empty() || task.has_findings;
        if given && task.open_attempt().is_some() {
            if self.shared.given.insert(task.id) {
                self.recent_users.push(version, task.id);
            }
        } else {
            self.shared.given.remove(task.id);
        }
    }

    /// Renders the answers of open tasks from before the start, the newest first, at most
    /// `limit`, and adds them to `answers`. Returns whether there are more.
    pub(super) fn warm(
        &mut self,
        storage: &Storage,
        answers: &mut Vec<ChangedAnswer>,
        version: Version,
        limit: usize,
        now: Now,
    ) -> Stored<bool> {
        if self.unwarmed.is_empty() {
            return Ok(false);
        }
        // They are from before the start: the tables have their submissions, however far
        // they lag.
        let view = storage.view_of_tables()?;
        for id in self.unwarmed.split_off(self.unwarmed.len().saturating_sub(limit)) {
            if self.changed.contains_key(&id) {
                continue;
            }
            let unread = self.open.get(id)?.filter(|(_, submitted)| submitted.fixed == FixedIn::Unread);
            let Some((task, _)) = unread else { continue };
            let (fixed, may_name_inputs) = fixed_of(view.submission(id)?, &task);
            if let FixedPart::Known(fixed) = &fixed {
                let answer = Some(CompactAnswer::new(&task, fixed, now));
                answers.push(ChangedAnswer { task: id, has_ended: false, answer });
            }
            self.open.set_submitted(id, Submitted { fixed: fixed.place(), may_name_inputs });
            self.update_given(&task, may_name_inputs, version);
        }
        Ok(!self.unwarmed.is_empty())
    }

    /// Renders the answer of an open task again, if it is in memory and says at which time
    /// the task continues. `None`: it does not, or the group has changed it anyway.
    pub(super) fn render_again(&self, id: TaskId, now: Now) -> Stored<Option<ChangedAnswer>> {
        let known = self.open.get(id)?.filter(|_| !self.changed.contains_key(&id));
        let Some((task, _)) = known.filter(|(task, _)| shows_moment(task)) else { return Ok(None) };
        let answer = self.shared.hot.fixed(id).map(|fixed| CompactAnswer::new(&task, &fixed, now));
        Ok(answer.map(|answer| ChangedAnswer { task: id, has_ended: false, answer: Some(answer) }))
    }

    /// Returns the status answer of a task that ends in this group, so that no pause holds
    /// it back.
    pub(super) fn answer(&self, storage: &Storage, id: TaskId, now: Now) -> Stored<Option<Answer>> {
        let task = self.find(storage, id)?;
        let Some(task) = task else { return Ok(None) };
        let fixed = match self.changed.get(&id).map(|entry| &entry.fixed) {
            Some(FixedPart::Known(fixed)) => Some(fixed.clone()),
            Some(FixedPart::InMemory) => self.shared.hot.fixed(id),
            Some(FixedPart::Unread | FixedPart::Large) | None => None,
        };
        if let Some(fixed) = fixed {
            return Ok(Some(CompactAnswer::new(&task, &fixed, now).render(id, None)));
        }
        let submission = storage.submission(id)?;
        let fixed = submission.map(|submission| FixedValues::new(&submission, &task));
        Ok(fixed.map(|fixed| CompactAnswer::new(&task, &fixed, now).render(id, None)))
    }
}

/// Whether the answer of a task says at which time the task continues.
const fn shows_moment(task: &Task) -> bool {
    matches!(&task.state, State::Pending(Pending::Backoff { .. } | Pending::Queued(Queued { not_before: Some(_), .. })))
}

/// The fixed part of an answer, from the submission, and whether the client named artifacts
/// as inputs.
fn fixed_of(submission: Option<Submission>, task: &Task) -> (FixedPart, bool) {
    let Some(submission) = submission else { return (FixedPart::Large, true) };
    (FixedPart::of(FixedValues::new(&submission, task)), !submission.options.inputs.is_empty())
}

impl Entry {
    /// Has the fixed part of the answer read again, because something in it has changed.
    pub(super) fn forget_fixed(&mut self) {
        self.fixed = FixedPart::Unread;
    }
}

impl FixedPart {
    fn of(fixed: FixedValues) -> Self {
        if fixed.is_small() { Self::Known(fixed) } else { Self::Large }
    }

    const fn at(fixed: FixedIn) -> Self {
        match fixed {
            FixedIn::Unread => Self::Unread,
            FixedIn::Memory => Self::InMemory,
            FixedIn::Store => Self::Large,
        }
    }

    /// Where it is once the answer has been published.
    const fn place(&self) -> FixedIn {
        match self {
            Self::Unread => FixedIn::Unread,
            Self::InMemory | Self::Known(_) => FixedIn::Memory,
            Self::Large => FixedIn::Store,
        }
    }
}
