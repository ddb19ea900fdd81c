//! Projects and their figures.

use super::client::Client;
use crate::engine::api::{Error, NewProject, ProjectPatch, ProjectStatus};
use crate::engine::writer::Command;
use crate::store::{Page, PageBudget, Project};
use crate::task::ProjectId;

/// Projects, by [`Engine::projects`](crate::engine::Engine::projects).
#[derive(Debug, Clone, Copy)]
pub struct ProjectsHandle<'a>(pub(super) &'a Client);

impl ProjectsHandle<'_> {
    /// Creates a project.
    pub async fn create(self, project: NewProject) -> Result<Project, Error> {
        self.0.ask(|reply| Command::CreateProject { project, reply }).await
    }

    /// Changes a project; with `if_version`, only if it still has that version.
    pub async fn update(
        self,
        project: ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
    ) -> Result<Project, Error> {
        self.0.ask(|reply| Command::UpdateProject { project, patch, if_version, reply }).await
    }

    /// Deletes a project without open tasks; with `if_version`, only if it still has
    /// that version. Its tasks and provenance stay.
    pub async fn delete(self, project: ProjectId, if_version: Option<u64>) -> Result<(), Error> {
        self.0.ask(|reply| Command::DeleteProject { project, if_version, reply }).await
    }

    /// Pauses a project: its tasks are no longer dispatched or leased, and running
    /// ones go on. A paused project stays as it is.
    pub async fn pause(self, project: ProjectId) -> Result<Project, Error> {
        self.0.ask(|reply| Command::PauseProject { project, pause: true, reply }).await
    }

    /// Ends the pause of a project: its tasks go on in their old order.
    pub async fn resume(self, project: ProjectId) -> Result<Project, Error> {
        self.0.ask(|reply| Command::PauseProject { project, pause: false, reply }).await
    }

    /// Returns a project; `None`: there is no such project, or it is deleted.
    pub async fn get(self, project: ProjectId) -> Result<Option<Project>, Error> {
        let found = self.0.read(move |side| side.store.view()?.project(&project)).await?;
        Ok(found.filter(|project| project.archived_at.is_none()))
    }

    /// Returns a page of projects by id, after one of them, and the number of all projects.
    pub async fn list(
        self,
        offset: usize,
        after: Option<ProjectId>,
        limit: usize,
    ) -> Result<(Page<Project>, u64), Error> {
        let budget = PageBudget::new(limit);
        self.0.read(move |side| side.store.view()?.projects(offset, after.as_ref(), budget)).await
    }

    /// Returns a project with its current figures.
    pub async fn status(self, project: ProjectId) -> Result<ProjectStatus, Error> {
        let status = self.0.read.projects.status(&project, self.0.read.now())?;
        let oldest = self.0.read(move |side| {
            let view = side.store.view()?;
            let Some(oldest) = view.oldest_pending(&project)? else { return Ok(None) };
            Ok(view.task(oldest)?.map(|task| task.created_at))
        });
        Ok(ProjectStatus { oldest_pending_at: oldest.await?, ..status })
    }
}
