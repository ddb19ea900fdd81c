//! Commands on projects: they are created, updated, deleted, paused and resumed.

use super::failure::Failure;
use super::group::Group;
use super::lines::Lines;
use super::projects::Projects;
use crate::engine::api::{NewProject, ProjectPatch, Refusal};
use crate::store::Project;
use crate::task::{Now, ProjectId};

/// What commands on projects may change.
#[derive(Debug)]
pub(super) struct ProjectCommands<'a> {
    pub(super) projects: &'a mut Projects,
    pub(super) lines: &'a mut Lines,
    pub(super) group: &'a mut Group,
}

impl ProjectCommands<'_> {
    pub(super) fn create(&mut self, new: NewProject, now: Now) -> Result<Project, Failure> {
        if self.projects.existing(&new.id).is_ok() {
            return Err(Refusal::ProjectExists(new.id).into());
        }
        self.projects.admit([&new.id])?;
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
        self.put(project)
    }

    /// Applies a patch, if the project still has the version that the caller knows.
    pub(super) fn update(
        &mut self,
        id: &ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
        now: Now,
    ) -> Result<Project, Failure> {
        let mut project = self.find_version(id, if_version)?;
        project.name = patch.name.unwrap_or(project.name);
        project.description = patch.description.unwrap_or(project.description);
        project.qa_profile = patch.qa_profile.unwrap_or(project.qa_profile);
        project.constitution = patch.constitution.unwrap_or(project.constitution);
        project.max_concurrent = patch.max_concurrent.unwrap_or(project.max_concurrent);
        project.updated_at = now.wall;
        project.version += 1;
        self.put(project)
    }

    /// Deletes a project without open tasks, if it still has the version that the caller
    /// knows.
    pub(super) fn delete(&mut self, id: &ProjectId, if_version: Option<u64>, now: Now) -> Result<(), Failure> {
        let mut project = self.find_version(id, if_version)?;
        let open = self.projects.counters(id).open();
        if open > 0 {
            return Err(Refusal::ProjectHasOpenTasks { project: id.clone(), open }.into());
        }
        project.archived_at = Some(now.wall);
        project.updated_at = now.wall;
        project.version += 1;
        project.max_concurrent = None;
        project.paused_at = None;
        self.put(project).map(drop)
    }

    /// Pauses or resumes a project. Changes nothing if it is paused or resumed already.
    pub(super) fn set_paused(&mut self, id: &ProjectId, pause: bool, now: Now) -> Result<Project, Failure> {
        let mut project = self.projects.existing(id)?.clone();
        if project.paused_at.is_some() == pause {
            return Ok(project);
        }
        if pause {
            project.paused_at = Some(now.wall);
        } else {
            project.paused_at = None;
            project.resumed_at = Some(now.wall);
        }
        project.updated_at = now.wall;
        project.version += 1;
        self.put(project)
    }

    /// Returns a project, if it still has the version that the caller knows.
    fn find_version(&self, id: &ProjectId, if_version: Option<u64>) -> Result<Project, Refusal> {
        let project = self.projects.existing(id)?;
        if if_version.is_some_and(|version| version != project.version) {
            return Err(Refusal::ProjectChanged(id.clone()));
        }
        Ok(project.clone())
    }

    fn put(&mut self, project: Project) -> Result<Project, Failure> {
        self.projects.put(project.clone(), self.lines, self.group)?;
        Ok(project)
    }
}
