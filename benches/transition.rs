//! Cost of the pure core for each step in the life of a task. The limit of a step is the work
//! that every implementation must do: a copy of the task and one update of a `HashMap`.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use dats::task::{
    ArtifactId, Decision, Input, LeaseId, Now, OutputArtifact, Policy, QaProfile, RecordId, Report, Resolved,
    Submission, Task, TaskId, Timestamp, Verdict, WorkerId, apply, submit,
};
use support::engine::output_of;
use support::limits::{resolved, submission};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn at(second: i64) -> Now {
    Now::aligned(Timestamp::from_micros((1_768_000_000 + second) * 1_000_000))
}

fn artifact() -> ArtifactId {
    ArtifactId::new("art-789").expect("an artifact")
}

fn report(report: Report) -> Input {
    Input::Report { report, record: RecordId::new(Uuid::from_u128(9)), raw: "{}".to_owned(), event: None }
}

fn output() -> Report {
    let (kind, path) = (Some("code".to_owned()), Some("fibonacci.py".to_owned()));
    let named = OutputArtifact { id: artifact(), kind, path, language: None, checksum: None, size_bytes: None };
    Report::Output(Box::new(output_of(artifact(), named)))
}

fn verdict(decision: Decision) -> Report {
    Report::Verdict(Verdict { artifact: artifact(), decision, details: "{\"score\":0.9}".to_owned() })
}

/// Returns the steps of a life with a rejection: name, input, time.
fn life() -> Vec<(&'static str, Input, Now)> {
    let lease = |number| LeaseId::new(Uuid::from_u128(number));
    let worker = || WorkerId::new("worker-1").expect("a worker");
    let leased =
        |number, second: i64| Input::Lease { id: lease(number), worker: worker(), until: at(second + 60).observed };
    let reason = "no test".to_owned();
    vec![
        ("lease", leased(1, 2), at(2)),
        ("renew", Input::Renew { id: lease(1), until: at(100).observed }, at(40)),
        ("output", report(output()), at(50)),
        ("rejected", report(verdict(Decision::Rejected { reason })), at(55)),
        ("backoff over", Input::Tick, at(400)),
        ("lease again", leased(2, 402), at(402)),
        ("output again", report(output()), at(410)),
        ("validated", report(verdict(Decision::Validated)), at(420)),
    ]
}

fn submitted(submission: &Submission) -> Task {
    let qa_profile = QaProfile::new("consensus").expect("a profile");
    let id = TaskId::new(Uuid::from_u128(7));
    submit(id, submission, Resolved { qa_profile, ..resolved() }, &[], at(0), &Policy::default()).task
}

/// Measures a copy of the task and one update of a map of many tasks.
fn limit(group: &mut BenchmarkGroup<'_, WallTime>, step: &str, task: &Task) {
    let ids = (0..10_000).map(|number| TaskId::new(Uuid::from_u128(number)));
    let mut tasks: HashMap<TaskId, Task> = ids.map(|id| (id, task.clone())).collect();
    group.bench_function(BenchmarkId::new(step, "limit"), |bencher| {
        bencher.iter(|| tasks.insert(task.id, black_box(task).clone()).is_some());
    });
}

fn transition(criterion: &mut Criterion) {
    let policy = Policy::default();
    let submission = submission("Create a Python function that calculates fibonacci numbers", "proj-123");
    let mut group = criterion.benchmark_group("transition");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(50);
    let mut task = submitted(&submission);
    group.bench_function(BenchmarkId::new("submit", "core"), |bencher| {
        bencher.iter(|| submitted(black_box(&submission)).version);
    });
    limit(&mut group, "submit", &task);
    for (step, input, now) in life() {
        group.bench_function(BenchmarkId::new(step, "core"), |bencher| {
            let of = |input| apply(black_box(&task), input, now, &policy).is_ok();
            bencher.iter_batched(|| input.clone(), of, BatchSize::SmallInput);
        });
        task = apply(&task, input, now, &policy).expect("a step of the life").task;
        limit(&mut group, step, &task);
    }
    assert_eq!(task.phase().as_str(), "completed");
    group.finish();
}

criterion_group!(benches, transition);
criterion_main!(benches);
