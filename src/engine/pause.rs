//! Pauses of projects and tiers: made durable by the writer, and shown to
//! readers without rewriting the answer of every task that is held back.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::api::{Hold, PauseChange, Queue, Refusal};
use super::machine::Machine;
use super::project;
use crate::store::{self, Project, TierPause};
use crate::task::{Now, Phase, ProjectId, Tier};
use crate::wire::Compact;

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Pauses a project or resumes it; where that is so already, nothing
    /// changes.
    pub(super) fn pause_project(&mut self, id: &ProjectId, pause: bool, now: Now) -> Stored<Result<Project, Refusal>> {
        let mut project = match self.existing(id) {
            Ok(project) => project.clone(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        if project.paused_at.is_some() == pause {
            return Ok(Ok(project));
        }
        if pause {
            project.paused_at = Some(now.wall);
        } else {
            project.paused_at = None;
            project.resumed_at = Some(now.wall);
        }
        project.updated_at = now.wall;
        project.version += 1;
        self.put_project(project.clone())?;
        Ok(Ok(project))
    }

    /// The same for a tier.
    pub(super) fn pause_tier(&mut self, tier: &Tier, pause: bool, now: Now) -> Stored<Result<Queue, Refusal>> {
        let Some(ready) = self.lines.ready.get(tier) else { return Ok(Err(Refusal::TierNotFound(tier.clone()))) };
        if ready.is_paused() == pause {
            return Ok(Ok(project::queue(&self.lines, tier, ready)));
        }
        let mut row = ready.pause;
        if pause {
            row.paused_at = Some(now.wall);
        } else {
            row = TierPause { paused_at: None, resumed_at: Some(now.wall), ..row };
        }
        self.group.batch.put_tier_pause(tier, row)?;
        self.lines.set_tier_pause(tier, row);
        self.group.pauses.push(PauseChange::Tier { tier: tier.clone(), is_paused: pause });
        let ready = self.lines.ready.get(tier);
        Ok(ready
            .map(|ready| project::queue(&self.lines, tier, ready))
            .ok_or_else(|| Refusal::TierNotFound(tier.clone())))
    }
}

/// What is paused, for readers. Names are kept as the answers have them: as
/// JSON text.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// How many there are in all: with none, a read asks for nothing more.
    count: AtomicUsize,
    projects: papaya::HashSet<Vec<u8>>,
    tiers: papaya::HashSet<Vec<u8>>,
    /// Tiers whose work queue has lost its consumers.
    unattended: papaya::HashSet<Vec<u8>>,
}

impl Pauses {
    /// Applies a change, after its commit. Only one thread may call it.
    pub(super) fn change(&self, change: &PauseChange) {
        let (set, name, paused) = match change {
            PauseChange::Project { project, is_paused } => (&self.projects, project.as_str(), *is_paused),
            PauseChange::Tier { tier, is_paused } => (&self.tiers, tier.as_str(), *is_paused),
            PauseChange::Consumers { tier, are_missing } => (&self.unattended, tier.as_str(), *are_missing),
        };
        // Text always has a JSON form.
        let name = serde_json::to_vec(name).unwrap_or_default();
        if paused && set.pin().insert(name.clone()) {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else if !paused && set.pin().remove(&name) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The pause that holds a task back. Who was told of a pause sees it: the
    /// change comes before the reply, so a relaxed read is enough.
    pub(super) fn holding(&self, answer: &Compact) -> Option<Hold> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (project, tier, phase) = answer.standing()?;
        let phase = phase.get(1..phase.len().saturating_sub(1)).unwrap_or_default();
        if phase != Phase::Queued.as_str().as_bytes() {
            None
        } else if self.projects.pin().contains(project) {
            Some(Hold::Project)
        } else if self.tiers.pin().contains(tier) {
            Some(Hold::Tier)
        } else if self.unattended.pin().contains(tier) {
            Some(Hold::Workers)
        } else {
            None
        }
    }
}
