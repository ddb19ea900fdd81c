//! Tasks as a group changes them: found among the open ones, in the group or in
//! the store, kept until the group ends, and the part of their answers that
//! never changes.

use bytes::Bytes;

use super::api::Answer;
use super::machine::Machine;
use super::open::{FixedIn, Submitted};
use crate::store::{self, Batch, OpenRow, Recent};
use crate::task::{Now, Pending, Queued, State, Status, Submission, Task, TaskId};
use crate::wire::{self, Fixed};

type Stored<T> = Result<T, store::Error>;

/// A task that this group has changed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: Task,
    pub(super) fixed: Known,
    pub(super) may_name_inputs: bool,
}

/// The part of a task's answer that never changes.
#[derive(Debug)]
pub(super) enum Known {
    /// Still to be read.
    No,
    /// In the answer that the read side has.
    Hot,
    /// Of a task that is new in this group.
    Small(Fixed),
    /// Too large for memory.
    Large,
}

impl Machine {
    /// Enters an open task from before the start.
    pub(super) fn enter_recovered(&mut self, mut task: Task, row: &OpenRow) {
        self.with_parked(&mut task);
        if task.holds_slot() {
            self.lines.admission.occupy(&task.project);
        }
        self.lines.enter_new(&task);
        self.provenance.continue_after(task.newest_began_after());
        if !task.fits(self.settings.policy.bus) {
            self.of_other_bus.push(task.id);
        }
        self.open.insert(task.id, Submitted::UNREAD, &row.bytes);
        self.keep_given_inputs(&task, true);
    }

    /// Brings the answers of open tasks from before the start into memory,
    /// the newest first, at most `limit`. Whether there are more.
    pub(super) fn warm(&mut self, limit: usize, now: Now) -> Stored<bool> {
        if self.cold.is_empty() {
            return Ok(false);
        }
        // They are from before the start: the tables have their submissions, however
        // far they are behind.
        let view = self.store.view_of_tables()?;
        for id in self.cold.split_off(self.cold.len().saturating_sub(limit)) {
            if self.changed.contains_key(&id) {
                continue;
            }
            let unread = self.open.get(id)?.filter(|(_, submitted)| submitted.fixed == FixedIn::Unread);
            let Some((task, _)) = unread else { continue };
            let (fixed, may_name_inputs) = read_fixed(view.submission(id)?, &task);
            if let Known::Small(fixed) = &fixed {
                self.group.warmed.push((id, wire::compact(&task, fixed, now)));
            }
            self.open.set_submitted(id, Submitted { fixed: fixed.place(), may_name_inputs });
            self.keep_given_inputs(&task, may_name_inputs);
        }
        Ok(!self.cold.is_empty())
    }

    /// After the wall clock was set: renders answers anew that tell when a task
    /// goes on, at most `limit`. Whether there are more.
    pub(super) fn show_again(&mut self, limit: usize, now: Now) -> Stored<bool> {
        let Some(from) = self.show_again_from.take() else { return Ok(false) };
        let timed: Vec<_> = self.lines.timed_from(from).take(limit).collect();
        for (_, id) in &timed {
            let known = self.open.get(*id)?.filter(|_| !self.changed.contains_key(id));
            let Some((task, _)) = known.filter(|(task, _)| shows_moment(task)) else { continue };
            if let Some(fixed) = self.shared.hot.fixed(*id) {
                self.group.warmed.push((*id, wire::compact(&task, &fixed, now)));
            }
        }
        // Of one moment there are few tasks; those that come twice are rendered twice.
        let next = timed.last().map(|(moment, _)| *moment).filter(|moment| timed.len() == limit && *moment > from);
        self.show_again_from = next;
        Ok(next.is_some())
    }

    /// A task as it is in this group, or in the store.
    pub(super) fn find(&self, id: TaskId) -> Stored<Option<Task>> {
        match self.find_open(id)? {
            Some(task) => Ok(Some(task)),
            None => self.recent.ended_task(&self.store, id),
        }
    }

    /// A task that had not ended when this group began.
    pub(super) fn find_open(&self, id: TaskId) -> Stored<Option<Task>> {
        match self.changed.get(&id) {
            Some(entry) => Ok(Some(entry.task.clone())),
            None => Ok(self.open.get(id)?.map(|(mut task, _)| {
                self.with_parked(&mut task);
                task
            })),
        }
    }

    /// The tasks that had not ended at the last commit, in no order.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = TaskId> {
        self.open.ids()
    }

    pub(super) fn keep_given_inputs(&mut self, task: &Task, may_name_inputs: bool) {
        let given = may_name_inputs || !task.inputs.is_empty() || task.has_findings;
        if given && task.open_attempt().is_some() {
            if self.shared.given.insert(task.id) {
                self.begun.push(self.version.next(), task.id);
            }
        } else {
            self.shared.given.remove(task.id);
        }
    }

    pub(super) fn take_entry(&mut self, id: TaskId) -> Stored<Option<Entry>> {
        if let Some(entry) = self.changed.remove(&id) {
            return Ok(Some(entry));
        }
        if let Some((mut task, Submitted { fixed, may_name_inputs })) = self.open.take(id)? {
            self.with_parked(&mut task);
            return Ok(Some(Entry { task, fixed: Known::at(fixed), may_name_inputs }));
        }
        let ended = self.recent.ended_task(&self.store, id)?;
        Ok(ended.map(|task| Entry { task, fixed: Known::No, may_name_inputs: true }))
    }

    /// Gives a task the verdicts that wait for its output. A row of an earlier
    /// version may still have them in itself.
    pub(super) fn with_parked(&self, task: &mut Task) {
        let parked = self.parking.of(task.id);
        if !parked.is_empty() {
            task.parked = parked.to_vec();
        }
    }

    /// Keeps the row of a changed task, and what is parked for it beside it.
    pub(super) fn put_row(&mut self, batch: &mut Batch, before: Option<Status>, task: &mut Task) -> Stored<Bytes> {
        let parked = std::mem::take(&mut task.parked);
        if parked != self.parking.of(task.id) {
            batch.put_parked(task.id, &parked)?;
            self.parking.set(task.id, parked);
        }
        batch.put_task(before, task)
    }

    /// Keeps an entry that the group has changed.
    pub(super) fn put_back(&mut self, entry: Entry) {
        let id = entry.task.id;
        if self.group.touched.contains_key(&id) {
            self.changed.insert(id, entry);
        }
    }

    /// The task of an entry, with the fixed part of its answer.
    pub(super) fn with_fixed(&self, entry: Entry) -> Stored<(Task, Known, bool)> {
        let Entry { task, fixed, may_name_inputs } = entry;
        let in_memory = if matches!(fixed, Known::Hot) { self.shared.hot.fixed(task.id) } else { None };
        match (fixed, in_memory) {
            (_, Some(fixed)) => Ok((task, Known::Small(fixed), may_name_inputs)),
            (Known::No | Known::Hot, None) => {
                let (fixed, may_name_inputs) = read_fixed(Recent::submission(&self.store, task.id)?, &task);
                Ok((task, fixed, may_name_inputs))
            }
            (known @ (Known::Small(_) | Known::Large), None) => Ok((task, known, may_name_inputs)),
        }
    }

    /// The status answer of a task that ends in this group: no pause holds it.
    pub(super) fn answer(&mut self, id: TaskId, now: Now) -> Stored<Option<Answer>> {
        let task = self.find(id)?;
        let Some(task) = task else { return Ok(None) };
        let fixed = match self.changed.get(&id).map(|entry| &entry.fixed) {
            Some(Known::Small(fixed)) => Some(fixed.clone()),
            Some(Known::Hot) => self.shared.hot.fixed(id),
            Some(Known::No | Known::Large) | None => None,
        };
        if let Some(fixed) = fixed {
            return Ok(Some(wire::compact(&task, &fixed, now).answer(id, None)));
        }
        let submission = Recent::submission(&self.store, id)?;
        let fixed = submission.map(|submission| Fixed::of(&submission, &task));
        Ok(fixed.map(|fixed| wire::compact(&task, &fixed, now).answer(id, None)))
    }
}

/// Whether the answer of a task says at which time it goes on.
const fn shows_moment(task: &Task) -> bool {
    matches!(&task.state, State::Pending(Pending::Backoff { .. } | Pending::Queued(Queued { not_before: Some(_), .. })))
}

/// The fixed part of an answer, from the store, and whether the client named
/// artifacts as inputs.
fn read_fixed(submission: Option<Submission>, task: &Task) -> (Known, bool) {
    let Some(submission) = submission else { return (Known::Large, true) };
    (Known::of(Fixed::of(&submission, task)), !submission.options.inputs.is_empty())
}

impl Known {
    pub(super) fn of(fixed: Fixed) -> Self {
        if fixed.is_small() { Self::Small(fixed) } else { Self::Large }
    }

    const fn at(fixed: FixedIn) -> Self {
        match fixed {
            FixedIn::Unread => Self::No,
            FixedIn::Memory => Self::Hot,
            FixedIn::Store => Self::Large,
        }
    }

    /// Where it is once the answer has been published.
    pub(super) const fn place(&self) -> FixedIn {
        match self {
            Self::No => FixedIn::Unread,
            Self::Hot | Self::Small(_) => FixedIn::Memory,
            Self::Large => FixedIn::Store,
        }
    }
}
