//! Pauses of projects and tiers: nothing of what is paused is dispatched or
//! leased, what runs goes on, and all is in its old order when they end.

use std::time::Duration;

use dats::engine::{Error, GrantedLease, Hold, NewProject, ProjectPatch, Refusal};
use dats::task::{Priority, TaskId};

use crate::support::fixtures::{
    failure_report, lease_request, output_report, project, settings, submission, tier, verdict_report,
};
use crate::support::service::{Service, task_of};

/// A service in which each project has one slot.
fn narrow() -> Service {
    let mut narrow = settings();
    narrow.max_concurrent = 1;
    Service::new(narrow)
}

async fn submit_on(service: &Service, project_name: &str, tier_name: &str) -> TaskId {
    let mut wanted = submission(project_name, "d");
    wanted.options.tier = Some(tier(tier_name));
    service.submit(wanted).await
}

async fn leased(service: &Service, tier_name: &str, max: usize) -> Vec<TaskId> {
    let granted = service.engine().work().lease(lease_request(tier_name, max)).await.expect("to lease");
    granted.iter().map(task_of).collect()
}

/// Some groups of the writer later, without anything that could start.
async fn a_while(service: &Service) {
    for _ in 0..5 {
        service.engine().routing().take(0).await.expect("an answer");
    }
}

fn waiting_for(service: &Service, task: TaskId) -> String {
    service.status(task)["waiting_for"].as_str().expect("to wait for something").to_owned()
}

#[tokio::test]
async fn a_paused_project_starts_nothing_and_what_runs_goes_on() {
    let mut service = Service::new(settings());
    let running = service.submit(submission("p", "runs")).await;
    let held: GrantedLease = service.lease("small").await.unwrap();
    let dispatched = service.submit(submission("p", "dispatched")).await;
    let paused = service.engine().projects().pause(project("p")).await.unwrap();
    assert!(paused.paused_at.is_some() && paused.version == 2);
    let again = service.engine().projects().pause(project("p")).await.unwrap();
    assert_eq!(again, paused, "pausing twice changes nothing");
    let queued = service.submit(submission("p", "queued")).await;
    let other = service.submit(submission("q", "of another project")).await;

    assert_eq!(leased(&service, "small", 10).await, [other], "only the other project's task is leased");
    assert_eq!((service.phase(dispatched), service.phase(queued)), ("queued".to_owned(), "queued".to_owned()));
    for task in [dispatched, queued] {
        assert_eq!(waiting_for(&service, task), "the project is paused");
    }
    assert_eq!(waiting_for(&service, running), "worker worker-1");
    service.engine().work().renew(held.lease, Duration::from_mins(1)).await.unwrap();
    service.report(running, output_report("a")).await;
    service.report(running, verdict_report("a", true)).await;
    assert_eq!(service.phase(running), "completed");

    let resumed = service.engine().projects().resume(project("p")).await.unwrap();
    assert_eq!((resumed.paused_at, resumed.version), (None, 3));
    assert!(resumed.resumed_at >= paused.paused_at);
    assert_eq!(service.engine().projects().resume(project("p")).await.unwrap(), resumed);
    assert_eq!(leased(&service, "small", 10).await, [dispatched, queued]);
    service.restart();
}

#[tokio::test]
async fn a_retry_waits_for_the_end_of_the_pause() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    service.lease("small").await.unwrap();
    service.engine().projects().pause(project("p")).await.unwrap();
    service.report(task, failure_report(true)).await;
    service.phase_becomes(task, "queued").await;
    a_while(&service).await;
    assert_eq!(
        (service.phase(task).as_str(), waiting_for(&service, task).as_str()),
        ("queued", "the project is paused")
    );
    service.engine().projects().resume(project("p")).await.unwrap();
    service.lease("small").await.expect("it waits for a worker");
    assert_eq!(service.status(task)["attempts"], 2);
}

#[tokio::test]
async fn the_old_order_comes_back_also_after_a_restart() {
    let mut wide = settings();
    wide.max_concurrent = 3;
    let mut service = Service::new(wide);
    let priorities = [Priority::Low, Priority::High, Priority::Normal];
    let mut expected = Vec::new();
    service.engine().projects().create(new_project("p")).await.unwrap();
    service.engine().projects().pause(project("p")).await.unwrap();
    for number in 0..12 {
        let mut wanted = submission("p", "d");
        wanted.priority = Some(priorities[number % 3]);
        expected.push((std::cmp::Reverse(wanted.priority), service.submit(wanted).await));
    }
    expected.sort();
    for _ in 0..2 {
        service = service.restart();
        a_while(&service).await;
        assert_eq!(leased(&service, "small", 1).await, [], "it is still paused");
        assert_eq!(service.engine().figures().paused_projects, 1);
        assert_eq!(waiting_for(&service, expected[5].1), "the project is paused");
    }
    service.engine().projects().resume(project("p")).await.unwrap();
    let mut seen = Vec::new();
    while let Some(task) = leased(&service, "small", 1).await.pop() {
        service.engine().tasks().cancel(task, None).await.unwrap();
        seen.push(task);
    }
    assert_eq!(seen, expected.into_iter().map(|(_, task)| task).collect::<Vec<_>>());
    service.restart_limited(&|_| 3);
}

fn new_project(name: &str) -> NewProject {
    let id = project(name);
    NewProject { id, name: None, description: None, qa_profile: None, constitution: None, max_concurrent: None }
}

#[tokio::test]
async fn a_paused_tier_starts_nothing_and_blocks_no_other_tier() {
    let mut service = narrow();
    let first = submit_on(&service, "p", "large").await;
    let mut urgent = submission("p", "urgent");
    (urgent.options.tier, urgent.priority) = (Some(tier("large")), Some(Priority::High));
    let queue = service.engine().work().pause_tier(tier("large")).await.unwrap();
    assert!(queue.paused_at.is_some() && queue.depth == 1);
    assert_eq!(
        service.engine().work().pause_tier(tier("large")).await.unwrap(),
        queue,
        "pausing twice changes nothing"
    );
    let urgent = service.submit(urgent).await;
    let later = submit_on(&service, "p", "large").await;
    let others = [submit_on(&service, "p", "small").await, submit_on(&service, "p", "small").await];
    assert_eq!(leased(&service, "large", 10).await, []);
    assert_eq!(waiting_for(&service, first), "the tier large is paused");
    assert_eq!(waiting_for(&service, urgent), "the tier large is paused");
    assert_eq!(waiting_for(&service, others[0]), "a worker of tier small and a free slot of project p");
    // What is held back holds no slot.
    for other in others {
        assert_eq!(leased(&service, "small", 10).await, [other]);
        service.engine().tasks().cancel(other, None).await.unwrap();
    }
    service.engine().tasks().cancel(first, None).await.unwrap();
    a_while(&service).await;
    assert_eq!((service.phase(urgent), service.phase(later)), ("queued".to_owned(), "queued".to_owned()));
    service = service.restart_limited(&|_| 1);
    assert_eq!(service.engine().figures().paused_tiers().collect::<Vec<_>>(), [&tier("large")]);
    assert_eq!(waiting_for(&service, later), "the tier large is paused");

    let resumed = service.engine().work().resume_tier(tier("large")).await.unwrap();
    assert_eq!(resumed.paused_at, None);
    assert_eq!(leased(&service, "large", 10).await, [urgent], "the highest class first, as before the pause");
    service.engine().tasks().cancel(urgent, None).await.unwrap();
    assert_eq!(leased(&service, "large", 10).await, [later]);
    service.restart_limited(&|_| 1);
}

#[tokio::test]
async fn what_waits_in_a_pause_can_be_cancelled() {
    let mut service = narrow();
    service.engine().work().pause_tier(tier("large")).await.unwrap();
    let (gone, stays) = (submit_on(&service, "p", "large").await, submit_on(&service, "p", "large").await);
    service.engine().tasks().cancel(gone, None).await.unwrap();
    assert_eq!(service.status(gone)["waiting_for"], serde_json::Value::Null);
    service = service.restart_limited(&|_| 1);
    service.engine().work().resume_tier(tier("large")).await.unwrap();
    assert_eq!(leased(&service, "large", 10).await, [stays]);
    assert_eq!(service.phase(gone), "cancelled");
}

#[tokio::test]
async fn a_worker_that_waits_is_served_at_the_end_of_the_pause() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    service.engine().work().pause_tier(tier("small")).await.unwrap();
    service.engine().projects().pause(project("p")).await.unwrap();
    let engine = service.engine().clone();
    let mut request = lease_request("small", 1);
    request.wait = Duration::from_secs(10);
    let waiting = tokio::spawn(async move { engine.work().lease(request).await });
    a_while(&service).await;
    service.engine().work().resume_tier(tier("small")).await.unwrap();
    a_while(&service).await;
    assert!(!waiting.is_finished(), "the project is still paused");
    service.engine().projects().resume(project("p")).await.unwrap();
    assert_eq!(task_of(&waiting.await.unwrap().unwrap()[0]), task);
}

#[tokio::test]
async fn a_pause_is_another_answer_and_wakes_who_waits() {
    let service = narrow();
    service.submit(submission("p", "runs")).await;
    let task = service.submit(submission("p", "waits")).await;
    let before = service.engine().tasks().status(task).await.unwrap().unwrap();
    assert_eq!(before.hold, None);
    let change = |known| {
        let engine = service.engine().clone();
        tokio::spawn(async move { engine.tasks().wait(task, Some(known), Duration::from_secs(10)).await })
    };
    let waiting = change(before.revision());
    a_while(&service).await;
    service.engine().work().pause_tier(tier("small")).await.unwrap();
    let by_tier = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!((by_tier.version, by_tier.hold), (before.version, Some(Hold::Tier)));
    let waiting = change(by_tier.revision());
    a_while(&service).await;
    service.engine().projects().pause(project("p")).await.unwrap();
    let by_project = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(by_project.hold, Some(Hold::Project));
    let waiting = change(by_project.revision());
    service.engine().work().resume_tier(tier("small")).await.unwrap();
    a_while(&service).await;
    assert!(!waiting.is_finished(), "the answer is still the same");
    service.engine().projects().resume(project("p")).await.unwrap();
    let after = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!((after.revision(), after.body), (before.revision(), before.body));
}

#[tokio::test]
async fn unknown_names_are_told_and_a_deleted_project_is_not_paused() {
    let service = Service::new(settings());
    let unknown = service.engine().projects().pause(project("p")).await.unwrap_err();
    assert!(matches!(unknown, Error::Refused(Refusal::ProjectNotFound(_))), "{unknown}");
    let unknown = service.engine().work().resume_tier(tier("huge")).await.unwrap_err();
    assert!(matches!(unknown, Error::Refused(Refusal::TierNotFound(_))), "{unknown}");
    service.engine().projects().create(new_project("p")).await.unwrap();
    service.engine().projects().pause(project("p")).await.unwrap();
    let patch = ProjectPatch { max_concurrent: Some(Some(2)), ..ProjectPatch::default() };
    let changed = service.engine().projects().update(project("p"), patch, None).await.unwrap();
    assert!(changed.paused_at.is_some(), "another change does not end a pause");
    service.engine().projects().delete(project("p"), None).await.unwrap();
    assert_eq!(service.engine().figures().paused_projects, 0);
    let gone = service.engine().projects().resume(project("p")).await.unwrap_err();
    assert!(matches!(gone, Error::Refused(Refusal::ProjectNotFound(_))), "{gone}");
    let task = service.submit(submission("p", "d")).await;
    assert_eq!(service.phase(task), "queued");
    // A tier can leave the configuration while it is paused.
    service.engine().work().pause_tier(tier("large")).await.unwrap();
    let service = service.restart_as(|settings| settings.tiers.retain(|each| *each != tier("large")));
    assert_eq!(service.engine().figures().paused_tiers().count(), 1);
    assert_eq!(service.engine().work().resume_tier(tier("large")).await.unwrap().paused_at, None);
}
