//! When a task will be done: the time by which four of five such tasks are.
//!
//! What a task takes is predicted from what such tasks took lately (a mean in
//! which the newest weigh most) and from what stands before it in its line.
//! How far such predictions were off lately then says how much to add: the
//! factor is a quantile of the last ratios of what it took to what was
//! predicted, so that no shape of their distribution is assumed (split
//! conformal prediction: Vovk, Gammerman and Shafer, "Algorithmic Learning in
//! a Random World", 2005; the rank with its finite-sample correction as in Lei
//! et al., "Distribution-Free Predictive Inference for Regression", 2018).
//! Which quantile is corrected by each estimate that was kept or missed, so
//! that the share of those kept also holds while times drift (Gibbs and
//! Candès, "Adaptive Conformal Inference Under Distribution Shift", 2021).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estimate::{Cohort, Estimated};
use super::id::{Domain, Tier};
use super::moment::Moment;
use super::state::{State, Task};

/// The share of estimates that may be missed.
const MISSES: f64 = 0.2;
/// How far one estimate that was kept or missed moves the quantile.
const STEP: f64 = 0.02;
/// The quantile is never further from the share wanted than this.
const MISSES_RANGE: (f64, f64) = (0.02, 0.5);
/// How many of the last ratios are kept.
const RATIOS: usize = 64;
/// The weight of the newest time in the mean, once there are enough of them.
const WEIGHT: f64 = 1.0 / 32.0;
/// Tasks that a kind or a tier must have completed to be gone by.
const ENOUGH: u32 = 5;
/// A time counts as at most so many means: one worker that was away for a
/// night says little about the next task.
const MOST_MEANS: f64 = 8.0;
/// Without any ratio: the quantile of times that are spread like those
/// between random arrivals.
const FIRST_FACTOR: f64 = 1.6;
/// Most kinds of tasks that are kept apart; the one unused for longest goes.
const MAX_KINDS: usize = 1024;

/// What the tasks of a cohort took lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many there were.
    count: u32,
    /// Mean seconds from when a worker took it to the end, the newest weighing most.
    mean_seconds: f64,
    /// The share of estimates that the factor lets be missed.
    misses: f64,
    /// What it took against what was predicted, oldest first.
    ratios: VecDeque<f32>,
    /// When the last one ended.
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

    /// The quantile of the ratios; `None` without any.
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

/// What tasks took lately, by their kind.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    cohorts: HashMap<Cohort, Known>,
    kinds: usize,
    changed: BTreeSet<Cohort>,
}

/// A cohort and what follows from it.
#[derive(Debug, Clone)]
struct Known {
    statistics: Statistics,
    factor: Option<f64>,
}

impl Estimator {
    /// As it was when these were kept.
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

    /// The cohorts that have changed since this was last asked, with what is
    /// to be kept of them; `None`: nothing any more.
    pub fn take_changed(&mut self) -> Vec<(Cohort, Option<Statistics>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .map(|cohort| (cohort.clone(), self.cohorts.get(&cohort).map(|known| known.statistics.clone())))
            .collect()
    }

    /// Foretells a task of this kind whose time counts from `from`. `ahead`
    /// are the tasks before it in its line, by tier; `slots` those in use and
    /// those there are. `None` as long as nothing was completed.
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

    /// The seconds until a worker and a slot are free for a task that has so
    /// many before it: all that are at work together work off what is ahead, one
    /// mean time each.
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
        // Tasks that wait although slots are free wait for workers: there are
        // about as many as tasks that they have.
        count * mean / f64::from(in_use.max(1))
    }

    /// Learns from a task that completed. Others teach nothing: how long it
    /// takes to give up says nothing about how long it takes to succeed, and
    /// a run of quick failures would promise too much.
    pub fn learn(&mut self, task: &Task) {
        let State::Completed { .. } = &task.state else { return };
        let (Some(ended), Some(started)) = (task.ended(), task.started()) else { return };
        // The time of one that was split is that of its parts.
        if task.children.is_empty() {
            // It was submitted for the tier of its first attempt.
            let tier = task.closed.first().map_or(&task.tier, |closed| &closed.tier);
            let kind = Cohort::Kind(tier.clone(), task.domain.clone());
            for cohort in [Cohort::All, Cohort::Tier(tier.clone()), kind] {
                self.cohort(&cohort).statistics.took(ended.since(started), ended);
                self.changed.insert(cohort);
            }
        }
        // What a task waited for others is not its own doing.
        if let Some(estimate) = task.estimate.as_ref().filter(|_| task.depends_on.is_empty()) {
            self.compare(estimate, ended);
        }
    }

    /// A task with this estimate has completed.
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
