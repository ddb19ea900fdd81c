//! The wall clock is set while tasks wait, and at starts: durations count
//! observed time, calendar times follow the wall clock, and nothing is lost.

use std::time::Duration;

use dats::engine::{EventOutcome, IdempotencyKey, Refusal};
use dats::task::{QaProfile, Report, TaskId, Timestamp};

use crate::support::fixtures::{
    event, failure_report, output_report, project, settings, submission, tier, verdict_report,
};
use crate::support::service::{Service, task_of};

const YEAR: i64 = 365 * 86_400;
const HOUR: Duration = Duration::from_hours(1);

/// Some groups of the writer later.
async fn a_while(service: &Service) {
    for _ in 0..5 {
        service.engine().routing().take(0).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn submit_unchecked(service: &Service) -> TaskId {
    let mut unchecked = submission("p", "unchecked");
    unchecked.options.qa_profile = Some(QaProfile::new("none").unwrap());
    service.submit(unchecked).await
}

fn created_at(service: &Service, task: TaskId) -> Timestamp {
    service.status(task)["created_at"].as_str().expect("a time").parse().expect("a time")
}

/// A lease, a backoff, a pause after a release, a parked verdict and a task for
/// in an hour, each beside the others.
struct Waiting {
    leased: TaskId,
    failed: TaskId,
    scheduled: TaskId,
    parked: TaskId,
}

fn slow() -> dats::engine::Settings {
    let mut slow = settings();
    slow.policy.backoff_initial = Duration::from_mins(20);
    slow.policy.backoff_max = Duration::from_mins(20);
    slow.policy.park = Duration::from_mins(10);
    slow
}

async fn waiting(service: &mut Service) -> Waiting {
    let failed = service.submit(submission("p", "fails")).await;
    service.lease("small").await.expect("the first one");
    service.report(failed, failure_report(true)).await;
    let leased = service.submit(submission("p", "leased")).await;
    assert_eq!(task_of(&service.lease("small").await.expect("the second one")), leased);
    let mut later = submission("p", "later");
    later.options.not_before = Some(service.clock().wall().after(HOUR));
    let scheduled = service.submit(later).await;
    let mut parked = submission("p", "has a verdict before its output");
    parked.options.tier = Some(tier("large"));
    let parked = service.submit(parked).await;
    service.report(parked, verdict_report("a", true)).await;
    let waiting = Waiting { leased, failed, scheduled, parked };
    check_all_wait(service, &waiting).await;
    waiting
}

async fn check_all_wait(service: &Service, waiting: &Waiting) {
    a_while(service).await;
    let phases = [waiting.leased, waiting.failed, waiting.scheduled].map(|task| service.phase(task));
    assert_eq!(phases, ["leased", "backoff", "scheduled"]);
    let letters = service.engine().figures().dead_letters.kept;
    assert_eq!(letters, 0, "the verdict on {} still waits", waiting.parked);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_moves_no_duration() {
    let mut service = Service::new(slow());
    let waiting = waiting(&mut service).await;
    service.set_wall(-YEAR);
    check_all_wait(&service, &waiting).await;
    // The lease of a minute, then the ten minutes of the verdict, then the backoff.
    service.advance(Duration::from_secs(61));
    service.phase_becomes(waiting.leased, "queued").await;
    assert_eq!(service.phase(waiting.failed), "backoff");
    service.advance(Duration::from_mins(10));
    service.soon("the verdict", || service.engine().figures().dead_letters.kept == 1).await;
    service.advance(Duration::from_mins(10));
    service.phase_becomes(waiting.failed, "queued").await;
    // The calendar time is a year and an hour away now.
    service.advance(HOUR);
    a_while(&service).await;
    assert_eq!(service.phase(waiting.scheduled), "scheduled");
    service.set_wall(YEAR);
    service.phase_becomes(waiting.scheduled, "queued").await;
    service.restart();
}

#[tokio::test]
async fn a_wall_clock_that_is_set_ahead_moves_calendar_times_alone() {
    let mut service = Service::new(slow());
    let waiting = waiting(&mut service).await;
    let shown = service.status(waiting.failed)["waiting_for"].clone();
    service.set_wall(YEAR);
    service.phase_becomes(waiting.scheduled, "queued").await;
    a_while(&service).await;
    assert_eq!((service.phase(waiting.leased), service.phase(waiting.failed)), ("leased".into(), "backoff".into()));
    // What is shown of the backoff follows the wall clock.
    service.soon("the new time", || service.status(waiting.failed)["waiting_for"] != shown).await;
    let new = service.submit(submission("p", "new")).await;
    let ahead = created_at(&service, new).since(created_at(&service, waiting.leased));
    assert!(ahead > Duration::from_hours(364 * 24), "{ahead:?}");
    service.advance(Duration::from_secs(61));
    service.phase_becomes(waiting.leased, "queued").await;
    service.restart();
}

#[tokio::test]
async fn execution_is_measured_in_observed_time() {
    for step in [YEAR, -YEAR] {
        let mut service = Service::new(settings());
        let task = submit_unchecked(&service).await;
        service.lease("small").await.expect("it");
        service.set_wall(step);
        service.advance(Duration::from_secs(7));
        service.report(task, output_report("a")).await;
        let status = service.status(task);
        let took = status["execution_time_ms"].as_u64().unwrap();
        assert!((7000..9000).contains(&took), "{status}");
        let service = service.restart();
        assert_eq!(service.status(task)["execution_time_ms"], took);
    }
}

#[tokio::test]
async fn a_stop_counts_at_most_an_hour_and_at_least_nothing() {
    let mut long = slow();
    long.policy.backoff_initial = Duration::from_mins(90);
    long.policy.backoff_max = Duration::from_mins(90);
    let mut service = Service::new(long);
    let task = submit_unchecked(&service).await;
    service.lease("small").await.expect("it");
    service.report(task, failure_report(true)).await;
    assert_eq!(service.phase(task), "backoff");
    // 45 to 90 minutes. A year that the clock was ahead counts one hour, and going back
    // counts nothing.
    for seconds in [-YEAR, YEAR, -YEAR, -YEAR] {
        let before = service.clock().observed();
        service = service.restart_at(seconds);
        let counted = service.clock().observed().since(before);
        let longest = if seconds > 0 { HOUR } else { Duration::ZERO } + Duration::from_secs(30);
        assert!(counted < longest, "{seconds}: {counted:?}");
    }
    service.advance(Duration::from_mins(30));
    service.phase_becomes(task, "queued").await;
    service.restart();
}

#[tokio::test]
async fn one_start_with_a_clock_years_ahead_forgets_nothing() {
    let mut keeping = settings();
    keeping.retention = Some(Duration::from_hours(720));
    let mut service = Service::new(keeping);
    let key = IdempotencyKey { key: [7; 16], body: [8; 16] };
    let first = service.engine().tasks().submit(vec![submission("p", "once")], Some(key)).await.unwrap();
    let task = first.results[0].as_ref().unwrap().task;
    service.engine().tasks().cancel(task, None).await.unwrap();
    // It comes too late, and is known all the same.
    let taken = service.send(event("e", task, verdict_report("x", true))).await;
    let log = service.engine().figures().tail;
    for seconds in [3 * YEAR, -3 * YEAR] {
        service = service.restart_at(seconds);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(service.phase(task), "cancelled");
        let again = service.engine().tasks().submit(vec![submission("p", "once")], Some(key)).await.unwrap();
        assert!(again.replayed && again.results == first.results);
        assert!(matches!(taken, Ok(EventOutcome::Taken(_))));
        let again = service.send(event("e", task, verdict_report("x", true))).await;
        assert!(matches!(again, Ok(EventOutcome::Duplicate)), "{again:?}");
        assert_eq!(service.engine().figures().tail, log, "the log was trimmed");
    }
    // Time that goes by removes them all the same.
    service.advance(Duration::from_hours(721));
    service.soon("retention", || service.engine().tasks().status_now(task).is_ok_and(|found| found.is_none())).await;
    let submitted = service.engine().tasks().submit(vec![submission("p", "once")], Some(key)).await.unwrap();
    assert!(!submitted.replayed);
}

#[tokio::test]
async fn ids_grow_while_the_wall_clock_steps_back() {
    let mut service = Service::new(settings());
    let mut ids = vec![service.submit(submission("p", "0")).await];
    for (number, seconds) in [YEAR, -YEAR, -YEAR, 5, -3600].into_iter().enumerate() {
        service.set_wall(seconds);
        ids.push(service.submit(submission("p", &format!("{number}"))).await);
        ids.push(service.submit(submission("p", "again")).await);
        service = service.restart_at(-seconds * 2);
        ids.push(service.submit(submission("p", "after the start")).await);
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(ids, sorted);
}

/// A rollback goes by the order of the log, whatever the wall clock showed.
#[tokio::test]
async fn a_rollback_undoes_what_came_after_the_checkpoint_in_the_log() {
    for step in [YEAR, -YEAR] {
        let mut service = Service::new(settings());
        let before = submit_unchecked(&service).await;
        service.lease("small").await.expect("it");
        service.report(before, output_report("before")).await;
        let open_before = service.submit(submission("p", "open before")).await;
        service.set_wall(step);
        let new = dats::engine::NewCheckpoint::default();
        let checkpoint = service.engine().checkpoints().create(project("p"), new.clone()).await.unwrap();
        service.set_wall(-step / 2);
        let later = service.engine().checkpoints().create(project("p"), new).await.unwrap();
        service.set_wall(-step);
        let after = submit_unchecked(&service).await;
        let mut granted = Vec::new();
        while let Some(lease) = service.lease("small").await {
            granted.push(task_of(&lease));
        }
        assert_eq!(granted, [open_before, after]);
        service.report(after, output_report("after")).await;
        let open_after = service.submit(submission("p", "open after")).await;
        service.lease("small").await.expect("it");
        let rollback = service
            .engine()
            .checkpoints()
            .roll_back(dats::engine::RollbackRequest {
                checkpoint: checkpoint.id,
                project: None,
                reason: "wrong".to_owned(),
                requeue: false,
                dry_run: false,
            })
            .await
            .unwrap();
        assert_eq!(rollback.cancelled, [open_after], "step {step}");
        assert_eq!(rollback.invalidated, [later.id]);
        assert!(rollback.to_rerun.contains(&after));
        assert!(!rollback.to_rerun.contains(&before));
        assert_eq!(service.phase(open_before), "leased");
    }
}

/// An input binds to what was there when the work began, by the order of the log,
/// also after a start and for an attempt whose clock was wrong.
#[tokio::test]
async fn inputs_bind_by_the_order_of_the_log() {
    for step in [YEAR, -YEAR] {
        let mut service = Service::new(settings());
        let maker = submit_unchecked(&service).await;
        service.lease("small").await.expect("it");
        service.report(maker, output_report("shared")).await;
        service.set_wall(step);
        let user = submit_unchecked(&service).await;
        service.lease("small").await.expect("it");
        service = service.restart_at(-step);
        let again = submit_unchecked(&service).await;
        service.lease("small").await.expect("it");
        service.report(again, output_report("shared")).await;
        let report = match output_report("result") {
            Report::Output(mut output) => {
                output.inputs_consumed = vec![crate::support::fixtures::artifact("shared")];
                Report::Output(output)
            }
            other => other,
        };
        service.report(user, report).await;
        let record = |task: TaskId| service.status(task)["provenance_id"].as_str().unwrap().parse().unwrap();
        let graph = service.engine().provenance().graph();
        let node = graph.find(record(user)).unwrap();
        let above: Vec<_> = graph.dependencies(&[node], None).iter().collect();
        assert_eq!(above.len(), 1);
        assert_eq!(graph.record(above[0].record).unwrap().id, record(maker), "step {step}");
    }
}

#[tokio::test]
async fn a_refused_renewal_is_not_brought_back_by_the_clock() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "leased")).await;
    let granted = service.lease("small").await.expect("it");
    service.advance(Duration::from_secs(61));
    service.phase_becomes(task, "queued").await;
    service.set_wall(-YEAR);
    let renewed = service.engine().work().renew(granted.lease, HOUR).await;
    assert!(matches!(renewed, Err(dats::engine::Error::Refused(Refusal::LeaseLost(_)))), "{renewed:?}");
    // What the answer shows is a calendar time of the present.
    let granted = service.lease("small").await.expect("it");
    let wall = service.clock().wall();
    let left = granted.until.since(wall);
    assert!(left > Duration::from_secs(50) && left <= Duration::from_mins(1), "{left:?}");
}
