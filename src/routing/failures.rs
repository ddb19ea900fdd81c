//! Failed calls by task, and the waits before their tasks are routed again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::{backoff, with_jitter};
use crate::task::{Moment, TaskId};

/// Tasks whose failures are kept. Beyond that the oldest task is forgotten, which lets
/// it be routed a little sooner and fall back a little later.
const MAX_TASKS: usize = 10_000;

/// Time, for each task, between two attempts to find a slot for tasks that have failed
/// before.
const SLOT_WAIT_PER_TASK: Duration = Duration::from_millis(20);

/// The failures of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// The number of failed calls.
    pub(super) count: u32,
    /// The time of the first failure.
    pub(super) since: Moment,
}

/// The failures of tasks that are not routed yet.
#[derive(Debug)]
pub(super) struct Failures {
    // Ids are ordered by the time of their creation.
    by_task: BTreeMap<TaskId, Failure>,
    initial: Duration,
    max: Duration,
}

impl Failures {
    /// Waits begin at `initial`, double with each failure, and are limited to `max`.
    pub(super) const fn new(initial: Duration, max: Duration) -> Self {
        Self { by_task: BTreeMap::new(), initial, max }
    }

    /// Records a call that failed at `since`.
    pub(super) fn record(&mut self, task: TaskId, since: Moment) -> Failure {
        if self.by_task.len() >= MAX_TASKS && !self.by_task.contains_key(&task) {
            self.by_task.pop_first();
        }
        let failure = self.by_task.entry(task).or_insert(Failure { count: 0, since });
        failure.count = failure.count.saturating_add(1);
        *failure
    }

    /// Returns the wait after a failure: at least `asked`, the wait that the service asks
    /// for. `fraction` is the jitter, from 0 to 1.
    pub(super) fn wait(&self, failure: Failure, asked: Option<Duration>, fraction: f64) -> Duration {
        let wait = with_jitter(backoff(self.initial, self.max, failure.count), fraction);
        wait.max(asked.unwrap_or_default().min(self.max))
    }

    /// Returns the wait of a task that has failed before and found no slot. It grows with
    /// the number of such tasks, so that the search for slots takes little time.
    pub(super) fn wait_for_slot(&self, fraction: f64) -> Duration {
        let count = u32::try_from(self.by_task.len()).unwrap_or(u32::MAX);
        with_jitter((self.max / 8).max(SLOT_WAIT_PER_TASK.saturating_mul(count)), fraction)
    }

    /// Returns the longest wait.
    pub(super) const fn max_wait(&self) -> Duration {
        self.max
    }

    /// Returns the failures of a task.
    pub(super) fn of(&self, task: TaskId) -> Option<Failure> {
        self.by_task.get(&task).copied()
    }

    /// Forgets the failures of a task whose call was answered.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.by_task.remove(&task);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn task(number: usize) -> TaskId {
        TaskId::new(Uuid::from_u128(u128::try_from(number).unwrap()))
    }

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn failures() -> Failures {
        Failures::new(Duration::from_secs(1), Duration::from_mins(1))
    }

    #[test]
    fn waits_grow_with_a_task_s_own_failures() {
        let mut failures = failures();
        let mut waits = Vec::new();
        for second in 10..18 {
            let failure = failures.record(task(1), at(second));
            assert_eq!(failure.since, at(10));
            waits.push(failures.wait(failure, None, 1.0).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let other = failures.record(task(2), at(20));
        assert_eq!((other.count, failures.wait(other, None, 0.0)), (1, Duration::from_millis(500)));
        failures.forget(task(1));
        assert_eq!(failures.of(task(1)), None);
        assert_eq!(failures.record(task(1), at(30)), Failure { count: 1, since: at(30) });
    }

    #[test]
    fn a_service_may_ask_for_more_up_to_the_limit() {
        let mut failures = failures();
        let failure = failures.record(task(1), at(1));
        let wait = |asked| failures.wait(failure, Some(Duration::from_secs(asked)), 1.0).as_secs();
        assert_eq!([0, 5, 3600].map(wait), [1, 5, 60]);
    }

    #[test]
    fn searches_for_a_slot_are_limited_whatever_the_number_of_tasks() {
        let mut failures = failures();
        for number in 0..1000 {
            failures.record(task(number), at(1));
            let searches_per_second =
                (f64::from(u32::try_from(number).unwrap()) + 1.0) / failures.wait_for_slot(0.0).as_secs_f64();
            assert!(searches_per_second <= 101.0, "{searches_per_second} for {number} tasks");
        }
        assert_eq!(failures.wait_for_slot(1.0), Duration::from_secs(20));
    }

    #[test]
    fn memory_has_a_limit() {
        let mut failures = failures();
        for number in 0..MAX_TASKS + 5 {
            failures.record(task(number), at(1));
        }
        assert_eq!(failures.by_task.len(), MAX_TASKS);
        assert!(failures.of(task(4)).is_none() && failures.of(task(5)).is_some());
        failures.record(task(5), at(2));
        assert!(failures.of(task(6)).is_some(), "a known task needs no room");
    }
}
