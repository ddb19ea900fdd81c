//! Observed times of a task, and their conversion to another time axis.

use std::time::Duration;

use super::attempt::{Lease, Progress};
use super::course::Course;
use super::id::Seq;
use super::moment::{Moment, Now};
use super::state::{Completion, Pending, State, Task};
use super::time::Timestamp;

/// Two axes count as the same if the same time differs by less than this.
const SAME_AXIS: Duration = Duration::from_mins(1);

impl Task {
    /// When a worker first had the task, in observed time.
    #[must_use]
    pub fn started(&self) -> Option<Moment> {
        self.course.started.or_else(|| self.started_at.map(Moment::aligned))
    }

    /// When the task ended, in observed time.
    #[must_use]
    pub fn ended(&self) -> Option<Moment> {
        self.course.ended.or_else(|| self.ended_at().map(Moment::aligned))
    }

    /// Time from the first worker to the end.
    #[must_use]
    pub fn execution(&self) -> Option<Duration> {
        Some(self.ended()?.since(self.started()?))
    }

    /// The calendar time at which the task becomes ready; `None` unless it is scheduled.
    #[must_use]
    pub const fn scheduled_for(&self) -> Option<Timestamp> {
        if let State::Pending(Pending::Scheduled { until, .. }) = &self.state { Some(*until) } else { None }
    }

    /// Number of the attempt that a worker executes or whose output is judged.
    #[must_use]
    pub const fn attempt_at_work(&self) -> Option<u32> {
        match &self.state {
            State::Running { attempt, .. } => Some(attempt.number),
            State::Pending(_)
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// Number of the attempt that a worker executes, whose output is judged, or that completed the
    /// task.
    #[must_use]
    pub const fn attempt_begun(&self) -> Option<u32> {
        if let State::Completed { by: Completion::Attempt { number, .. }, .. } = &self.state {
            Some(*number)
        } else {
            self.attempt_at_work()
        }
    }

    /// Position of the provenance graph at which an attempt started, if known.
    #[must_use]
    pub fn began_after(&self, attempt: u32) -> Option<Seq> {
        self.course.attempts.iter().find(|(number, _)| *number == attempt).map(|(_, step)| *step)
    }

    /// The newest position of the provenance graph at which an attempt started; zero if none is
    /// known.
    #[must_use]
    pub fn newest_began_after(&self) -> Seq {
        self.course.attempts.iter().map(|(_, step)| *step).max().unwrap_or_default()
    }

    /// Stores the position of the provenance graph at which an attempt started. A stored position
    /// is kept.
    pub fn set_began_after(&mut self, attempt: u32, step: Seq) {
        if self.began_after(attempt).is_none() {
            self.course.attempts.push((attempt, step));
        }
    }

    /// Converts the moments of a task that was written on another axis of observed time to the axis
    /// of `now`.
    ///
    /// The last change, known on both the old axis and the wall clock, gives the calendar time of
    /// each moment; `now` gives its place on this axis. Moments before the start of this axis
    /// become its start. Returns whether the axes differ; nothing changes if they are the same.
    pub fn realign(&mut self, now: Now) -> bool {
        let written = self.course.updated.unwrap_or(Moment::aligned(self.updated_at));
        let written = Now { observed: written, wall: self.updated_at };
        // Clocks that were never set drift apart by less.
        let here = now.moment_of(self.updated_at);
        if here.since(written.observed).max(written.observed.since(here)) < SAME_AXIS {
            return false;
        }
        let moved = |moment: &mut Moment| *moment = now.moment_of(written.calendar(*moment));
        let Course { started, ended, updated, attempts: _ } = &mut self.course;
        [started, ended, updated].into_iter().flatten().for_each(moved);
        self.parked.iter_mut().for_each(|parked| moved(&mut parked.until));
        if let Some(estimate) = &mut self.estimate {
            moved(&mut estimate.from);
            moved(&mut estimate.at);
        }
        match &mut self.state {
            State::Pending(Pending::Analyzing { since: moment } | Pending::Backoff { until: moment }) => moved(moment),
            State::Pending(Pending::Queued(queued)) => {
                moved(&mut queued.since);
                queued.not_before.iter_mut().for_each(moved);
                queued.attempt.iter_mut().for_each(|attempt| moved(&mut attempt.queued_since));
            }
            State::Pending(Pending::Dispatched { attempt, at }) => {
                moved(&mut attempt.queued_since);
                moved(at);
            }
            State::Running { attempt, progress } => {
                moved(&mut attempt.queued_since);
                match progress {
                    Progress::Started { since, .. } => moved(since),
                    Progress::Leased { lease: Lease { since, until, .. }, deadline } => {
                        [since, until, deadline].into_iter().for_each(moved);
                    }
                    Progress::Validating { deadline, .. } | Progress::Reviewing { deadline, .. } => {
                        deadline.iter_mut().for_each(moved);
                    }
                }
            }
            State::Pending(Pending::Scheduled { .. } | Pending::Blocked { .. })
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => {}
        }
        true
    }
}
