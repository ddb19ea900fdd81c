//! `estimated_completion`: told at the submission, the same for ever after,
//! and learnt from what completed.

use std::time::Duration;

use dats::engine::{IdempotencyKey, Submitted};
use dats::task::{QaProfile, Submission, TaskId, Timestamp};

use crate::support::fixtures::{failure_report, output_report, project, settings, submission, tier};
use crate::support::service::Service;

fn unchecked(project_name: &str) -> Submission {
    let mut wanted = submission(project_name, "d");
    wanted.options.qa_profile = Some(QaProfile::new("none").expect("a profile"));
    wanted
}

async fn submit(service: &Service, wanted: Submission) -> Submitted {
    service
        .engine()
        .tasks()
        .submit(vec![wanted], None)
        .await
        .expect("to submit")
        .results
        .remove(0)
        .expect("to be taken")
}

/// How long after its submission a task should be done.
async fn foretold(service: &Service, wanted: Submission) -> Option<Duration> {
    let submitted = submit(service, wanted).await;
    service.engine().tasks().cancel(submitted.task, None).await.expect("to cancel");
    submitted.estimated_completion.map(|at| at.since(submitted.created_at))
}

async fn complete(service: &mut Service, task: TaskId) {
    service.phase_becomes(task, "queued").await;
    service.report(task, output_report(&task.to_string())).await;
    assert_eq!(service.phase(task), "completed");
}

#[tokio::test]
async fn null_until_something_completed_then_a_time_also_after_a_restart() {
    let mut service = Service::new(settings());
    let first = submit(&service, unchecked("p")).await;
    assert_eq!(first.estimated_completion, None);
    let failed = submit(&service, unchecked("p")).await;
    service.report(failed.task, failure_report(false)).await;
    assert_eq!(foretold(&service, unchecked("p")).await, None);
    tokio::time::sleep(Duration::from_millis(30)).await;
    complete(&mut service, first.task).await;
    for _ in 0..10 {
        let next = submit(&service, unchecked("p")).await;
        assert!(next.estimated_completion > Some(next.created_at));
        complete(&mut service, next.task).await;
    }
    let figures = service.engine().figures().estimates;
    assert_eq!(figures.kept + figures.missed, 10);
    assert_eq!(figures.ratios.iter().sum::<u64>(), 10);
    let (same, other) = (foretold(&service, unchecked("p")).await, foretold(&service, unchecked("q")).await);
    let mut larger = unchecked("p");
    larger.options.tier = Some(tier("large"));
    let on_large = foretold(&service, larger.clone()).await;
    assert!(same.is_some() && same == other && on_large.is_some());
    service = service.restart();
    assert_eq!(foretold(&service, unchecked("p")).await, same, "exactly the same after a restart");
    assert_eq!(foretold(&service, larger).await, on_large);
    service.restart();
}

#[tokio::test]
async fn a_longer_line_takes_longer_and_start_times_and_dependencies_count() {
    let mut narrow = settings();
    narrow.max_concurrent = 1;
    let mut service = Service::new(narrow);
    let first = submit(&service, unchecked("p")).await.task;
    // A mean time that counts in milliseconds.
    service.lease("small").await.expect("it waits for a worker");
    tokio::time::sleep(Duration::from_millis(30)).await;
    service.report(first, output_report("first")).await;
    let free = foretold(&service, unchecked("p")).await.unwrap();
    let mut last = Duration::ZERO;
    let mut newest = None;
    for _ in 0..5 {
        let next = submit(&service, unchecked("p")).await;
        let wait = next.estimated_completion.unwrap().since(next.created_at);
        assert!(wait >= free && wait > last, "{wait:?} after {last:?}");
        (last, newest) = (wait, Some(next));
    }
    let newest = newest.unwrap();
    let mut dependent = unchecked("q");
    dependent.options.depends_on = vec![newest.task];
    let dependent = submit(&service, dependent).await;
    assert!(dependent.estimated_completion.unwrap() >= newest.estimated_completion.unwrap().after(free / 2));
    let mut scheduled = unchecked("q");
    let start = Timestamp::from_micros(dependent.created_at.as_micros() + 3_600_000_000);
    scheduled.options.not_before = Some(start);
    assert!(submit(&service, scheduled).await.estimated_completion.unwrap() > start);
}

#[tokio::test]
async fn the_first_answer_is_given_again_with_its_estimate() {
    let mut service = Service::new(settings());
    let first = submit(&service, unchecked("p")).await.task;
    complete(&mut service, first).await;
    let key = Some(IdempotencyKey { key: [1; 16], body: [2; 16] });
    let batch = vec![unchecked("p"), unchecked("p")];
    let made = service.engine().tasks().submit(batch.clone(), key).await.unwrap();
    assert!(made.results.iter().all(|result| result.as_ref().is_ok_and(|task| task.estimated_completion.is_some())));
    let again = service.engine().tasks().submit(batch.clone(), key).await.unwrap();
    assert_eq!((again.replayed, &again.results), (true, &made.results));
    let service = service.restart();
    assert_eq!(service.engine().tasks().submit(batch, key).await.unwrap().results, made.results);
    let (rerun, _) = service.engine().tasks().rerun(first, None).await.unwrap();
    assert!(rerun.estimated_completion.is_some());
}

#[tokio::test]
async fn nobody_foretells_the_end_of_a_pause_and_nothing_is_learnt_from_one() {
    let mut service = Service::new(settings());
    let first = submit(&service, unchecked("p")).await.task;
    complete(&mut service, first).await;
    let before = foretold(&service, unchecked("q")).await;
    assert!(before.is_some());
    let held = submit(&service, unchecked("p")).await.task;
    service.engine().projects().pause(project("p")).await.unwrap();
    assert_eq!(foretold(&service, unchecked("p")).await, None);
    assert_eq!(foretold(&service, unchecked("q")).await, before);
    let without_ground = submit(&service, unchecked("p")).await.task;
    let mut after_it = unchecked("q");
    after_it.options.depends_on = vec![without_ground];
    assert_eq!(foretold(&service, after_it).await, None, "nor of what waits for it");
    service.engine().tasks().cancel(without_ground, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    service.engine().projects().resume(project("p")).await.unwrap();
    complete(&mut service, held).await;
    assert_eq!(foretold(&service, unchecked("p")).await, before);
    service.engine().work().pause_tier(tier("small")).await.unwrap();
    assert_eq!(foretold(&service, unchecked("q")).await, None);
}
