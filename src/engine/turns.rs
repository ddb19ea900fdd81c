//! What comes due of itself: tasks for workers that wait, timers, dispatches.

use super::api::LeaseRequest;
use super::machine::Machine;
use crate::store;
use crate::task::{Input, Lease, LeaseId, Now, Progress, State, Task, TaskId, Timestamp};

type Stored<T> = Result<T, store::Error>;

/// Tasks that are brought over to another bus in one commit.
const ROUND: usize = 256;

/// A lease that was given.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) lease: Lease,
    /// Until when it is held unless renewed, and when the attempt has executed
    /// for too long, by the wall clock.
    pub(super) until: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) task: Task,
    /// The version of its project, where that has a constitution.
    pub(super) constituted: Option<u64>,
}

impl Machine {
    /// Gives a task, which has been taken out of its line, to a worker.
    pub(super) fn grant(&mut self, id: TaskId, request: &LeaseRequest, now: Now) -> Stored<Option<Grant>> {
        let lease = LeaseId::new(self.mint(now));
        let input = Input::Lease { id: lease, worker: request.worker.clone(), until: now.after(request.lease) };
        if self.apply(id, input, None, now)?.is_err() {
            return Ok(None);
        }
        let task = self.find_open(id)?;
        let lease = task.as_ref().and_then(|task| match &task.state {
            State::Running { progress: Progress::Leased { lease, deadline }, .. } => Some((lease.clone(), *deadline)),
            State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        });
        Ok(task.zip(lease).map(|(task, (lease, deadline))| {
            let (until, deadline) = (now.calendar(lease.until), now.calendar(deadline));
            let project = self.projects.get(&task.project).map(|state| &state.project);
            let constituted = project.filter(|project| project.constitution.is_some()).map(|project| project.version);
            Grant { lease, until, deadline, task, constituted }
        }))
    }

    /// Lets due timers have their effect, at most `max`.
    pub(super) fn tick(&mut self, max: usize, now: Now) -> Stored<()> {
        for _ in 0..max {
            let Some(id) = self.lines.pop_due(now) else { break };
            // Only a refusal or an unchanged task would leave the timer
            // unset, and a due timer always changes something.
            let _ = self.apply(id, Input::Tick, None, now)?;
        }
        Ok(())
    }

    /// Hands waiting tasks that get a slot to the broker, at most `max`.
    pub(super) fn dispatch(&mut self, max: usize, now: Now) -> Stored<()> {
        for _ in 0..max {
            let Some(id) = self.lines.next_to_dispatch(now) else { break };
            let _ = self.apply(id, Input::Dispatch, None, now)?;
        }
        Ok(())
    }

    /// Brings tasks that the configured bus does not know in their phase into
    /// one that it knows: after a start on another bus, or an upgrade. For the
    /// start, before anybody else sees the store.
    pub(super) fn change_bus(&mut self, now: Now) -> Stored<()> {
        let mut changing = std::mem::take(&mut self.of_other_bus);
        if changing.is_empty() {
            return Ok(());
        }
        tracing::info!(tasks = changing.len(), "tasks that wait are brought over to the configured bus");
        // The oldest first: events tell of them in this order.
        changing.sort_unstable();
        for round in changing.chunks(ROUND) {
            for id in round {
                let _ = self.apply(*id, Input::ChangeBus, None, now)?;
            }
            let (batch, _) = self.finish(now)?;
            batch.commit(&self.store, now)?;
        }
        Ok(())
    }
}
