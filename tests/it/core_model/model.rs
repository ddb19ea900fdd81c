//! What the core should do, written down a second time from the promises
//! alone: a map of phases and a few counters, nothing clever.

mod attempts;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dats::task::{
    ArtifactId, Bus, Decision, Holder, LeaseId, Moment, Output, Phase, Priority, Report, ReviewDecision, ReviewId,
    TaskId, Timestamp,
};

/// Longest wait for an output, as in the tests' policy.
const PARK: Duration = Duration::from_mins(10);
/// The way up after a rejection.
const TIERS: [&str; 3] = ["small", "large", "frontier"];

/// One task as the model sees it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) phase: Phase,
    pub(crate) version: u64,
    pub(crate) attempt: u32,
    pub(crate) tier: usize,
    pub(crate) project: usize,
    pub(crate) waits: BTreeSet<TaskId>,
    pub(crate) parked: Vec<(Moment, Report)>,
    /// The attempts that produced something.
    pub(crate) recorded: BTreeSet<u32>,
    pub(crate) priority: Priority,
    pub(crate) max_attempts: u32,
    pub(crate) timeout: Duration,
    pub(crate) qa: bool,
    /// End of `scheduled`, by the wall clock.
    pub(crate) scheduled: Option<Timestamp>,
    /// End of the pause after a release; end of `backoff` once it is known.
    pub(crate) until: Option<Moment>,
    /// Start of `queued`, which a lost lease does not change, or of `backoff`.
    pub(crate) since: Moment,
    /// Whether the newest attempt is open, and whether it holds a slot.
    open: bool,
    slot: bool,
    used: Duration,
    lease: Option<(LeaseId, Moment, Moment)>,
    /// Since when a worker has it from a broker, and whether it has said so.
    taken: Option<(Moment, bool)>,
    /// When a worker first had it, and in which attempt.
    pub(crate) started: Option<(Moment, u32)>,
    /// The worker that has it, or has sent its output.
    holder: Holder,
    holders: u32,
    lost: u32,
    releases: u32,
    /// From workers that did not hold the attempt.
    foreign: BTreeSet<ArtifactId>,
    due: Option<Moment>,
    output: BTreeSet<ArtifactId>,
    late: BTreeSet<ArtifactId>,
    closed: BTreeSet<ArtifactId>,
    review: Option<ReviewId>,
    /// Reviews of the open output besides `review`.
    other_reviews: BTreeSet<ReviewId>,
    closed_reviews: BTreeSet<ReviewId>,
}

/// All tasks, and the answer a command should get: `applied`, `unchanged`,
/// `stale`, `parked` or `refused`.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) tasks: BTreeMap<TaskId, Entry>,
    brokered: bool,
    pub(crate) limits: Vec<usize>,
    pub(crate) now: Moment,
    /// What the wall clock shows, which can be set.
    pub(crate) wall: Timestamp,
    /// Longest validation and longest review.
    pub(crate) patience: Option<Duration>,
    pub(crate) dead_letters: usize,
    pub(crate) aging: Duration,
    /// Projects and tiers that are paused.
    pub(crate) paused: (BTreeSet<usize>, BTreeSet<usize>),
    /// How often a project was served while another one waited for a worker.
    passed: BTreeMap<(usize, usize, usize), u32>,
}

#[derive(PartialEq, Eq)]
enum Settled {
    Applied,
    Stale,
    Early,
}

impl Entry {
    pub(crate) fn new(project: usize, priority: Priority, now: Moment) -> Self {
        Self {
            phase: Phase::Queued,
            version: 1,
            attempt: 0,
            tier: 0,
            project,
            waits: BTreeSet::new(),
            parked: Vec::new(),
            recorded: BTreeSet::new(),
            priority,
            max_attempts: 1,
            timeout: Duration::ZERO,
            qa: true,
            scheduled: None,
            until: None,
            since: now,
            open: false,
            slot: false,
            used: Duration::ZERO,
            lease: None,
            taken: None,
            started: None,
            holder: Holder::default(),
            holders: 0,
            lost: 0,
            releases: 0,
            foreign: BTreeSet::new(),
            due: None,
            output: BTreeSet::new(),
            late: BTreeSet::new(),
            closed: BTreeSet::new(),
            review: None,
            other_reviews: BTreeSet::new(),
            closed_reviews: BTreeSet::new(),
        }
    }

    pub(crate) fn tier_name(&self) -> &'static str {
        TIERS[self.tier]
    }

    pub(crate) fn ended(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Failed | Phase::Cancelled)
    }

    pub(crate) const fn holds_slot(&self) -> bool {
        self.slot
    }

    fn open_output(&self) -> bool {
        matches!(self.phase, Phase::Validating | Phase::Reviewing)
    }

    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.parked.clear();
        self.leave();
        self.open = false;
        self.slot = false;
    }

    /// Whoever had it has it no longer.
    fn leave(&mut self) {
        self.lease = None;
        self.taken = None;
        self.holder = Holder::default();
    }

    /// A new attempt, or the one that is open.
    fn open_attempt(&mut self) {
        if !self.open {
            self.open = true;
            self.attempt += 1;
            self.used = Duration::ZERO;
            (self.holders, self.lost, self.releases) = (0, 0, 0);
        }
    }

    fn close(&mut self, again: bool, escalate: bool, now: Moment) {
        self.closed.append(&mut self.output);
        self.closed.append(&mut self.late);
        self.closed_reviews.extend(self.review.take());
        self.closed_reviews.append(&mut self.other_reviews);
        self.closed.append(&mut self.foreign);
        self.leave();
        self.open = false;
        self.slot = false;
        self.due = None;
        if !again || self.attempt >= self.max_attempts {
            self.end(Phase::Failed);
            return;
        }
        if escalate {
            self.tier = (self.tier + 1).min(2);
        }
        self.phase = Phase::Backoff;
        self.since = now;
        self.until = None;
        self.look_at_parked_again(now, None);
    }

    fn look_at_parked_again(&mut self, now: Moment, patience: Option<Duration>) {
        for (until, report) in std::mem::take(&mut self.parked) {
            if self.settle(&report, now, patience) == Settled::Early {
                self.parked.push((until, report));
            }
        }
    }

    fn settle(&mut self, report: &Report, now: Moment, patience: Option<Duration>) -> Settled {
        let settled = self.take(report, now, patience);
        let (artifact, review) = match report {
            Report::ReviewRequested(request) => (request.artifact.as_ref(), &request.review),
            Report::ReviewCompleted(review) => (review.artifact.as_ref(), &review.review),
            Report::Verdict(_) | Report::Output(_) | Report::Failed(_) | Report::Started(_) => return settled,
        };
        // A review of what came from another worker says nothing about an attempt.
        let is_foreign = artifact.is_some_and(|id| self.foreign.contains(id) && !self.closed.contains(id));
        if settled == Settled::Stale && self.attempt > 0 && !is_foreign {
            let here = |id| self.output.contains(id) || self.late.contains(id);
            let reviews = if self.open_output() && artifact.is_none_or(here) {
                &mut self.other_reviews
            } else {
                &mut self.closed_reviews
            };
            reviews.insert(review.clone());
        }
        settled
    }

    fn take(&mut self, report: &Report, now: Moment, patience: Option<Duration>) -> Settled {
        let (artifact, review) = match report {
            Report::Verdict(verdict) => (Some(&verdict.artifact), None),
            Report::ReviewRequested(request) => (request.artifact.as_ref(), Some(&request.review)),
            Report::ReviewCompleted(review) => (review.artifact.as_ref(), Some(&review.review)),
            Report::Output(_) | Report::Failed(_) | Report::Started(_) => (None, None),
        };
        if self.ended() {
            return Settled::Stale;
        }
        match artifact {
            Some(artifact) if self.open_output() && self.output.contains(artifact) => {}
            Some(artifact)
                if [&self.late, &self.closed, &self.foreign].iter().any(|known| known.contains(artifact)) =>
            {
                return Settled::Stale;
            }
            Some(_) => return Settled::Early,
            None if review.is_some_and(|review| self.closed_reviews.contains(review)) => return Settled::Stale,
            None if self.open_output() => {}
            None if self.open || self.phase == Phase::Queued => return Settled::Early,
            None => return Settled::Stale,
        }
        match report {
            Report::Verdict(verdict) if verdict.decision == Decision::Validated => self.end(Phase::Completed),
            Report::Verdict(_) => self.close(true, true, now),
            Report::ReviewRequested(_) if self.phase == Phase::Reviewing => return Settled::Stale,
            Report::ReviewRequested(request) => {
                self.phase = Phase::Reviewing;
                self.slot = false;
                self.review = Some(request.review.clone());
                self.due = patience.map(|patience| now.after(patience));
            }
            Report::ReviewCompleted(given) => {
                let other = self.review.as_ref().is_some_and(|review| *review != given.review);
                if other && artifact.is_none() {
                    return Settled::Stale;
                }
                if given.decision == ReviewDecision::Approved {
                    self.end(Phase::Completed);
                } else {
                    self.closed_reviews.insert(given.review.clone());
                    self.close(true, true, now);
                }
            }
            Report::Output(_) | Report::Failed(_) | Report::Started(_) => {}
        }
        Settled::Applied
    }

    fn output(&mut self, output: &Output, brokered: bool, now: Moment, patience: Option<Duration>) -> &'static str {
        let number = match output.attempt {
            Some(number) => number,
            None if self.phase == Phase::Queued && self.attempt == 0 => 1,
            None => self.attempt,
        };
        let mut newest = self.attempt;
        if self.phase == Phase::Queued && !self.open && (!brokered || (newest == 0 && output.attempt.is_none())) {
            newest += 1;
        }
        if !(1..=newest).contains(&number) {
            return if self.ended() { "stale" } else { "refused" };
        }
        let ids = output.artifacts.iter().map(|each| each.id.clone()).chain([output.artifact.clone()]);
        let is_closed = self.phase == Phase::Queued && !self.open && number <= self.attempt;
        let is_newest = number == newest && !is_closed;
        let takes = matches!(self.phase, Phase::Queued | Phase::Dispatched | Phase::Started | Phase::Leased);
        if is_newest && takes {
            if self.phase == Phase::Leased && self.is(&output.sender) == Some(false) {
                self.foreign.extend(ids);
                self.version += u64::from(self.recorded.insert(number));
                self.look_at_parked_again(now, patience);
                return "stale";
            }
            self.take_output(ids.collect(), &output.sender, now, patience);
            return "applied";
        }
        if is_newest && self.open_output() {
            self.late.extend(ids);
        } else {
            self.closed.extend(ids);
            if self.recorded.insert(number) {
                self.version += 1;
            }
        }
        self.look_at_parked_again(now, patience);
        "stale"
    }

    fn take_output(&mut self, ids: BTreeSet<ArtifactId>, sender: &Holder, now: Moment, patience: Option<Duration>) {
        self.open_attempt();
        self.begin(now);
        self.recorded.insert(self.attempt);
        self.version += 1;
        let foreign = std::mem::take(&mut self.foreign);
        self.late = foreign.difference(&ids).cloned().collect();
        self.output = ids;
        if self.phase != Phase::Leased {
            self.holder = Holder { worker: sender.worker.clone().or(self.holder.worker.take()), lease: sender.lease };
            if self.phase == Phase::Started {
                self.holder.lease = None;
            }
        }
        self.lease = None;
        self.taken = None;
        self.until = None;
        if self.qa {
            self.phase = Phase::Validating;
            self.due = patience.map(|patience| now.after(patience));
            self.look_at_parked_again(now, patience);
        } else {
            self.end(Phase::Completed);
        }
    }
}

impl Model {
    pub(crate) fn new(bus: Bus, limits: Vec<usize>, aging: Duration, patience: Option<Duration>, now: Moment) -> Self {
        let wall = crate::core_fixtures::calendar(now);
        Self { brokered: bus == Bus::Broker, limits, now, wall, patience, aging, ..Self::default() }
    }

    fn entry(&mut self, task: TaskId) -> &mut Entry {
        self.tasks.get_mut(&task).expect("the model knows every task")
    }

    pub(crate) fn report(&mut self, task: TaskId, report: &Report) -> &'static str {
        let (now, patience, brokered) = (self.now, self.patience, self.brokered);
        let mut dropped = 0;
        let entry = self.entry(task);
        let answer = match report {
            Report::Output(output) => entry.output(output, brokered, now, patience),
            Report::Failed(failure) => entry.failed(failure, brokered, now),
            Report::Started(started) => entry.started(started, brokered, now),
            Report::Verdict(_) | Report::ReviewRequested(_) | Report::ReviewCompleted(_) => {
                match entry.settle(report, now, patience) {
                    Settled::Applied => {
                        entry.version += 1;
                        "applied"
                    }
                    Settled::Stale => "stale",
                    Settled::Early if entry.parked.iter().any(|(_, parked)| parked == report) => "unchanged",
                    Settled::Early => {
                        if entry.parked.len() == 8 {
                            entry.parked.remove(0);
                            dropped += 1;
                        }
                        entry.parked.push((now.after(PARK), report.clone()));
                        "parked"
                    }
                }
            }
        };
        self.dead_letters += dropped;
        self.spread();
        answer
    }

    pub(crate) fn tick(&mut self) {
        let (now, wall) = (self.now, self.wall);
        for task in self.tasks.keys().copied().collect::<Vec<_>>() {
            let entry = self.entry(task);
            let before = entry.parked.len();
            entry.parked.retain(|(until, _)| *until > now);
            let expired = before - entry.parked.len();
            if entry.timer(now, wall) {
                entry.version += 1;
            }
            self.dead_letters += expired;
            self.spread();
        }
    }

    pub(crate) fn cancel(&mut self, task: TaskId) -> &'static str {
        let entry = self.entry(task);
        match entry.phase {
            Phase::Cancelled => return "unchanged",
            Phase::Completed | Phase::Failed => return "refused",
            _ => entry.end(Phase::Cancelled),
        }
        entry.version += 1;
        self.spread();
        "applied"
    }

    /// A worker has taken it from a broker.
    pub(crate) fn take(&mut self, task: TaskId) -> &'static str {
        let now = self.now;
        let entry = self.entry(task);
        match entry.phase {
            Phase::Started => return "unchanged",
            Phase::Dispatched => entry.phase = Phase::Started,
            _ => return "refused",
        }
        entry.taken = Some((now, false));
        entry.holders += 1;
        entry.begin(now);
        entry.version += 1;
        "applied"
    }

    pub(crate) fn renew(&mut self, task: TaskId, id: LeaseId, to: Moment) -> &'static str {
        match &mut self.entry(task).lease {
            Some((held, _, until)) if *held == id => *until = to,
            _ => return "refused",
        }
        "applied"
    }

    pub(crate) fn release(&mut self, task: TaskId, id: LeaseId, delivered: bool) -> &'static str {
        let now = self.now;
        let entry = self.entry(task);
        let Some((_, since, _)) = entry.lease.filter(|(held, ..)| *held == id) else { return "refused" };
        entry.releases += u32::from(delivered);
        if !delivered {
            entry.take_back();
        } else if entry.overdue() <= Some(now) {
            entry.close(true, false, now);
        } else {
            entry.wait_again(since, now);
            let pause = Duration::from_millis(100 * 2_u64.pow(entry.releases - 1)).min(Duration::from_secs(10));
            entry.until = Some(now.after(pause));
        }
        entry.version += 1;
        self.spread();
        "applied"
    }

    /// A worker got `task`: it must have been the right one to give.
    pub(crate) fn leased(&mut self, task: TaskId, id: LeaseId, until: Moment) {
        let entry = &self.tasks[&task];
        assert_eq!(entry.phase, Phase::Queued);
        let (project, tier) = (entry.project, entry.tier);
        assert!(self.slots(project) < self.limits[project], "there was no slot");
        assert_eq!(self.next_in_line(project, Some(tier)), Some(task), "not the next of its project");
        let others: BTreeSet<_> =
            self.claims().into_iter().filter(|(of, other)| *of == tier && *other != project).map(|it| it.1).collect();
        self.passed.retain(|(of, other, _), _| *of != tier || (*other != project && others.contains(other)));
        for other in others {
            let passed = self.passed.entry((tier, other, project)).or_default();
            *passed += 1;
            assert!(*passed <= 1, "project {project} was served twice while {other} waited");
        }
        let now = self.now;
        let entry = self.entry(task);
        entry.open_attempt();
        entry.phase = Phase::Leased;
        entry.slot = true;
        entry.holders += 1;
        entry.begin(now);
        entry.holder = Holder { lease: Some(id), worker: Some(crate::core_fixtures::worker()) };
        entry.lease = Some((id, now, until));
        entry.version += 1;
    }
}
