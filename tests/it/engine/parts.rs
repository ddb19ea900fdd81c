//! What subtasks, later attempts and re-runs are given, and how they end.

use dats::engine::{GrantedLease, PageStart, TaskFilter};
use dats::task::{
    Domain, Finding, MAX_DESCRIPTION_BYTES, Mode, OnChildFailure, OutputArtifact, QaProfile, Report, RoutingStep, Seq,
    Status, Subtask, TaskId,
};
use serde_json::{Value, json};

use super::families::{decomposition, subtask};

use crate::support::fixtures::{artifact, failure_report, output_report, settings, submission, verdict_report};
use crate::support::service::{Service, task_of};

pub(super) fn service() -> Service {
    let mut settings = settings();
    settings.policy.agent = true;
    Service::new(settings)
}

/// Analyses a task and splits it so; the ids of its parts.
pub(super) async fn split(service: &Service, task: TaskId, parts: Vec<Subtask>) -> Vec<TaskId> {
    let analysis = Finding::Analyzed(dats::task::Analysis {
        mode: Mode::new("modify").unwrap(),
        domain: Domain::new("analysis").unwrap(),
        tier: crate::support::fixtures::tier("small"),
        needs_decomposition: true,
        qa_profile: None,
        acceptance_criteria: None,
    });
    let engine = service.engine();
    let _ = engine.routing().submit_finding(task, RoutingStep::Analyze, analysis).await.unwrap();
    let found = decomposition(parts);
    for max_depth in [5, 4] {
        engine.routing().submit_finding(task, RoutingStep::Decompose { max_depth }, found.clone()).await.unwrap();
    }
    serde_json::from_value(service.status(task)["children"].clone()).unwrap()
}

pub(super) async fn by_rules(service: &Service, task: TaskId) {
    let finding = Finding::Builtin { context: None };
    service.engine().routing().submit_finding(task, RoutingStep::Estimate, finding.clone()).await.unwrap();
    service.engine().routing().submit_finding(task, RoutingStep::Analyze, finding).await.unwrap();
}

fn data(granted: &GrantedLease) -> Value {
    serde_json::from_slice(&granted.task).unwrap()
}

pub(super) async fn complete(service: &mut Service, task: TaskId, artifact: &str) -> Value {
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
    let again = service.engine().tasks().rerun(inner[0], None).await.unwrap().0.task;
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
            service.engine().tasks().cancel(task, None).await.unwrap();
            assert_eq!(phases(&service, &parts), ["cancelled"; 5]);
        } else {
            by_rules(&service, parts[4]).await;
            assert_eq!(task_of(&service.lease_soon("small").await), parts[4]);
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
    service.phase_becomes(task, "queued").await;
    service.report(task, failure_report(true)).await;
    service.phase_becomes(task, "queued").await;
    let granted = service.lease_soon("large").await;
    let previous = &data(&granted)["context"]["previous_attempt"];
    assert_eq!((&previous["attempt"], &previous["artifacts"]), (&json!(1), &json!(["first"])));
    assert_eq!(previous["verification"]["issues"], json!(["one"]));
}

#[tokio::test]
async fn a_family_is_listed_and_shown_as_a_tree() {
    let mut service = service();
    let task = service.submit(submission("p", "build it")).await;
    let parts = split(&service, task, vec![subtask("a", true, &[]), subtask("b", false, &[])]).await;
    let inner = split(&service, parts[1], vec![subtask("c", true, &[])]).await;
    service.submit(submission("p", "none of them")).await;
    by_rules(&service, parts[0]).await;
    complete(&mut service, parts[0], "made-by-a").await;
    let list = async |statuses: Vec<Status>| {
        let filter = TaskFilter { parent: Some(task), statuses, ..TaskFilter::default() };
        let page = service.engine().tasks().list(filter, PageStart::Offset(0), 10).await.unwrap();
        let ids: Vec<Value> = page
            .tasks
            .iter()
            .map(|task| serde_json::from_slice::<Value>(&task.body).unwrap()["task_id"].clone())
            .collect();
        (page.total, ids)
    };
    assert_eq!(list(Vec::new()).await, (Some(2), vec![json!(parts[1]), json!(parts[0])]));
    assert_eq!(list(vec![Status::Completed]).await, (Some(1), vec![json!(parts[0])]));
    assert_eq!(list(vec![Status::Failed]).await, (Some(0), Vec::new()));
    let tree = service.engine().tasks().tree(task, 100).await.unwrap();
    let ids: Vec<TaskId> = tree.iter().map(|node| node.task).collect();
    assert_eq!(ids, [task, parts[0], parts[1], inner[0]]);
    assert_eq!((tree[0].children.clone(), tree[2].children.clone()), (Some(1..3), Some(3..4)));
    let cut = service.engine().tasks().tree(task, 3).await.unwrap();
    assert_eq!((cut.len(), cut[2].children.clone()), (3, None), "what finds no room is not half there");
}

#[tokio::test]
async fn tasks_of_an_agent_that_is_gone_still_get_their_context() {
    let mut settings = settings();
    settings.policy.agent = true;
    settings.policy.rag = true;
    let service = Service::new(settings);
    let task = service.submit(submission("p", "build it")).await;
    let service = service.restart_as(|settings| settings.policy.agent = false);
    let mut jobs = Vec::new();
    for _ in 0..1000 {
        jobs = service.engine().routing().take(10).await.unwrap();
        if !jobs.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(jobs.iter().map(|job| (job.task, job.step)).collect::<Vec<_>>(), [(task, RoutingStep::Context)]);
    // Without RAG either, the rules decide alone.
    let service = service.restart_as(|settings| settings.policy.rag = false);
    service.phase_becomes(task, "queued").await;
}

/// A message has a limit in size, whatever the tasks before have said and made.
#[tokio::test]
async fn a_worker_is_told_of_many_large_dependencies_in_a_bounded_message() {
    let mut service = Service::new(settings());
    let description = "\u{e4}".repeat(MAX_DESCRIPTION_BYTES / 2);
    let mut dependencies = Vec::new();
    for number in 0..100 {
        let mut wanted = submission("p", &description);
        wanted.options.qa_profile = QaProfile::new("none").ok();
        let task = service.submit(wanted).await;
        let mut report = output_report(&format!("art-{number}"));
        if let Report::Output(output) = &mut report {
            let made = |each| OutputArtifact {
                id: artifact(&format!("art-{number}-{each}")),
                kind: Some("code".to_owned()),
                path: Some("p".repeat(100)),
                language: None,
                checksum: None,
                size_bytes: None,
            };
            output.artifacts = (0..if number == 7 { 1000 } else { 2 }).map(made).collect();
        }
        service.report(task, report).await;
        dependencies.push(task);
    }
    let mut wanted = submission("p", "use all of them");
    wanted.options.depends_on.clone_from(&dependencies);
    let task = service.submit(wanted).await;
    let granted = service.lease_soon("small").await;
    assert_eq!(task_of(&granted), task);
    let data: Value = serde_json::from_slice(&granted.task).unwrap();
    let context = &data["context"];
    let bytes = context.to_string().len();
    assert!((400_000..=512 * 1024).contains(&bytes), "{bytes} bytes");
    assert_eq!(context["truncated"], true);
    let told = context["dependencies"].as_array().unwrap();
    let ids: Vec<TaskId> = told.iter().map(|each| each["task_id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids, dependencies);
    for (number, each) in told.iter().enumerate() {
        let start = each["description"].as_str().unwrap();
        assert!(description.starts_with(start) && each["truncated"] == true, "{number}");
        let artifacts = each["artifacts"].as_array().unwrap();
        // All but the one that the output itself names have a path.
        let whole = artifacts.iter().filter(|each| each["path"].as_str().map(str::len) == Some(100)).count();
        let expected = if number == 7 { 11..999 } else { 2..3 };
        assert!(expected.contains(&whole) && artifacts.len() == whole + 1, "{number}: {whole}");
    }
    // What is published is the same.
    let after = Seq(service.engine().figures().head - 6);
    let page = service.engine().log().page(after, 10_000, |entry| entry.change.name() == "task.ready").await.unwrap();
    let ready = page.entries.iter().find(|each| each.entry.task() == Some(task)).and_then(|each| each.data.clone());
    let ready: Value = serde_json::from_slice(&ready.unwrap()).unwrap();
    assert_eq!(ready["context"], *context);
}
