//! Pauses of projects and tiers, as readers see them. A pause does not rewrite the
//! status answers of the tasks that it holds back: it is looked up when they are read.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::api::{Hold, PauseChange};
use crate::task::Phase;
use crate::wire::{CompactAnswer, PauseKeys};

/// Paused projects and tiers, by name in the form that status answers hold: as JSON text.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pauses {
    /// Number of all entries. While it is zero, a read looks no further.
    count: AtomicUsize,
    projects: papaya::HashSet<Vec<u8>>,
    tiers: papaya::HashSet<Vec<u8>>,
    /// Tiers whose work queue has lost its consumers.
    unattended: papaya::HashSet<Vec<u8>>,
}

impl Pauses {
    /// Applies a change after its commit. Only one thread may call it.
    pub(in crate::engine) fn change(&self, change: &PauseChange) {
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

    /// Returns the pause that holds a task back. A client that has the reply to a pause
    /// sees its effect: the change precedes the reply, so a relaxed load is enough.
    pub(in crate::engine) fn holding(&self, answer: &CompactAnswer) -> Option<Hold> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let PauseKeys { project, tier, phase } = answer.pause_keys()?;
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
