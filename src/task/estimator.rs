//! Predicts when a task completes: the time by which four of five such tasks are done.
//!
//! The execution time is predicted by the recent mean of such tasks, in which the newest weigh
//! most, and the wait by the tasks ahead in the same line. The prediction is multiplied by a
//! factor: a quantile of the recent ratios of actual to predicted times, so that no shape of their
//! distribution is assumed (split conformal prediction: Vovk, Gammerman and Shafer, "Algorithmic
//! Learning in a Random World", 2005; the rank with its finite-sample correction as in Lei et al.,
//! "Distribution-Free Predictive Inference for Regression", 2018). Each prediction that was kept or
//! missed moves the quantile, so that the share of kept predictions also holds while times drift
//! (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift", 2021).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estimate::{Cohort, Estimated};
use super::id::{Domain, Tier};
use super::moment::Moment;
use super::state::{State, Task};

/// Target share of missed predictions.
const MISSES: f64 = 0.2;
/// How far one kept or missed prediction moves the quantile.
const STEP: f64 = 0.02;
/// Bounds of the quantile.
const MISSES_RANGE: (f64, f64) = (0.02, 0.5);
/// How many recent ratios are kept.
const RATIOS: usize = 64;
/// Weight of the newest time in the mean once enough times are known.
const WEIGHT: f64 = 1.0 / 32.0;
/// Completed tasks that a kind or a tier needs before predictions use it.
const ENOUGH: u32 = 5;
/// A time counts as at most so many means, because a worker that was away for a night says little
/// about the next task.
const MOST_MEANS: f64 = 8.0;
/// Factor without any ratio: the quantile for times that are distributed like the intervals of
/// random arrivals.
const FIRST_FACTOR: f64 = 1.6;
/// Largest number of kinds counted separately; the kind unused for longest is dropped.
const MAX_KINDS: usize = 1024;

/// Recent execution times of a cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Completed tasks.
    count: u32,
    /// Weighted mean of the seconds from the first worker to the end.
    mean_seconds: f64,
    /// Share of predictions that the factor allows to be missed.
    misses: f64,
    /// Ratios of actual to predicted times, oldest first.
    ratios: VecDeque<f32>,
    /// End of the last completed task.
    last_at: Moment,
}

impl Statistics {
    const fn new() -> Self {
        let ratios = VecDeque::new();
        Self { count: 0, mean_seconds: 0.0, misses: MISSES, ratios, last_at: Moment::from_micros(0) }
    }

    fn took(&mut self, time: Duration, now: Moment) {
        let seconds = time.as_secs_f64();
        let most = if self.count < ENOUGH { f64::INFINITY } else { self.mean_seconds * MOST_MEANS };
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / f64::from(self.count)).max(WEIGHT);
        self.mean_seconds += weight * (seconds.min(most) - self.mean_seconds);
        self.last_at = now;
    }

    fn compare(&mut self, ratio: f32, kept: bool) {
        let missed = if kept { 0.0 } else { 1.0 };
        let (least, most) = MISSES_RANGE;
        self.misses = (self.misses + STEP * (MISSES - missed)).clamp(least, most);
        self.ratios.push_back(ratio);
        if self.ratios.len() > RATIOS {
            self.ratios.pop_front();
        }
    }

    /// The quantile of the ratios; `None` without any ratio.
    fn factor(&self) -> Option<f64> {
        let mut sorted: Vec<f32> = self.ratios.iter().copied().collect();
        sorted.sort_unstable_by(f32::total_cmp);
        // The rank ⌈(n + 1)(1 - misses)⌉, counted from above.
        let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        let above = (f64::from(count) + 1.0) * self.misses;
        let ranked = (1..=count).rev().zip(sorted.iter().rev());
        let within = ranked.take_while(|(rank, _)| f64::from(count + 1 - rank) <= above).last();
        within
            .map(|(_, ratio)| f64::from(*ratio))
            .or_else(|| sorted.last().map(|ratio| f64::from(*ratio).max(FIRST_FACTOR)))
    }
}

/// Recent execution times by cohort, and the predictions made from them.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    cohorts: HashMap<Cohort, Known>,
    kinds: usize,
    changed: BTreeSet<Cohort>,
}

/// Statistics of a cohort, and the factor derived from them.
#[derive(Debug, Clone)]
struct Known {
    statistics: Statistics,
    factor: Option<f64>,
}

impl Estimator {
    /// Restores an estimator from stored statistics.
    #[must_use]
    pub fn recovered(rows: impl IntoIterator<Item = (Cohort, Statistics)>) -> Self {
        let mut estimator = Self::default();
        for (cohort, statistics) in rows {
            estimator.kinds += usize::from(matches!(cohort, Cohort::Kind(..)));
            let factor = statistics.factor();
            estimator.cohorts.insert(cohort, Known { statistics, factor });
        }
        estimator
    }

    /// Returns the cohorts that changed since the last call, with the statistics to store. `None`
    /// means that the stored row is to be deleted.
    pub fn take_changed(&mut self) -> Vec<(Cohort, Option<Statistics>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .map(|cohort| (cohort.clone(), self.cohorts.get(&cohort).map(|known| known.statistics.clone())))
            .collect()
    }

    /// Predicts the completion of a task whose time counts from `from`.
    ///
    /// `ahead` gives the tasks before it in its line by tier, `slots` the slots in use and the
    /// limit. Returns `None` until a task has completed.
    #[must_use]
    pub fn estimate<'a>(
        &self,
        tier: &Tier,
        domain: &Domain,
        ahead: impl IntoIterator<Item = (&'a Tier, usize)>,
        slots: (u32, u32),
        from: Moment,
    ) -> Option<Estimated> {
        let cohorts = [
            (Cohort::Kind(tier.clone(), domain.clone()), ENOUGH),
            (Cohort::Tier(tier.clone()), ENOUGH),
            (Cohort::All, 1),
        ];
        let known = cohorts.map(|(cohort, enough)| {
            let known = self.cohorts.get(&cohort).filter(|known| known.statistics.count >= enough)?;
            Some((cohort, known))
        });
        // A cohort without ratios borrows those of the larger one.
        let factor = known.iter().flatten().find_map(|(_, known)| known.factor).unwrap_or(FIRST_FACTOR);
        let (cohort, used) = known.into_iter().flatten().next()?;
        let work = used.statistics.mean_seconds;
        let base = work + self.wait(ahead, slots, work);
        let base = Duration::try_from_secs_f64(base).unwrap_or(Duration::MAX).max(Duration::from_millis(1));
        let whole = Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        let base_ms = u64::try_from(base.as_millis()).unwrap_or(u64::MAX);
        Some(Estimated { from, base_ms, at: from.after(whole), cohort })
    }

    /// Seconds until a worker and a slot are free: all tasks in execution together work off what is
    /// ahead, one mean time each.
    fn wait<'a>(&self, ahead: impl IntoIterator<Item = (&'a Tier, usize)>, slots: (u32, u32), own: f64) -> f64 {
        let (in_use, limit) = slots;
        let (mut count, mut work) = (0.0, 0.0);
        for (tier, waiting) in ahead.into_iter().filter(|(_, waiting)| *waiting > 0) {
            let waiting = f64::from(u32::try_from(waiting).unwrap_or(u32::MAX));
            let statistics = self.cohorts.get(&Cohort::Tier(tier.clone()));
            count += waiting;
            work += waiting * statistics.map_or(own, |known| known.statistics.mean_seconds);
        }
        let mean = if count > 0.0 { work / count } else { own };
        if in_use >= limit {
            return (count + 1.0) * mean / f64::from(limit.max(1));
        }
        // Tasks that wait although slots are free wait for workers. There are about as many workers
        // as tasks in execution.
        count * mean / f64::from(in_use.max(1))
    }

    /// Learns from a completed task. Failed and cancelled tasks are ignored: the time until a
    /// failure says nothing about the time until success, and a run of quick failures would promise
    /// too much.
    pub fn learn(&mut self, task: &Task) {
        let State::Completed { .. } = &task.state else { return };
        let (Some(ended), Some(started)) = (task.ended(), task.started()) else { return };
        // The execution time of a parent is that of its parts.
        if task.children.is_empty() {
            // The prediction was made for the tier of the first attempt.
            let tier = task.closed.first().map_or(&task.tier, |closed| &closed.tier);
            let kind = Cohort::Kind(tier.clone(), task.domain.clone());
            for cohort in [Cohort::All, Cohort::Tier(tier.clone()), kind] {
                self.cohort(&cohort).statistics.took(ended.since(started), ended);
                self.changed.insert(cohort);
            }
        }
        // The wait for dependencies is not part of the task's own time.
        if let Some(estimate) = task.estimate.as_ref().filter(|_| task.depends_on.is_empty()) {
            self.compare(estimate, ended);
        }
    }

    /// Compares a prediction with the actual completion.
    fn compare(&mut self, estimate: &Estimated, at: Moment) {
        let base = Duration::from_millis(estimate.base_ms.max(1));
        let known = self.cohort(&estimate.cohort);
        known.statistics.compare(at.since(estimate.from).div_duration_f32(base), at <= estimate.at);
        known.factor = known.statistics.factor();
        self.changed.insert(estimate.cohort.clone());
    }

    fn cohort(&mut self, cohort: &Cohort) -> &mut Known {
        if !self.cohorts.contains_key(cohort) && matches!(cohort, Cohort::Kind(..)) {
            self.kinds += 1;
            if self.kinds > MAX_KINDS {
                self.forget_oldest_kind();
            }
        }
        self.cohorts.entry(cohort.clone()).or_insert_with(|| Known { statistics: Statistics::new(), factor: None })
    }

    fn forget_oldest_kind(&mut self) {
        let kinds = self.cohorts.iter().filter(|(cohort, _)| matches!(cohort, Cohort::Kind(..)));
        let oldest =
            kinds.min_by_key(|(cohort, known)| (known.statistics.last_at, *cohort)).map(|(cohort, _)| cohort.clone());
        if let Some(oldest) = oldest {
            self.cohorts.remove(&oldest);
            self.kinds -= 1;
            self.changed.insert(oldest);
        }
    }
}
