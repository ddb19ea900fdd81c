//! What comes due of itself: tasks for workers that wait, timers, free slots.

use super::api::LeaseRequest;
use super::machine::Machine;
use crate::store;
use crate::task::{Input, Lease, LeaseId, Progress, State, Task, Timestamp};

type Stored<T> = Result<T, store::Error>;

/// A lease that was given.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) lease: Lease,
    pub(super) task: Task,
}

impl Machine {
    /// Gives waiting tasks of a tier to a worker, at most `max`.
    pub(super) fn grant(&mut self, request: &LeaseRequest, now: Timestamp) -> Stored<Vec<Grant>> {
        let mut grants = Vec::new();
        while grants.len() < request.max {
            let Some(id) = self.lines.pop_ready(&request.tier, now) else { break };
            let lease = LeaseId::new(self.mint(now));
            let input = Input::Lease { id: lease, worker: request.worker.clone(), until: now.after(request.lease) };
            if self.apply(id, input, None, now)?.is_err() {
                continue;
            }
            let Some(task) = self.find_open(id)? else { continue };
            if let State::Running { progress: Progress::Leased { lease, .. }, .. } = &task.state {
                grants.push(Grant { lease: lease.clone(), task });
            }
        }
        Ok(grants)
    }

    /// Lets due timers have their effect, at most `max`.
    pub(super) fn tick(&mut self, max: usize, now: Timestamp) -> Stored<()> {
        for _ in 0..max {
            let Some(id) = self.lines.pop_due(now) else { break };
            // Only a refusal or an unchanged task would leave the timer
            // unset, and a due timer always changes something.
            let _ = self.apply(id, Input::Tick, None, now)?;
        }
        Ok(())
    }

    /// Gives free slots to waiting tasks, at most `max`.
    pub(super) fn admit(&mut self, max: usize, now: Timestamp) -> Stored<()> {
        for _ in 0..max {
            let Some(id) = self.lines.admission.admit_next(now) else { break };
            let _ = self.apply(id, Input::Admit, None, now)?;
        }
        Ok(())
    }
}
