//! Which record an input binds to, seen through what a taint reaches.

use dats::engine::{CascadeRequest, Subject};
use dats::lineage::{Action, Flag, Link};
use dats::store::Batch;
use dats::task::{Now, Outcome, QaProfile, RecordId, Report, Seq, TaskId};

use crate::support::fixtures::{artifact, output_report, settings, submission, verdict_report};
use crate::support::service::Service;

/// A task of a project whose output names and uses these artifacts; its record.
async fn make(service: &mut Service, project: &str, made: &str, inputs: &[&str], profile: &str) -> (TaskId, RecordId) {
    let mut wanted = submission(project, made);
    wanted.options.qa_profile = Some(QaProfile::new(profile).unwrap());
    let task = service.submit(wanted).await;
    let Report::Output(mut output) = output_report(made) else { panic!("an output") };
    output.inputs_consumed = inputs.iter().map(|input| artifact(input)).collect();
    service.report(task, Report::Output(output)).await;
    let record = service.engine().provenance().records_of_task(task, 1).await.unwrap()[0];
    (task, record)
}

/// The record that an input of a record is bound to.
fn bound(service: &Service, record: RecordId, input: &str) -> Option<RecordId> {
    let graph = service.engine().provenance().graph();
    let input = graph.find_artifact(&artifact(input)).unwrap();
    let found = graph.inputs(graph.find(record).unwrap()).find(|(name, ..)| *name == input);
    match found.unwrap().2 {
        Link::Bound(maker) => graph.record(maker).map(|known| known.id),
        Link::Waiting | Link::Refused(_) => None,
    }
}

async fn taint(service: &Service, record: RecordId) {
    let request = CascadeRequest {
        action: Action::Taint,
        subject: Subject::Record(record),
        reason: "bad".to_owned(),
        source: None,
        cascade_id: record.to_string(),
        cancel_running: false,
    };
    service.engine().provenance().cascade(request).await.unwrap();
}

fn flag(service: &Service, record: RecordId) -> Flag {
    let graph = service.engine().provenance().graph();
    graph.record(graph.find(record).unwrap()).unwrap().flag
}

#[tokio::test]
async fn what_was_rejected_and_used_all_the_same_spoils_its_user() {
    let mut service = Service::new(settings());
    let (task, bad) = make(&mut service, "p", "a", &[], "strict").await;
    service.report(task, verdict_report("a", false)).await;
    let (_, user) = make(&mut service, "p", "b", &["a"], "none").await;
    let (_, below) = make(&mut service, "q", "c", &["b"], "none").await;
    assert_eq!(bound(&service, user, "a"), Some(bad));
    taint(&service, bad).await;
    assert_eq!([bad, user, below].map(|record| flag(&service, record)), [Flag::Tainted, Flag::Suspect, Flag::Suspect]);
    let service = service.restart();
    assert_eq!(bound(&service, user, "a"), Some(bad));
    assert_eq!(flag(&service, below), Flag::Suspect);
}

#[tokio::test]
async fn the_own_project_goes_before_others() {
    let mut service = Service::new(settings());
    let (_, own) = make(&mut service, "p", "out", &[], "none").await;
    let (_, other) = make(&mut service, "q", "out", &[], "none").await;
    let (_, in_p) = make(&mut service, "p", "used-1", &["out"], "none").await;
    let (_, in_q) = make(&mut service, "q", "used-2", &["out"], "none").await;
    let (_, in_r) = make(&mut service, "r", "used-3", &["out"], "none").await;
    let of = |service: &Service| [in_p, in_q, in_r].map(|record| bound(service, record, "out"));
    assert_eq!(of(&service), [Some(own), Some(other), Some(other)]);
    let service = service.restart();
    assert_eq!(of(&service), [Some(own), Some(other), Some(other)]);
}

/// Whatever was used before it was made is bound anew when a better one comes,
/// or a verdict changes.
#[tokio::test]
async fn a_better_one_that_comes_later_takes_the_edge() {
    let mut service = Service::new(settings());
    let (_, user) = make(&mut service, "p", "b", &["x"], "none").await;
    assert_eq!(bound(&service, user, "x"), None);
    let (_, other) = make(&mut service, "q", "x", &[], "none").await;
    assert_eq!(bound(&service, user, "x"), Some(other));
    let (_, later) = make(&mut service, "q", "x", &[], "none").await;
    assert_eq!(bound(&service, user, "x"), Some(other));
    let (task, own) = make(&mut service, "p", "x", &[], "strict").await;
    assert_eq!(bound(&service, user, "x"), Some(own));
    taint(&service, other).await;
    assert_eq!(flag(&service, user), Flag::Clean);
    // A failed one of the own project still goes before those of others.
    service.report(task, verdict_report("x", false)).await;
    assert_eq!(bound(&service, user, "x"), Some(own));
    taint(&service, own).await;
    assert_eq!(flag(&service, user), Flag::Suspect);
    let mut service = service.restart();
    let (_, newer) = make(&mut service, "p", "x", &[], "none").await;
    assert_eq!(bound(&service, user, "x"), Some(newer));
    assert_eq!((flag(&service, user), later == newer), (Flag::Clean, false));
    service.restart();
}

/// A verdict that moves no flag and no edge is a step that leaves no trace in any
/// record. Work that began after it must not take what comes after a start for
/// what came before it.
#[tokio::test]
async fn work_that_began_before_a_start_does_not_use_what_came_after_it() {
    let mut service = Service::new(settings());
    let (task, maker) = make(&mut service, "p", "x", &[], "strict").await;
    service.report(task, verdict_report("x", true)).await;
    let mut wanted = submission("p", "uses x");
    wanted.options.qa_profile = Some(QaProfile::new("none").unwrap());
    let later_task = service.submit(wanted).await;
    let lease = service.lease("small").await.unwrap().lease;
    let position = service.engine().provenance().graph().newest();
    assert_eq!(position, Seq(2), "the record and its verdict");

    let mut service = service.restart();
    assert_eq!(service.engine().provenance().graph().newest(), position);
    let (_, later) = make(&mut service, "p", "x", &[], "none").await;
    let Report::Output(mut output) = output_report("made of x") else { panic!("an output") };
    output.inputs_consumed = vec![artifact("x")];
    output.sender.lease = Some(lease);
    assert_eq!(service.report(later_task, Report::Output(output)).await, Outcome::Applied);
    let user = service.engine().provenance().records_of_task(later_task, 1).await.unwrap()[0];
    assert_eq!(bound(&service, user, "x"), Some(maker), "{maker} was used, {later} came later");
    taint(&service, maker).await;
    assert_eq!((flag(&service, user), flag(&service, later)), (Flag::Suspect, Flag::Clean));
    service.restart();
}

/// A version before this one did not keep the position of the graph.
#[tokio::test]
async fn steps_go_on_behind_those_that_open_tasks_name() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    assert!(service.lease("small").await.is_some());
    let (service, ()) = service.with_store(|store| {
        let mut task = store.view().unwrap().task(task).unwrap().unwrap();
        task.course.attempts = vec![(1, Seq(50))];
        let mut batch = Batch::default();
        batch.put_task(Some(task.status()), &task).unwrap();
        batch.commit(store, Now::aligned(task.updated_at)).unwrap();
    });
    assert_eq!(service.engine().provenance().graph().newest(), Seq(50));
}
