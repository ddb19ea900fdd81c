//! Random lives of several tasks: submissions, leases, reports (duplicate,
//! reordered, late), cancels, limits and time, against a plain model.

mod commands;
mod model;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use dats::task::{
    Bus, Completion, Dependency, Input, Moment, Phase, Policy, Priority, RecordStatus, Report, Resolved, State, Status,
    TaskId, submit,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use self::commands::{Command, What, Which, Wish, commands, turns};
use self::model::{Entry, Model};
use self::world::World;
use crate::core_fixtures::{
    at, failed, from_qa, lease_id, output, policy, project, record_id, rejected, resolved, review_completed,
    review_requested, sent_by, started, submission, task_id, tier, validated, worker,
};

const PROJECTS: [&str; 3] = ["a", "b", "c"];
const TIERS: [&str; 3] = ["small", "large", "frontier"];
const ARTIFACTS: [&str; 6] = ["a0", "a1", "a2", "a3", "a4", "a5"];
const REVIEWS: [&str; 3] = ["r0", "r1", "r2"];
const LIMIT: u32 = 2;
const AGING: Duration = Duration::from_secs(20);
/// The first of these is doubled for each attempt, the second is the cap.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// The core and the model, side by side.
struct Pair {
    world: World,
    model: Model,
    sent: Vec<(TaskId, Report)>,
    ids: u128,
    /// Which reports got which answers in which phases.
    met: BTreeSet<(Phase, &'static str, &'static str)>,
}

impl Pair {
    fn new(bus: Bus, patience: Option<u64>) -> Self {
        let mut policy = Policy { bus, ..policy(patience) };
        (policy.backoff_initial, policy.backoff_max) = BACKOFF;
        let limits = vec![usize::try_from(LIMIT).expect("a small number"); PROJECTS.len()];
        let model = Model::new(bus, limits, AGING, patience.map(Duration::from_secs), at(1000));
        let world = World::new(policy, AGING, LIMIT, at(1000));
        Self { world, model, sent: Vec::new(), ids: 0, met: BTreeSet::new() }
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn pick(&self, task: usize) -> Option<TaskId> {
        let count = self.world.tasks.len().max(1);
        self.world.tasks.keys().nth(task % count).copied()
    }

    fn run(&mut self, command: &Command) {
        let picked = |pair: &Self, task: &usize| pair.pick(*task);
        match command {
            Command::Submit(wish) => self.submit(wish),
            Command::Lease { tier, seconds } => self.lease(TIERS[*tier], *seconds),
            Command::Renew { task, right, seconds } => {
                let Some(task) = picked(self, task) else { return };
                let (id, until) = (self.lease_of(task, *right), self.in_seconds(*seconds));
                let answer = self.world.input(task, &Input::Renew { id, until });
                assert_eq!(answer, self.model.renew(task, id, until));
            }
            Command::Release { task, right, delivered } => {
                let Some(task) = picked(self, task) else { return };
                let (id, delivered) = (self.lease_of(task, *right), *delivered);
                let answer = self.world.input(task, &Input::Release { id, delivered });
                assert_eq!(answer, self.model.release(task, id, delivered));
            }
            Command::Take { task } => {
                let Some(task) = picked(self, task) else { return };
                assert_eq!(self.world.input(task, &Input::Take), self.model.take(task));
            }
            Command::Report { task, what } => {
                let Some(task) = picked(self, task) else { return };
                let report = self.report_of(task, what);
                self.send(task, report);
            }
            Command::Again { report } if !self.sent.is_empty() => {
                let (task, report) = self.sent[report % self.sent.len()].clone();
                self.send(task, report);
            }
            Command::Again { .. } => {}
            Command::Cancel { task } => {
                let Some(task) = picked(self, task) else { return };
                assert_eq!(self.world.input(task, &Input::Cancel { reason: None }), self.model.cancel(task));
            }
            Command::Limit { project: number, limit } => {
                self.world.admission.set_limit(&project(PROJECTS[*number]), *limit);
                self.model.limits[*number] = usize::try_from(limit.unwrap_or(LIMIT)).expect("a small number");
            }
            Command::Pause { is_project, number, paused } => self.pause(*is_project, *number, *paused),
            Command::Time { millis, late } => self.time(*millis, *late),
            Command::SetClock { ahead } => {
                self.world.ahead = *ahead;
                self.time(0, false);
            }
        }
    }

    fn pause(&mut self, is_project: bool, number: usize, paused: bool) {
        if is_project {
            self.world.pause_project(&project(PROJECTS[number]), paused);
        } else {
            self.world.pause_tier(&tier(TIERS[number]), paused);
        }
        let known = if is_project { &mut self.model.paused.0 } else { &mut self.model.paused.1 };
        if paused {
            known.insert(number);
        } else {
            known.remove(&number);
        }
    }

    fn submit(&mut self, wish: &Wish) {
        if self.world.tasks.len() >= 12 {
            return;
        }
        let id = task_id(self.id());
        let mut depends_on: Vec<_> = wish.depends_on.iter().filter_map(|task| self.pick(*task)).collect();
        depends_on.dedup();
        let now = self.world.now;
        let present = self.world.present();
        let not_before = wish.wait.map(|wait| present.calendar(self.in_seconds(wait)));
        let how_far = |task: &TaskId| match self.world.tasks[task].status() {
            Status::Completed => Dependency::Completed(Vec::new()),
            Status::Failed | Status::Cancelled => Dependency::Lost,
            Status::Pending | Status::Running => Dependency::Open,
        };
        let dependencies: Vec<_> = depends_on.iter().map(|task| (*task, how_far(task))).collect();
        let profile = if wish.qa { "consensus" } else { "none" };
        let resolved = Resolved { priority: wish.priority, ..resolved(wish.max_attempts, wish.timeout, profile) };
        let submission = submission(project(PROJECTS[wish.project]), &depends_on, not_before);
        let step = submit(id, &submission, resolved, &dependencies, present, &self.world.policy);
        self.world.add(step);

        let mut entry = Entry::new(wish.project, wish.priority, now);
        entry.max_attempts = wish.max_attempts;
        entry.timeout = Duration::from_secs(u64::from(wish.timeout));
        entry.qa = wish.qa;
        let waits = dependencies.iter().filter(|(_, dependency)| *dependency == Dependency::Open);
        entry.waits = waits.map(|(task, _)| *task).collect();
        entry.scheduled = not_before.filter(|until| *until > present.wall);
        entry.phase = if dependencies.iter().any(|(_, dependency)| *dependency == Dependency::Lost) {
            Phase::Failed
        } else if not_before > Some(present.wall) {
            Phase::Scheduled
        } else if entry.waits.is_empty() {
            Phase::Queued
        } else {
            Phase::Blocked
        };
        self.model.tasks.insert(id, entry);
    }

    fn lease(&mut self, name: &str, seconds: i64) {
        if self.world.policy.bus == Bus::Broker {
            return;
        }
        let Some(task) = self.world.pop(&tier(name)) else {
            assert!(!self.model.has_task_for(name), "a worker went away while a task waited");
            return;
        };
        let (id, until) = (lease_id(self.id()), self.in_seconds(seconds));
        self.model.leased(task, id, until);
        assert_eq!(self.model.tasks[&task].tier_name(), name);
        assert_eq!(self.world.input(task, &Input::Lease { id, worker: worker(), until }), "applied");
    }

    fn time(&mut self, millis: i64, late: bool) {
        let now = Moment::from_micros(self.world.now.as_micros() + millis * 1000);
        self.world.now = now;
        self.model.now = now;
        self.model.wall = self.world.present().wall;
        if !late {
            self.world.tick();
            self.model.tick();
        }
    }

    fn send(&mut self, task: TaskId, report: Report) {
        let phase = self.world.tasks[&task].phase();
        let expected = self.model.report(task, &report);
        self.met.insert((phase, report.name(), expected));
        let record = record_id(self.id());
        let input = Input::Report { report: report.clone(), record, raw: "{}".to_owned(), event: None };
        assert_eq!(self.world.input(task, &input), expected, "{report:?}");
        self.sent.push((task, report));
    }

    fn in_seconds(&self, seconds: i64) -> Moment {
        Moment::from_micros(self.world.now.as_micros() + seconds * 1_000_000)
    }

    fn lease_of(&mut self, task: TaskId, right: bool) -> dats::task::LeaseId {
        match &self.world.tasks[&task].state {
            State::Running { progress: dats::task::Progress::Leased { lease, .. }, .. } if right => lease.id,
            _ => lease_id(self.id()),
        }
    }

    fn report_of(&mut self, task: TaskId, what: &What) -> Report {
        let lease = self.lease_of(task, true);
        let other = self.id();
        let task = &self.world.tasks[&task];
        let sent = |report, sender: Option<bool>| match sender {
            None => report,
            Some(true) => {
                let leased = task.phase() == Phase::Leased;
                sent_by(report, leased.then(|| u128::from_be_bytes(lease.to_bytes())), Some("worker"))
            }
            Some(false) => sent_by(report, Some(other), Some("other")),
        };
        let attempt = |shift: &Option<i64>| {
            shift.map(|shift| u32::try_from(i64::from(task.attempts()) + shift).unwrap_or_default())
        };
        let name = |which: &Which| match which {
            Which::Current => task.product().map_or("a0", |product| product.artifact.as_str()).to_owned(),
            Which::Some(number) => ARTIFACTS[*number].to_owned(),
        };
        match what {
            What::Output { shift, main, more, sender } => {
                let more: Vec<_> = more.iter().map(|number| ARTIFACTS[*number]).collect();
                sent(output(attempt(shift), ARTIFACTS[*main], &more), *sender)
            }
            What::Verdict { artifact, good: true } => validated(&name(artifact)),
            What::Verdict { artifact, good: false } => rejected(&name(artifact)),
            What::Failed { shift, again, sender, from_qa: false } => sent(failed(attempt(shift), *again), *sender),
            What::Failed { shift, again, sender, from_qa: true } => {
                from_qa(sent(failed(attempt(shift), *again), *sender))
            }
            What::Started { shift, sender } => sent(started(attempt(shift)), *sender),
            What::Requested { review, artifact } => {
                review_requested(REVIEWS[*review], artifact.as_ref().map(name).as_deref())
            }
            What::Reviewed { review, decision, artifact } => {
                review_completed(REVIEWS[*review], *decision, artifact.as_ref().map(name).as_deref())
            }
        }
    }

    /// A command, admission after it, and everything that must hold then.
    fn step(&mut self, command: &Command) {
        let before: Vec<_> = (0..PROJECTS.len()).map(|project| self.model.slots(project)).collect();
        self.run(command);
        self.world.admit();
        self.model.admit();
        self.learn_backoffs();
        for (id, entry) in &self.model.tasks {
            let task = &self.world.tasks[id];
            let seen = (task.phase(), task.attempts(), task.tier.as_str(), task.parked.len(), task.version);
            let expected = (entry.phase, entry.attempt, entry.tier_name(), entry.parked.len(), entry.version);
            assert_eq!(seen, expected, "{task:?}");
            assert_eq!(task.started(), entry.started.map(|(at, _)| at), "{task:?}");
            assert_eq!(task.started().is_some(), task.started_at.is_some(), "{task:?}");
            let recorded = self.world.records.values().filter(|(of, ..)| of == id).count();
            assert_eq!(recorded, entry.recorded.len(), "records of {task:?}");
        }
        for (number, before) in before.into_iter().enumerate() {
            let (in_use, limit) = self.world.admission.slots(&project(PROJECTS[number]));
            let in_use = usize::try_from(in_use).expect("a small number");
            assert_eq!(in_use, self.model.slots(number), "the slots of {}", PROJECTS[number]);
            assert_eq!(usize::try_from(limit).expect("a small number"), self.model.limits[number]);
            assert!(in_use <= before || in_use <= self.model.limits[number], "above the limit");
        }
        let waiting = |task: &&dats::task::Task| matches!(&task.state, State::Pending(dats::task::Pending::Queued(queued)) if queued.not_before.is_none());
        let in_line: usize = TIERS.iter().map(|name| self.world.admission.waiting(&tier(name)).0).sum();
        assert_eq!(in_line, self.world.tasks.values().filter(waiting).count());
        assert_eq!(self.world.dead_letters, self.model.dead_letters);
    }

    /// The jitter is the core's own affair; the model holds it to its bounds.
    fn learn_backoffs(&mut self) {
        for (id, entry) in &mut self.model.tasks {
            let State::Pending(dats::task::Pending::Backoff { until }) = &self.world.tasks[id].state else { continue };
            if entry.phase == Phase::Backoff && entry.until.is_none() {
                let step = BACKOFF.0.saturating_mul(1 << (entry.attempt - 1)).min(BACKOFF.1);
                let wait = until.since(entry.since);
                assert!(wait >= step / 2 && wait <= step, "attempt {} waits {wait:?} of {step:?}", entry.attempt);
                entry.until = Some(*until);
            }
        }
    }

    /// Workers and QA answer from now on: everything ends.
    fn drain(&mut self) {
        self.step(&Command::SetClock { ahead: 3000 });
        for project in 0..PROJECTS.len() {
            self.step(&Command::Limit { project, limit: Some(1) });
            for is_project in [true, false] {
                self.step(&Command::Pause { is_project, number: project, paused: false });
            }
        }
        for _ in 0..200 {
            if self.world.tasks.values().all(|task| task.status().is_terminal()) {
                return self.check_ends();
            }
            for task in 0..self.world.tasks.len() {
                let picked = self.pick(task).map(|task| &self.world.tasks[&task]);
                let is_new = picked.is_some_and(|task| task.newest_attempt() > task.attempts());
                let what = match picked.map(dats::task::Task::phase) {
                    Some(Phase::Queued | Phase::Dispatched | Phase::Started | Phase::Leased) => {
                        What::Output { shift: is_new.then_some(1), main: 0, more: None, sender: None }
                    }
                    Some(Phase::Validating | Phase::Reviewing) => {
                        What::Verdict { artifact: Which::Current, good: true }
                    }
                    _ => continue,
                };
                self.step(&Command::Report { task, what });
            }
            self.step(&Command::Time { millis: 5000, late: false });
        }
        panic!("not everything ended: {:?}", self.world.tasks);
    }

    fn check_ends(&self) {
        for task in self.world.tasks.values() {
            assert!(task.parked.is_empty() && task.next_timer().is_none() && task.scheduled_for().is_none());
            if let State::Completed { by: Completion::Attempt { product, .. }, .. } = &task.state {
                let status = self.world.records[&product.record].2;
                assert!(matches!(status, RecordStatus::Passed | RecordStatus::HumanApproved), "{task:?}");
            }
            for (record, _) in task.closed.iter().filter_map(|closed| closed.product.as_ref()) {
                let status = self.world.records[record].2;
                assert!(matches!(status, RecordStatus::Failed | RecordStatus::Pending), "{task:?}");
            }
        }
    }
}

/// A project whose last waiting task ends without a worker, and lets another one of
/// it wait in the same step, waits anew: the others are served before it once more.
#[test]
fn a_project_that_left_a_line_joins_it_behind_the_others() {
    let mut pair = Pair::new(Bus::Embedded, None);
    let wish = |project, depends_on: &[usize]| {
        let depends_on = depends_on.to_vec();
        let (priority, wait, max_attempts) = (Priority::Normal, None, 1);
        Command::Submit(Wish { project, priority, depends_on, wait, max_attempts, timeout: 50, qa: false })
    };
    let output = What::Output { shift: None, main: 0, more: None, sender: None };
    let lease = || Command::Lease { tier: 0, seconds: 30 };
    let commands = [
        wish(2, &[]),
        wish(2, &[]),
        wish(0, &[]),
        wish(0, &[2]),
        lease(),
        Command::Report { task: 2, what: output },
        lease(),
        lease(),
    ];
    for command in &commands {
        pair.step(command);
    }
    let leased: Vec<_> = pair.world.tasks.values().map(|task| task.phase() == Phase::Leased).collect();
    assert_eq!(leased, [true, true, false, true]);
}

proptest! {
    #[test]
    fn turns_between_projects(commands in prop::collection::vec(turns(), 1..60)) {
        let mut pair = Pair::new(Bus::Embedded, None);
        for command in &commands {
            pair.step(command);
        }
        pair.drain();
    }

    #[test]
    fn random_lives(
        brokered in prop::bool::ANY,
        patience in proptest::option::of(1_u64..40),
        commands in prop::collection::vec(commands(), 1..150),
    ) {
        let mut pair = Pair::new(if brokered { Bus::Broker } else { Bus::Embedded }, patience);
        for command in &commands {
            pair.step(command);
        }
        pair.drain();
    }
}

/// A test of random lives is worth nothing if they are all dull.
#[test]
fn the_lives_go_everywhere() {
    let mut runner = TestRunner::deterministic();
    let lives = prop::collection::vec(commands(), 100..150);
    let mut met = BTreeSet::new();
    for number in 0..400 {
        let mut pair = Pair::new(if number % 2 == 0 { Bus::Broker } else { Bus::Embedded }, Some(20));
        for command in lives.new_tree(&mut runner).expect("commands are made").current() {
            pair.step(&command);
        }
        met.append(&mut pair.met);
    }
    let pairs: BTreeSet<_> = met.iter().map(|(phase, report, _)| (*phase, *report)).collect();
    // Nothing is routed or split here.
    let phases = Phase::ALL.iter().filter(|phase| !matches!(phase, Phase::Analyzing | Phase::Children)).count();
    assert_eq!(pairs.len(), phases * 7, "each of the seven reports in each phase: {pairs:?}");
    let answers: BTreeSet<_> = met.iter().map(|(.., answer)| *answer).collect();
    assert_eq!(answers, BTreeSet::from(["applied", "parked", "refused", "stale", "unchanged"]));
}
