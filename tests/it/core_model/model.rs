//! What the core should do, written down a second time from the promises
//! alone: a map of phases and a few counters, nothing clever.

mod attempts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dats::task::{
    ArtifactId, Decision, LeaseId, Output, Phase, Priority, Report, ReviewDecision, ReviewId, TaskId, Timestamp,
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
    pub(crate) parked: Vec<(Timestamp, Report)>,
    /// The attempts that produced something.
    pub(crate) recorded: BTreeSet<u32>,
    pub(crate) priority: Priority,
    pub(crate) max_attempts: u32,
    pub(crate) timeout: Duration,
    pub(crate) qa: bool,
    /// End of `scheduled`; end of `backoff` once it is known.
    pub(crate) until: Option<Timestamp>,
    /// Start of `queued`, `dispatched` or `backoff`.
    pub(crate) since: Timestamp,
    used: Duration,
    lease: Option<(LeaseId, Timestamp, Timestamp)>,
    /// Since when a worker without a lease has it.
    taken: Option<Timestamp>,
    due: Option<Timestamp>,
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
    pub(crate) limits: Vec<usize>,
    pub(crate) now: Timestamp,
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
    pub(crate) fn new(project: usize, priority: Priority, now: Timestamp) -> Self {
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
            until: None,
            since: now,
            used: Duration::ZERO,
            lease: None,
            taken: None,
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

    pub(crate) fn holds_slot(&self) -> bool {
        matches!(self.phase, Phase::Dispatched | Phase::Leased | Phase::Validating)
    }

    fn open_output(&self) -> bool {
        matches!(self.phase, Phase::Validating | Phase::Reviewing)
    }

    pub(crate) fn running(&self) -> bool {
        self.holds_slot() || self.phase == Phase::Reviewing
    }

    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.parked.clear();
        self.lease = None;
        self.taken = None;
    }

    fn close(&mut self, again: bool, escalate: bool, now: Timestamp) {
        self.closed.append(&mut self.output);
        self.closed.append(&mut self.late);
        self.closed_reviews.extend(self.review.take());
        self.closed_reviews.append(&mut self.other_reviews);
        self.used = Duration::ZERO;
        self.lease = None;
        self.taken = None;
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

    fn look_at_parked_again(&mut self, now: Timestamp, patience: Option<Duration>) {
        for (until, report) in std::mem::take(&mut self.parked) {
            if self.settle(&report, now, patience) == Settled::Early {
                self.parked.push((until, report));
            }
        }
    }

    fn settle(&mut self, report: &Report, now: Timestamp, patience: Option<Duration>) -> Settled {
        let settled = self.take(report, now, patience);
        let (artifact, review) = match report {
            Report::ReviewRequested(request) => (request.artifact.as_ref(), &request.review),
            Report::ReviewCompleted(review) => (review.artifact.as_ref(), &review.review),
            Report::Verdict(_) | Report::Output(_) | Report::Failed(_) | Report::Started(_) => return settled,
        };
        if settled == Settled::Stale && self.attempt > 0 {
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

    fn take(&mut self, report: &Report, now: Timestamp, patience: Option<Duration>) -> Settled {
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
            Some(artifact) if self.late.contains(artifact) || self.closed.contains(artifact) => return Settled::Stale,
            Some(_) => return Settled::Early,
            None if review.is_some_and(|review| self.closed_reviews.contains(review)) => return Settled::Stale,
            None if self.open_output() => {}
            None if self.running() => return Settled::Early,
            None => return Settled::Stale,
        }
        match report {
            Report::Verdict(verdict) if verdict.decision == Decision::Validated => self.end(Phase::Completed),
            Report::Verdict(_) => self.close(true, true, now),
            Report::ReviewRequested(_) if self.phase == Phase::Reviewing => return Settled::Stale,
            Report::ReviewRequested(request) => {
                self.phase = Phase::Reviewing;
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

    fn output(&mut self, output: &Output, now: Timestamp, patience: Option<Duration>) -> &'static str {
        let number = output.attempt.unwrap_or(self.attempt);
        let known = (1..=self.attempt).contains(&number);
        if !known {
            return if self.ended() { "stale" } else { "refused" };
        }
        let ids = output.artifacts.iter().map(|each| each.id.clone()).chain([output.artifact.clone()]);
        let newest = number == self.attempt;
        if newest && matches!(self.phase, Phase::Dispatched | Phase::Leased) {
            self.recorded.insert(number);
            self.version += 1;
            self.lease = None;
            self.taken = None;
            self.output = ids.collect();
            if self.qa {
                self.phase = Phase::Validating;
                self.due = patience.map(|patience| now.after(patience));
                self.look_at_parked_again(now, patience);
            } else {
                self.end(Phase::Completed);
            }
            return "applied";
        }
        if newest && self.open_output() {
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
}

impl Model {
    pub(crate) fn new(limits: Vec<usize>, aging: Duration, patience: Option<Duration>, now: Timestamp) -> Self {
        Self { limits, now, patience, aging, ..Self::default() }
    }

    fn entry(&mut self, task: TaskId) -> &mut Entry {
        self.tasks.get_mut(&task).expect("the model knows every task")
    }

    pub(crate) fn report(&mut self, task: TaskId, report: &Report) -> &'static str {
        let (now, patience) = (self.now, self.patience);
        let entry = self.entry(task);
        let answer = match report {
            Report::Output(output) => entry.output(output, now, patience),
            Report::Failed(failure) => entry.failed(failure.attempt, failure.retryable, now),
            Report::Started(started) => entry.started(started.attempt, now),
            Report::Verdict(_) | Report::ReviewRequested(_) | Report::ReviewCompleted(_) => {
                match entry.settle(report, now, patience) {
                    Settled::Applied => {
                        entry.version += 1;
                        "applied"
                    }
                    Settled::Stale => "stale",
                    Settled::Early if entry.parked.iter().any(|(_, parked)| parked == report) => "unchanged",
                    Settled::Early if entry.parked.len() == 8 => "refused",
                    Settled::Early => {
                        entry.parked.push((now.after(PARK), report.clone()));
                        "parked"
                    }
                }
            }
        };
        self.spread();
        answer
    }

    pub(crate) fn tick(&mut self) {
        let now = self.now;
        for task in self.tasks.keys().copied().collect::<Vec<_>>() {
            let entry = self.entry(task);
            let before = entry.parked.len();
            entry.parked.retain(|(until, _)| *until > now);
            let expired = before - entry.parked.len();
            if entry.timer(now) {
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
        if entry.phase != Phase::Dispatched {
            return "refused";
        }
        if entry.take_without_lease(now) { "applied" } else { "unchanged" }
    }

    pub(crate) fn renew(&mut self, task: TaskId, id: LeaseId, to: Timestamp) -> &'static str {
        match &mut self.entry(task).lease {
            Some((held, _, until)) if *held == id => *until = to,
            _ => return "refused",
        }
        "applied"
    }

    pub(crate) fn release(&mut self, task: TaskId, id: LeaseId) -> &'static str {
        let now = self.now;
        let entry = self.entry(task);
        let Some((_, since, _)) = entry.lease.filter(|(held, ..)| *held == id) else { return "refused" };
        if entry.overdue() <= Some(now) {
            entry.close(true, false, now);
        } else {
            entry.used += now.since(since);
            entry.lease = None;
            entry.phase = Phase::Dispatched;
        }
        entry.version += 1;
        self.spread();
        "applied"
    }

    /// A worker got `task`: it must have been the right one to give.
    pub(crate) fn leased(&mut self, task: TaskId, id: LeaseId, until: Timestamp) {
        let entry = &self.tasks[&task];
        assert_eq!(entry.phase, Phase::Dispatched);
        let (project, tier) = (entry.project, entry.tier);
        assert_eq!(
            self.next_in_line(Phase::Dispatched, project, Some(tier)),
            Some(task),
            "not the next of its project"
        );
        let waiting = self.tasks.values().filter(|entry| entry.phase == Phase::Dispatched && entry.tier == tier);
        let waiting = waiting.filter(|entry| !self.is_held(entry));
        let others: BTreeSet<_> = waiting.map(|entry| entry.project).filter(|other| *other != project).collect();
        self.passed.retain(|(of, other, _), _| *of != tier || (*other != project && others.contains(other)));
        for other in others {
            let passed = self.passed.entry((tier, other, project)).or_default();
            *passed += 1;
            assert!(*passed <= 1, "project {project} was served twice while {other} waited");
        }
        let now = self.now;
        let entry = self.entry(task);
        entry.phase = Phase::Leased;
        entry.used += entry.taken.take().map_or(Duration::ZERO, |taken| now.since(taken));
        entry.lease = Some((id, now, until));
        entry.version += 1;
    }

    pub(crate) fn anybody_dispatched(&self, tier: &str) -> bool {
        let waits = |entry: &Entry| entry.phase == Phase::Dispatched && !self.is_held(entry);
        self.tasks.values().any(|entry| waits(entry) && entry.tier_name() == tier)
    }

    fn is_held(&self, entry: &Entry) -> bool {
        self.paused.0.contains(&entry.project) || self.paused.1.contains(&entry.tier)
    }

    /// The ends of tasks reach those that wait for them, until none is left.
    pub(crate) fn spread(&mut self) {
        let now = self.now;
        let phases: BTreeMap<_, _> = self.tasks.iter().map(|(task, entry)| (*task, entry.phase)).collect();
        let mut more = false;
        for entry in self.tasks.values_mut().filter(|entry| matches!(entry.phase, Phase::Scheduled | Phase::Blocked)) {
            let was = entry.waits.len();
            let lost = entry.waits.iter().any(|task| matches!(phases[task], Phase::Failed | Phase::Cancelled));
            if lost {
                entry.version += 1;
                entry.end(Phase::Failed);
                more = true;
                continue;
            }
            entry.waits.retain(|task| phases[task] != Phase::Completed);
            entry.version += u64::try_from(was - entry.waits.len()).expect("few dependencies");
            if entry.waits.is_empty() && entry.phase == Phase::Blocked {
                entry.phase = Phase::Queued;
                entry.since = now;
            }
        }
        if more {
            self.spread();
        }
    }

    /// Free slots go to those that wait.
    pub(crate) fn admit(&mut self) {
        // Who stopped waiting has no claim any more.
        let waiting = self.tasks.values().filter(|entry| entry.phase == Phase::Dispatched && !self.is_held(entry));
        let waiting: BTreeSet<_> = waiting.map(|entry| (entry.tier, entry.project)).collect();
        self.passed.retain(|(tier, other, _), _| waiting.contains(&(*tier, *other)));
        for project in 0..self.limits.len() {
            while self.slots(project) < self.limits[project]
                && let Some(task) = self.next_in_line(Phase::Queued, project, None)
            {
                let now = self.now;
                let entry = self.entry(task);
                entry.phase = Phase::Dispatched;
                entry.attempt += 1;
                entry.since = now;
                entry.version += 1;
            }
        }
    }

    pub(crate) fn slots(&self, project: usize) -> usize {
        self.tasks.values().filter(|entry| entry.project == project && entry.holds_slot()).count()
    }

    /// Highest class after aging, then oldest, then smallest id.
    fn next_in_line(&self, phase: Phase, project: usize, tier: Option<usize>) -> Option<TaskId> {
        let fits = |entry: &Entry| {
            let of_it = entry.phase == phase && entry.project == project && !self.is_held(entry);
            of_it && tier.is_none_or(|tier| tier == entry.tier)
        };
        let class = |entry: &Entry| {
            let risen = self.now.since(entry.since).as_micros() / self.aging.as_micros();
            (u128::try_from(entry.priority.class()).expect("three classes") + risen).min(2)
        };
        let waiting = self.tasks.iter().filter(|(_, entry)| fits(entry));
        waiting.min_by_key(|(task, entry)| (2 - class(entry), entry.since, **task)).map(|(task, _)| *task)
    }
}
