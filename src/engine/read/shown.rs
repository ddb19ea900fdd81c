//! Figures of projects and work queues, as of the last commit, for readers: the
//! writer brings along what each commit has changed, so nobody has to ask it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::api::{ProjectChange, ProjectFigures, ProjectStatus, Queue, Refusal};
use crate::store::Project;
use crate::task::{Moment, Now, ProjectId, Status, Tier};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[derive(Debug, Default)]
struct ShownProject {
    project: Option<Project>,
    figures: ProjectFigures,
    ends: Ends,
}

/// What readers see of projects and work queues.
#[derive(Debug, Default)]
pub(in crate::engine) struct Shown {
    /// It grows in small steps, and a reader holds the lock of one project for as
    /// long as it takes to add up a day.
    projects: papaya::HashMap<ProjectId, Arc<Mutex<ShownProject>>>,
    /// There are few tiers.
    queues: Mutex<BTreeMap<Tier, Queue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shown {
    fn project(&self, id: &ProjectId) -> Arc<Mutex<ShownProject>> {
        self.projects.pin().get_or_insert_with(id.clone(), Arc::default).clone()
    }

    /// Shows what a commit has changed.
    pub(in crate::engine) fn show(&self, projects: Vec<ProjectChange>, queues: Vec<Queue>) {
        for change in projects {
            let shown = self.project(&change.id);
            let mut shown = lock(&shown);
            shown.project = change.project.or(shown.project.take());
            shown.figures = change.figures;
            for end in change.ends {
                shown.ends.add(end.at, end.status);
            }
        }
        if !queues.is_empty() {
            lock(&self.queues).extend(queues.into_iter().map(|queue| (queue.tier.clone(), queue)));
        }
    }

    /// The work queues, by tier.
    pub(in crate::engine) fn queues(&self) -> Vec<Queue> {
        lock(&self.queues).values().cloned().collect()
    }

    /// All that is told of a project, but its oldest pending task.
    pub(in crate::engine) fn status(&self, id: &ProjectId, now: Now) -> Result<ProjectStatus, Refusal> {
        let not_found = || Refusal::ProjectNotFound(id.clone());
        let shown = self.projects.pin().get(id).cloned().ok_or_else(not_found)?;
        let shown = lock(&shown);
        let project = shown.project.as_ref().filter(|project| project.archived_at.is_none()).ok_or_else(not_found)?;
        let ProjectFigures { counters, slots_in_use, limit, records } = shown.figures;
        let (completed_hour, failed_hour) = shown.ends.within(now.observed, HOUR);
        let (completed_day, failed_day) = shown.ends.within(now.observed, DAY);
        Ok(ProjectStatus {
            project: project.clone(),
            counters,
            slots_in_use,
            limit,
            oldest_pending_at: None,
            completed: (completed_hour, completed_day),
            failed: (failed_hour, failed_day),
            records,
        })
    }
}

const DAY_MINUTES: u64 = 24 * 60;

/// How many tasks ended in which minute of the last day.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ends {
    minutes: VecDeque<(u64, u64, u64)>,
}

impl Ends {
    pub(in crate::engine) fn add(&mut self, at: Moment, status: Status) {
        let minute = minute_of(at);
        match self.minutes.back() {
            Some((last, ..)) if *last >= minute => {}
            Some(_) | None => self.minutes.push_back((minute, 0, 0)),
        }
        if let Some((_, completed, failed)) = self.minutes.back_mut() {
            *completed += u64::from(status == Status::Completed);
            *failed += u64::from(status == Status::Failed);
        }
        while self.minutes.front().is_some_and(|(first, ..)| *first + DAY_MINUTES < minute) {
            self.minutes.pop_front();
        }
    }

    /// Completed and failed within `window` before `now`, to the minute.
    pub(in crate::engine) fn within(&self, now: Moment, window: Duration) -> (u64, u64) {
        let first = minute_of(now).saturating_sub(window.as_secs() / 60);
        let recent = self.minutes.iter().rev().take_while(|(minute, ..)| *minute > first);
        recent.fold((0, 0), |(completed, failed), (_, more, fewer)| (completed + more, failed + fewer))
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
        let mut ends = Ends::default();
        let at = |minute: i64| Moment::from_micros(minute * 60_000_000);
        ends.add(at(10), Status::Completed);
        ends.add(at(69), Status::Failed);
        ends.add(at(70), Status::Completed);
        ends.add(at(70), Status::Cancelled);
        assert_eq!(ends.within(at(70), Duration::from_hours(1)), (1, 1));
        assert_eq!(ends.within(at(70), Duration::from_hours(24)), (2, 1));
        ends.add(at(70 + 1445), Status::Completed);
        assert_eq!(ends.within(at(70 + 1445), Duration::from_hours(24)), (1, 0));
    }
}
