//! Tasks whose questions failed, and when each may be asked about again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::{doubled, jittered};
use crate::task::{Moment, TaskId};

/// Most tasks that are remembered; then the oldest is forgotten, which lets
/// it be asked about a little sooner and fall back a little later.
const MAX_REMEMBERED: usize = 10_000;

/// Time between two looks at tasks that have failed before and find no place.
const LOOK: Duration = Duration::from_millis(20);

/// What is known of one task's failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// How many questions failed.
    pub(super) count: u32,
    /// When the first one did.
    pub(super) since: Moment,
}

/// The failures of tasks that are not routed yet.
#[derive(Debug)]
pub(super) struct Failures {
    // Ids are ordered by time.
    by_task: BTreeMap<TaskId, Failure>,
    initial: Duration,
    max: Duration,
}

impl Failures {
    /// Waits begin at `initial`, double with each failure, and are at most
    /// `max`.
    pub(super) const fn new(initial: Duration, max: Duration) -> Self {
        Self { by_task: BTreeMap::new(), initial, max }
    }

    /// A question about a task failed at `since`.
    pub(super) fn note(&mut self, task: TaskId, since: Moment) -> Failure {
        if self.by_task.len() >= MAX_REMEMBERED && !self.by_task.contains_key(&task) {
            self.by_task.pop_first();
        }
        let failure = self.by_task.entry(task).or_insert(Failure { count: 0, since });
        failure.count = failure.count.saturating_add(1);
        *failure
    }

    /// How long to wait after it, at least `asked`, where the service asks
    /// for something. `fraction`, from 0 to 1, is the chance's part.
    pub(super) fn wait(&self, failure: Failure, asked: Option<Duration>, fraction: f64) -> Duration {
        let wait = jittered(doubled(self.initial, self.max, failure.count), fraction);
        wait.max(asked.unwrap_or_default().min(self.max))
    }

    /// How long a task waits that has failed before and finds no place. The
    /// more there are, the longer: looking for a place must not become all
    /// that is done.
    pub(super) fn wait_for_place(&self, fraction: f64) -> Duration {
        let count = u32::try_from(self.by_task.len()).unwrap_or(u32::MAX);
        jittered((self.max / 8).max(LOOK.saturating_mul(count)), fraction)
    }

    /// The longest wait.
    pub(super) const fn longest(&self) -> Duration {
        self.max
    }

    /// What is known of a task.
    pub(super) fn of(&self, task: TaskId) -> Option<Failure> {
        self.by_task.get(&task).copied()
    }

    /// A question about a task was answered.
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
            let failure = failures.note(task(1), at(second));
            assert_eq!(failure.since, at(10));
            waits.push(failures.wait(failure, None, 1.0).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let other = failures.note(task(2), at(20));
        assert_eq!((other.count, failures.wait(other, None, 0.0)), (1, Duration::from_millis(500)));
        failures.forget(task(1));
        assert_eq!(failures.of(task(1)), None);
        assert_eq!(failures.note(task(1), at(30)), Failure { count: 1, since: at(30) });
    }

    #[test]
    fn a_service_may_ask_for_more_up_to_the_limit() {
        let mut failures = failures();
        let failure = failures.note(task(1), at(1));
        let wait = |asked| failures.wait(failure, Some(Duration::from_secs(asked)), 1.0).as_secs();
        assert_eq!([0, 5, 3600].map(wait), [1, 5, 60]);
    }

    #[test]
    fn looks_for_a_place_are_no_more_frequent_for_more_tasks() {
        let mut failures = failures();
        for number in 0..1000 {
            failures.note(task(number), at(1));
            let looks_per_second =
                (f64::from(u32::try_from(number).unwrap()) + 1.0) / failures.wait_for_place(0.0).as_secs_f64();
            assert!(looks_per_second <= 101.0, "{looks_per_second} for {number} tasks");
        }
        assert_eq!(failures.wait_for_place(1.0), Duration::from_secs(20));
    }

    #[test]
    fn memory_has_a_limit() {
        let mut failures = failures();
        for number in 0..MAX_REMEMBERED + 5 {
            failures.note(task(number), at(1));
        }
        assert_eq!(failures.by_task.len(), MAX_REMEMBERED);
        assert!(failures.of(task(4)).is_none() && failures.of(task(5)).is_some());
        failures.note(task(5), at(2));
        assert!(failures.of(task(6)).is_some(), "one that is known needs no room");
    }
}
