//! Checkpoints through the engine: made when somebody asks or by themselves,
//! imported, read.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{CheckpointRules, NewCheckpoint, Refusal};
use super::machine::Machine;
use crate::store::{self, Batch, Checkpoint, CheckpointProgress};
use crate::task::{CheckpointId, Moment, Now, ProjectId, Timestamp};

type Stored<T> = Result<T, store::Error>;

/// What the writer remembers of the checkpoints that are made by themselves.
#[derive(Debug)]
pub(super) struct Automatic {
    rules: CheckpointRules,
    progress: BTreeMap<ProjectId, CheckpointProgress>,
    /// Projects whose progress is not what the store has.
    changed: BTreeSet<ProjectId>,
    /// When each progress becomes a checkpoint, however small it is.
    due: BTreeSet<(Moment, ProjectId)>,
    /// Projects that get one in this group.
    ready: BTreeSet<ProjectId>,
    /// Those that are kept, oldest first.
    kept: BTreeMap<ProjectId, Vec<Kept>>,
}

/// An automatic checkpoint that is kept.
#[derive(Debug)]
struct Kept {
    place: (Timestamp, CheckpointId),
    is_valid: bool,
}

impl Automatic {
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

    /// A task of the project has completed.
    pub(super) fn completed(&mut self, project: &ProjectId, now: Moment) {
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

    /// Projects whose progress is old enough get a checkpoint in this group,
    /// at most `max`; whether there may be more.
    pub(super) fn wake(&mut self, now: Moment, max: usize) -> bool {
        for _ in 0..max {
            let Some((_, project)) = self.due.first().filter(|(due, _)| *due <= now && self.rules.kept > 0) else {
                return false;
            };
            self.ready.insert(project.clone());
            self.due.pop_first();
        }
        true
    }

    /// The progress of a project became a checkpoint.
    fn reset(&mut self, project: &ProjectId) {
        if let Some(progress) = self.progress.remove(project) {
            self.due.remove(&(progress.since.after(self.rules.every), project.clone()));
            self.changed.insert(project.clone());
        }
        self.ready.remove(project);
    }

    /// Which one goes, now that there is a new one: one that can't be rolled
    /// back to before one that can, the oldest first.
    fn surplus(&mut self, project: &ProjectId) -> Option<(Timestamp, CheckpointId)> {
        let kept = self.kept.get_mut(project).filter(|kept| kept.len() > self.rules.kept)?;
        let place = kept.iter().position(|kept| !kept.is_valid).unwrap_or(0);
        Some(kept.remove(place).place)
    }

    /// This one can be rolled back to, or not, from now on.
    pub(super) fn set_valid(&mut self, checkpoint: &Checkpoint) {
        let kept = self.kept.get_mut(&checkpoint.project).into_iter().flatten();
        kept.filter(|kept| kept.place.1 == checkpoint.id).for_each(|kept| kept.is_valid = checkpoint.is_valid);
    }

    /// Writes what has changed.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        for project in std::mem::take(&mut self.changed) {
            batch.put_checkpoint_progress(&project, self.progress.get(&project).copied())?;
        }
        Ok(())
    }
}

impl Machine {
    /// Makes a checkpoint that somebody has asked for.
    pub(super) fn create_checkpoint(
        &mut self,
        project: &ProjectId,
        new: NewCheckpoint,
        now: Now,
    ) -> Stored<Result<Checkpoint, Refusal>> {
        if let Err(refusal) = self.existing(project) {
            return Ok(Err(refusal));
        }
        self.make_checkpoint(project, new, Checkpoint::MANUAL, now).map(Ok)
    }

    fn make_checkpoint(
        &mut self,
        project: &ProjectId,
        new: NewCheckpoint,
        trigger: &str,
        now: Now,
    ) -> Stored<Checkpoint> {
        let unexpected = |error: crate::task::InvalidId| {
            let detail = error.to_string();
            store::Error::Corrupt { table: "checkpoints", detail }
        };
        let tally = self.provenance.tally(project);
        let newest = tally.newest.and_then(|(_, id)| self.provenance.graph().find(id));
        let newest = newest.and_then(|node| self.provenance.graph().record(node));
        let checkpoint = Checkpoint {
            id: CheckpointId::new(&self.mint(now).to_string()).map_err(unexpected)?,
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
        self.automatic.reset(project);
        self.keep_checkpoint(checkpoint.clone());
        Ok(checkpoint)
    }

    /// Makes the automatic checkpoints that this group is to have: at its
    /// end, so that they include all of it.
    pub(super) fn make_automatic_checkpoints(&mut self, now: Now) -> Stored<()> {
        while let Some(project) = self.automatic.ready.pop_first() {
            let completed = self.automatic.progress.get(&project).map_or(0, |progress| progress.completed);
            let tasks = if completed == 1 { "task" } else { "tasks" };
            let description = Some(format!("{completed} {tasks} completed since the checkpoint before"));
            let new = NewCheckpoint { description, ..NewCheckpoint::default() };
            let checkpoint = self.make_checkpoint(&project, new, Checkpoint::AUTOMATIC, now)?;
            self.automatic.keep(&checkpoint);
            while let Some(place) = self.automatic.surplus(&project) {
                self.checkpoints_changed = self.version.next();
                self.group.checkpoints.remove(&place.1);
                self.group.batch.remove_checkpoint(&project, place);
            }
        }
        Ok(())
    }

    /// Keeps a checkpoint of another program; whether it is new. Its project
    /// is made if need be, as for a task.
    pub(super) fn import_checkpoint(&mut self, checkpoint: Checkpoint, now: Now) -> Stored<bool> {
        if self.checkpoint(&checkpoint.id)?.is_some() {
            return Ok(false);
        }
        self.use_project(&checkpoint.project, now)?;
        self.keep_checkpoint(checkpoint);
        Ok(true)
    }

    /// Keeps a checkpoint, new or changed.
    pub(super) fn keep_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoints_changed = self.version.next();
        self.group.checkpoints.insert(checkpoint.id.clone(), checkpoint);
    }

    /// A checkpoint as it is in this group, or in the store.
    pub(super) fn checkpoint(&self, id: &CheckpointId) -> Stored<Option<Checkpoint>> {
        match self.group.checkpoints.get(id) {
            Some(checkpoint) => Ok(Some(checkpoint.clone())),
            None => self.store.view()?.checkpoint(id),
        }
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

    fn automatic(kept: usize) -> Automatic {
        let rules = CheckpointRules { every_tasks: 3, every: Duration::from_secs(10), kept };
        Automatic::recovered(rules, Vec::new(), Vec::new())
    }

    #[test]
    fn enough_tasks_or_enough_time() {
        let mut automatic = automatic(2);
        assert!(!automatic.wake(at(1_000_000), 9) && automatic.ready.is_empty());
        for second in 1..=3 {
            assert!(automatic.ready.is_empty());
            automatic.completed(&project(), at(second));
        }
        assert!(automatic.ready.contains(&project()));
        automatic.reset(&project());
        automatic.completed(&project(), at(20));
        automatic.completed(&project(), at(25));
        automatic.wake(at(29), 9);
        assert!(automatic.ready.is_empty());
        // A start in between knows the time of the first.
        let progress = automatic.progress.into_iter().collect();
        let mut automatic = Automatic::recovered(automatic.rules, Vec::new(), progress);
        automatic.wake(at(30), 9);
        assert!(automatic.ready.contains(&project()));
        automatic.reset(&project());
        assert!(automatic.due.is_empty() && automatic.ready.is_empty());
    }

    #[test]
    fn none_are_made_where_none_are_kept() {
        let mut automatic = automatic(0);
        (1..9).for_each(|second| automatic.completed(&project(), at(second)));
        assert!(!automatic.wake(at(99), 9) && automatic.ready.is_empty() && automatic.changed.is_empty());
    }

    #[test]
    fn invalid_ones_go_first() {
        let mut automatic = automatic(2);
        let time = |number: i64| Timestamp::from_micros(number);
        let id = |number: i64| CheckpointId::new(&format!("c-{number}")).unwrap();
        let kept = (1..=4).map(|number| Kept { place: (time(number), id(number)), is_valid: number != 2 }).collect();
        automatic.kept.insert(project(), kept);
        assert_eq!(automatic.surplus(&project()), Some((time(2), id(2))));
        assert_eq!(automatic.surplus(&project()), Some((time(1), id(1))));
        assert_eq!(automatic.surplus(&project()), None);
    }
}
