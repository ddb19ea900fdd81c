//! A day in the life of a service, in simulated time: estimates must hold
//! while durations drift, double and come in bursts.
//!
//! The core itself runs it: submissions, admission, the lines of the tiers,
//! transitions. Only arrivals, workers and durations are made up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::f64::consts::TAU;

use dats::task::{
    Admission, Domain, Estimator, Input, Moment, Pending, Place, Policy, Priority, ProjectId, Resolved, State, Status,
    Step, Task, TaskId, Tier, apply, submit,
};

use crate::core_fixtures::{
    failed, lease_id, output, policy, present, project, record_id, resolved, submission, task_id, tier, worker,
};
use crate::support::random::{Random, from_environment};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Projects, their slots and their share of all tasks.
const PROJECTS: [(&str, u32, u64); 4] = [("a", 10, 45), ("b", 5, 25), ("c", 3, 12), ("d", 8, 18)];
/// Tiers, their workers, the median seconds of their work, how widely these
/// are spread, and their share of all tasks.
const TIERS: [(&str, usize, f64, f64, u64); 3] =
    [("tiny", 3, 20.0, 0.5, 35), ("small", 8, 90.0, 0.7, 50), ("large", 7, 300.0, 0.9, 15)];
/// Domains, and how much longer they take.
const DOMAINS: [(&str, f64); 3] = [("code-general", 1.0), ("documentation", 0.5), ("architecture", 1.6)];
/// Tasks an hour, on average over the day.
const ARRIVALS: f64 = 130.0;
/// Estimates that are not counted: the service knows nothing yet.
const FIRST: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// So many tasks at once, in project `b`.
    Burst(usize),
    Done(TaskId),
    Retry(TaskId),
}

/// The world of one day.
struct Day {
    random: Random,
    policy: Policy,
    now: Moment,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    tasks: BTreeMap<TaskId, Task>,
    admission: Admission,
    idle: BTreeMap<Tier, usize>,
    estimator: Estimator,
    submitted: Vec<TaskId>,
    numbers: u64,
}

impl Day {
    fn new(seed: u64) -> Self {
        let policy = policy(None);
        let mut admission = Admission::new(std::time::Duration::from_mins(5), 10);
        for (name, limit, _) in PROJECTS {
            admission.set_limit(&project(name), Some(limit));
        }
        let mut day = Self {
            random: Random::new(seed),
            policy,
            now: Moment::default(),
            events: BinaryHeap::new(),
            tasks: BTreeMap::new(),
            admission,
            idle: TIERS.iter().map(|(name, workers, ..)| (tier(name), *workers)).collect(),
            estimator: Estimator::default(),
            submitted: Vec::new(),
            numbers: 0,
        };
        day.later(0.0, Event::Arrival);
        day.later(10.5 * HOUR, Event::Burst(200));
        day
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn later(&mut self, seconds: f64, event: Event) {
        let at = self.now.after(std::time::Duration::from_secs_f64(seconds));
        let number = self.number();
        self.events.push(Reverse((at, number, event)));
    }

    fn seconds(&self) -> f64 {
        self.now.since(Moment::default()).as_secs_f64()
    }

    /// Between 0 and 1, never 0.
    fn uniform(&mut self) -> f64 {
        let drawn = u32::try_from(self.random.below(1 << 32)).expect("32 bits");
        (f64::from(drawn) + 1.0) / (f64::from(u32::MAX) + 1.0)
    }

    /// By the shares of some choices.
    fn choose(&mut self, shares: &[u64]) -> usize {
        let mut drawn = self.random.below(shares.iter().sum());
        shares
            .iter()
            .position(|share| match drawn.checked_sub(*share) {
                None => true,
                Some(rest) => {
                    drawn = rest;
                    false
                }
            })
            .expect("the shares are all there is")
    }

    /// How long an attempt works: spread log-normally around a median that
    /// drifts over the day, and doubles for a while on one tier.
    fn work(&mut self, task: TaskId) -> f64 {
        let task = &self.tasks[&task];
        let (name, _, median, spread, _) = *TIERS.iter().find(|each| each.0 == task.tier.as_str()).expect("a tier");
        let slower = DOMAINS.iter().find(|each| each.0 == task.domain.as_str()).expect("a domain").1;
        let hour = self.seconds() / HOUR;
        let drift = 1.0 + 0.3 * (TAU * hour / 17.0).sin();
        let trouble = if name == "small" && (14.0..20.0).contains(&hour) { 2.0 } else { 1.0 };
        let normal = (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos();
        median * slower * drift * trouble * (spread * normal).exp()
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::Burst(count) => (0..count).for_each(|_| self.submit("b")),
                Event::Done(task) => self.done(task),
                Event::Retry(task) => self.input(task, Input::Tick),
            }
            self.give_work();
        }
    }

    fn arrive(&mut self) {
        let place = self.choose(&PROJECTS.map(|(_, _, share)| share));
        self.submit(PROJECTS[place].0);
        // Little at night, much by day.
        let rate = ARRIVALS / HOUR * (1.0 - 0.8 * (TAU * self.seconds() / DAY).cos());
        let gap = -self.uniform().ln() / rate;
        if self.seconds() + gap < DAY {
            self.later(gap, Event::Arrival);
        }
    }

    fn submit(&mut self, project_name: &str) {
        let place = self.choose(&TIERS.map(|(.., share)| share));
        let domain = DOMAINS[self.choose(&[6, 3, 1])].0;
        let priority = Priority::ALL[self.choose(&[2, 6, 2])];
        let domain = Domain::new(domain).expect("a domain");
        let wanted = Resolved { tier: tier(TIERS[place].0), domain, priority, ..resolved(3, 36_000, "none") };
        let id = task_id(u128::from(self.number()));
        let submission = submission(project(project_name), &[], None);
        let Step { mut task, .. } = submit(id, &submission, wanted, &[], present(self.now), &self.policy);
        let ahead = self.admission.ahead(&task.project, task.priority);
        let slots = self.admission.slots(&task.project);
        task.estimate = self.estimator.estimate(&task.tier, &task.domain, ahead, slots, self.now);
        self.submitted.push(id);
        self.keep(None, task);
    }

    /// A worker has finished; now and then in vain.
    fn done(&mut self, task: TaskId) {
        *self.idle.get_mut(&self.tasks[&task].tier).expect("a tier") += 1;
        let report = if self.random.chance(4) { failed(None, true) } else { output(None, "a", &[]) };
        let record = record_id(u128::from(self.number()));
        self.input(task, Input::Report { report, record, raw: String::new(), event: None });
        let after = &self.tasks[&task];
        if let State::Pending(Pending::Backoff { until }) = after.state {
            let number = self.number();
            self.events.push(Reverse((until, number, Event::Retry(task))));
        }
    }

    fn input(&mut self, task: TaskId, input: Input) {
        let before = self.tasks[&task].clone();
        let step = apply(&before, input, present(self.now), &self.policy).expect("to be taken");
        self.keep(Some(&before), step.task);
    }

    fn keep(&mut self, before: Option<&Task>, after: Task) {
        let project: &ProjectId = &after.project;
        match (before.is_some_and(Task::holds_slot), after.holds_slot()) {
            (true, false) => self.admission.release(project),
            (false, true) => self.admission.occupy(project),
            (true, true) | (false, false) => {}
        }
        match &after.state {
            State::Pending(Pending::Queued(queued)) => {
                let place = Place { since: queued.since, task: after.id };
                self.admission.enqueue(project, &after.tier, after.priority, place);
            }
            State::Completed { .. } => self.estimator.learn(&after),
            _ => {}
        }
        self.tasks.insert(after.id, after);
    }

    /// Idle workers take what waits for them.
    fn give_work(&mut self) {
        while let Some((task, tier)) = self.admission.take_next(|tier| self.idle[tier] > 0, self.now) {
            *self.idle.get_mut(&tier).expect("a tier") -= 1;
            let lease = lease_id(u128::from(self.number()));
            let until = self.now.after(std::time::Duration::from_hours(1000));
            self.input(task, Input::Lease { id: lease, worker: worker(), until });
            let work = self.work(task);
            self.later(work, Event::Done(task));
        }
    }
}

/// What came of the estimates of a day.
struct Judged {
    /// How many there were, after the first ones.
    count: usize,
    /// The share of tasks that were done by theirs.
    share: f64,
    /// The same for the worst three hours.
    worst: f64,
    /// The middle of estimated against actual time.
    generous: f64,
}

fn judged(day: &Day) -> Judged {
    let estimated = day.submitted.iter().map(|task| &day.tasks[task]).filter(|task| task.estimate.is_some());
    let estimated = estimated.filter(|task| task.status() == Status::Completed).skip(FIRST);
    let (mut kept, mut hours, mut generous) = (0, [(0_u32, 0_u32); 8], Vec::new());
    for task in estimated {
        let (ended, estimate) = (task.ended().expect("it ended"), task.estimate.as_ref().expect("it has one"));
        kept += u32::from(ended <= estimate.at);
        let hours = &mut hours[usize::try_from(task.created_at.as_millis() / (3 * 3_600_000)).expect("a day")];
        *hours = (hours.0 + u32::from(ended <= estimate.at), hours.1 + 1);
        generous.push(
            estimate
                .at
                .since(Moment::aligned(task.created_at))
                .div_duration_f64(ended.since(Moment::aligned(task.created_at))),
        );
    }
    generous.sort_unstable_by(f64::total_cmp);
    let count = generous.len();
    let share = f64::from(kept) / f64::from(u32::try_from(count).expect("few"));
    let shares = hours.iter().filter(|(_, all)| *all > 0).map(|(kept, all)| f64::from(*kept) / f64::from(*all));
    Judged { count, share, worst: shares.fold(1.0, f64::min), generous: generous[count / 2] }
}

#[test]
fn four_of_five_tasks_of_a_day_are_done_by_their_estimate() {
    let first = from_environment("DATS_SEED", 1);
    for seed in first..first + from_environment("DATS_ROUNDS", 5) {
        let mut day = Day::new(seed);
        day.run();
        let Judged { count, share, worst, generous } = judged(&day);
        println!(
            "seed {seed}: {:.1} % of {count} tasks by their estimate, {:.1} % in the worst three hours; \
             it was {generous:.2} times what it took",
            share * 100.0,
            worst * 100.0
        );
        assert!((0.7..=0.9).contains(&share), "seed {seed}: {share}");
    }
}
