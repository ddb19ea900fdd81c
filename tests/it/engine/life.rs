//! A task's life, from submission to its end.

use std::time::Duration;

use dats::engine::{Error, Refusal, Revision};
use dats::store::RecordInput;
use dats::task::{Content, Outcome, QaProfile, RecordStatus, Report, Seq, Stale, Timestamp};
use serde_json::{Value, json};

use crate::support::fixtures::{
    artifact, failure_report, lease_request, output_report, settings, submission, verdict_report,
};
use crate::support::service::{Service, task_of};

fn data_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[tokio::test]
async fn from_submission_to_completion() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "write a parser")).await;
    let granted = service.lease("small").await.unwrap();
    let data = data_of(&granted.task);
    assert_eq!(data["task_id"], task.to_string());
    assert_eq!(data["description"], "write a parser");
    assert_eq!((&data["attempt"], &data["context"]), (&json!(1), &json!({})));
    let Report::Output(mut output) = output_report("art") else { unreachable!() };
    output.contents.insert(artifact("art"), Content::new("fn main() {}".to_owned()));
    output.inputs_consumed = vec![artifact("input")];
    assert_eq!(service.report(task, Report::Output(output)).await, Outcome::Applied);
    assert_eq!(service.phase(task), "validating");
    let record = service.engine().provenance().record_of_artifact(artifact("art")).await.unwrap().unwrap();
    assert_eq!((record.status, record.attempt), (RecordStatus::Pending, Some(1)));
    assert!(matches!(&record.inputs[..], [RecordInput { artifact: input, .. }] if input.as_str() == "input"));
    assert_eq!(service.report(task, verdict_report("art", true)).await, Outcome::Applied);
    let status = service.status(task);
    assert_eq!(status["status"], "completed");
    assert_eq!(status["artifacts"][0]["id"], "art");
    assert_eq!(status["provenance_id"], record.id.to_string());
    let record = service.engine().provenance().record(record.id).await.unwrap().unwrap();
    assert_eq!(record.status, RecordStatus::Passed);
    let content = service.engine().provenance().content(record.outputs[0].content.unwrap()).await.unwrap().unwrap();
    assert_eq!(content.into_bytes().unwrap(), b"fn main() {}");
    let names = service.history_names(task).await;
    let expected =
        ["task.created", "task.ready", "task.leased", "task.output.created", "task.validated", "task.finished"];
    assert_eq!(names, expected);
    let page = service.engine().log().page(Seq(0), 100, |_| true).await.unwrap();
    let published: Vec<&str> = page.entries.iter().map(|logged| logged.entry.change.name()).collect();
    assert_eq!(published, ["task.created", "task.ready", "task.output.created", "task.validated", "task.finished"]);
    assert!(page.reset.is_none());
}

#[tokio::test]
async fn a_rejection_escalates_and_tells_the_next_worker_why() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    service.lease("small").await.unwrap();
    service.report(task, output_report("first")).await;
    service.report(task, verdict_report("first", false)).await;
    let granted = service.lease_soon("large").await;
    let data = data_of(&granted.task);
    assert_eq!((&data["attempt"], &data["tier"]), (&json!(2), &json!("large")));
    let previous = &data["context"]["previous_attempt"];
    assert_eq!(previous["attempt"], 1);
    assert_eq!(previous["artifacts"], json!(["first"]));
    assert_eq!(previous["verification"]["issues"], json!(["one"]));
    let record = service.engine().provenance().record_of_artifact(artifact("first")).await.unwrap().unwrap();
    assert_eq!(record.status, RecordStatus::Failed);
    service.report(task, output_report("second")).await;
    service.report(task, verdict_report("second", true)).await;
    assert_eq!(service.status(task)["attempts"], 2);
    assert_eq!(service.phase(task), "completed");
    service.restart();
}

#[tokio::test]
async fn attempts_run_out() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    for attempt in 1..=3 {
        let granted = service.lease_soon("small").await;
        assert_eq!(data_of(&granted.task)["attempt"], attempt);
        assert_eq!(service.report(task, failure_report(true)).await, Outcome::Applied);
    }
    let status = service.status(task);
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("failed"), &json!("worker_failed")));
    assert_eq!(service.report(task, failure_report(true)).await, Outcome::Stale(Stale::Ended));
    let hopeless = service.submit(submission("p", "d")).await;
    service.lease_soon("small").await;
    service.report(hopeless, failure_report(false)).await;
    assert_eq!(service.phase(hopeless), "failed");
    service.restart();
}

#[tokio::test]
async fn late_outputs_are_kept_with_their_attempt() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    service.lease("small").await.unwrap();
    service.engine().tasks().cancel(task, None).await.unwrap();
    assert_eq!(service.report(task, output_report("late")).await, Outcome::Stale(Stale::Ended));
    assert_eq!(service.report(task, output_report("later")).await, Outcome::Stale(Stale::Ended));
    let record = service.engine().provenance().record_of_artifact(artifact("late")).await.unwrap().unwrap();
    assert_eq!((record.task, record.status, record.outputs.len()), (task, RecordStatus::Failed, 2));
    let before = service.engine().tasks().status(task).await.unwrap().unwrap();
    let service = service.restart();
    assert_eq!(service.engine().tasks().status(task).await.unwrap().unwrap().body, before.body);
    assert_eq!(service.status(task)["status"], "cancelled");
}

#[tokio::test]
async fn without_validation_an_output_completes() {
    let mut service = Service::new(settings());
    let mut wanted = submission("p", "d");
    wanted.options.qa_profile = Some(QaProfile::new("none").unwrap());
    let task = service.submit(wanted).await;
    service.report(task, output_report("art")).await;
    assert_eq!(service.phase(task), "completed");
}

#[tokio::test]
async fn cancelling_twice_changes_nothing_and_ended_tasks_refuse() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let first = service.engine().tasks().cancel(task, Some("enough".to_owned())).await.unwrap();
    let second = service.engine().tasks().cancel(task, Some("again".to_owned())).await.unwrap();
    assert_eq!(first.body, second.body);
    assert_eq!(service.status(task)["error"]["message"], "enough");
    let other = service.submit(submission("p", "d")).await;
    service.lease("small").await.expect("it waits for a worker");
    service.report(other, failure_report(false)).await;
    let refused = service.engine().tasks().cancel(other, None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::Task(_))), "{refused}");
    let rerun = service.engine().tasks().rerun(other, None).await.unwrap().0.task;
    assert_eq!(service.status(rerun)["rerun_of"], other.to_string());
    let refused = service.engine().tasks().rerun(rerun, None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::NotEnded(_))), "{refused}");
}

#[tokio::test]
async fn a_lease_that_runs_out_gives_the_same_attempt_back() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let mut request = lease_request("small", 1);
    request.lease = Duration::from_millis(20);
    let lost = service.engine().work().lease(request).await.unwrap().remove(0);
    let granted = service.lease_soon("small").await;
    assert_eq!((task_of(&granted), &data_of(&granted.task)["attempt"]), (task, &json!(1)));
    let refused = service.engine().work().renew(lost.lease, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::LeaseLost(_))));
    assert!(service.engine().work().release(lost.lease).await.is_err());
    let until = service.engine().work().renew(granted.lease, Duration::from_secs(90)).await.unwrap();
    assert!(until > granted.until);
    service.engine().work().release(granted.lease).await.unwrap();
    let names = service.history_names(task).await;
    let expected = ["task.created", "task.ready", "task.leased", "task.lease_expired", "task.leased", "task.released"];
    assert_eq!(names, expected);
    service.restart();
}

#[tokio::test]
async fn execution_has_a_deadline_that_renewing_does_not_move() {
    let service = Service::new(settings());
    let mut wanted = submission("p", "d");
    wanted.options.timeout_seconds = Some(1);
    let task = service.submit(wanted).await;
    service.lease("small").await.unwrap();
    let granted = service.lease_soon("small").await;
    assert_eq!(data_of(&granted.task)["attempt"], 2);
    let names = service.history_names(task).await;
    assert!(names.contains(&"task.backoff".to_owned()), "{names:?}");
    assert!(!names.contains(&"task.lease_expired".to_owned()), "{names:?}");
}

#[tokio::test]
async fn what_depends_on_others_waits_for_them_and_fails_with_them() {
    let mut service = Service::new(settings());
    let first = service.submit(submission("p", "first")).await;
    let after = |task| {
        let mut wanted = submission("p", "after");
        wanted.options.depends_on = vec![task, task];
        wanted
    };
    let second = service.submit(after(first)).await;
    let third = service.submit(after(second)).await;
    assert_eq!((service.phase(second), service.phase(third)), ("blocked".to_owned(), "blocked".to_owned()));
    service.report(first, output_report("a")).await;
    service.report(first, verdict_report("a", true)).await;
    assert_eq!((service.phase(second), service.phase(third)), ("queued".to_owned(), "blocked".to_owned()));
    let mut service = service.restart();
    service.lease("small").await.expect("it waits for a worker");
    service.report(second, failure_report(false)).await;
    assert_eq!(service.status(third)["error"]["code"], "dependency_failed");
    let fourth = service.submit(after(third)).await;
    assert_eq!(service.status(fourth)["error"]["code"], "dependency_failed");
    service.restart();
}

#[tokio::test]
async fn a_long_chain_fails_as_one() {
    let service = Service::new(settings());
    let first = service.submit(submission("p", "first")).await;
    let mut last = first;
    for _ in 0..1500 {
        let mut wanted = submission("p", "next");
        wanted.options.depends_on = vec![last];
        last = service.submit(wanted).await;
    }
    service.engine().tasks().cancel(first, None).await.unwrap();
    assert_eq!(service.status(last)["status"], "failed");
    service.restart();
}

#[tokio::test]
async fn a_task_waits_for_its_time() {
    let service = Service::new(settings());
    let mut wanted = submission("p", "d");
    let now = service.submit(wanted.clone()).await;
    let created: Timestamp = service.status(now)["created_at"].as_str().unwrap().parse().unwrap();
    wanted.options.not_before = Some(created.after(Duration::from_millis(300)));
    let later = service.submit(wanted).await;
    assert_eq!(service.phase(later), "scheduled");
    let service = service.restart();
    service.phase_becomes(later, "queued").await;
    let ready = service.history(later).await.into_iter().find(|entry| entry.change.name() == "task.ready").unwrap();
    assert!(ready.at >= created.after(Duration::from_millis(300)), "it was dispatched early");
}

#[tokio::test]
async fn long_polls_end_with_the_change_the_end_or_the_time() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let engine = service.engine().clone();
    let version = engine.tasks().status(task).await.unwrap().unwrap().version;
    let seen = |version| Some(Revision { version, hold: None });
    let still = engine.tasks().wait(task, seen(version), Duration::from_millis(30)).await.unwrap().unwrap();
    assert_eq!(still.version, version);
    let known = engine.tasks().wait(task, seen(version - 1), Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(known.version, version);
    let other = engine.clone();
    let changed = tokio::spawn(async move { other.tasks().wait(task, seen(version), Duration::from_secs(10)).await });
    let ended = tokio::spawn(async move { engine.tasks().wait(task, None, Duration::from_secs(10)).await });
    service.report(task, output_report("a")).await;
    assert_eq!(changed.await.unwrap().unwrap().unwrap().version, version + 1);
    service.report(task, verdict_report("a", true)).await;
    assert!(ended.await.unwrap().unwrap().unwrap().ended);
}
