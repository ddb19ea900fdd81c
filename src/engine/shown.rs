//! Figures of projects and work queues, as of the last commit, for readers: the
//! writer brings along what each commit has changed, so nobody has to ask it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::api::{ProjectChange, ProjectFigures, ProjectStatus, Queue, Refusal};
use super::memory::Ends;
use crate::store::Project;
use crate::task::{Now, ProjectId, Tier};

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
pub(super) struct Shown {
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
    pub(super) fn show(&self, projects: Vec<ProjectChange>, queues: Vec<Queue>) {
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
    pub(super) fn queues(&self) -> Vec<Queue> {
        lock(&self.queues).values().cloned().collect()
    }

    /// All that is told of a project, but its oldest pending task.
    pub(super) fn status(&self, id: &ProjectId, now: Now) -> Result<ProjectStatus, Refusal> {
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
