//! When tasks complete: predicted at their submission, compared and learned from at their
//! end.

use super::failure::Stored;
use super::lines::{Lines, TierLine};
use super::projects::Projects;
use super::tasks::Tasks;
use crate::engine::api::Estimates;
use crate::store::Batch;
use crate::task::{Estimated, Estimator, Moment, Now, Pending, State, Status, Task, TaskId};

/// What tasks took lately, and how good the predictions were.
#[derive(Debug)]
pub(super) struct Predictions {
    estimator: Estimator,
    accuracy: Estimates,
}

impl Predictions {
    pub(super) fn new(estimator: Estimator) -> Self {
        Self { estimator, accuracy: Estimates::default() }
    }

    /// How predictions compare with what tasks took, since the start.
    pub(super) const fn accuracy(&self) -> Estimates {
        self.accuracy
    }

    /// Predicts when a task that is being submitted will complete. `None`: there is nothing
    /// to go by, or its project or tier is paused, for as long as a person decides.
    pub(super) fn predict_completion(
        &self,
        task: &Task,
        tasks: &Tasks,
        projects: &Projects,
        lines: &Lines,
        now: Now,
    ) -> Stored<Option<Estimated>> {
        let is_project_paused = projects.get(&task.project).is_some_and(|project| project.paused_at.is_some());
        let is_tier_paused = lines.tier(&task.tier).is_some_and(TierLine::is_paused);
        if is_project_paused || is_tier_paused || task.status() != Status::Pending {
            return Ok(None);
        }
        let mut ends = Vec::new();
        for id in task.waits_for() {
            let Some(at) = predicted_end(*id, tasks)? else { return Ok(None) };
            ends.push(at);
        }
        let start = match &task.state {
            State::Pending(Pending::Scheduled { until, .. }) => Some(now.moment_of(*until)),
            _ => None,
        };
        let from = ends.into_iter().chain(start).fold(now.observed, Moment::max);
        let admission = lines.admission();
        let ahead = admission.ahead(&task.project, task.priority);
        Ok(self.estimator.estimate(&task.tier, &task.domain, ahead, admission.slots(&task.project), from))
    }

    /// Compares a task that has completed with its prediction, and learns from it. A task
    /// that ended otherwise tells nothing.
    pub(super) fn record_end(&mut self, task: &Task, projects: &Projects, lines: &Lines, now: Now) {
        if task.status() != Status::Completed {
            return;
        }
        if let Some(estimate) = &task.estimate {
            compare(&mut self.accuracy, estimate, now.observed);
        }
        // A task that a pause held back tells nothing about the next one.
        let project = projects.get(&task.project).and_then(|project| project.resumed_at);
        let tier = lines.tier(&task.tier).and_then(|line| line.pause().resumed_at);
        if project.max(tier) < Some(task.created_at) {
            self.estimator.learn(task);
        }
    }

    /// Ends the group: stages the statistics that have changed.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        for (cohort, statistics) in self.estimator.take_changed() {
            batch.put_estimate(&cohort, statistics.as_ref())?;
        }
        Ok(())
    }
}

/// The prediction for an open task. A subtask is done before its parent; without a prediction
/// for either there is nothing to go by.
fn predicted_end(id: TaskId, tasks: &Tasks) -> Stored<Option<Moment>> {
    let Some(open) = tasks.find_open(id)? else { return Ok(None) };
    let estimated = match (open.estimate, open.parent) {
        (None, Some(parent)) => tasks.find_open(parent)?.and_then(|parent| parent.estimate),
        (estimated, _) => estimated,
    };
    Ok(estimated.map(|estimated| estimated.at))
}

fn compare(accuracy: &mut Estimates, estimate: &Estimated, ended: Moment) {
    if ended <= estimate.at {
        accuracy.kept += 1;
    } else {
        accuracy.missed += 1;
    }
    let estimated = estimate.at.since(estimate.from).as_secs_f64().max(0.001);
    let ratio = ended.since(estimate.from).as_secs_f64() / estimated;
    accuracy.ratio_sum += ratio;
    let class = Estimates::BOUNDS.iter().take_while(|bound| ratio > **bound).count();
    if let Some(count) = accuracy.ratios.get_mut(class) {
        *count += 1;
    }
}
