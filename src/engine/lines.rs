//! Where tasks stand: the lines, timers and look-ups that the state of each
//! task enters it into. All of it follows from the tasks, so it is kept in
//! memory alone and built again at start.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::hot::IdHash;
use super::routing::RoutingLine;
use super::settings::{Bus, Settings};
use crate::store::TierPause;
use crate::task::{
    Admission, ArtifactId, Attempt, Correlation, FairLine, LeaseId, Pending, Place, Product, Progress, ProjectId,
    ReviewId, State, Task, TaskId, Tier, Timestamp,
};

/// Where the open tasks stand.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) admission: Admission,
    pub(super) routing: RoutingLine,
    pub(super) ready: BTreeMap<Tier, Ready>,
    timers: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that wait for a task.
    dependents: HashMap<TaskId, Vec<TaskId>, IdHash>,
    leases: HashMap<LeaseId, TaskId, IdHash>,
    /// Tasks by the artifact or the review that QA may name instead. Several
    /// can have the same: each keeps its own entry.
    artifacts: BTreeSet<(ArtifactId, TaskId)>,
    reviews: BTreeSet<(ReviewId, TaskId)>,
    paused_projects: HashSet<ProjectId>,
    aging: Duration,
    bus: Bus,
}

/// The dispatched tasks of a tier.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Those that wait for a worker.
    pub(super) line: FairLine,
    /// Where a broker carries them, those that no worker has taken as far as
    /// is known, oldest first.
    pub(super) untaken: BTreeSet<(Timestamp, TaskId)>,
    /// How many workers hold.
    pub(super) leased: usize,
    /// Whether nothing of it is dispatched or leased.
    pub(super) pause: TierPause,
}

impl Ready {
    pub(super) const fn is_paused(&self) -> bool {
        self.pause.paused_at.is_some()
    }
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            admission: Admission::new(settings.aging, settings.max_concurrent),
            routing: RoutingLine::new(settings),
            ready: settings.tiers.iter().map(|tier| (tier.clone(), Ready::default())).collect(),
            timers: BTreeSet::new(),
            dependents: HashMap::default(),
            leases: HashMap::default(),
            artifacts: BTreeSet::new(),
            reviews: BTreeSet::new(),
            paused_projects: HashSet::new(),
            aging: settings.aging,
            bus: settings.bus,
        }
    }

    /// Enters a task that was not known before.
    pub(super) fn enter_new(&mut self, task: &Task) {
        for dependency in task.waits_for() {
            self.dependents.entry(*dependency).or_default().push(task.id);
        }
        self.enter(task);
    }

    /// Enters a task into the lines of its state.
    pub(super) fn enter(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.timers.insert((at, task.id));
        }
        match &task.state {
            State::Pending(Pending::Analyzing { since }) => self.routing.enter(task, *since),
            State::Pending(Pending::Queued { since }) => {
                let place = Place { since: *since, task: task.id };
                self.admission.enqueue(&task.project, &task.tier, task.priority, place);
            }
            State::Running { attempt, progress } => match progress {
                Progress::Dispatched => self.enter_ready(task, attempt),
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
            State::Pending(Pending::Scheduled { .. } | Pending::Blocked { .. } | Pending::Backoff { .. })
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => {}
        }
    }

    /// A broker gives what a worker has taken to no other one; here it can be
    /// leased as long as nobody holds it.
    fn waits_for_worker(&self, attempt: &Attempt) -> bool {
        self.bus == Bus::Embedded || attempt.taken_at.is_none()
    }

    fn enter_ready(&mut self, task: &Task, attempt: &Attempt) {
        if !self.waits_for_worker(attempt) {
            return;
        }
        let by_broker = self.bus == Bus::Broker;
        let ready = self.tier(&task.tier);
        ready.line.insert(&task.project, task.priority, Place { since: attempt.dispatched_at, task: task.id });
        if by_broker {
            ready.untaken.insert((attempt.dispatched_at, task.id));
        }
    }

    fn leave_ready(&mut self, task: &Task, attempt: &Attempt) {
        if self.waits_for_worker(attempt) {
            let ready = self.tier(&task.tier);
            ready.line.remove(&task.project, task.priority, Place { since: attempt.dispatched_at, task: task.id });
            ready.untaken.remove(&(attempt.dispatched_at, task.id));
        }
    }

    /// Of the tasks of a tier that were dispatched before a time and that no
    /// worker has taken as far as is known: all but the newest `waiting`, the
    /// oldest first, at most `most`.
    pub(super) fn taken_by_now(&self, tier: &Tier, waiting: usize, before: Timestamp, most: usize) -> Vec<TaskId> {
        let Some(ready) = self.ready.get(tier) else { return Vec::new() };
        let known = ready.untaken.range(..(before, TaskId::from_bytes([0; 16])));
        let taken = known.clone().count().saturating_sub(waiting);
        known.take(taken.min(most)).map(|(_, task)| *task).collect()
    }

    fn enter_product(&mut self, product: &Product, task: TaskId) {
        self.artifacts.extend(product.artifacts.iter().map(|artifact| (artifact.id.clone(), task)));
    }

    /// Takes a task out of what [`Self::enter`] entered it into.
    pub(super) fn leave(&mut self, task: &Task) {
        if let Some(at) = task.next_timer() {
            self.timers.remove(&(at, task.id));
        }
        match &task.state {
            State::Pending(Pending::Analyzing { since }) => self.routing.leave(task, *since),
            State::Pending(Pending::Queued { since }) => {
                let place = Place { since: *since, task: task.id };
                self.admission.withdraw(&task.project, &task.tier, task.priority, place);
            }
            State::Running { attempt, progress } => match progress {
                Progress::Dispatched => self.leave_ready(task, attempt),
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
            State::Pending(Pending::Scheduled { .. } | Pending::Blocked { .. } | Pending::Backoff { .. })
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

    fn tier(&mut self, tier: &Tier) -> &mut Ready {
        if !self.ready.contains_key(tier) {
            let mut ready = Ready::default();
            self.paused_projects.iter().for_each(|project| ready.line.set_held(project, true));
            self.ready.insert(tier.clone(), ready);
        }
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
        self.ready.values_mut().for_each(|ready| ready.line.set_held(project, paused));
        true
    }

    /// The tasks of a paused tier get no slots and no workers.
    pub(super) fn set_tier_pause(&mut self, tier: &Tier, pause: TierPause) {
        self.tier(tier).pause = pause;
        self.admission.set_tier_paused(tier, pause.paused_at.is_some());
    }

    pub(super) const fn paused_projects(&self) -> &HashSet<ProjectId> {
        &self.paused_projects
    }

    /// Whether a worker of this tier may find something.
    pub(super) fn has_ready(&self, tier: &Tier) -> bool {
        self.ready.get(tier).is_some_and(|ready| !ready.is_paused() && ready.line.has_turns())
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

    /// Takes the next task of a tier out of its line.
    pub(super) fn pop_ready(&mut self, tier: &Tier, now: Timestamp) -> Option<TaskId> {
        let aging = self.aging;
        let ready = self.tier(tier);
        if ready.is_paused() { None } else { ready.line.pop(now, aging) }
    }

    /// The task that a lease holds.
    pub(super) fn leased_task(&self, lease: LeaseId) -> Option<TaskId> {
        self.leases.get(&lease).copied()
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes the next timer that is due; the task it belongs to.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<TaskId> {
        let due = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&due);
        Some(due.1)
    }
}

fn newest<K: Ord + Clone>(entries: &BTreeSet<(K, TaskId)>, key: &K) -> Option<TaskId> {
    let (first, last) = (TaskId::from_bytes([0; 16]), TaskId::from_bytes([0xff; 16]));
    entries.range((key.clone(), first)..=(key.clone(), last)).next_back().map(|(_, task)| *task)
}
