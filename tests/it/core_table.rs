//! Every state against every input: one line each, kept as snapshots. Each
//! phase has its file, each line reads `input -> answer | effects`.

use std::fmt::Write as _;

use dats::task::{
    Bus, Change, Dependency, Effect, Input, Moment, Outcome, Phase, Policy, Refusal, Report, ReviewDecision, Step,
    Task, apply, submit,
};

use crate::core_families::{family_rows, kept, lost, made, number, routing_inputs, spawned};
use crate::core_fixtures::{
    at, calendar, failed, from_qa, lease_id, output, policy, present, project, record_id, rejected, resolved,
    review_completed, review_requested, sent_by, started, submission, task_id, validated, worker,
};

/// The time at which the inputs of the table arrive.
const NOW: i64 = 1000;

/// A task on its way to a row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) task: Task,
    pub(crate) policy: Policy,
}

impl Row {
    /// A task of `max_attempts` attempts that waits for `waits_for`.
    pub(crate) fn new(name: &'static str, max_attempts: u32, waits_for: &[u128], not_before: Option<i64>) -> Self {
        Self::on(Bus::Embedded, name, max_attempts, waits_for, not_before)
    }

    fn on(bus: Bus, name: &'static str, max_attempts: u32, waits_for: &[u128], not_before: Option<i64>) -> Self {
        let depends_on: Vec<_> = waits_for.iter().map(|&number| task_id(number)).collect();
        let dependencies: Vec<_> = depends_on.iter().map(|&task| (task, Dependency::Open)).collect();
        let submission = submission(project("p"), &depends_on, not_before.map(|second| calendar(at(second))));
        let resolved = resolved(max_attempts, 600, "consensus");
        let policy = Policy { bus, ..policy(None) };
        let task = submit(task_id(1), &submission, resolved, &dependencies, present(at(900)), &policy).task;
        Self { name, task, policy }
    }

    fn with_deadlines(mut self) -> Self {
        self.policy = Policy { bus: self.policy.bus, ..policy(Some(300)) };
        self
    }

    fn without_qa(mut self) -> Self {
        self.task.qa_profile = resolved(1, 1, "none").qa_profile;
        self
    }

    pub(crate) fn then(mut self, second: i64, input: Input) -> Self {
        let step = apply(&self.task, input, present(at(second)), &self.policy).expect("the way to a row is free");
        self.task = step.task;
        self
    }

    const fn last(mut self) -> Self {
        self.task.max_attempts = 1;
        self
    }

    fn report(self, second: i64, given: Report) -> Self {
        self.then(second, report(given))
    }

    fn dispatched(self, second: i64) -> Self {
        self.then(second, Input::Dispatch)
    }

    fn leased(self, second: i64, until: i64) -> Self {
        self.then(second, lease(until))
    }

    /// The worker of the lease makes an output.
    fn validating(self, second: i64) -> Self {
        self.leased(second - 10, 9000).report(second, output(None, "a2", &["a2b"]))
    }

    /// The first attempt was rejected, the second waits for a worker.
    fn retried(self) -> Self {
        self.first_rejected().then(920, Input::Tick)
    }

    fn first_rejected(self) -> Self {
        self.report(902, output(None, "a1", &["a1b"])).report(903, rejected("a1"))
    }

    /// A first worker has lost its lease.
    fn lost(self) -> Self {
        self.then(901, Input::Lease { id: lease_id(6), worker: worker(), until: at(905) }).then(905, Input::Tick)
    }
}

fn lease(until: i64) -> Input {
    Input::Lease { id: lease_id(7), worker: worker(), until: at(until) }
}

fn report(report: Report) -> Input {
    Input::Report { report, record: record_id(99), raw: "{}".to_owned(), event: None }
}

fn pending_rows() -> Vec<Row> {
    let new = |name| Row::new(name, 3, &[], None);
    let brokered = |name| Row::on(Bus::Broker, name, 3, &[], None);
    vec![
        Row::new("scheduled", 3, &[], Some(1060)),
        Row::new("scheduled, waits for 2", 3, &[2], Some(1060)),
        Row::new("blocked by 2", 3, &[2], None),
        Row::new("blocked by 2 and 3", 3, &[2, 3], None),
        new("queued"),
        new("queued, first attempt rejected").retried(),
        new("queued, its first lease ran out").lost(),
        new("queued, pauses after a release")
            .leased(990, 9000)
            .then(1000, Input::Release { id: lease_id(7), delivered: true }),
        new("queued, its lease was never delivered")
            .leased(990, 9000)
            .then(1000, Input::Release { id: lease_id(7), delivered: false }),
        new("queued, validated(a2) parked").report(990, validated("a2")),
        brokered("queued for the broker"),
        brokered("queued for the broker, its first lease ran out on the other bus").lost(),
        brokered("queued for the broker, first attempt rejected").retried(),
        new("backoff after a rejection")
            .leased(998, 9000)
            .report(999, output(None, "a1", &["a1b"]))
            .report(1000, rejected("a1")),
        new("backoff after a review")
            .leased(998, 9000)
            .report(999, output(None, "a1", &["a1b"]))
            .report(1000, review_completed("r0", ReviewDecision::ChangesRequested, None)),
        new("backoff after a failure").leased(999, 9000).report(1000, failed(None, true)),
        new("backoff, a verdict on a2 parked")
            .leased(999, 9000)
            .report(990, validated("a2"))
            .report(1000, failed(None, true)),
        brokered("dispatched").dispatched(950),
        new("dispatched on the other bus").dispatched(950),
        brokered("dispatched, its first lease ran out on the other bus").lost().dispatched(950),
        brokered("dispatched, first attempt rejected").retried().dispatched(950),
        brokered("dispatched, last attempt").last().dispatched(950),
        brokered("dispatched, without QA").without_qa().dispatched(950),
        brokered("dispatched, validated(a2) parked").dispatched(950).report(990, validated("a2")),
        brokered("dispatched, review r2 approved parked")
            .dispatched(950)
            .report(990, review_completed("r2", ReviewDecision::Approved, None)),
        ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "a2"]
            .into_iter()
            .fold(brokered("dispatched, eight verdicts parked").dispatched(950), |row, name| {
                row.report(990, validated(name))
            }),
        brokered("dispatched, rejected(a2) and validated(a9) parked")
            .dispatched(950)
            .report(990, rejected("a2"))
            .report(991, validated("a9")),
    ]
}

fn running_rows() -> Vec<Row> {
    let new = |name| Row::new(name, 3, &[], None);
    let brokered = |name| Row::on(Bus::Broker, name, 3, &[], None);
    vec![
        brokered("started, as is inferred").dispatched(950).then(960, Input::Take),
        brokered("started, as a worker has said, last attempt").last().dispatched(950).report(970, started(None)),
        brokered("started, by a second worker")
            .dispatched(950)
            .report(960, sent_by(started(None), None, Some("other")))
            .report(970, sent_by(started(None), None, Some("worker"))),
        new("started on the other bus").dispatched(950).then(960, Input::Take),
        new("leased, lease ends first").leased(960, 1020),
        new("leased, deadline ends first").leased(960, 9000),
        new("leased again after 500 s")
            .then(300, Input::Lease { id: lease_id(6), worker: worker(), until: at(800) })
            .then(900, Input::Tick)
            .leased(950, 9000),
        new("leased again, a third loss would fail it")
            .lost()
            .then(950, Input::Lease { id: lease_id(8), worker: worker(), until: at(955) })
            .then(955, Input::Tick)
            .leased(960, 1020),
        new("leased again, an output of the first worker came")
            .lost()
            .leased(950, 9000)
            .report(960, sent_by(output(None, "a2", &["a2b"]), Some(6), None)),
        Row::new("leased, last attempt", 1, &[], None).leased(960, 9000),
        new("leased, first attempt rejected").retried().leased(960, 1020),
        new("leased, validated(a2) parked").leased(950, 9000).report(990, validated("a2")),
        new("validating").validating(960),
        new("validating, with deadline").with_deadlines().validating(960),
        new("validating, without a slot").lost().report(960, output(None, "a2", &["a2b"])),
        new("validating, first attempt rejected").retried().validating(960),
        new("validating, of the second of two workers").lost().validating(960),
        new("validating, review r0 of the first attempt came late")
            .retried()
            .report(930, review_requested("r0", Some("a1")))
            .validating(960),
        new("validating, second output a3").validating(960).report(961, output(None, "a3", &[])),
        Row::new("validating, last attempt", 1, &[], None).validating(960),
        new("reviewing r2").validating(960).report(970, review_requested("r2", None)),
        new("reviewing r2, with deadline")
            .with_deadlines()
            .validating(960)
            .report(970, review_requested("r2", Some("a2"))),
        Row::new("reviewing r2, last attempt", 1, &[], None)
            .validating(960)
            .report(970, review_requested("r2", Some("a2"))),
    ]
}

fn ended_rows() -> Vec<Row> {
    let new = |name| Row::new(name, 3, &[], None);
    let cancel = || Input::Cancel { reason: None };
    vec![
        new("completed").validating(960).report(970, validated("a2")),
        new("completed, first attempt rejected").retried().validating(960).report(970, validated("a2")),
        Row::new("failed, never taken", 3, &[2], None)
            .then(960, Input::DependencyEnded { task: task_id(2), end: lost("out of memory") }),
        new("failed by a worker").leased(950, 9000).report(960, failed(None, false)),
        Row::new("failed by QA", 1, &[], None).first_rejected(),
        new("cancelled, never taken").then(960, cancel()),
        new("cancelled while leased").leased(960, 1020).then(970, cancel()),
        new("cancelled after its lease ran out").lost().then(970, cancel()),
        new("cancelled while validating").validating(960).then(970, cancel()),
    ]
}

/// When the engine looks at a task again, while the wall clock shows the same as observed time.
fn timer_of(task: &Task) -> Option<Moment> {
    task.next_timer().into_iter().chain(task.scheduled_for().map(Moment::aligned)).min()
}

/// Every input, with the time at which it comes.
fn inputs(task: &Task) -> Vec<(String, Input, Moment)> {
    let now = at(NOW);
    let mut inputs = Vec::new();
    let mut add = |name: &str, input, now| inputs.push((name.to_owned(), input, now));
    add("dispatch", Input::Dispatch, now);
    add("another bus", Input::ChangeBus, now);
    add("a subtask was taken", Input::ChildStarted, now);
    add("a subtask was not taken after all", Input::ChildTakenBack { first: None }, now);
    add("another subtask was taken first", Input::ChildTakenBack { first: Some(present(at(904))) }, now);
    for number in [2, 3] {
        for completed in [true, false] {
            let name = format!("dependency {number} {}", if completed { "completed" } else { "lost" });
            let end = if completed { made(&["d1"]) } else { lost("out of memory") };
            add(&name, Input::DependencyEnded { task: task_id(number), end }, now);
        }
    }
    if let Some(timer) = timer_of(task) {
        add("tick just before the timer", Input::Tick, Moment::from_micros(timer.as_micros() - 1));
        add("tick at the timer", Input::Tick, timer);
    } else {
        add("tick", Input::Tick, now);
    }
    add("tick years later", Input::Tick, at(1_000_000_000));
    add("lease", lease(1200), now);
    add("take", Input::Take, now);
    for (name, id) in [("its", 7), ("another", 8)] {
        add(&format!("renew {name} lease"), Input::Renew { id: lease_id(id), until: at(1500) }, now);
        add(&format!("release {name} lease"), Input::Release { id: lease_id(id), delivered: true }, now);
    }
    add("return its lease", Input::Release { id: lease_id(7), delivered: false }, now);
    add("release its lease, years later", Input::Release { id: lease_id(7), delivered: true }, at(1_000_000_000));
    for (name, given) in reports(task.newest_attempt()) {
        add(&name, report(given), now);
    }
    for (name, input) in routing_inputs() {
        add(&name, input, now);
    }
    add("cancel", Input::Cancel { reason: Some("no longer needed".to_owned()) }, now);
    inputs
}

fn reports(newest: u32) -> Vec<(String, Report)> {
    let attempts = [None, Some(newest), Some(newest.saturating_sub(1)), Some(newest + 1)];
    let mut reports = Vec::new();
    let mut add = |name: String, report| reports.push((name, report));
    for attempt in attempts {
        let name = attempt.map_or("no attempt".to_owned(), |attempt| format!("attempt {attempt}"));
        add(format!("output, {name}"), output(attempt, "a2", &["a2b"]));
        add(format!("failed, {name}"), failed(attempt, true));
        add(format!("started, {name}"), started(attempt));
    }
    add("output of attempt 1".to_owned(), output(Some(1), "a1c", &[]));
    add("failed for good".to_owned(), failed(None, false));
    add("failed, says QA".to_owned(), from_qa(failed(None, true)));
    for (name, lease, worker) in [
        ("its lease", Some(7), None),
        ("another lease", Some(6), Some("worker")),
        ("its worker", None, Some("worker")),
        ("another worker", None, Some("other")),
    ] {
        add(format!("output of {name}"), sent_by(output(None, "a2", &["a2b"]), lease, worker));
        add(format!("failed, by {name}"), sent_by(failed(None, true), lease, worker));
        add(format!("started, by {name}"), sent_by(started(None), lease, worker));
    }
    for name in ["a2", "a2b", "a1", "a1b", "a3", "a9"] {
        add(format!("validated {name}"), validated(name));
        add(format!("rejected {name}"), rejected(name));
    }
    for (id, about) in [("r2", None), ("r2", Some("a2")), ("r3", Some("a9")), ("r0", None)] {
        let subject = about.map_or(String::new(), |about| format!(" of {about}"));
        add(format!("review {id}{subject} requested"), review_requested(id, about));
        for decision in [ReviewDecision::Approved, ReviewDecision::Rejected, ReviewDecision::ChangesRequested] {
            let name = format!("review {id}{subject} {}", decision.as_str());
            add(name, review_completed(id, decision, about));
        }
    }
    let other = review_completed("r3", ReviewDecision::Approved, Some("a2"));
    add("review r3 of a2 approved".to_owned(), other);
    reports
}

fn answer(before: &Task, result: Result<Step, Refusal>, now: Moment) -> String {
    let step = match result {
        Ok(step) => step,
        Err(refusal) => return format!("refused: {refusal}"),
    };
    let after = &step.task;
    let mut text = match step.outcome {
        Outcome::Applied | Outcome::Unchanged | Outcome::Parked => step.outcome.as_str().to_owned(),
        Outcome::Stale(why) => format!("stale ({})", why.as_str()),
    };
    if after.phase() != before.phase() {
        let _ = write!(text, ", {}", after.phase().as_str());
    }
    if after.version != before.version {
        let _ = write!(text, ", v+{}", after.version - before.version);
    }
    if after.holds_slot() != before.holds_slot() {
        text.push_str(if after.holds_slot() { ", slot taken" } else { ", slot freed" });
    }
    if after.tier != before.tier {
        let _ = write!(text, ", tier {}", after.tier);
    }
    if after.attempts() < before.attempts() {
        let _ = write!(text, ", attempt {} not open", before.attempts());
    }
    if before.started_at.is_some() && after.started_at != before.started_at {
        text.push_str(if after.started_at.is_some() { ", began at another time" } else { ", never taken" });
    }
    if after.closed.len() != before.closed.len() {
        let error = after.closed.last().map(|closed| closed.error.code.as_str());
        let _ = write!(text, ", attempt closed by {}", error.unwrap_or_default());
    }
    if after.parked.len() != before.parked.len() {
        let _ = write!(text, ", {} parked", after.parked.len());
    }
    if timer_of(after) != timer_of(before) {
        let timer = timer_of(after).map(|timer| timer.since(now));
        let _ = write!(text, ", timer {}", timer.map_or("off".to_owned(), |timer| format!("in {timer:?}")));
    }
    if !step.effects.is_empty() {
        let effects: Vec<_> = step.effects.iter().map(effect).collect();
        let _ = write!(text, " | {}", effects.join("; "));
    }
    text
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Log(Change::Ready { attempt, tier, previous, .. }) => {
            let after = if previous.is_some() { " after a record" } else { "" };
            format!("task.ready.{tier} attempt {attempt}{after}")
        }
        Effect::Log(Change::Finished { status, error, record }) => {
            let error = error.as_ref().map_or(String::new(), |error| format!(" by {}", error.code.as_str()));
            let record = if record.is_some() { " with a record" } else { "" };
            format!("task.finished {}{error}{record}", status.as_str())
        }
        Effect::Log(Change::Routed { domain, tier, by }) => format!("task.routed {domain} {tier} by {}", by.as_str()),
        Effect::Log(change) => change.name().to_owned(),
        Effect::StoreRecord(record) => {
            format!("store the {} record of attempt {} on {}", record.status.as_str(), record.attempt, record.tier)
        }
        Effect::FillRecord(record) => {
            format!("fill the record of attempt {} as {}", record.attempt, record.status.as_str())
        }
        Effect::ExtendRecord { .. } => "extend the record".to_owned(),
        Effect::JudgeRecord { status, verification, .. } => {
            let details = if verification.is_some() { "" } else { ", nothing said" };
            format!("judge the record {}{details}", status.as_str())
        }
        Effect::KeepFindings(findings) => kept(findings),
        Effect::Spawn(children) => spawned(children),
        Effect::Cancel { task, reason } => format!("cancel {}: {reason}", number(*task)),
        Effect::DeadLetter { reason, .. } => format!("dead letter: {reason}"),
    }
}

#[test]
fn every_input_in_every_state() {
    let rows: Vec<Row> =
        pending_rows().into_iter().chain(running_rows()).chain(ended_rows()).chain(family_rows()).collect();
    for phase in Phase::ALL {
        let mut table = String::new();
        for row in rows.iter().filter(|row| row.task.phase() == phase) {
            let _ = writeln!(table, "{}", row.name);
            for (name, input, now) in inputs(&row.task) {
                let answer = answer(&row.task, apply(&row.task, input, present(now), &row.policy), now);
                let _ = writeln!(table, "  {name} -> {answer}");
            }
        }
        assert!(!table.is_empty(), "no row is {}", phase.as_str());
        insta::assert_snapshot!(format!("core_table_{}", phase.as_str()), table);
    }
}

#[test]
fn every_submission() {
    use Dependency::{Completed, Lost, Open};
    let choices: [(&str, &[Dependency]); 6] = [
        ("no dependency", &[]),
        ("one open", &[Open]),
        ("one completed", &[Completed(Vec::new())]),
        ("one lost", &[Lost]),
        ("one completed, one open", &[Completed(Vec::new()), Open]),
        ("one open, one lost", &[Open, Lost]),
    ];
    let mut table = String::new();
    for (time, not_before) in [("at once", None), ("not before now", Some(NOW)), ("not before later", Some(NOW + 60))] {
        for (name, dependencies) in choices {
            let dependencies: Vec<_> = (2..).map(task_id).zip(dependencies.iter().cloned()).collect();
            let depends_on: Vec<_> = dependencies.iter().map(|(task, _)| *task).collect();
            let submission = submission(project("p"), &depends_on, not_before.map(|second| calendar(at(second))));
            let step = submit(
                task_id(1),
                &submission,
                resolved(3, 600, "consensus"),
                &dependencies,
                present(at(NOW)),
                &policy(None),
            );
            let effects: Vec<_> = step.effects.iter().map(effect).collect();
            let timer = timer_of(&step.task).map(|timer| timer.since(at(NOW)));
            let (phase, waits) = (step.task.phase().as_str(), step.task.waits_for().len());
            assert_eq!((step.outcome, step.task.version), (Outcome::Applied, 1));
            let effects = effects.join("; ");
            let _ = writeln!(table, "{time}, {name} -> {phase}, waits for {waits}, timer {timer:?} | {effects}");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn an_end_is_final_and_a_record_is_made_once() {
    let rows: Vec<Row> =
        pending_rows().into_iter().chain(running_rows()).chain(ended_rows()).chain(family_rows()).collect();
    for row in &rows {
        for (name, input, now) in inputs(&row.task) {
            let Ok(step) = apply(&row.task, input, present(now), &row.policy) else { continue };
            if row.task.status().is_terminal() {
                assert_eq!(step.task.state, row.task.state, "{}: {name}", row.name);
                assert!(step.task.parked.is_empty(), "{}: {name}", row.name);
            }
            let stored = step.effects.iter().filter(|effect| matches!(effect, Effect::StoreRecord(_))).count();
            assert!(stored <= 1, "{}: {name}", row.name);
        }
    }
}
