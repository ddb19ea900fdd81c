//! What subtasks, later attempts and re-runs are given, and how they end.

use dats::engine::Granted;
use dats::task::{Decomposition, Domain, Finding, Mode, OnChildFailure, RoutingStep, Subtask, TaskId};
use serde_json::{Value, json};

use crate::support::fixtures::{failure_report, output_report, settings, submission, verdict_report};
use crate::support::service::{Service, task_of};

fn subtask(id: &str, is_atomic: bool, dependencies: &[&str]) -> Subtask {
    Subtask {
        id: id.to_owned(),
        description: format!("part {id}"),
        domain: None,
        is_atomic,
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
    }
}

fn service() -> Service {
    let mut settings = settings();
    settings.policy.agent = true;
    Service::new(settings)
}

/// Analyses a task and splits it so; the ids of its parts.
async fn split(service: &Service, task: TaskId, parts: Vec<Subtask>) -> Vec<TaskId> {
    let analysis = Finding::Analyzed(dats::task::Analysis {
        mode: Mode::new("modify").unwrap(),
        domain: Domain::new("analysis").unwrap(),
        tier: crate::support::fixtures::tier("small"),
        needs_decomposition: true,
        qa_profile: None,
        acceptance_criteria: None,
    });
    let engine = service.engine();
    let _ = engine.route(task, RoutingStep::Analyze, analysis).await.unwrap();
    let found = Finding::Decomposed(Decomposition { subtasks: parts, depth: None });
    for max_depth in [5, 4] {
        engine.route(task, RoutingStep::Decompose { max_depth }, found.clone()).await.unwrap();
    }
    serde_json::from_value(service.status(task)["children"].clone()).unwrap()
}

async fn by_rules(service: &Service, task: TaskId) {
    let finding = Finding::Builtin { context: None };
    service.engine().route(task, RoutingStep::Estimate, finding.clone()).await.unwrap();
    service.engine().route(task, RoutingStep::Analyze, finding).await.unwrap();
}

fn data(granted: &Granted) -> Value {
    serde_json::from_slice(&granted.task).unwrap()
}

async fn complete(service: &mut Service, task: TaskId, artifact: &str) -> Value {
    let granted = service.lease_soon("small").await;
    assert_eq!(task_of(&granted), task);
    service.report(task, output_report(artifact)).await;
    service.report(task, verdict_report(artifact, true)).await;
    data(&granted)
}

#[tokio::test]
async fn parts_of_a_part_get_what_it_waited_for() {
    let mut service = service();
    let task = service.submit(submission("p", "build it")).await;
    let parts = split(&service, task, vec![subtask("b", false, &["a"]), subtask("a", true, &[])]).await;
    by_rules(&service, parts[1]).await;
    complete(&mut service, parts[1], "made-by-a").await;
    let inner = split(&service, parts[0], vec![subtask("c", true, &[])]).await;
    by_rules(&service, inner[0]).await;
    let data = complete(&mut service, inner[0], "made-by-c").await;
    assert_eq!(data["inputs"], json!(["made-by-a"]));
    assert_eq!(data["context"]["dependencies"][0]["artifacts"][0]["id"], "made-by-a");
    assert_eq!(service.phase(task), "completed");
    // The same again, alone, is given the same.
    let again = service.engine().rerun(inner[0], None).await.unwrap().0.task;
    by_rules(&service, again).await;
    let data = complete(&mut service, again, "made-again").await;
    assert_eq!(data["inputs"], json!(["made-by-a"]));
    service.restart();
}

#[tokio::test]
async fn what_is_cancelled_with_its_parent_is_not_failed_by_a_sibling() {
    for on_child_failure in [None, Some(OnChildFailure::Cancel)] {
        let mut service = service();
        let mut wanted = submission("p", "build it");
        wanted.options.on_child_failure = on_child_failure;
        let task = service.submit(wanted).await;
        let chain = [("a", &["b"][..]), ("b", &["c"]), ("c", &[]), ("d", &["a"]), ("e", &[])];
        let parts = chain.map(|(id, after)| subtask(id, true, after)).to_vec();
        let parts = split(&service, task, parts).await;
        let phases = |service: &Service, parts: &[TaskId]| -> Vec<String> {
            parts.iter().map(|part| service.phase(*part)).collect()
        };
        if on_child_failure.is_none() {
            service.engine().cancel(task, None).await.unwrap();
            assert_eq!(phases(&service, &parts), ["cancelled"; 5]);
        } else {
            by_rules(&service, parts[4]).await;
            service.report(parts[4], failure_report(false)).await;
            assert_eq!(phases(&service, &parts), ["cancelled", "cancelled", "cancelled", "cancelled", "failed"]);
            assert_eq!(service.phase(task), "failed");
        }
        service.restart();
    }
}

#[tokio::test]
async fn every_later_attempt_is_told_of_the_last_output() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "sort a list")).await;
    service.report(task, output_report("first")).await;
    service.report(task, verdict_report("first", false)).await;
    service.phase_becomes(task, "dispatched").await;
    service.report(task, failure_report(true)).await;
    service.phase_becomes(task, "dispatched").await;
    let granted = service.lease_soon("large").await;
    let previous = &data(&granted)["context"]["previous_attempt"];
    assert_eq!((&previous["attempt"], &previous["artifacts"]), (&json!(1), &json!(["first"])));
    assert_eq!(previous["verification"]["issues"], json!(["one"]));
}
