//! The projects, and what is counted for them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::failure::Stored;
use super::group::Group;
use super::lines::Lines;
use super::provenance::Provenance;
use crate::engine::api::{PauseChange, ProjectChange, ProjectFigures, Refusal, TaskEnd, Version};
use crate::store::{Batch, Counters, Project};
use crate::task::{Now, Phase, ProjectId};

/// The projects, and what is counted for them.
#[derive(Debug, Default)]
pub(super) struct Projects {
    by_id: BTreeMap<ProjectId, ProjectState>,
    /// Most projects there may be, deleted ones included.
    max: usize,
    /// All tasks by phase.
    totals: Counters,
    /// Projects that are not deleted.
    live: u64,
    /// Projects whose counters have changed in this group.
    counted: HashSet<ProjectId>,
    /// What else has happened to projects in this group.
    events: BTreeMap<ProjectId, ProjectEvents>,
}

/// A project and what is counted for it.
#[derive(Debug)]
struct ProjectState {
    project: Project,
    /// Its tasks by phase.
    counters: Counters,
    /// The group that made, removed or moved one of its tasks last.
    changed_in: Version,
}

/// What has happened to a project in a group, besides what is counted.
#[derive(Debug, Default)]
struct ProjectEvents {
    /// Whether the project itself is new or has changed.
    is_changed: bool,
    /// Tasks of the project that ended.
    ends: Vec<TaskEnd>,
}

impl Projects {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Enters the projects from before the start.
    pub(super) fn recover(
        &mut self,
        projects: Vec<Project>,
        mut counters: HashMap<ProjectId, Counters>,
        lines: &mut Lines,
    ) {
        for project in projects {
            lines.set_project_paused(&project.id, project.paused_at.is_some());
            lines.set_slot_limit(&project.id, project.max_concurrent);
            let counters = counters.remove(&project.id).unwrap_or_default();
            self.totals.add(&counters);
            self.live += u64::from(project.archived_at.is_none());
            self.insert(project, counters);
        }
    }

    fn insert(&mut self, project: Project, counters: Counters) {
        let id = project.id.clone();
        self.by_id.insert(id, ProjectState { project, counters, changed_in: Version::default() });
    }

    /// Returns a project, deleted ones included.
    pub(super) fn get(&self, id: &ProjectId) -> Option<&Project> {
        self.by_id.get(id).map(|state| &state.project)
    }

    /// Returns a project that is not deleted.
    pub(super) fn existing(&self, id: &ProjectId) -> Result<&Project, Refusal> {
        let project = self.get(id).filter(|project| project.archived_at.is_none());
        project.ok_or_else(|| Refusal::ProjectNotFound(id.clone()))
    }

    /// The tasks of a project by phase.
    pub(super) fn counters(&self, id: &ProjectId) -> Counters {
        self.by_id.get(id).map_or(Counters::default(), |state| state.counters)
    }

    /// All tasks by phase.
    pub(super) const fn totals(&self) -> Counters {
        self.totals
    }

    /// How many projects are not deleted.
    pub(super) const fn live(&self) -> u64 {
        self.live
    }

    /// The group that made, removed or moved a task of a project last.
    pub(super) fn changed_in(&self, id: &ProjectId) -> Version {
        self.by_id.get(id).map_or(Version::default(), |state| state.changed_in)
    }

    /// Checks that there is room for the projects of `ids` that are new.
    pub(super) fn admit<'a>(&self, ids: impl IntoIterator<Item = &'a ProjectId>) -> Result<(), Refusal> {
        let new: HashSet<_> = ids.into_iter().filter(|id| !self.by_id.contains_key(*id)).collect();
        if new.is_empty() || self.by_id.len() + new.len() <= self.max {
            Ok(())
        } else {
            Err(Refusal::TooManyProjects { limit: self.max })
        }
    }

    /// Makes a project at its first use, and makes a deleted one again.
    pub(super) fn make_if_missing(
        &mut self,
        id: &ProjectId,
        lines: &mut Lines,
        group: &mut Group,
        now: Now,
    ) -> Stored<()> {
        if self.existing(id).is_ok() {
            return Ok(());
        }
        let project = Project {
            id: id.clone(),
            name: id.to_string(),
            description: None,
            qa_profile: None,
            constitution: None,
            max_concurrent: None,
            created_at: now.wall,
            updated_at: now.wall,
            version: 1,
            archived_at: None,
            paused_at: None,
            resumed_at: None,
        };
        self.put(project, lines, group)
    }

    /// Keeps a project, new or changed, and applies its pause and its limit to the lines.
    pub(super) fn put(&mut self, project: Project, lines: &mut Lines, group: &mut Group) -> Stored<()> {
        group.batch.put_project(&project)?;
        self.events.entry(project.id.clone()).or_default().is_changed = true;
        lines.set_slot_limit(&project.id, project.max_concurrent);
        let is_paused = project.paused_at.is_some();
        if lines.set_project_paused(&project.id, is_paused) {
            group.publication.pauses.push(PauseChange::Project { project: project.id.clone(), is_paused });
        }
        let was_live = self.existing(&project.id).is_ok();
        let is_live = project.archived_at.is_none();
        self.live = self.live + u64::from(is_live) - u64::from(was_live);
        if let Some(state) = self.by_id.get_mut(&project.id) {
            state.project = project;
        } else {
            self.insert(project, Counters::default());
        }
        Ok(())
    }

    /// Counts a task of a project that has moved from one phase to another: `None` for a
    /// task that is new or removed.
    pub(super) fn count(&mut self, project: &ProjectId, from: Option<Phase>, to: Option<Phase>) {
        if let Some(state) = self.by_id.get_mut(project) {
            state.counters.moved(from, to);
        }
        self.totals.moved(from, to);
        if !self.counted.contains(project) {
            self.counted.insert(project.clone());
        }
    }

    /// Records the end of a task of a project.
    pub(super) fn record_end(&mut self, project: &ProjectId, end: TaskEnd) {
        self.events.entry(project.clone()).or_default().ends.push(end);
    }

    /// Records that something on which plans depend happens to a task of a project in the
    /// group of a version.
    pub(super) fn touch(&mut self, project: &ProjectId, version: Version) {
        if let Some(state) = self.by_id.get_mut(project) {
            state.changed_in = version;
        }
    }

    /// Ends the group: stages the counters that have changed.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        for project in std::mem::take(&mut self.counted) {
            batch.put_counters(&project, &self.counters(&project))?;
        }
        Ok(())
    }

    /// Returns the projects in which something has changed in this group. Call it before
    /// [`Self::finish`].
    pub(super) fn take_changes(&mut self, provenance: &mut Provenance, lines: &Lines) -> Vec<ProjectChange> {
        let mut events = std::mem::take(&mut self.events);
        for project in provenance.take_recounted().into_iter().chain(self.counted.iter().cloned()) {
            events.entry(project).or_default();
        }
        let changes = events.into_iter();
        changes.filter_map(|(id, events)| self.change(id, events, provenance, lines)).collect()
    }

    /// Returns all projects as changes, with the tasks that ended lately.
    pub(super) fn all_as_changes(
        &self,
        recent_ends: Vec<(ProjectId, TaskEnd)>,
        provenance: &Provenance,
        lines: &Lines,
    ) -> Vec<ProjectChange> {
        let all = self.by_id.keys().cloned().map(|id| (id, ProjectEvents { is_changed: true, ends: Vec::new() }));
        let mut events: BTreeMap<_, _> = all.collect();
        for (project, end) in recent_ends {
            events.entry(project).or_default().ends.push(end);
        }
        let changes = events.into_iter();
        changes.filter_map(|(id, events)| self.change(id, events, provenance, lines)).collect()
    }

    fn change(
        &self,
        id: ProjectId,
        events: ProjectEvents,
        provenance: &Provenance,
        lines: &Lines,
    ) -> Option<ProjectChange> {
        let state = self.by_id.get(&id)?;
        let (slots_in_use, limit) = lines.admission().slots(&id);
        let records = provenance.tally(&id).counts;
        let figures = ProjectFigures { counters: state.counters, slots_in_use, limit, records };
        let project = events.is_changed.then(|| state.project.clone());
        Some(ProjectChange { id, project, figures, ends: events.ends })
    }
}
