//! What the writer does from time to time: old rows leave the store, and after a start the
//! answers of open tasks come back into memory.

use std::collections::HashSet;
use std::time::Duration;

use super::failure::Stored;
use super::idempotency::IdempotencyKeys;
use super::taken_events::Outdated;
use super::transitions::EngineState;
use crate::engine::api::{Backlog, Settings};
use crate::store::{CommitNumber, Trim};
use crate::task::{Moment, Now, Phase, ProjectId, Status, TaskId};

/// Most rows that one round looks at, so that no round delays commands for long.
pub(super) const ROUND: usize = 256;
/// Most event ids, and commits that took some, that one round forgets.
pub(super) const FORGET_ROUND: usize = 4096;
/// How often the backlog is computed.
const BACKLOG_PERIOD: Duration = Duration::from_secs(1);

/// How far housekeeping has come.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    /// The finished tasks that retention removed last.
    removed: RemovedTasks,
    /// When the backlog was computed last.
    backlog_at: Option<Moment>,
    /// From which moment on answers of waiting tasks still show it by the clock before it was
    /// set.
    rerender_from: Option<Moment>,
}

/// Up to which time finished tasks were removed: the tables can still have some of them.
#[derive(Debug, Default)]
struct RemovedTasks {
    /// When the last of them ended, in milliseconds of observed time.
    until_ms: u64,
    /// The tasks that ended in that millisecond.
    ids: HashSet<TaskId>,
}

impl RemovedTasks {
    /// Records that a task is removed. Returns whether it was not removed before.
    fn record(&mut self, id: TaskId, ended_at_ms: u64) -> bool {
        if ended_at_ms > self.until_ms {
            self.until_ms = ended_at_ms;
            self.ids.clear();
        }
        self.ids.insert(id)
    }
}

impl Housekeeping {
    /// Has the answers of all waiting tasks rendered again, because the wall clock was set.
    pub(super) fn rerender_all(&mut self) {
        self.rerender_from = Some(Moment::default());
    }

    /// Runs one round. Returns whether there is more to do.
    pub(super) fn run(
        &mut self,
        state: &mut EngineState,
        keys: &mut IdempotencyKeys,
        settings: &Settings,
        now: Now,
    ) -> Stored<bool> {
        // Rounds follow each other while there is more to do; the backlog is computed once a
        // second.
        if self.backlog_at.is_none_or(|at| now.since(at) >= BACKLOG_PERIOD) {
            self.backlog_at = Some(now.observed);
            state.group.publication.backlog = Some(backlog(state)?);
        }
        let group = &mut state.group;
        let mut has_more =
            state.tasks.warm(&state.storage, &mut group.publication.answers, group.version, ROUND, now)?;
        has_more |= self.rerender(state, ROUND, now)?;
        has_more |= state.checkpoints.automatic.mark_due(now.observed, ROUND);
        if let Some(retention) = settings.retention {
            has_more |= self.remove_ended_before(state, now.before(retention), ROUND)? >= ROUND;
        }
        // The tables may lag, and the writer must not wait for them here: rows that are older
        // than this are in them, or are trimmed in the next round.
        let view = state.storage.view_of_tables()?;
        let log = view.log_older_than(now.before(settings.log_retention), ROUND)?;
        drop(view);
        let log = log.and_then(|until| state.log.trim(until));
        has_more |= log.is_some_and(|trimmed| trimmed.count >= 256);
        let taken = forget_taken_events(state, settings, now)?;
        let idempotency = keys.drop_outdated(now.before(settings.idempotency), ROUND);
        has_more |= [taken, idempotency].into_iter().flatten().any(|outdated| outdated.has_more);
        let (dead_letters, batch) = (&mut state.inbox.dead_letters, &mut state.group.batch);
        has_more |= dead_letters.drop_excess(batch, now)?;
        has_more |= dead_letters.trim_removals(batch, now.before(settings.log_retention));
        let until = |outdated: Option<Outdated>| outdated.map(|outdated| outdated.until);
        batch.trim(Trim {
            log: log.map(|trimmed| trimmed.tail),
            taken_events: until(taken),
            idempotency: until(idempotency),
        });
        Ok(has_more)
    }

    /// Renders answers again that say when a task continues, at most `limit`. Returns whether
    /// there are more.
    fn rerender(&mut self, state: &mut EngineState, limit: usize, now: Now) -> Stored<bool> {
        let Some(from) = self.rerender_from.take() else { return Ok(false) };
        let timed: Vec<_> = state.lines.timers_from(from).take(limit).collect();
        for (_, id) in &timed {
            let answer = state.tasks.render_again(*id, now)?;
            state.group.publication.answers.extend(answer);
        }
        // Few tasks have the same moment; those that come twice are rendered twice.
        let next = timed.last().map(|(moment, _)| *moment).filter(|moment| timed.len() == limit && *moment > from);
        self.rerender_from = next;
        Ok(next.is_some())
    }

    /// Removes tasks that ended before a time, the oldest first, at most `limit`. Returns how
    /// many.
    pub(super) fn remove_ended_before(
        &mut self,
        state: &mut EngineState,
        before: Moment,
        limit: usize,
    ) -> Stored<usize> {
        let view = state.storage.view_of_tables()?;
        let ended = view.ended_between(self.removed.until_ms, before, limit + self.removed.ids.len())?;
        let mut count = 0;
        for (id, project, status, ended_at_ms) in ended {
            // A task that this group has just changed waits for the next round. The tables may
            // lack some that were removed before, and then these are more than a round.
            if count == limit || state.tasks.is_changed(id) {
                break;
            }
            if self.removed.record(id, ended_at_ms) {
                remove_task(state, id, project, status, ended_at_ms);
                count += 1;
            }
        }
        Ok(count)
    }
}

fn remove_task(state: &mut EngineState, id: TaskId, project: ProjectId, status: Status, ended_at_ms: u64) {
    let phase = match status {
        Status::Completed => Phase::Completed,
        Status::Failed => Phase::Failed,
        Status::Cancelled => Phase::Cancelled,
        Status::Pending | Status::Running => return,
    };
    state.projects.count(&project, Some(phase), None);
    state.projects.touch(&project, state.group.version);
    state.group.publication.removed.push(id);
    state.group.batch.remove_task(id, project, status, ended_at_ms);
}

/// Forgets a round of events that were taken too long ago, or that are too many.
fn forget_taken_events(state: &mut EngineState, settings: &Settings, now: Now) -> Stored<Option<Outdated>> {
    let taken = &mut state.inbox.taken;
    let from = taken.first().unwrap_or_default();
    let before = now.before(settings.dedup_window);
    let outdated = taken.drop_outdated(before, settings.dedup_max_ids, FORGET_ROUND);
    let Some(Outdated { until, rows: count, .. }) = outdated else { return Ok(None) };
    // Rows before these may still be there, although they were removed.
    let mut rows = state.storage.view_of_tables()?.taken_events(from, until)?;
    if rows.len() < count {
        rows = state.storage.view()?.taken_events(from, until)?;
    }
    for row in &rows {
        taken.remove_row(row);
    }
    Ok(outdated)
}

/// Removes from the list of changes those that the copy elsewhere has.
pub(super) fn trim_changes(state: &mut EngineState, copied: u64) -> Stored<()> {
    let from = state.storage.view_of_tables()?.changes_from()?;
    if from.is_some_and(|from| from.0 < copied) {
        state.group.batch.trim_changes(CommitNumber(copied));
    }
    Ok(())
}

/// Returns what waits.
pub(super) fn backlog(state: &EngineState) -> Stored<Backlog> {
    let (oldest_analyzing, oldest_queued) = (state.lines.routing.oldest(), state.lines.admission().oldest());
    Ok(Backlog { oldest_analyzing, oldest_queued, readers: state.log.lags(&state.storage)? })
}
