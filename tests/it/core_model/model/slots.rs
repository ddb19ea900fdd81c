//! Which tasks get slots, in the model.

use std::collections::{BTreeMap, BTreeSet};

use dats::task::{Phase, TaskId};

use super::{Entry, Model, TIERS};

impl Model {
    /// The tiers and projects that could get a worker.
    pub(super) fn claims(&self) -> BTreeSet<(usize, usize)> {
        let waits = |entry: &&Entry| self.is_waiting(entry) && self.slots(entry.project) < self.limits[entry.project];
        self.tasks.values().filter(waits).map(|entry| (entry.tier, entry.project)).collect()
    }

    /// A project that stopped waiting on a tier was not passed there.
    fn forget_lost_claims(&mut self) {
        let claims = self.claims();
        self.passed.retain(|(tier, other, _), _| claims.contains(&(*tier, *other)));
    }

    /// Whether it stands in a line that workers are served from.
    pub(super) fn is_waiting(&self, entry: &Entry) -> bool {
        entry.phase == Phase::Queued && entry.until.is_none() && !self.is_held(entry)
    }

    pub(crate) fn has_task_for(&self, tier: &str) -> bool {
        self.claims().iter().any(|(of, _)| TIERS[*of] == tier)
    }

    pub(super) fn is_held(&self, entry: &Entry) -> bool {
        self.paused.0.contains(&entry.project) || self.paused.1.contains(&entry.tier)
    }

    /// The ends of tasks reach those that wait for them, until none is left.
    pub(crate) fn spread(&mut self) {
        // A project that has left a line with its last task waits anew, also where
        // another task of it comes in the same step.
        self.forget_lost_claims();
        let now = self.now;
        let phases: BTreeMap<_, _> = self.tasks.iter().map(|(task, entry)| (*task, entry.phase)).collect();
        let mut more = false;
        for entry in self.tasks.values_mut().filter(|entry| matches!(entry.phase, Phase::Scheduled | Phase::Blocked)) {
            let was = entry.waits.len();
            let lost = entry.waits.iter().any(|task| matches!(phases[task], Phase::Failed | Phase::Cancelled));
            if lost {
                entry.version += 1;
                entry.end(Phase::Failed);
                more = true;
                continue;
            }
            entry.waits.retain(|task| phases[task] != Phase::Completed);
            entry.version += u64::try_from(was - entry.waits.len()).expect("few dependencies");
            if entry.waits.is_empty() && entry.phase == Phase::Blocked {
                entry.phase = Phase::Queued;
                entry.until = None;
                entry.since = now;
            }
        }
        if more {
            self.spread();
        }
    }

    /// Free slots go to those that wait for the broker.
    pub(crate) fn admit(&mut self) {
        self.forget_lost_claims();
        if !self.brokered {
            return;
        }
        for project in 0..self.limits.len() {
            while self.slots(project) < self.limits[project]
                && let Some(task) = self.next_in_line(project, None)
            {
                let entry = self.entry(task);
                entry.open_attempt();
                entry.phase = Phase::Dispatched;
                entry.slot = true;
                entry.version += 1;
            }
        }
    }

    pub(crate) fn slots(&self, project: usize) -> usize {
        self.tasks.values().filter(|entry| entry.project == project && entry.holds_slot()).count()
    }

    /// Highest class after aging, then oldest, then smallest id.
    pub(super) fn next_in_line(&self, project: usize, tier: Option<usize>) -> Option<TaskId> {
        let fits = |entry: &Entry| {
            entry.project == project && self.is_waiting(entry) && tier.is_none_or(|tier| tier == entry.tier)
        };
        let class = |entry: &Entry| {
            let risen = self.now.since(entry.since).as_micros() / self.aging.as_micros();
            (u128::try_from(entry.priority.class()).expect("three classes") + risen).min(2)
        };
        let waiting = self.tasks.iter().filter(|(_, entry)| fits(entry));
        waiting.min_by_key(|(task, entry)| (2 - class(entry), entry.since, **task)).map(|(task, _)| *task)
    }
}
