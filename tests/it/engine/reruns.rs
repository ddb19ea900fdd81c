//! Re-runs follow what they depend on to what has become of it.

use std::time::Duration;

use dats::engine::{Error, GrantedLease, IdempotencyKey, NewCheckpoint, Refusal, Rollback, RollbackRequest};
use dats::store::Checkpoint;
use dats::task::{QaProfile, Report, Submission, TaskId};
use serde_json::{Value, json};

use crate::support::fixtures::{artifact, failure_report, lease_request, output_report, project, settings, submission};
use crate::support::service::Service;

/// A task whose output is taken as it is.
fn plain(description: &str, depends_on: &[TaskId]) -> Submission {
    let mut submission = submission("p", description);
    submission.options.qa_profile = Some(QaProfile::new("none").unwrap());
    submission.options.depends_on = depends_on.to_vec();
    submission
}

/// Fails a task for good that a worker can take, or has.
async fn fail(service: &mut Service, task: TaskId) {
    service.engine().work().lease(lease_request("small", 10)).await.unwrap();
    service.report(task, failure_report(false)).await;
    assert_eq!(service.phase(task), "failed");
}

async fn complete(service: &mut Service, task: TaskId, made: &str, inputs: &[&str]) {
    let Report::Output(mut output) = output_report(made) else { panic!("an output") };
    output.inputs_consumed = inputs.iter().map(|input| artifact(input)).collect();
    service.report(task, Report::Output(output)).await;
    assert_eq!(service.phase(task), "completed");
}

fn inputs_of(granted: &GrantedLease) -> Value {
    serde_json::from_slice::<Value>(&granted.task).unwrap()["inputs"].clone()
}

async fn rerun(service: &Service, task: TaskId) -> TaskId {
    service.engine().tasks().rerun(task, None).await.unwrap().0.task
}

async fn refusal(service: &Service, task: TaskId) -> Refusal {
    match service.engine().tasks().rerun(task, None).await.unwrap_err() {
        Error::Refused(refusal) => refusal,
        error => panic!("{error}"),
    }
}

fn depends_on(service: &Service, task: TaskId) -> Value {
    service.status(task)["depends_on"].clone()
}

#[tokio::test]
async fn a_rerun_waits_for_the_rerun_of_what_failed() {
    let mut service = Service::new(settings());
    let a = service.submit(plain("make the data", &[])).await;
    let b = service.submit(plain("use the data", &[a])).await;
    fail(&mut service, a).await;
    assert_eq!(service.status(b)["error"]["code"], "dependency_failed");
    assert_eq!(refusal(&service, b).await, Refusal::DependencyNotCompleted { task: b, dependency: a });
    let a2 = rerun(&service, a).await;
    let b2 = rerun(&service, b).await;
    assert_eq!((depends_on(&service, b2), service.phase(b2).as_str()), (json!([a2]), "blocked"));
    // Each failure in the chain leads to the next re-run, also after a start.
    fail(&mut service, a2).await;
    let mut service = service.restart();
    assert_eq!(refusal(&service, b2).await, Refusal::DependencyNotCompleted { task: b2, dependency: a2 });
    let a3 = rerun(&service, a2).await;
    let a4 = rerun(&service, a).await;
    let b3 = rerun(&service, b).await;
    assert_eq!(depends_on(&service, b3), json!([a4]));
    complete(&mut service, a3, "data", &[]).await;
    // One that has completed goes before a newer one that is open.
    let b4 = rerun(&service, b2).await;
    assert_eq!(depends_on(&service, b4), json!([a3]));
    assert_ne!(service.phase(b4), "blocked");
    service.restart();
}

#[tokio::test]
async fn a_newer_result_takes_the_place_of_the_one_that_was_used() {
    let mut service = Service::new(settings());
    let a = service.submit(plain("make the data", &[])).await;
    let mut wanted = plain("use the data", &[a]);
    wanted.options.inputs = vec![artifact("named")];
    let b = service.submit(wanted).await;
    complete(&mut service, a, "old", &[]).await;
    complete(&mut service, b, "used", &["old"]).await;
    let same = rerun(&service, b).await;
    assert_eq!(
        (depends_on(&service, same), service.status(same)["options"]["inputs"].clone()),
        (json!([a]), json!(["named", "old"]))
    );
    let a2 = rerun(&service, a).await;
    complete(&mut service, a2, "new", &[]).await;
    let b2 = rerun(&service, b).await;
    assert_eq!(depends_on(&service, b2), json!([a2]));
    assert_eq!(service.status(b2)["options"]["inputs"], json!(["named"]));
    let granted = [service.lease_soon("small").await, service.lease_soon("small").await];
    let inputs = granted.map(|granted| inputs_of(&granted));
    assert_eq!(inputs, [json!(["named", "old"]), json!(["named", "new"])]);
    service.restart();
}

#[tokio::test]
async fn a_key_gives_the_first_answer_whatever_became_of_the_dependency() {
    let mut service = Service::new(settings());
    let a = service.submit(plain("a", &[])).await;
    let b = service.submit(plain("b", &[a])).await;
    fail(&mut service, a).await;
    let a2 = rerun(&service, a).await;
    let key = Some(IdempotencyKey { key: [1; 16], body: [2; 16] });
    let (first, replayed) = service.engine().tasks().rerun(b, key).await.unwrap();
    assert!(!replayed);
    fail(&mut service, a2).await;
    assert_eq!(service.engine().tasks().rerun(b, key).await.unwrap(), (first, true));
    let other = Some(IdempotencyKey { key: [3; 16], body: [2; 16] });
    assert!(matches!(
        service.engine().tasks().rerun(b, other).await,
        Err(Error::Refused(Refusal::DependencyNotCompleted { .. }))
    ));
}

#[tokio::test]
async fn a_rollback_follows_dependencies_to_what_they_became() {
    let mut service = Service::new(settings());
    let failed = service.submit(plain("fails before", &[])).await;
    fail(&mut service, failed).await;
    let first = service.engine().checkpoints().create(project("p"), NewCheckpoint::default()).await.unwrap();
    let a = rerun(&service, failed).await;
    let b = service.submit(plain("b", &[a])).await;
    complete(&mut service, a, "a", &[]).await;
    complete(&mut service, b, "b", &["a"]).await;
    let a2 = rerun(&service, a).await;
    complete(&mut service, a2, "a2", &[]).await;
    let done = roll_back(&service, &first).await;
    assert_eq!((done.not_requeued.as_slice(), done.to_rerun.as_slice()), (&[][..], &[a, b, a2][..]));
    let [made_a, made_b, made_a2] = done.requeued[..] else { panic!("{done:?}") };
    assert_eq!([made_a.0, made_b.0, made_a2.0], [a, b, a2]);
    // The newest of the chain is a2, and it is done again, so b waits for that.
    assert_eq!(depends_on(&service, made_b.1.unwrap()), json!([made_a2.1.unwrap()]));
    service.restart();
}

/// What was removed can't be done again, and neither what depends on it.
#[tokio::test]
async fn a_rollback_lists_what_has_nothing_to_depend_on() {
    let mut service = Service::new(settings());
    service.submit(submission("p", "makes the project")).await;
    let first = service.engine().checkpoints().create(project("p"), NewCheckpoint::default()).await.unwrap();
    let a = service.submit(plain("a", &[])).await;
    let b = service.submit(plain("b", &[a])).await;
    let c = service.submit(plain("c", &[b])).await;
    complete(&mut service, a, "a", &[]).await;
    service.engine().work().lease(lease_request("small", 10)).await.unwrap();
    let service = service.reopen(|settings| settings.retention = Some(Duration::from_millis(1)));
    service.soon("removal", || service.engine().tasks().status_now(a).unwrap().is_none()).await;
    let done = roll_back(&service, &first).await;
    assert_eq!((done.cancelled.as_slice(), done.requeued.as_slice()), (&[b, c][..], &[][..]));
    assert_eq!((done.not_requeued.as_slice(), done.to_rerun.as_slice()), (&[a, b, c][..], &[a, b, c][..]));
}

/// Rolls back as the dry run before it says.
async fn roll_back(service: &Service, checkpoint: &Checkpoint) -> Rollback {
    let mut request = RollbackRequest {
        checkpoint: checkpoint.id.clone(),
        project: None,
        reason: "r".to_owned(),
        requeue: true,
        dry_run: true,
    };
    let foretold = service.engine().checkpoints().roll_back(request.clone()).await.unwrap();
    request.dry_run = false;
    let done = service.engine().checkpoints().roll_back(request).await.unwrap();
    assert_eq!((&foretold.not_requeued, &foretold.to_rerun), (&done.not_requeued, &done.to_rerun));
    let again = |rollback: &Rollback| rollback.requeued.iter().map(|(task, _)| *task).collect::<Vec<_>>();
    assert_eq!(again(&foretold), again(&done));
    done
}
