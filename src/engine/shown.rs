//! Figures of projects and work queues, as of the last commit, for readers: the
//! writer brings along what each commit has changed, so nobody has to ask it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::api::{ProjectStatus, Queue, Refusal};
use super::machine::Machine;
use super::memory::Ends;
use super::project;
use super::records::RecordCounts;
use crate::store::{Counters, Project};
use crate::task::{Moment, Now, ProjectId, Status, Tier};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What happens to a project in a group, beside what is counted of its tasks.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// The project itself is new or has changed.
    pub(super) is_changed: bool,
    /// Its tasks that ended.
    pub(super) ends: Vec<(Moment, Status)>,
}

/// A project as a commit leaves it.
#[derive(Debug)]
pub(super) struct ProjectChange {
    id: ProjectId,
    /// `None`: it is as before.
    project: Option<Project>,
    figures: ProjectFigures,
    /// Its tasks that ended.
    ends: Vec<(Moment, Status)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ProjectFigures {
    counters: Counters,
    slots_in_use: u32,
    limit: u32,
    records: RecordCounts,
}

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

    /// A task of the project ended before the start.
    pub(super) fn add_end(&self, project: &ProjectId, at: Moment, status: Status) {
        lock(&self.project(project)).ends.add(at, status);
    }

    /// Shows what a commit has changed.
    pub(super) fn show(&self, projects: Vec<ProjectChange>, queues: Vec<Queue>) {
        for change in projects {
            let shown = self.project(&change.id);
            let mut shown = lock(&shown);
            shown.project = change.project.or(shown.project.take());
            shown.figures = change.figures;
            for (at, status) in change.ends {
                shown.ends.add(at, status);
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

impl Machine {
    /// The projects that something has happened in, as this group leaves them.
    pub(super) fn shown_projects(
        &mut self,
        mut touched: BTreeMap<ProjectId, Touched>,
        counted: &HashSet<ProjectId>,
    ) -> Vec<ProjectChange> {
        for project in self.provenance.take_retallied().into_iter().chain(counted.iter().cloned()) {
            touched.entry(project).or_default();
        }
        touched.into_iter().filter_map(|(id, touched)| self.shown_project(id, touched)).collect()
    }

    fn shown_project(&self, id: ProjectId, touched: Touched) -> Option<ProjectChange> {
        let state = self.projects.get(&id)?;
        let (slots_in_use, limit) = self.lines.admission.slots(&id);
        let records = self.provenance.tally(&id).counts;
        let figures = ProjectFigures { counters: state.counters, slots_in_use, limit, records };
        let project = touched.is_changed.then(|| state.project.clone());
        Some(ProjectChange { id, project, figures, ends: touched.ends })
    }

    /// The work queues that something has happened in.
    pub(super) fn shown_queues(&mut self) -> Vec<Queue> {
        let touched = std::mem::take(&mut self.lines.touched);
        let known = touched.iter().filter_map(|tier| Some((tier, self.lines.ready.get(tier)?)));
        known.map(|(tier, ready)| project::queue(&self.lines, tier, ready)).collect()
    }

    /// Shows everything, for a start.
    pub(super) fn show_all(&mut self) {
        let all = self.projects.keys().cloned().map(|id| (id, Touched { is_changed: true, ends: Vec::new() }));
        let projects = self.shown_projects(all.collect(), &HashSet::new());
        self.lines.touched.extend(self.lines.ready.keys().cloned());
        let queues = self.shown_queues();
        self.shown.show(projects, queues);
    }
}
