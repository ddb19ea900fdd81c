//! Where tasks stand: the lines, timers and look-ups that the state of each
//! task enters it into. All of it follows from the tasks, so it is kept in
//! memory alone and built again at start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::api::Settings;
use super::routing::RoutingLine;
use super::shared::ShardedMap;
use super::supply::Supply;
use crate::store::TierPause;
use crate::task::{
    Admission, ArtifactId, Bus, Correlation, LeaseId, Moment, Now, Pending, Place, Priority, Product, Progress,
    ProjectId, Queued, ReviewId, State, Task, TaskId, Tier, Timestamp,
};

/// Where the open tasks stand.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) admission: Admission,
    pub(super) routing: RoutingLine,
    pub(super) ready: BTreeMap<Tier, Ready>,
    timers: BTreeSet<(Moment, TaskId)>,
    /// Tasks that wait for a calendar time, which comes earlier or later in
    /// observed time when the wall clock is set.
    scheduled: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that wait for a task.
    dependents: ShardedMap<TaskId, Vec<TaskId>>,
    leases: ShardedMap<LeaseId, TaskId>,
    /// Tasks by the artifact or the review that QA may name instead. Several
    /// can have the same: each keeps its own entry.
    artifacts: BTreeSet<(ArtifactId, TaskId)>,
    reviews: BTreeSet<(ReviewId, TaskId)>,
    paused_projects: BTreeSet<ProjectId>,
    /// Tiers whose work queue is not as at the last commit.
    pub(super) touched: BTreeSet<Tier>,
    bus: Bus,
}

/// The tasks of a tier that workers have or can have.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Those that the broker has and no worker is known to have taken, by
    /// when they were handed to it.
    pub(super) dispatched: BTreeSet<(Moment, TaskId)>,
    /// How many leases workers hold.
    pub(super) leased: usize,
    /// Whether nothing of it is dispatched or leased.
    pub(super) pause: TierPause,
    /// What is known of its workers behind a broker.
    pub(super) supply: Supply,
}

impl Ready {
    pub(super) const fn is_paused(&self) -> bool {
        self.pause.paused_at.is_some()
    }

    /// Whether the broker gets another task of it.
    fn takes_dispatch(&self) -> bool {
        !self.is_paused() && (self.dispatched.is_empty() || !self.supply.is_held())
    }
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            admission: Admission::new(settings.aging, settings.max_concurrent),
            routing: RoutingLine::new(settings),
            ready: settings.tiers.iter().map(|tier| (tier.clone(), Ready::default())).collect(),
            timers: BTreeSet::new(),
            scheduled: BTreeSet::new(),
            dependents: ShardedMap::default(),
            leases: ShardedMap::default(),
            artifacts: BTreeSet::new(),
            reviews: BTreeSet::new(),
            paused_projects: BTreeSet::new(),
            touched: BTreeSet::new(),
            bus: settings.policy.bus,
        }
    }

    /// Enters a task that was not known before.
    pub(super) fn enter_new(&mut self, task: &Task) {
        for dependency in task.waits_for() {
            self.dependents.entry_or_default(*dependency).push(task.id);
        }
        self.enter_line(task);
        self.enter(task);
    }

    /// Takes a task that has changed out of the lines of its state before, and
    /// enters it into those of its state now. One that waits where it did stays in
    /// its line: were it the only one there, its project would lose its turn.
    pub(super) fn follow(&mut self, old: &Task, new: &Task) {
        let stays = line_place(old) == line_place(new);
        if !stays {
            self.leave_line(old);
        }
        self.leave(old);
        if !stays {
            self.enter_line(new);
        }
        self.enter(new);
    }

    fn enter_line(&mut self, task: &Task) {
        if let Some((project, tier, priority, place)) = line_place(task) {
            self.touch(tier);
            self.admission.enqueue(project, tier, priority, place);
        }
    }

    fn leave_line(&mut self, task: &Task) {
        if let Some((project, tier, priority, place)) = line_place(task) {
            self.touch(tier);
            self.admission.withdraw(project, tier, priority, place);
        }
    }

    /// Enters a task into what its state needs besides the line for a slot.
    fn enter(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.timers.insert((at, task.id));
        }
        if let Some(at) = task.scheduled_for() {
            self.scheduled.insert((at, task.id));
        }
        match &task.state {
            State::Pending(Pending::Analyzing { since }) => self.routing.enter(task, *since),
            State::Pending(Pending::Dispatched { at, .. }) => {
                self.tier(&task.tier).dispatched.insert((*at, task.id));
            }
            State::Running { progress, .. } => match progress {
                Progress::Started { .. } => {}
                Progress::Leased { lease, .. } => {
                    self.leases.insert(lease.id, task.id);
                    self.tier(&task.tier).leased += 1;
                }
                Progress::Validating { product, .. } => self.enter_product(product, task.id),
                Progress::Reviewing { product, review, .. } => {
                    self.enter_product(product, task.id);
                    self.reviews.insert((review.clone(), task.id));
                }
            },
            State::Pending(
                Pending::Scheduled { .. } | Pending::Blocked { .. } | Pending::Queued(_) | Pending::Backoff { .. },
            )
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => {}
        }
    }

    /// What is known of the workers of a tier.
    pub(super) fn supply(&mut self, tier: &Tier) -> &mut Supply {
        &mut self.tier(tier).supply
    }

    /// Of the tasks of a tier that were dispatched before `before` and that no
    /// worker has taken as far as is known: all but the newest `waiting` of
    /// those that are at the broker since `known`, the oldest first, at most `most`.
    pub(super) fn not_waiting(
        &self,
        tier: &Tier,
        waiting: usize,
        (known, before): (Moment, Moment),
        most: usize,
    ) -> Vec<TaskId> {
        let Some(ready) = self.ready.get(tier) else { return Vec::new() };
        let bound = |time| (time, TaskId::from_bytes([0; 16]));
        // Few are newer than the last count: those are counted.
        let newer = ready.dispatched.range(bound(known)..).count();
        let gone = ready.dispatched.len().saturating_sub(newer).saturating_sub(waiting);
        let oldest = ready.dispatched.range(..bound(before.min(known)));
        oldest.take(gone.min(most)).map(|(_, task)| *task).collect()
    }

    fn enter_product(&mut self, product: &Product, task: TaskId) {
        self.artifacts.extend(product.artifacts.iter().map(|artifact| (artifact.id.clone(), task)));
    }

    /// Takes a task out of what [`Self::enter`] entered it into.
    fn leave(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.timers.remove(&(at, task.id));
        }
        if let Some(at) = task.scheduled_for() {
            self.scheduled.remove(&(at, task.id));
        }
        match &task.state {
            State::Pending(Pending::Analyzing { since }) => self.routing.leave(task, *since),
            State::Pending(Pending::Dispatched { at, .. }) => {
                self.tier(&task.tier).dispatched.remove(&(*at, task.id));
            }
            State::Running { progress, .. } => match progress {
                Progress::Started { .. } => {}
                Progress::Leased { lease, .. } => {
                    self.leases.remove(&lease.id);
                    let ready = self.tier(&task.tier);
                    ready.leased = ready.leased.saturating_sub(1);
                }
                Progress::Validating { product, .. } => self.leave_product(product, task.id),
                Progress::Reviewing { product, review, .. } => {
                    self.leave_product(product, task.id);
                    self.reviews.remove(&(review.clone(), task.id));
                }
            },
            State::Pending(
                Pending::Scheduled { .. } | Pending::Blocked { .. } | Pending::Queued(_) | Pending::Backoff { .. },
            )
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => {}
        }
    }

    fn leave_product(&mut self, product: &Product, task: TaskId) {
        for artifact in &product.artifacts {
            self.artifacts.remove(&(artifact.id.clone(), task));
        }
    }

    fn touch(&mut self, tier: &Tier) {
        if !self.touched.contains(tier) {
            self.touched.insert(tier.clone());
        }
    }

    fn tier(&mut self, tier: &Tier) -> &mut Ready {
        self.touch(tier);
        self.ready.entry(tier.clone()).or_default()
    }

    /// A paused project gets no slots and no workers. Whether that is new.
    pub(super) fn set_project_paused(&mut self, project: &ProjectId, paused: bool) -> bool {
        if self.paused_projects.contains(project) == paused {
            return false;
        }
        if paused {
            self.paused_projects.insert(project.clone());
        } else {
            self.paused_projects.remove(project);
        }
        self.admission.set_paused(project, paused);
        true
    }

    /// The tasks of a paused tier get no slots and no workers.
    pub(super) fn set_tier_pause(&mut self, tier: &Tier, pause: TierPause) {
        let ready = self.tier(tier);
        ready.pause = pause;
        ready.supply.recover(pause);
    }

    pub(super) const fn paused_projects(&self) -> &BTreeSet<ProjectId> {
        &self.paused_projects
    }

    /// How many tasks of a tier wait for a worker, and since when the oldest does.
    pub(super) fn waiting(&self, tier: &Tier, ready: &Ready) -> (usize, Option<Moment>) {
        match self.bus {
            Bus::Embedded => self.admission.waiting(tier),
            Bus::Broker => (ready.dispatched.len(), ready.dispatched.first().map(|(at, _)| *at)),
        }
    }

    /// The tasks that wait for one that has ended; they are forgotten here.
    pub(super) fn dependents_of(&mut self, ended: TaskId) -> Vec<TaskId> {
        self.dependents.remove(&ended).unwrap_or_default()
    }

    /// The task that an event is about: the one it names, else the newest
    /// that matches its artifact, else the newest that matches its review.
    pub(super) fn correlate(&self, correlation: &Correlation) -> Option<TaskId> {
        let by_artifact = || newest(&self.artifacts, correlation.artifact.as_ref()?);
        let by_review = || newest(&self.reviews, correlation.review.as_ref()?);
        correlation.task.or_else(by_artifact).or_else(by_review)
    }

    /// Takes the next task that gets a slot out of its line, of those on tiers
    /// that are not paused and for which a worker waits.
    pub(super) fn next_to_lease(&mut self, waits: impl Fn(&Tier) -> bool, now: Now) -> Option<(TaskId, Tier)> {
        let ready = &self.ready;
        self.admission.take_next(|tier| waits(tier) && is_open(ready, tier), now.observed)
    }

    /// Whether [`Self::next_to_lease`] would find a task.
    pub(super) fn has_next_to_lease(&self, waits: impl Fn(&Tier) -> bool) -> bool {
        self.admission.has_next(|tier| waits(tier) && is_open(&self.ready, tier))
    }

    /// Takes the next task that gets a slot out of its line, for the broker.
    pub(super) fn next_to_dispatch(&mut self, now: Now) -> Option<TaskId> {
        if self.bus == Bus::Embedded {
            return None;
        }
        let ready = &self.ready;
        let takes = |tier: &Tier| ready.get(tier).is_none_or(Ready::takes_dispatch);
        self.admission.take_next(takes, now.observed).map(|(task, _)| task)
    }

    /// Whether [`Self::next_to_dispatch`] would find a task.
    pub(super) fn has_next_to_dispatch(&self) -> bool {
        let takes = |tier: &Tier| self.ready.get(tier).is_none_or(Ready::takes_dispatch);
        self.bus == Bus::Broker && self.admission.has_next(takes)
    }

    /// The task that a lease holds.
    pub(super) fn leased_task(&self, lease: LeaseId) -> Option<TaskId> {
        self.leases.get(&lease).copied()
    }

    /// How long until the next timer is due, or the next calendar time comes if
    /// the wall clock is not set meanwhile.
    pub(super) fn next_timer(&self, now: Now) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| at.since(now.observed));
        let scheduled = self.scheduled.first().map(|(at, _)| at.since(now.wall));
        timer.into_iter().chain(scheduled).min()
    }

    /// The tasks that wait for a moment, from one on, in the order of these.
    pub(super) fn timed_from(&self, from: Moment) -> impl Iterator<Item = (Moment, TaskId)> {
        self.timers.range((from, TaskId::from_bytes([0; 16]))..).copied()
    }

    /// Takes the next timer that is due; the task it belongs to.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<TaskId> {
        if let Some(due) = self.timers.first().copied().filter(|(at, _)| *at <= now.observed) {
            self.timers.remove(&due);
            return Some(due.1);
        }
        let due = self.scheduled.first().copied().filter(|(at, _)| *at <= now.wall)?;
        self.scheduled.remove(&due);
        Some(due.1)
    }
}

/// The line of a task that waits for a slot, and its place there; none while it
/// pauses after a release.
fn line_place(task: &Task) -> Option<(&ProjectId, &Tier, Priority, Place)> {
    match &task.state {
        State::Pending(Pending::Queued(Queued { since, not_before: None, .. })) => {
            Some((&task.project, &task.tier, task.priority, Place { since: *since, task: task.id }))
        }
        _ => None,
    }
}

/// Whether tasks of a tier are leased and dispatched.
fn is_open(ready: &BTreeMap<Tier, Ready>, tier: &Tier) -> bool {
    ready.get(tier).is_none_or(|ready| !ready.is_paused())
}

fn newest<K: Ord + Clone>(entries: &BTreeSet<(K, TaskId)>, key: &K) -> Option<TaskId> {
    let (first, last) = (TaskId::from_bytes([0; 16]), TaskId::from_bytes([0xff; 16]));
    entries.range((key.clone(), first)..=(key.clone(), last)).next_back().map(|(_, task)| *task)
}
