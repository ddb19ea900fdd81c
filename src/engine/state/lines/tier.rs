//! The tasks of a tier that workers have or can have.

use std::collections::BTreeSet;

use super::supply::Supply;
use crate::store::TierPause;
use crate::task::{Moment, TaskId};

/// The tasks of a tier that workers have or can have.
#[derive(Debug, Default)]
pub(in crate::engine::state) struct TierLine {
    /// Tasks that the broker has and that no worker is known to have taken, by the time of
    /// their dispatch.
    pub(super) dispatched: BTreeSet<(Moment, TaskId)>,
    /// How many leases workers hold.
    pub(super) leased: usize,
    /// Whether tasks of the tier are leased and dispatched.
    pub(super) pause: TierPause,
    /// What is known of the workers behind a broker.
    pub(super) supply: Supply,
}

impl TierLine {
    pub(in crate::engine::state) const fn is_paused(&self) -> bool {
        self.pause.paused_at.is_some()
    }

    /// The pause as it is stored.
    pub(in crate::engine::state) const fn pause(&self) -> TierPause {
        self.pause
    }

    /// Whether another task may be handed to the broker.
    pub(super) fn takes_dispatch(&self) -> bool {
        !self.is_paused() && (self.dispatched.is_empty() || !self.supply.is_held())
    }

    /// Returns the oldest tasks that were dispatched before `before` and have left the work
    /// queue, as far as its count tells, at most `most`: of the tasks that were at the broker
    /// at `counted_at`, all but the newest `waiting`.
    pub(super) fn gone_from_queue(
        &self,
        waiting: usize,
        counted_at: Moment,
        before: Moment,
        most: usize,
    ) -> Vec<TaskId> {
        let bound = |time| (time, TaskId::from_bytes([0; 16]));
        // Few are newer than the last count: those are counted.
        let newer = self.dispatched.range(bound(counted_at)..).count();
        let gone = self.dispatched.len().saturating_sub(newer).saturating_sub(waiting);
        let oldest = self.dispatched.range(..bound(before.min(counted_at)));
        oldest.take(gone.min(most)).map(|(_, task)| *task).collect()
    }
}
