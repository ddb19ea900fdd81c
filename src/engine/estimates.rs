//! Estimates: told at a submission, compared and learnt from at the end.

use super::api::Estimates;
use super::machine::Machine;
use crate::store;
use crate::task::{Estimated, Moment, Now, Pending, State, Status, Task, TaskId};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// When a task that is just being submitted should be done. What is
    /// paused goes on when somebody says so, which nobody can foretell.
    pub(super) fn foretell(&self, task: &Task, now: Now) -> Stored<Option<Estimated>> {
        let project = self.projects.get(&task.project).is_some_and(|state| state.project.paused_at.is_some());
        let tier = self.lines.ready.get(&task.tier).is_some_and(super::lines::Ready::is_paused);
        if project || tier || task.status() != Status::Pending {
            return Ok(None);
        }
        let mut done = Vec::new();
        for id in task.waits_for() {
            let Some(at) = self.predicted_end(*id)? else { return Ok(None) };
            done.push(at);
        }
        let starts = match &task.state {
            State::Pending(Pending::Scheduled { until, .. }) => Some(now.moment_of(*until)),
            _ => None,
        };
        let from = done.into_iter().chain(starts).fold(now.observed, Moment::max);
        let admission = &self.lines.admission;
        let ahead = admission.ahead(&task.project, task.priority);
        Ok(self.estimator.estimate(&task.tier, &task.domain, ahead, admission.slots(&task.project), from))
    }

    /// When an open task was said to be done. A subtask is done before its
    /// parent; without an estimate of either there is nothing to go by.
    fn predicted_end(&self, id: TaskId) -> Stored<Option<Moment>> {
        let Some(open) = self.find_open(id)? else { return Ok(None) };
        let estimated = match (open.estimate, open.parent) {
            (None, Some(parent)) => self.find_open(parent)?.and_then(|parent| parent.estimate),
            (estimated, _) => estimated,
        };
        Ok(estimated.map(|estimated| estimated.at))
    }

    /// A task has ended: those that completed are compared and learnt from.
    pub(super) fn note_ended(&mut self, task: &Task, now: Now) {
        if task.status() != Status::Completed {
            return;
        }
        if let Some(estimate) = &task.estimate {
            self.estimates.compare(estimate, now.observed);
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

    fn compare(&mut self, estimate: &Estimated, ended: Moment) {
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
