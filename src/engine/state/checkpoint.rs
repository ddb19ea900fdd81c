//! Checkpoints that are made on request or automatically.

use super::checkpoints::Checkpoints;
use super::failure::{Failure, Stored};
use super::group::Group;
use super::ids::IdSource;
use super::projects::Projects;
use super::provenance::Provenance;
use crate::engine::api::NewCheckpoint;
use crate::store::{self, Checkpoint};
use crate::task::{CheckpointId, InvalidId, Now, ProjectId};

/// What making checkpoints may change.
#[derive(Debug)]
pub(super) struct CheckpointCommands<'a> {
    pub(super) projects: &'a Projects,
    pub(super) provenance: &'a Provenance,
    pub(super) ids: &'a IdSource,
    pub(super) checkpoints: &'a mut Checkpoints,
    pub(super) group: &'a mut Group,
}

impl CheckpointCommands<'_> {
    /// Makes a checkpoint on request.
    pub(super) fn create(&mut self, project: &ProjectId, new: NewCheckpoint, now: Now) -> Result<Checkpoint, Failure> {
        self.projects.existing(project)?;
        Ok(self.make(project, new, Checkpoint::MANUAL, now)?)
    }

    /// Makes the automatic checkpoints of this group: at its end, so that they include all of
    /// it.
    pub(super) fn make_automatic(&mut self, now: Now) -> Stored<()> {
        while let Some((project, completed)) = self.checkpoints.automatic.pop_ready() {
            let tasks = if completed == 1 { "task" } else { "tasks" };
            let description = Some(format!("{completed} {tasks} completed since the checkpoint before"));
            let new = NewCheckpoint { description, ..NewCheckpoint::default() };
            let checkpoint = self.make(&project, new, Checkpoint::AUTOMATIC, now)?;
            self.checkpoints.put_automatic(&mut self.group.batch, &checkpoint, self.group.version);
        }
        Ok(())
    }

    fn make(&mut self, project: &ProjectId, new: NewCheckpoint, trigger: &str, now: Now) -> Stored<Checkpoint> {
        let corrupt = |error: InvalidId| store::Error::Corrupt { table: "checkpoints", detail: error.to_string() };
        let tally = self.provenance.tally(project);
        let graph = self.provenance.graph();
        let newest = tally.newest.and_then(|id| graph.record(graph.find(id)?));
        let checkpoint = Checkpoint {
            id: CheckpointId::new(&self.ids.next(now).to_string()).map_err(corrupt)?,
            project: project.clone(),
            created_at: now.wall,
            git_ref: new.git_ref,
            provenance_count: tally.counts.records,
            artifact_count: tally.outputs,
            last_provenance_id: newest.map(|known| known.id.to_string()),
            last_task_id: newest.map(|known| known.task.to_string()),
            rag_state_ref: new.rag_state_ref,
            work_product_ref: new.work_product_ref,
            description: new.description,
            trigger: trigger.to_owned(),
            is_valid: true,
            rolled_back_at: None,
            original: None,
        };
        self.checkpoints.automatic.reset(project);
        self.checkpoints.put(checkpoint.clone(), self.group.version);
        Ok(checkpoint)
    }
}
