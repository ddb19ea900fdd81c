//! The checkpoints that a group makes or changes, and those that are made automatically.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::Stored;
use super::storage::Storage;
use crate::engine::api::{CheckpointRules, Version};
use crate::store::{Batch, Checkpoint, CheckpointProgress};
use crate::task::{CheckpointId, Moment, ProjectId, Timestamp};

/// The checkpoints that this group makes or changes, and the state of the automatic ones.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) automatic: AutomaticCheckpoints,
    /// Checkpoints that this group has made or changed.
    changed: BTreeMap<CheckpointId, Checkpoint>,
    /// The group that made, changed or removed a checkpoint last.
    changed_in: Version,
}

impl Checkpoints {
    pub(super) fn new(automatic: AutomaticCheckpoints) -> Self {
        Self { automatic, changed: BTreeMap::new(), changed_in: Version::default() }
    }

    /// The group that made, changed or removed a checkpoint last.
    pub(super) const fn changed_in(&self) -> Version {
        self.changed_in
    }

    /// Returns a checkpoint as it is in this group, or in the store.
    pub(super) fn find(&self, storage: &Storage, id: &CheckpointId) -> Stored<Option<Checkpoint>> {
        match self.changed.get(id) {
            Some(checkpoint) => Ok(Some(checkpoint.clone())),
            None => storage.view()?.checkpoint(id),
        }
    }

    /// Keeps a checkpoint, new or changed, in the group of a version.
    pub(super) fn put(&mut self, checkpoint: Checkpoint, version: Version) {
        self.changed_in = version;
        self.changed.insert(checkpoint.id.clone(), checkpoint);
    }

    /// Keeps an automatic checkpoint that was just made, and removes the ones of its project
    /// that are too many now.
    pub(super) fn put_automatic(&mut self, batch: &mut Batch, checkpoint: &Checkpoint, version: Version) {
        self.automatic.keep(checkpoint);
        while let Some(surplus) = self.automatic.take_surplus(&checkpoint.project) {
            self.changed_in = version;
            self.changed.remove(&surplus.1);
            batch.remove_checkpoint(&checkpoint.project, surplus);
        }
    }

    /// Ends the group: stages what has changed.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        self.automatic.finish(batch)?;
        for checkpoint in std::mem::take(&mut self.changed).values() {
            batch.put_checkpoint(checkpoint)?;
        }
        Ok(())
    }
}

/// What is remembered of the checkpoints that are made automatically.
#[derive(Debug)]
pub(super) struct AutomaticCheckpoints {
    rules: CheckpointRules,
    progress: BTreeMap<ProjectId, CheckpointProgress>,
    /// Projects whose progress differs from what the store has.
    changed: BTreeSet<ProjectId>,
    /// When each progress becomes a checkpoint, however few tasks have completed.
    due: BTreeSet<(Moment, ProjectId)>,
    /// Projects that get a checkpoint in this group.
    ready: BTreeSet<ProjectId>,
    /// The automatic checkpoints that exist, oldest first.
    kept: BTreeMap<ProjectId, Vec<Kept>>,
}

/// An automatic checkpoint that exists.
#[derive(Debug)]
struct Kept {
    place: (Timestamp, CheckpointId),
    is_valid: bool,
}

impl AutomaticCheckpoints {
    pub(super) fn recovered(
        rules: CheckpointRules,
        checkpoints: Vec<Checkpoint>,
        progress: Vec<(ProjectId, CheckpointProgress)>,
    ) -> Self {
        let due = progress.iter().map(|(project, progress)| (progress.since.after(rules.every), project.clone()));
        let mut automatic = Self {
            rules,
            due: due.collect(),
            progress: progress.into_iter().collect(),
            changed: BTreeSet::new(),
            ready: BTreeSet::new(),
            kept: BTreeMap::new(),
        };
        for checkpoint in checkpoints {
            automatic.keep(&checkpoint);
        }
        automatic
    }

    fn keep(&mut self, checkpoint: &Checkpoint) {
        let kept = Kept { place: checkpoint.place(), is_valid: checkpoint.is_valid };
        self.kept.entry(checkpoint.project.clone()).or_default().push(kept);
    }

    /// Counts a completed task of a project.
    pub(super) fn record_completion(&mut self, project: &ProjectId, now: Moment) {
        if self.rules.kept == 0 {
            return;
        }
        let new = CheckpointProgress { completed: 0, since: now };
        let progress = self.progress.entry(project.clone()).or_insert(new);
        progress.completed += 1;
        if progress.completed == 1 {
            self.due.insert((progress.since.after(self.rules.every), project.clone()));
        }
        if progress.completed >= self.rules.every_tasks {
            self.ready.insert(project.clone());
        }
        self.changed.insert(project.clone());
    }

    /// Has projects whose progress is old enough get a checkpoint in this group, at most
    /// `max` of them. Returns whether there may be more.
    pub(super) fn mark_due(&mut self, now: Moment, max: usize) -> bool {
        for _ in 0..max {
            let Some((_, project)) = self.due.first().filter(|(due, _)| *due <= now && self.rules.kept > 0) else {
                return false;
            };
            self.ready.insert(project.clone());
            self.due.pop_first();
        }
        true
    }

    /// Takes the next project that gets a checkpoint in this group. Returns it with the
    /// number of its tasks that have completed since the checkpoint before.
    pub(super) fn pop_ready(&mut self) -> Option<(ProjectId, u64)> {
        let project = self.ready.pop_first()?;
        let completed = self.progress.get(&project).map_or(0, |progress| progress.completed);
        Some((project, completed))
    }

    /// Begins to count anew, because the project has a new checkpoint.
    pub(super) fn reset(&mut self, project: &ProjectId) {
        if let Some(progress) = self.progress.remove(project) {
            self.due.remove(&(progress.since.after(self.rules.every), project.clone()));
            self.changed.insert(project.clone());
        }
        self.ready.remove(project);
    }

    /// Takes an automatic checkpoint that is too many: one that can't be rolled back to
    /// before one that can, and the oldest of these.
    fn take_surplus(&mut self, project: &ProjectId) -> Option<(Timestamp, CheckpointId)> {
        let kept = self.kept.get_mut(project).filter(|kept| kept.len() > self.rules.kept)?;
        let place = kept.iter().position(|kept| !kept.is_valid).unwrap_or(0);
        Some(kept.remove(place).place)
    }

    /// Records whether a checkpoint can be rolled back to from now on.
    pub(super) fn set_valid(&mut self, checkpoint: &Checkpoint) {
        let kept = self.kept.get_mut(&checkpoint.project).into_iter().flatten();
        kept.filter(|kept| kept.place.1 == checkpoint.id).for_each(|kept| kept.is_valid = checkpoint.is_valid);
    }

    fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        for project in std::mem::take(&mut self.changed) {
            batch.put_checkpoint_progress(&project, self.progress.get(&project).copied())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn project() -> ProjectId {
        ProjectId::new("p").unwrap()
    }

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    fn automatic(kept: usize) -> AutomaticCheckpoints {
        let rules = CheckpointRules { every_tasks: 3, every: Duration::from_secs(10), kept };
        AutomaticCheckpoints::recovered(rules, Vec::new(), Vec::new())
    }

    #[test]
    fn enough_tasks_or_enough_time() {
        let mut automatic = automatic(2);
        assert!(!automatic.mark_due(at(1_000_000), 9) && automatic.ready.is_empty());
        for second in 1..=3 {
            assert!(automatic.ready.is_empty());
            automatic.record_completion(&project(), at(second));
        }
        assert!(automatic.ready.contains(&project()));
        automatic.reset(&project());
        automatic.record_completion(&project(), at(20));
        automatic.record_completion(&project(), at(25));
        automatic.mark_due(at(29), 9);
        assert!(automatic.ready.is_empty());
        // A start in between knows the time of the first.
        let progress = automatic.progress.into_iter().collect();
        let mut automatic = AutomaticCheckpoints::recovered(automatic.rules, Vec::new(), progress);
        automatic.mark_due(at(30), 9);
        assert!(automatic.ready.contains(&project()));
        automatic.reset(&project());
        assert!(automatic.due.is_empty() && automatic.ready.is_empty());
    }

    #[test]
    fn none_are_made_where_none_are_kept() {
        let mut automatic = automatic(0);
        (1..9).for_each(|second| automatic.record_completion(&project(), at(second)));
        assert!(!automatic.mark_due(at(99), 9) && automatic.ready.is_empty() && automatic.changed.is_empty());
    }

    #[test]
    fn invalid_ones_go_first() {
        let mut automatic = automatic(2);
        let time = |number: i64| Timestamp::from_micros(number);
        let id = |number: i64| CheckpointId::new(&format!("c-{number}")).unwrap();
        let kept = (1..=4).map(|number| Kept { place: (time(number), id(number)), is_valid: number != 2 }).collect();
        automatic.kept.insert(project(), kept);
        assert_eq!(automatic.take_surplus(&project()), Some((time(2), id(2))));
        assert_eq!(automatic.take_surplus(&project()), Some((time(1), id(1))));
        assert_eq!(automatic.take_surplus(&project()), None);
    }
}
