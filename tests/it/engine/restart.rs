//! A restart brings back exactly the state before it (promise 9).

use std::collections::BTreeMap;
use std::time::Duration;

use dats::engine::{GrantedLease, QueueCount, QueueReport, RequireConsumer};
use dats::task::{Bus, Holder, Outcome, Priority, Report, ReviewId, ReviewRequest, Started, TaskId, Timestamp};

use crate::support::fixtures::{
    failure_report, lease_request, output_report, settings, submission, tier, verdict_report,
};
use crate::support::service::{Service, task_of};

/// One task in each phase, by the phase.
async fn one_in_each_phase(service: &mut Service) -> BTreeMap<String, TaskId> {
    let mut tasks = Vec::new();
    let review = |task: TaskId| {
        Report::ReviewRequested(ReviewRequest {
            review: ReviewId::new(&format!("review of {task}")).expect("an id"),
            reason: "unsure".to_owned(),
            artifact: None,
        })
    };
    for number in 0..7 {
        tasks.push(service.submit(submission("p", &format!("task {number}"))).await);
    }
    service.lease("small").await.expect("the first one");
    service.report(tasks[2], output_report("a")).await;
    service.report(tasks[3], output_report("b")).await;
    service.report(tasks[3], review(tasks[3])).await;
    service.report(tasks[4], output_report("c")).await;
    service.report(tasks[4], verdict_report("c", true)).await;
    let mut failing = submission("p", "fails");
    failing.options.tier = Some(tier("large"));
    let failing = service.submit(failing).await;
    service.lease("large").await.expect("the failing one");
    service.report(failing, failure_report(false)).await;
    tasks.push(failing);
    service.engine().tasks().cancel(tasks[6], Some("enough".to_owned())).await.expect("to cancel");
    let mut scheduled = submission("p", "scheduled");
    scheduled.options.not_before = Some(Timestamp::from_micros(i64::MAX));
    tasks.push(service.submit(scheduled).await);
    let mut blocked = submission("p", "blocked");
    blocked.options.depends_on = vec![tasks[0]];
    blocked.metadata = Some(format!("{{\"large\":\"{}\"}}", "x".repeat(5000)));
    tasks.push(service.submit(blocked).await);
    tasks.push(service.submit(submission("q", "runs")).await);
    tasks.push(service.submit(submission("q", "queued")).await);
    let mut backing_off = submission("p", "backoff");
    backing_off.options.tier = Some(tier("large"));
    let backing_off = service.submit(backing_off).await;
    service.lease("large").await.expect("the one that backs off");
    service.report(backing_off, failure_report(true)).await;
    tasks.push(backing_off);
    tasks.into_iter().map(|task| (service.phase(task), task)).collect()
}

#[tokio::test]
async fn every_phase_comes_back_byte_by_byte() {
    let mut slow = settings();
    slow.policy.backoff_initial = Duration::from_hours(1);
    slow.policy.backoff_max = Duration::from_hours(1);
    let mut service = Service::new(slow);
    let limited = dats::engine::ProjectPatch { max_concurrent: Some(Some(1)), ..Default::default() };
    let mut holder = submission("q", "holds the slot");
    holder.options.tier = Some(tier("large"));
    let holder = service.submit(holder).await;
    service.engine().projects().update(dats::task::ProjectId::new("q").unwrap(), limited, None).await.unwrap();
    let granted = service.lease("large").await.expect("the only task of its tier");
    assert_eq!(task_of(&granted), holder);
    let tasks = one_in_each_phase(&mut service).await;
    assert_eq!(tasks.len(), 10, "{tasks:?}");
    let answers = |service: &Service| -> Vec<_> { tasks.values().map(|task| service.answer(*task).body).collect() };
    let before = answers(&service);
    let figures = service.engine().figures();
    let queues = service.engine().work().queues();
    for _ in 0..3 {
        service = service.restart();
        assert_eq!(answers(&service), before);
        let now = service.engine().figures();
        assert_eq!((now.counters, now.head, now.projects), (figures.counters, figures.head, figures.projects));
        assert_eq!(service.engine().work().queues(), queues);
    }
    // And it goes on from there.
    let held = tasks["leased"];
    service.report(held, output_report("late")).await;
    assert_eq!(service.phase(held), "validating");
}

#[tokio::test]
async fn lines_keep_their_order() {
    let mut wide = settings();
    wide.max_concurrent = 1000;
    let service = Service::new(wide);
    let priorities = [Priority::Low, Priority::High, Priority::Normal];
    let mut expected = Vec::new();
    for number in 0..30 {
        let mut wanted = submission("p", "d");
        let priority = priorities[number % 3];
        wanted.priority = Some(priority);
        expected.push((std::cmp::Reverse(priority), service.submit(wanted).await));
    }
    expected.sort();
    let take = async |service: &Service, count: usize| {
        let granted = service.engine().work().lease(lease_request("small", count)).await.expect("to lease");
        granted.iter().map(task_of).collect::<Vec<_>>()
    };
    let mut leased = take(&service, 7).await;
    let service = service.restart();
    leased.extend(take(&service, 100).await);
    assert_eq!(leased, expected.into_iter().map(|(_, task)| task).collect::<Vec<_>>());
}

#[tokio::test]
async fn leases_outlive_a_restart_and_still_run_out() {
    let service = Service::new(settings());
    let (short, long) = (service.submit(submission("p", "1")).await, service.submit(submission("p", "2")).await);
    let lease = async |service: &Service, milliseconds: u64| -> GrantedLease {
        let mut request = lease_request("small", 1);
        request.lease = Duration::from_millis(milliseconds);
        service.engine().work().lease(request).await.expect("to lease").remove(0)
    };
    let (gone, kept) = (lease(&service, 300).await, lease(&service, 60_000).await);
    let service = service.restart();
    assert_eq!(service.phase(short), "leased");
    service.phase_becomes(short, "queued").await;
    let expired = service.history(short).await.pop().unwrap();
    assert!(expired.at >= gone.until, "it ran out early");
    assert_eq!(service.phase(long), "leased");
    assert!(service.engine().work().renew(gone.lease, Duration::from_secs(1)).await.is_err());
    service.engine().work().renew(kept.lease, Duration::from_secs(1)).await.unwrap();
    service.restart();
}

#[tokio::test]
async fn ids_and_times_go_on_after_a_restart() {
    let mut service = Service::new(settings());
    let mut last = None;
    for _ in 0..5 {
        for _ in 0..20 {
            let task = service.submit(submission("p", "d")).await;
            assert!(last < Some(task), "{task} is not the newest id");
            last = Some(task);
        }
        service = service.restart();
    }
}

/// What leaves the queue of a tier whose workers say when they begin has not begun.
#[tokio::test]
async fn workers_that_say_when_they_begin_are_known_after_a_restart() {
    let mut brokered = settings();
    brokered.policy.bus = Bus::Broker;
    let mut service = Service::new(brokered);
    let counted = async |service: &Service| {
        let report = QueueReport {
            tier: tier("small"),
            counted: Some(QueueCount { ready: 0, consumers: 1 }),
            published_before: Some(service.clock().now().after(Duration::from_mins(1))),
            unobserved_before: None,
            rule: RequireConsumer::Auto,
        };
        service.engine().broker().report_queue(report).await.expect("an answer");
    };
    let [inferred, told] = ["inferred", "told"].map(|name| submission("p", name));
    let (inferred, told) = (service.submit(inferred).await, service.submit(told).await);
    service.phase_becomes(inferred, "dispatched").await;
    let started = Report::Started(Started { attempt: Some(1), sender: Holder::default() });
    assert_eq!(service.report(told, started).await, Outcome::Applied);
    counted(&service).await;
    assert_eq!(service.phase(inferred), "dispatched", "its worker will say when it begins");
    let service = service.restart();
    counted(&service).await;
    assert_eq!(service.phase(inferred), "dispatched", "it was forgotten that they say it");
    service.restart();
}
