//! What the writer does now and then: old rows leave the store, and after a
//! start the answers of open tasks come back into memory.

use std::sync::Arc;

use super::api::Backlog;
use super::machine::Machine;
use super::settings::Settings;
use crate::store::{self, CommitNumber, Store, Trim};
use crate::task::{Phase, ProjectId, Status, TaskId, Timestamp};

/// Most rows that one round looks at, so that it delays no command for long.
const ROUND: usize = 256;

impl Machine {
    /// One round. Whether there is more to do.
    pub(super) fn keep_house(&mut self, now: Timestamp) -> Result<bool, store::Error> {
        let settings = self.settings.clone();
        self.group.backlog = Some(self.backlog()?);
        let mut more = self.warm(ROUND)?;
        more |= self.automatic.wake(now, ROUND);
        if let Some(retention) = settings.retention {
            more |= self.remove_ended_before(now.before(retention), ROUND)? == ROUND;
        }
        let log = self.store.view()?.log_older_than(now.before(settings.log_retention), ROUND)?;
        // The newest entry stays, however old: it tells the next start where
        // the sequence goes on. So does what a reader has not taken.
        let most = self.first_untaken().map_or(self.head, |first| first.min(self.head));
        let log = log.map(|until| until.min(most)).filter(|until| *until > self.tail);
        if let Some(until) = log {
            more |= until.0.saturating_sub(self.tail.0) >= 256;
            self.tail = until;
        }
        let taken = self.taken.outdated(now.before(settings.dedup_window), settings.dedup_max_ids);
        if let Some(until) = taken {
            for row in self.store.view()?.taken_events(until)? {
                self.taken.removed(&row);
            }
        }
        let idempotency = self.keys.outdated(now.before(settings.idempotency));
        more |= self.forget_old_letters()?;
        self.group.batch.trim(Trim { log, taken_events: taken, idempotency });
        Ok(more)
    }

    /// Takes what a copy elsewhere has from the list of changes.
    pub(super) fn trim_changes(&mut self, copied: u64) -> Result<(), store::Error> {
        let from = self.store.view()?.changes_from()?;
        if from.is_some_and(|from| from.0 < copied) {
            self.group.batch.trim_changes(CommitNumber(copied));
        }
        Ok(())
    }

    /// What waits.
    pub(super) fn backlog(&self) -> Result<Backlog, store::Error> {
        let (oldest_analyzing, oldest_queued) = (self.lines.routing.oldest(), self.lines.admission.oldest());
        Ok(Backlog { queues: self.queues(), oldest_analyzing, oldest_queued, readers: self.behind()? })
    }

    /// Removes tasks that ended before a time, the oldest first, at most
    /// `limit`; how many.
    pub(super) fn remove_ended_before(&mut self, before: Timestamp, limit: usize) -> Result<usize, store::Error> {
        let ended = self.store.view()?.ended_before(before, limit)?;
        let count = ended.len();
        for (id, project, status, ended_at_ms) in ended {
            // One that this group has just changed waits for the next round.
            if !self.group.touched.contains_key(&id) {
                self.remove(id, project, status, ended_at_ms);
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
        self.totals.moved(Some(phase), None);
        self.group.counted.insert(project.clone());
        self.group.removed.push(id);
        self.group.batch.remove_task(id, project, status, ended_at_ms);
    }
}

/// Removes the finished tasks of a store that no service has open and that
/// ended before `before`; how many.
pub fn prune(store: &Store, settings: Settings, before: Timestamp, now: Timestamp) -> Result<u64, store::Error> {
    let recovered = store.recover()?;
    let mut machine = Machine::recovered(Arc::new(settings), store.clone(), recovered);
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
