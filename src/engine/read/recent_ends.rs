//! Tasks of a project that ended lately.

use std::collections::VecDeque;
use std::time::Duration;

use crate::task::{Moment, Status};

/// Minutes of a day.
const DAY_MINUTES: u64 = 24 * 60;

/// Number of tasks that ended, without cancelled ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct EndCounts {
    pub(in crate::engine) completed: u64,
    pub(in crate::engine) failed: u64,
}

/// The ends of one minute.
#[derive(Debug)]
struct Minute {
    /// Minutes of observed time.
    number: u64,
    ends: EndCounts,
}

/// Number of tasks that ended in each minute of the last day.
#[derive(Debug, Default)]
pub(in crate::engine) struct RecentEnds {
    /// Oldest first. Minutes without an end are left out.
    minutes: VecDeque<Minute>,
}

impl RecentEnds {
    /// Counts the end of a task. Ends must be added in the order of their time.
    pub(in crate::engine) fn add(&mut self, at: Moment, status: Status) {
        let minute = minute_of(at);
        if self.minutes.back().is_none_or(|last| last.number < minute) {
            self.minutes.push_back(Minute { number: minute, ends: EndCounts::default() });
        }
        if let Some(Minute { ends, .. }) = self.minutes.back_mut() {
            ends.completed += u64::from(status == Status::Completed);
            ends.failed += u64::from(status == Status::Failed);
        }
        while self.minutes.front().is_some_and(|first| first.number + DAY_MINUTES < minute) {
            self.minutes.pop_front();
        }
    }

    /// Counts the ends within `window` before `now`, to the minute.
    pub(in crate::engine) fn within(&self, now: Moment, window: Duration) -> EndCounts {
        let first = minute_of(now).saturating_sub(window.as_secs() / 60);
        let mut sum = EndCounts::default();
        for Minute { ends, .. } in self.minutes.iter().rev().take_while(|minute| minute.number > first) {
            sum.completed += ends.completed;
            sum.failed += ends.failed;
        }
        sum
    }
}

fn minute_of(at: Moment) -> u64 {
    at.as_millis() / 60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_count_within_their_window() {
        let mut ends = RecentEnds::default();
        let at = |minute: i64| Moment::from_micros(minute * 60_000_000);
        let within = |ends: &RecentEnds, minute, hours| {
            let EndCounts { completed, failed } = ends.within(at(minute), Duration::from_hours(hours));
            (completed, failed)
        };
        ends.add(at(10), Status::Completed);
        ends.add(at(69), Status::Failed);
        ends.add(at(70), Status::Completed);
        ends.add(at(70), Status::Cancelled);
        assert_eq!(within(&ends, 70, 1), (1, 1));
        assert_eq!(within(&ends, 70, 24), (2, 1));
        ends.add(at(70 + 1445), Status::Completed);
        assert_eq!(within(&ends, 70 + 1445, 24), (1, 0));
    }
}
