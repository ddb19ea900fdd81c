//! What the writer does now and then: old rows leave the store, and after a
//! start the answers of open tasks come back into memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::api::{Backlog, Settings};
use super::machine::Machine;
use super::memory::Outdated;
use super::shared::Shared;
use crate::store::{self, CommitNumber, Store, Trim};
use crate::task::{Moment, Now, Phase, ProjectId, Status, TaskId};

/// Most rows that one round looks at, so that it delays no command for long.
pub(super) const ROUND: usize = 256;
/// Most event ids, and commits that took some, that one round forgets.
pub(super) const FORGET_ROUND: usize = 4096;
/// How often it is looked at what waits.
const BACKLOG_PERIOD: Duration = Duration::from_secs(1);

impl Machine {
    /// One round. Whether there is more to do.
    pub(super) fn keep_house(&mut self, now: Now) -> Result<bool, store::Error> {
        let settings = self.settings.clone();
        // Rounds follow each other while there is more to do; what waits is looked at once a second.
        if self.backlog_at.is_none_or(|at| now.since(at) >= BACKLOG_PERIOD) {
            self.backlog_at = Some(now.observed);
            self.group.backlog = Some(self.backlog()?);
        }
        let mut more = self.warm(ROUND, now)?;
        more |= self.show_again(ROUND, now)?;
        more |= self.automatic.wake(now.observed, ROUND);
        if let Some(retention) = settings.retention {
            more |= self.remove_ended_before(now.before(retention), ROUND)? >= ROUND;
        }
        // The tables may be behind, and the writer waits for nothing here: what is
        // older than this is long in them, or comes in the next round.
        let log = self.store.view_of_tables()?.log_older_than(now.before(settings.log_retention), ROUND)?;
        // The newest entry stays, however old: it tells the next start where
        // the sequence goes on. So does what a reader has not taken.
        let most = self.first_untaken().map_or(self.head, |first| first.min(self.head));
        let log = log.map(|until| until.min(most)).filter(|until| *until > self.tail);
        if let Some(until) = log {
            more |= until.0.saturating_sub(self.tail.0) >= 256;
            self.tail = until;
        }
        let taken = self.forget_taken_events(now)?;
        let idempotency = self.keys.outdated(now.before(settings.idempotency), ROUND);
        more |= [taken, idempotency].into_iter().flatten().any(|outdated| outdated.more);
        more |= self.drop_old_letters(now)?;
        more |= self.trim_letter_removals(now.before(settings.log_retention));
        let until = |outdated: Option<Outdated>| outdated.map(|outdated| outdated.until);
        self.group.batch.trim(Trim { log, taken_events: until(taken), idempotency: until(idempotency) });
        Ok(more)
    }

    /// Forgets events that were taken too long ago, or when there are too many: a round
    /// of them.
    fn forget_taken_events(&mut self, now: Now) -> Result<Option<Outdated>, store::Error> {
        let from = self.taken.first().unwrap_or_default();
        let before = now.before(self.settings.dedup_window);
        let outdated = self.taken.outdated(before, self.settings.dedup_max_ids, FORGET_ROUND);
        let Some(Outdated { until, commits, .. }) = outdated else { return Ok(None) };
        // Rows before these may still be there, though they were removed.
        let mut rows = self.store.view_of_tables()?.taken_events(from, until)?;
        if rows.len() < commits {
            rows = self.store.view()?.taken_events(from, until)?;
        }
        for row in &rows {
            self.taken.removed(row);
        }
        Ok(outdated)
    }

    /// Takes what a copy elsewhere has from the list of changes.
    pub(super) fn trim_changes(&mut self, copied: u64) -> Result<(), store::Error> {
        let from = self.store.view_of_tables()?.changes_from()?;
        if from.is_some_and(|from| from.0 < copied) {
            self.group.batch.trim_changes(CommitNumber(copied));
        }
        Ok(())
    }

    /// What waits.
    pub(super) fn backlog(&self) -> Result<Backlog, store::Error> {
        let (oldest_analyzing, oldest_queued) = (self.lines.routing.oldest(), self.lines.admission.oldest());
        Ok(Backlog { oldest_analyzing, oldest_queued, readers: self.behind()? })
    }

    /// Removes tasks that ended before a time, the oldest first, at most
    /// `limit`; how many.
    pub(super) fn remove_ended_before(&mut self, before: Moment, limit: usize) -> Result<usize, store::Error> {
        let view = self.store.view_of_tables()?;
        let ended = view.ended_between(self.removed.until_ms, before, limit + self.removed.ids.len())?;
        let mut count = 0;
        for (id, project, status, ended_at_ms) in ended {
            // One that this group has just changed waits for the next round. The tables may
            // lack some that were removed before, and then there are more than a round.
            if count == limit || self.group.touched.contains_key(&id) {
                break;
            }
            if self.removed.note(id, ended_at_ms) {
                self.remove(id, project, status, ended_at_ms);
                count += 1;
            }
        }
        Ok(count)
    }

    fn remove(&mut self, id: TaskId, project: ProjectId, status: Status, ended_at_ms: u64) {
        let phase = match status {
            Status::Completed => Phase::Completed,
            Status::Failed => Phase::Failed,
            Status::Cancelled => Phase::Cancelled,
            Status::Pending | Status::Running => return,
        };
        if let Some(state) = self.projects.get_mut(&project) {
            state.counters.moved(Some(phase), None);
        }
        self.touch_project(&project);
        self.totals.moved(Some(phase), None);
        self.group.counted.insert(project.clone());
        self.group.removed.push(id);
        self.group.batch.remove_task(id, project, status, ended_at_ms);
    }
}

/// Up to where finished tasks were removed: the tables can still have some of
/// them.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// When the last of them ended, in milliseconds of observed time.
    until_ms: u64,
    /// Those that ended in that millisecond.
    ids: HashSet<TaskId>,
}

impl Removed {
    /// Notes a task that is removed; false when it was before.
    fn note(&mut self, id: TaskId, ended_at_ms: u64) -> bool {
        if ended_at_ms > self.until_ms {
            self.until_ms = ended_at_ms;
            self.ids.clear();
        }
        self.ids.insert(id)
    }
}

/// Removes the finished tasks of a store that no service has open and that
/// ended before `before`; how many.
pub fn prune(store: &Store, settings: Settings, before: Moment, now: Now) -> Result<u64, store::Error> {
    let recovered = store.recover()?;
    let shared = Shared::new(settings.hot_bytes);
    let mut machine = Machine::recovered(Arc::new(settings), store.clone(), recovered, shared)?;
    let mut removed = 0;
    loop {
        let count = machine.remove_ended_before(before, ROUND)?;
        let (batch, _) = machine.finish(now)?;
        batch.commit(store, now)?;
        removed += u64::try_from(count).unwrap_or(u64::MAX);
        if count < ROUND {
            return Ok(removed);
        }
    }
}
