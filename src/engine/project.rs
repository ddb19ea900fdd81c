//! Projects: made, changed, deleted, and what goes on in them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::api::{
    NewProject, PauseChange, ProjectChange, ProjectFigures, ProjectPatch, Publication, Queue, Refusal, TaskEnd, Version,
};
use super::group::Touched;
use super::lines::{Lines, Ready};
use super::machine::Machine;
use super::memory::ProjectState;
use crate::store::{self, Counters, Project};
use crate::task::{Moment, Now, ProjectId, Status, Tier};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    pub(super) fn existing(&self, id: &ProjectId) -> Result<&Project, Refusal> {
        let state = self.projects.get(id).filter(|state| state.project.archived_at.is_none());
        state.map(|state| &state.project).ok_or_else(|| Refusal::ProjectNotFound(id.clone()))
    }

    /// The project, if it still has the version that the caller knows.
    fn unchanged(&self, id: &ProjectId, if_version: Option<u64>) -> Result<Project, Refusal> {
        let project = self.existing(id)?;
        if if_version.is_some_and(|version| version != project.version) {
            return Err(Refusal::ProjectChanged(id.clone()));
        }
        Ok(project.clone())
    }

    pub(super) fn create_project(&mut self, new: NewProject, now: Now) -> Stored<Result<Project, Refusal>> {
        if self.existing(&new.id).is_ok() {
            return Ok(Err(Refusal::ProjectExists(new.id)));
        }
        if let Err(refusal) = self.admit_projects([&new.id]) {
            return Ok(Err(refusal));
        }
        let project = Project {
            name: new.name.unwrap_or_else(|| new.id.to_string()),
            id: new.id,
            description: new.description,
            qa_profile: new.qa_profile,
            constitution: new.constitution,
            max_concurrent: new.max_concurrent,
            created_at: now.wall,
            updated_at: now.wall,
            version: 1,
            archived_at: None,
            paused_at: None,
            resumed_at: None,
        };
        self.put_project(project.clone())?;
        Ok(Ok(project))
    }

    /// Whether there is room for those of these projects that are new.
    pub(super) fn admit_projects<'a>(&self, ids: impl IntoIterator<Item = &'a ProjectId>) -> Result<(), Refusal> {
        let new: HashSet<_> = ids.into_iter().filter(|id| !self.projects.contains_key(*id)).collect();
        let limit = self.settings.max_projects;
        if new.is_empty() || self.projects.len() + new.len() <= limit {
            Ok(())
        } else {
            Err(Refusal::TooManyProjects { limit })
        }
    }

    pub(super) fn update_project(
        &mut self,
        id: &ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
        now: Now,
    ) -> Stored<Result<Project, Refusal>> {
        let mut project = match self.unchanged(id, if_version) {
            Ok(project) => project,
            Err(refusal) => return Ok(Err(refusal)),
        };
        project.name = patch.name.unwrap_or(project.name);
        project.description = patch.description.unwrap_or(project.description);
        project.qa_profile = patch.qa_profile.unwrap_or(project.qa_profile);
        project.constitution = patch.constitution.unwrap_or(project.constitution);
        project.max_concurrent = patch.max_concurrent.unwrap_or(project.max_concurrent);
        project.updated_at = now.wall;
        project.version += 1;
        self.put_project(project.clone())?;
        Ok(Ok(project))
    }

    pub(super) fn delete_project(
        &mut self,
        id: &ProjectId,
        if_version: Option<u64>,
        now: Now,
    ) -> Stored<Result<(), Refusal>> {
        let mut project = match self.unchanged(id, if_version) {
            Ok(project) => project,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let open = self.projects.get(id).map_or(0, |state| state.counters.open());
        if open > 0 {
            return Ok(Err(Refusal::ProjectHasOpenTasks { project: id.clone(), open }));
        }
        project.archived_at = Some(now.wall);
        project.updated_at = now.wall;
        project.version += 1;
        project.max_concurrent = None;
        project.paused_at = None;
        self.put_project(project)?;
        Ok(Ok(()))
    }

    pub(super) fn recover_projects(&mut self, projects: Vec<Project>, mut counters: HashMap<ProjectId, Counters>) {
        for project in projects {
            self.lines.set_project_paused(&project.id, project.paused_at.is_some());
            self.lines.admission.set_limit(&project.id, project.max_concurrent);
            let counters = counters.remove(&project.id).unwrap_or_default();
            self.totals.add(&counters);
            self.live_projects += u64::from(project.archived_at.is_none());
            let id = project.id.clone();
            self.projects.insert(id, ProjectState { project, counters, changed: Version::default() });
        }
    }

    /// Something happens to a task of the project that plans depend on.
    pub(super) fn touch_project(&mut self, project: &ProjectId) {
        let version = self.version.next();
        if let Some(state) = self.projects.get_mut(project) {
            state.changed = version;
        }
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
        known.map(|(tier, ready)| queue(&self.lines, tier, ready)).collect()
    }

    /// What the read side begins with: everything that a commit would publish, of the
    /// whole state. `recent_ends` are the tasks that ended within the last day.
    pub(super) fn first_publication(&mut self, recent_ends: Vec<(Moment, Status, ProjectId)>) -> Stored<Publication> {
        let all = self.projects.keys().cloned().map(|id| (id, Touched { is_changed: true, ends: Vec::new() }));
        let mut touched: BTreeMap<_, _> = all.collect();
        for (at, status, project) in recent_ends {
            touched.entry(project).or_default().ends.push(TaskEnd { at, status });
        }
        self.lines.touched.extend(self.lines.ready.keys().cloned());
        let projects = self.lines.paused_projects().iter();
        let projects = projects.map(|project| PauseChange::Project { project: project.clone(), is_paused: true });
        let tiers = self.lines.ready.iter().filter(|(_, ready)| ready.is_paused());
        let tiers = tiers.map(|(tier, _)| PauseChange::Tier { tier: tier.clone(), is_paused: true });
        Ok(Publication {
            pauses: projects.chain(tiers).collect(),
            backlog: Some(self.backlog()?),
            projects: self.shown_projects(touched, &HashSet::new()),
            queues: self.shown_queues(),
            graph: Some(self.provenance.graph().clone()),
            ..self.publication()
        })
    }
}

/// The work queue of a tier.
pub(super) fn queue(lines: &Lines, tier: &Tier, ready: &Ready) -> Queue {
    let (depth, oldest_ready) = lines.waiting(tier, ready);
    Queue { tier: tier.clone(), depth, leased: ready.leased, oldest_ready, paused_at: ready.pause.paused_at }
}
