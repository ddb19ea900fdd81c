//! When the steps of a task happened, in observed time, and how to bring them onto another axis.

use std::time::Duration;

use super::attempt::{Lease, Progress};
use super::course::Course;
use super::id::Seq;
use super::moment::{Moment, Now};
use super::state::{Completion, Pending, State, Task};
use super::time::Timestamp;

/// How far the same time lies apart on two axes that count as one.
const SAME_AXIS: Duration = Duration::from_mins(1);

impl Task {
    /// When a worker first took it, in observed time.
    #[must_use]
    pub fn started(&self) -> Option<Moment> {
        self.course.started.or_else(|| self.started_at.map(Moment::aligned))
    }

    /// When it ended, in observed time.
    #[must_use]
    pub fn ended(&self) -> Option<Moment> {
        self.course.ended.or_else(|| self.ended_at().map(Moment::aligned))
    }

    /// How long it was at work, from the first worker to its end.
    #[must_use]
    pub fn execution(&self) -> Option<Duration> {
        Some(self.ended()?.since(self.started()?))
    }

    /// The calendar time that it waits for.
    #[must_use]
    pub const fn scheduled_for(&self) -> Option<Timestamp> {
        if let State::Pending(Pending::Scheduled { until, .. }) = &self.state { Some(*until) } else { None }
    }

    /// The attempt that a worker has, or whose output is judged.
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

    /// The attempt that a worker has, whose output is judged, or that has completed
    /// the task.
    #[must_use]
    pub const fn attempt_begun(&self) -> Option<u32> {
        if let State::Completed { by: Completion::Attempt { number, .. }, .. } = &self.state {
            Some(*number)
        } else {
            self.attempt_at_work()
        }
    }

    /// The step of the provenance graph after which an attempt began, where it
    /// is known.
    #[must_use]
    pub fn began_after(&self, attempt: u32) -> Option<Seq> {
        self.course.attempts.iter().find(|(number, _)| *number == attempt).map(|(_, step)| *step)
    }

    /// The newest step of the provenance graph after which one of its attempts began;
    /// zero where none is known.
    #[must_use]
    pub fn newest_began_after(&self) -> Seq {
        self.course.attempts.iter().map(|(_, step)| *step).max().unwrap_or_default()
    }

    /// Keeps the step of the provenance graph after which an attempt began. A
    /// step that is known already stays.
    pub fn set_began_after(&mut self, attempt: u32, step: Seq) {
        if self.began_after(attempt).is_none() {
            self.course.attempts.push((attempt, step));
        }
    }

    /// Brings the moments of a task that was written with another axis of
    /// observed time onto that of `now`: how its last change related to the wall
    /// clock tells where they lie in the calendar, and `now` where that is here.
    /// What came before the axis began is its begin. Returns whether the two axes
    /// differ; where they are the same, nothing changes.
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
