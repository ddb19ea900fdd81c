//! The least that can run the core: tasks in a map, admission, the lines of
//! the tiers, ends passed on to dependents. It checks every step by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dats::task::{
    Admission, Bus, Change, Effect, End, Input, Moment, Now, Pending, Place, Policy, Progress, ProjectId, Queued,
    RecordId, RecordStatus, State, Status, Step, Task, TaskId, Tier, Timestamp, apply,
};

/// The running system, without any I/O.
pub(crate) struct World {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) admission: Admission,
    pub(crate) now: Moment,
    /// What the wall clock is ahead of observed time, in seconds; negative: behind.
    pub(crate) ahead: i64,
    pub(crate) policy: Policy,
    pub(crate) records: BTreeMap<RecordId, (TaskId, u32, RecordStatus)>,
    pub(crate) dead_letters: usize,
    paused_tiers: BTreeSet<Tier>,
    dependents: BTreeMap<TaskId, Vec<TaskId>>,
    ended: VecDeque<(TaskId, bool)>,
}

impl World {
    pub(crate) fn new(policy: Policy, aging: Duration, limit: u32, now: Moment) -> Self {
        Self {
            tasks: BTreeMap::new(),
            admission: Admission::new(aging, limit),
            now,
            ahead: 0,
            policy,
            records: BTreeMap::new(),
            dead_letters: 0,
            paused_tiers: BTreeSet::new(),
            dependents: BTreeMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// Observed time and what the wall clock shows.
    pub(crate) fn present(&self) -> Now {
        let wall = Timestamp::from_micros(self.now.as_micros() + self.ahead * 1_000_000);
        Now { observed: self.now, wall }
    }

    /// A task that was just submitted.
    pub(crate) fn add(&mut self, step: Step) {
        for dependency in step.task.waits_for() {
            self.dependents.entry(*dependency).or_default().push(step.task.id);
        }
        assert_eq!(step.effects.first(), Some(&Effect::Log(Change::Created)));
        self.keep(None, step.task);
        self.spread();
    }

    /// One input, and the ends that follow from it. The answer's name.
    pub(crate) fn input(&mut self, task: TaskId, input: &Input) -> &'static str {
        let before = self.tasks[&task].clone();
        let result = apply(&before, input.clone(), self.present(), &self.policy);
        assert_eq!(result, apply(&before, input.clone(), self.present(), &self.policy), "a replay differs");
        let Ok(step) = result else { return "refused" };
        let is_taken_back = matches!(input, Input::Release { delivered: false, .. });
        check_step(&before, &step, is_taken_back);
        self.carry_out(&step);
        if *input == Input::Tick {
            let timer = step.task.next_timer();
            let is_ahead = timer.is_none_or(|timer| timer > self.now);
            let waits = step.task.scheduled_for().is_none_or(|time| time > self.present().wall);
            assert!(is_ahead && waits, "a timer is due after its tick: {:?}", step.task);
        }
        self.keep(Some(&before), step.task);
        self.spread();
        step.outcome.as_str()
    }

    pub(crate) fn tick(&mut self) {
        let now = self.present();
        let due = |task: &&Task| {
            task.next_timer().is_some_and(|timer| timer <= now.observed)
                || task.scheduled_for().is_some_and(|time| time <= now.wall)
        };
        let due: Vec<_> = self.tasks.values().filter(due).map(|task| task.id).collect();
        for task in due {
            self.input(task, &Input::Tick);
        }
    }

    /// Free slots go to those that wait for the broker.
    pub(crate) fn admit(&mut self) {
        if self.policy.bus == Bus::Embedded {
            return;
        }
        let paused = self.paused_tiers.clone();
        let is_open = |tier: &Tier| !paused.contains(tier);
        while let Some((task, _)) = self.admission.take_next(is_open, self.now) {
            assert_eq!(self.input(task, &Input::Dispatch), "applied");
        }
        assert!(!self.admission.has_next(is_open));
    }

    /// Which task gets the next worker of `tier`.
    pub(crate) fn pop(&mut self, tier: &Tier) -> Option<TaskId> {
        let is_open = |each: &Tier| each == tier && !self.paused_tiers.contains(each);
        assert!(self.policy.bus == Bus::Embedded);
        self.admission.take_next(is_open, self.now).map(|(task, _)| task)
    }

    pub(crate) fn pause_project(&mut self, project: &ProjectId, paused: bool) {
        self.admission.set_paused(project, paused);
    }

    pub(crate) fn pause_tier(&mut self, tier: &Tier, paused: bool) {
        if paused {
            self.paused_tiers.insert(tier.clone());
        } else {
            self.paused_tiers.remove(tier);
        }
    }

    fn spread(&mut self) {
        while let Some((task, completed)) = self.ended.pop_front() {
            for dependent in self.dependents.get(&task).cloned().unwrap_or_default() {
                let end = if completed {
                    End::Completed { artifacts: Vec::new() }
                } else {
                    End::Lost { status: Status::Failed, reason: "it ended".to_owned() }
                };
                self.input(dependent, &Input::DependencyEnded { task, end });
            }
        }
    }

    fn keep(&mut self, before: Option<&Task>, after: Task) {
        round_trip(&after);
        realign_and_back(&after);
        let project = after.project.clone();
        let (was_queued, queued) = (before.and_then(queue_place), queue_place(&after));
        if let Some(place) = was_queued.filter(|_| was_queued != queued) {
            let tier = before.map_or(&after.tier, |before| &before.tier);
            self.admission.withdraw(&project, tier, after.priority, place);
        }
        if let Some(place) = queued.filter(|_| was_queued != queued) {
            self.admission.enqueue(&project, &after.tier, after.priority, place);
        }
        match (before.is_some_and(Task::holds_slot), after.holds_slot()) {
            (true, false) => self.admission.release(&project),
            (false, true) => self.admission.occupy(&project),
            (true, true) | (false, false) => {}
        }
        if after.status().is_terminal() && before.is_none_or(|before| !before.status().is_terminal()) {
            self.ended.push_back((after.id, after.status() == Status::Completed));
        }
        self.tasks.insert(after.id, after);
    }

    fn carry_out(&mut self, step: &Step) {
        let task = step.task.id;
        for effect in &step.effects {
            match effect {
                Effect::StoreRecord(record) => {
                    let again = self.records.values().any(|(of, attempt, _)| (*of, *attempt) == (task, record.attempt));
                    assert!(!again, "attempt {} has a record already", record.attempt);
                    let before = self.records.insert(record.id, (task, record.attempt, record.status));
                    assert_eq!(before, None);
                }
                Effect::FillRecord(record) => {
                    let before = self.records.insert(record.id, (task, record.attempt, record.status));
                    assert_eq!(before, Some((task, record.attempt, RecordStatus::Failed)));
                }
                Effect::ExtendRecord { record, .. } => assert_eq!(self.records[record].0, task),
                Effect::JudgeRecord { record, status, .. } => {
                    let (of, _, verdict) = self.records.get_mut(record).expect("only what exists is judged");
                    assert_eq!((*of, *verdict), (task, RecordStatus::Pending), "judged twice");
                    *verdict = *status;
                }
                Effect::DeadLetter { .. } => self.dead_letters += 1,
                Effect::KeepFindings(_) | Effect::Spawn(_) | Effect::Cancel { .. } => {
                    panic!("nothing is routed or split here: {effect:?}")
                }
                Effect::Log(_) => {}
            }
        }
    }
}

fn queue_place(task: &Task) -> Option<Place> {
    match &task.state {
        State::Pending(Pending::Queued(Queued { since, not_before: None, .. })) => {
            Some(Place { since: *since, task: task.id })
        }
        _ => None,
    }
}

/// What everybody may see of a task.
fn visible(task: &Task) -> Task {
    let mut task = task.clone();
    task.parked.clear();
    task.version = 0;
    task.updated_at = Timestamp::default();
    task.course.updated = None;
    for closed in &mut task.closed {
        closed.artifacts.clear();
        closed.reviews.clear();
    }
    if let State::Running { attempt, .. } = &mut task.state
        && let Some(foreign) = &mut attempt.foreign
    {
        foreign.artifacts.clear();
    }
    match &mut task.state {
        State::Running { progress: Progress::Leased { lease, .. }, .. } => lease.until = Moment::default(),
        State::Running {
            progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
        } => {
            product.late.clear();
            product.reviews.clear();
        }
        _ => {}
    }
    task
}

fn check_step(before: &Task, step: &Step, is_taken_back: bool) {
    let after = &step.task;
    let changed = visible(before) != visible(after);
    assert_eq!(after.version, before.version + u64::from(changed), "{before:?} then {after:?}");
    if before.status().is_terminal() {
        assert_eq!(before.state, after.state, "an end was left");
    }
    if before.started_at.is_some() && !is_taken_back {
        assert_eq!(before.started_at, after.started_at);
    }
    assert!(after.closed.len() >= before.closed.len());
    let mut ends = 0;
    let mut published_last = true;
    for effect in &step.effects {
        if let Effect::Log(change) = effect {
            published_last = matches!(change, Change::Finished { .. });
        }
        match effect {
            Effect::Log(Change::Ready { attempt, tier, .. }) => {
                assert_eq!((*attempt, tier), (before.attempts() + 1, &after.tier));
            }
            Effect::Log(Change::Finished { status, .. }) => {
                assert_eq!(*status, after.status());
                ends += 1;
            }
            _ => {}
        }
    }
    let ended = after.status().is_terminal() && !before.status().is_terminal();
    assert_eq!(ends, i32::from(ended), "finished is said once, at the end");
    assert!(!ended || published_last, "something is said after the end");
}

/// What is brought onto another axis of observed time waits as long as before.
fn realign_and_back(task: &Task) {
    const DAY: Duration = Duration::from_hours(24);
    let written = Now { observed: task.course.updated.expect("it is kept"), wall: task.updated_at };
    let mut moved = task.clone();
    assert!(!moved.realign(written) && moved == *task, "the same axis");
    assert!(moved.realign(Now { observed: written.after(DAY), ..written }));
    assert_eq!(moved.next_timer(), task.next_timer().map(|timer| timer.after(DAY)));
    assert_eq!((moved.scheduled_for(), moved.execution()), (task.scheduled_for(), task.execution()));
    assert!(moved.realign(written) && moved == *task, "the way back");
}

fn round_trip(task: &Task) {
    let bytes = postcard::to_stdvec(task).expect("a task is written");
    let read: Task = postcard::from_bytes(&bytes).expect("a task is read");
    assert_eq!(*task, read);
    let text = serde_json::to_string(task).expect("a task is written");
    let read: Task = serde_json::from_str(&text).expect("a task is read");
    assert_eq!(*task, read);
}
