//! Estimates: told at a submission, compared and learnt from at the end.

use super::api::Estimates;
use super::machine::Machine;
use crate::task::{Estimated, Pending, State, Status, Task, Timestamp};

impl Machine {
    /// When a task that is just being submitted should be done. What is
    /// paused goes on when somebody says so, which nobody can foretell.
    pub(super) fn foretell(&self, task: &Task, now: Timestamp) -> Option<Estimated> {
        let project = self.projects.get(&task.project).is_some_and(|state| state.project.paused_at.is_some());
        let tier = self.lines.ready.get(&task.tier).is_some_and(super::lines::Ready::is_paused);
        if project || tier || task.status() != Status::Pending {
            return None;
        }
        let mut done = Vec::new();
        for id in task.waits_for() {
            // A subtask is done before its parent; without an estimate of
            // either there is nothing to go by.
            let open = self.open(*id)?;
            let estimated = open.estimate.as_ref().or_else(|| self.open(open.parent?)?.estimate.as_ref());
            done.push(estimated?.at);
        }
        let starts = match &task.state {
            State::Pending(Pending::Scheduled { until, .. }) => Some(*until),
            _ => None,
        };
        let from = done.into_iter().chain(starts).fold(now, Timestamp::max);
        let admission = &self.lines.admission;
        let ahead = admission.ahead(&task.project, task.priority);
        self.estimator.estimate(&task.tier, &task.domain, ahead, admission.slots(&task.project), from)
    }

    /// A task has ended: those that completed are compared and learnt from.
    pub(super) fn note_ended(&mut self, task: &Task, now: Timestamp) {
        if task.status() != Status::Completed {
            return;
        }
        if let Some(estimate) = &task.estimate {
            self.estimates.compare(estimate, now);
        }
        // What somebody held back tells nothing about the next task.
        let project = self.projects.get(&task.project).and_then(|state| state.project.resumed_at);
        let tier = self.lines.ready.get(&task.tier).and_then(|ready| ready.pause.resumed_at);
        if project.max(tier) < Some(task.created_at) {
            self.estimator.learn(task);
        }
    }
}

impl Estimates {
    /// Upper bounds of the classes of actual against estimated time; above
    /// the last one there is another class.
    pub const BOUNDS: [f64; 9] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0];

    fn compare(&mut self, estimate: &Estimated, ended: Timestamp) {
        if ended <= estimate.at {
            self.kept += 1;
        } else {
            self.missed += 1;
        }
        let estimated = estimate.at.since(estimate.from).as_secs_f64().max(0.001);
        let ratio = ended.since(estimate.from).as_secs_f64() / estimated;
        self.ratio_sum += ratio;
        let class = Self::BOUNDS.iter().take_while(|bound| ratio > **bound).count();
        if let Some(count) = self.ratios.get_mut(class) {
            *count += 1;
        }
    }
}
