//! Where tasks stand: the lines, timers and look-ups that the state of each task enters it
//! into. All of it follows from the tasks, so it is kept in memory only and built again at a
//! start.

mod lookups;
mod routing;
mod supply;
mod tier;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lookups::Lookups;
pub(super) use routing::RoutingLine;
pub(super) use supply::Supply;
pub(super) use tier::TierLine;
use timers::Timers;

use crate::engine::api::{Settings, WorkQueue};
use crate::store::TierPause;
use crate::task::{
    Admission, Bus, Correlation, LeaseId, Moment, Now, Pending, Place, Priority, Progress, ProjectId, Queued, State,
    Task, TaskId, Tier,
};

/// Where the open tasks stand.
#[derive(Debug)]
pub(super) struct Lines {
    admission: Admission,
    /// The tasks that are to be routed.
    pub(super) routing: RoutingLine,
    tiers: BTreeMap<Tier, TierLine>,
    /// Tiers whose work queue has changed in this group.
    changed_tiers: BTreeSet<Tier>,
    timers: Timers,
    lookups: Lookups,
    paused_projects: BTreeSet<ProjectId>,
    bus: Bus,
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            admission: Admission::new(settings.aging, settings.max_concurrent),
            routing: RoutingLine::new(settings),
            tiers: settings.tiers.iter().map(|tier| (tier.clone(), TierLine::default())).collect(),
            changed_tiers: BTreeSet::new(),
            timers: Timers::default(),
            lookups: Lookups::default(),
            paused_projects: BTreeSet::new(),
            bus: settings.policy.bus,
        }
    }

    /// Enters a task from before the start.
    pub(super) fn enter_recovered(&mut self, task: &Task) {
        if task.holds_slot() {
            self.admission.occupy(&task.project);
        }
        self.enter_new(task);
    }

    /// Enters a task that was not known before.
    pub(super) fn enter_new(&mut self, task: &Task) {
        self.lookups.enter_dependencies(task);
        self.enter_line(task);
        self.enter(task);
    }

    /// Moves a task that has changed from the lines of its state before to those of its
    /// state now. A task that waits where it did stays in its line: if it left and were the
    /// only one there, its project would lose its turn.
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
        match (old.holds_slot(), new.holds_slot()) {
            (true, false) => self.admission.release(&old.project),
            (false, true) => self.admission.occupy(&old.project),
            (true, true) | (false, false) => {}
        }
    }

    fn enter_line(&mut self, task: &Task) {
        if let Some((project, tier, priority, place)) = line_place(task) {
            self.record_change(tier);
            self.admission.enqueue(project, tier, priority, place);
        }
    }

    fn leave_line(&mut self, task: &Task) {
        if let Some((project, tier, priority, place)) = line_place(task) {
            self.record_change(tier);
            self.admission.withdraw(project, tier, priority, place);
        }
    }

    /// Enters a task into what its state needs besides the line for a slot.
    fn enter(&mut self, task: &Task) {
        self.timers.enter(task);
        self.lookups.enter(task);
        match tier_place(task) {
            Some(TierPlace::Analyzing { since }) => self.routing.enter(task, since),
            Some(TierPlace::Dispatched { at }) => drop(self.tier_mut(&task.tier).dispatched.insert((at, task.id))),
            Some(TierPlace::Leased) => self.tier_mut(&task.tier).leased += 1,
            None => {}
        }
    }

    /// Takes back what [`Self::enter`] entered.
    fn leave(&mut self, task: &Task) {
        self.timers.leave(task);
        self.lookups.leave(task);
        match tier_place(task) {
            Some(TierPlace::Analyzing { since }) => self.routing.leave(task, since),
            Some(TierPlace::Dispatched { at }) => drop(self.tier_mut(&task.tier).dispatched.remove(&(at, task.id))),
            Some(TierPlace::Leased) => {
                let line = self.tier_mut(&task.tier);
                line.leased = line.leased.saturating_sub(1);
            }
            None => {}
        }
    }

    fn record_change(&mut self, tier: &Tier) {
        if !self.changed_tiers.contains(tier) {
            self.changed_tiers.insert(tier.clone());
        }
    }

    /// The line of a tier, which is about to change.
    fn tier_mut(&mut self, tier: &Tier) -> &mut TierLine {
        self.record_change(tier);
        self.tiers.entry(tier.clone()).or_default()
    }

    /// The line of a tier, if it is configured or has had tasks.
    pub(super) fn tier(&self, tier: &Tier) -> Option<&TierLine> {
        self.tiers.get(tier)
    }

    /// The tiers that are paused.
    pub(super) fn paused_tiers(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.iter().filter(|(_, line)| line.is_paused()).map(|(tier, _)| tier)
    }

    /// What is known of the workers of a tier.
    pub(super) fn supply(&mut self, tier: &Tier) -> &mut Supply {
        &mut self.tier_mut(tier).supply
    }

    /// Returns the oldest tasks of a tier that have left its work queue, as far as a count of
    /// it tells: see [`TierLine::gone_from_queue`].
    pub(super) fn gone_from_queue(
        &self,
        tier: &Tier,
        waiting: usize,
        counted_at: Moment,
        before: Moment,
        most: usize,
    ) -> Vec<TaskId> {
        let line = self.tiers.get(tier);
        line.map(|line| line.gone_from_queue(waiting, counted_at, before, most)).unwrap_or_default()
    }

    /// Pauses or resumes a project, which gets no slots and no workers while it is paused.
    /// Returns whether that is a change.
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

    /// Sets the pause of a tier, whose tasks get no slots and no workers while it is paused.
    pub(super) fn set_tier_pause(&mut self, tier: &Tier, pause: TierPause) {
        let line = self.tier_mut(tier);
        line.pause = pause;
        line.supply.recover(pause);
    }

    /// Changes what is stored with the pause of a tier. Returns it as it is then; `None`:
    /// the tier is unknown.
    pub(super) fn update_tier_pause(&mut self, tier: &Tier, update: impl FnOnce(&mut TierPause)) -> Option<TierPause> {
        let line = self.tiers.get_mut(tier)?;
        update(&mut line.pause);
        Some(line.pause)
    }

    /// Sets how many tasks of a project may hold a slot; `None`: as many as configured.
    pub(super) fn set_slot_limit(&mut self, project: &ProjectId, limit: Option<u32>) {
        self.admission.set_limit(project, limit);
    }

    pub(super) const fn paused_projects(&self) -> &BTreeSet<ProjectId> {
        &self.paused_projects
    }

    /// The lines for slots.
    pub(super) const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The work queue of a tier.
    pub(super) fn queue(&self, tier: &Tier) -> Option<WorkQueue> {
        let line = self.tiers.get(tier)?;
        let (depth, oldest_ready) = match self.bus {
            Bus::Embedded => self.admission.waiting(tier),
            Bus::Broker => (line.dispatched.len(), line.dispatched.first().map(|(at, _)| *at)),
        };
        let paused_at = line.pause.paused_at;
        Some(WorkQueue { tier: tier.clone(), depth, leased: line.leased, oldest_ready, paused_at })
    }

    /// Returns the work queues that have changed in this group, and begins the next one.
    pub(super) fn take_changed_queues(&mut self) -> Vec<WorkQueue> {
        let changed = std::mem::take(&mut self.changed_tiers);
        changed.iter().filter_map(|tier| self.queue(tier)).collect()
    }

    /// Returns all work queues.
    pub(super) fn queues(&self) -> Vec<WorkQueue> {
        self.tiers.keys().filter_map(|tier| self.queue(tier)).collect()
    }

    /// Returns the tasks that wait for one that has ended, and forgets them.
    pub(super) fn take_dependents(&mut self, ended: TaskId) -> Vec<TaskId> {
        self.lookups.take_dependents(ended)
    }

    /// The task that an event is about: the one it names, else the newest that matches its
    /// artifact, else the newest that matches its review.
    pub(super) fn correlate(&self, correlation: &Correlation) -> Option<TaskId> {
        self.lookups.correlate(correlation)
    }

    /// The task that a lease holds.
    pub(super) fn leased_task(&self, lease: LeaseId) -> Option<TaskId> {
        self.lookups.leased_task(lease)
    }

    /// Takes the next task that gets a slot out of its line, of those on tiers that are not
    /// paused and for which a worker waits.
    pub(super) fn next_to_lease(&mut self, waits: impl Fn(&Tier) -> bool, now: Now) -> Option<(TaskId, Tier)> {
        let tiers = &self.tiers;
        self.admission.take_next(|tier| waits(tier) && is_open(tiers, tier), now.observed)
    }

    /// Whether [`Self::next_to_lease`] would find a task.
    pub(super) fn has_next_to_lease(&self, waits: impl Fn(&Tier) -> bool) -> bool {
        self.admission.has_next(|tier| waits(tier) && is_open(&self.tiers, tier))
    }

    /// Takes the next task that gets a slot out of its line, for the broker.
    pub(super) fn next_to_dispatch(&mut self, now: Now) -> Option<TaskId> {
        if self.bus == Bus::Embedded {
            return None;
        }
        let tiers = &self.tiers;
        let takes = |tier: &Tier| tiers.get(tier).is_none_or(TierLine::takes_dispatch);
        self.admission.take_next(takes, now.observed).map(|(task, _)| task)
    }

    /// Whether [`Self::next_to_dispatch`] would find a task.
    pub(super) fn has_next_to_dispatch(&self) -> bool {
        let takes = |tier: &Tier| self.tiers.get(tier).is_none_or(TierLine::takes_dispatch);
        self.bus == Bus::Broker && self.admission.has_next(takes)
    }

    /// How long until the next task is due, if the wall clock is not set meanwhile.
    pub(super) fn next_timer(&self, now: Now) -> Option<Duration> {
        self.timers.next(now)
    }

    /// The timers from a moment on, in order.
    pub(super) fn timers_from(&self, from: Moment) -> impl Iterator<Item = (Moment, TaskId)> {
        self.timers.from(from)
    }

    /// Removes the next timer that is due. Returns its task.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<TaskId> {
        self.timers.pop_due(now)
    }
}

/// The place of a task in the line for a slot; `None` while it pauses after a release.
fn line_place(task: &Task) -> Option<(&ProjectId, &Tier, Priority, Place)> {
    match &task.state {
        State::Pending(Pending::Queued(Queued { since, not_before: None, .. })) => {
            Some((&task.project, &task.tier, task.priority, Place { since: *since, task: task.id }))
        }
        _ => None,
    }
}

/// The place of a task outside of the line for a slot.
enum TierPlace {
    /// In the routing line.
    Analyzing { since: Moment },
    /// In the work queue of its tier at the broker.
    Dispatched { at: Moment },
    /// Leased to a worker of its tier.
    Leased,
}

fn tier_place(task: &Task) -> Option<TierPlace> {
    match &task.state {
        State::Pending(Pending::Analyzing { since }) => Some(TierPlace::Analyzing { since: *since }),
        State::Pending(Pending::Dispatched { at, .. }) => Some(TierPlace::Dispatched { at: *at }),
        State::Running { progress: Progress::Leased { .. }, .. } => Some(TierPlace::Leased),
        State::Running {
            progress: Progress::Started { .. } | Progress::Validating { .. } | Progress::Reviewing { .. },
            ..
        }
        | State::Pending(
            Pending::Scheduled { .. } | Pending::Blocked { .. } | Pending::Queued(_) | Pending::Backoff { .. },
        )
        | State::Children(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}

/// Whether tasks of a tier are leased and dispatched.
fn is_open(tiers: &BTreeMap<Tier, TierLine>, tier: &Tier) -> bool {
    tiers.get(tier).is_none_or(|line| !line.is_paused())
}
