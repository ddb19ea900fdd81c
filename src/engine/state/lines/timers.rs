//! The times at which tasks are due.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::task::{Moment, Now, Task, TaskId, Timestamp};

/// The times at which tasks are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    observed: BTreeSet<(Moment, TaskId)>,
    /// Tasks that wait for a calendar time, which comes earlier or later in observed time
    /// when the wall clock is set.
    calendar: BTreeSet<(Timestamp, TaskId)>,
}

impl Timers {
    pub(super) fn enter(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.observed.insert((at, task.id));
        }
        if let Some(at) = task.scheduled_for() {
            self.calendar.insert((at, task.id));
        }
    }

    pub(super) fn leave(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.observed.remove(&(at, task.id));
        }
        if let Some(at) = task.scheduled_for() {
            self.calendar.remove(&(at, task.id));
        }
    }

    /// How long until the next task is due, if the wall clock is not set meanwhile.
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        let observed = self.observed.first().map(|(at, _)| at.since(now.observed));
        let calendar = self.calendar.first().map(|(at, _)| at.since(now.wall));
        observed.into_iter().chain(calendar).min()
    }

    /// The timers from a moment on, in order.
    pub(super) fn from(&self, from: Moment) -> impl Iterator<Item = (Moment, TaskId)> {
        self.observed.range((from, TaskId::from_bytes([0; 16]))..).copied()
    }

    /// Removes the next timer that is due. Returns its task.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<TaskId> {
        if let Some(due) = self.observed.first().copied().filter(|(at, _)| *at <= now.observed) {
            self.observed.remove(&due);
            return Some(due.1);
        }
        let due = self.calendar.first().copied().filter(|(at, _)| *at <= now.wall)?;
        self.calendar.remove(&due);
        Some(due.1)
    }
}
