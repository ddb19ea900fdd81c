//! Projects and work queues as of the last commit, so that reading them takes no request
//! to the writer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recent_ends::RecentEnds;
use crate::engine::api::{ProjectChange, ProjectFigures, ProjectStatus, Refusal, WorkQueue};
use crate::store::Project;
use crate::task::{Now, ProjectId, Tier};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[derive(Debug, Default)]
struct PublishedProject {
    project: Option<Project>,
    figures: ProjectFigures,
    ends: RecentEnds,
}

/// Projects and work queues as of the last commit.
#[derive(Debug, Default)]
pub(in crate::engine) struct PublishedProjects {
    /// The map grows in small steps. A reader locks one project for as long as it takes to
    /// add up the ends of a day.
    projects: papaya::HashMap<ProjectId, Arc<Mutex<PublishedProject>>>,
    /// One lock for all of them, since there are few tiers.
    queues: Mutex<BTreeMap<Tier, WorkQueue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PublishedProjects {
    fn project(&self, id: &ProjectId) -> Arc<Mutex<PublishedProject>> {
        self.projects.pin().get_or_insert_with(id.clone(), Arc::default).clone()
    }

    /// Publishes the projects and work queues that a commit has changed.
    pub(in crate::engine) fn publish(&self, projects: Vec<ProjectChange>, queues: Vec<WorkQueue>) {
        for change in projects {
            let entry = self.project(&change.id);
            let mut published = lock(&entry);
            published.project = change.project.or(published.project.take());
            published.figures = change.figures;
            for end in change.ends {
                published.ends.add(end.at, end.status);
            }
        }
        if !queues.is_empty() {
            lock(&self.queues).extend(queues.into_iter().map(|queue| (queue.tier.clone(), queue)));
        }
    }

    /// Returns the work queues in the order of their tiers.
    pub(in crate::engine) fn queues(&self) -> Vec<WorkQueue> {
        lock(&self.queues).values().cloned().collect()
    }

    /// Returns the status of a project, except for `oldest_pending_at`, which takes a view.
    pub(in crate::engine) fn status(&self, id: &ProjectId, now: Now) -> Result<ProjectStatus, Refusal> {
        let not_found = || Refusal::ProjectNotFound(id.clone());
        let entry = self.projects.pin().get(id).cloned().ok_or_else(not_found)?;
        let published = lock(&entry);
        let project =
            published.project.as_ref().filter(|project| project.archived_at.is_none()).ok_or_else(not_found)?;
        let ProjectFigures { counters, slots_in_use, limit, records } = published.figures;
        let hour = published.ends.within(now.observed, HOUR);
        let day = published.ends.within(now.observed, DAY);
        Ok(ProjectStatus {
            project: project.clone(),
            counters,
            slots_in_use,
            limit,
            oldest_pending_at: None,
            completed: (hour.completed, day.completed),
            failed: (hour.failed, day.failed),
            records,
        })
    }
}
