//! The end of a day: open tasks are completed, and everything that was acknowledged is
//! looked up.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::sleep;

use super::context::{Context, Reply, UnjudgedOutput};
use super::delivery::send_event;
use super::ledger::Ledger;
use super::observe::{self, Seen};
use super::plan::TIER_WITHOUT_WORKERS;
use super::{lineage, streams, submit};
use crate::client::{Call, segment, with_query};
use crate::workload::event::cloud_event;
use crate::workload::random::Random;

/// Pause between two checks of the open tasks.
const POLL: Duration = Duration::from_millis(500);
/// Checks between two repetitions of lost verdicts.
const CHECKS_PER_REPEAT: u32 = 6;
/// Histories and contents that are read completely.
const SAMPLE: usize = 300;

/// Waits until every task has ended and returns how long that took. It is a finding if no
/// open task ends within `limit`: how many end in that time depends on the machine, but at
/// least one must.
pub(super) async fn drain(context: &Context, limit: Duration) -> Duration {
    let started = context.now();
    let (mut fewest, mut progress) = (u64::MAX, started);
    submit::raise_limits(context).await;
    for round in 0_u32.. {
        if round.is_multiple_of(CHECKS_PER_REPEAT) {
            // Repeated for tasks that became pending in that tier since.
            submit::resume_and_cancel(context, TIER_WITHOUT_WORKERS).await;
            repeat_lost_verdicts(context).await;
        }
        let open = open_tasks(context).await;
        let now = context.now();
        match &open {
            Some(open) if open.total == 0 => return now.saturating_sub(started),
            Some(open) if open.total < fewest => (fewest, progress) = (open.total, now),
            _ => {}
        }
        if now.saturating_sub(progress) > limit {
            let open = open.unwrap_or_default();
            let some: Vec<String> = open.tasks.iter().take(5).map(describe).collect();
            let what = format!(
                "{} tasks are open, and none has ended for {} s: {}",
                open.total,
                limit.as_secs(),
                some.join("; ")
            );
            context.report("liveness", what, "", "");
            return now.saturating_sub(started);
        }
        sleep(POLL).await;
    }
    Duration::ZERO
}

/// The open tasks.
#[derive(Debug, Default)]
struct OpenTasks {
    total: u64,
    /// Up to a page of tasks of each project.
    tasks: Vec<Value>,
}

fn describe(task: &Value) -> String {
    let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
    format!("{} {} {} ({})", text("task_id"), text("phase"), text("tier"), text("waiting_for"))
}

/// Returns the open tasks of the day; `None` if a list can't be read.
async fn open_tasks(context: &Context) -> Option<OpenTasks> {
    let mut all = OpenTasks::default();
    for project in &context.day.projects {
        let query = [
            ("project_id", Some(project.id.clone())),
            ("status", Some("pending,running".to_owned())),
            ("limit", Some("200".to_owned())),
        ];
        let page = context.send("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await?;
        all.tasks.extend_from_slice(page.json["tasks"].as_array()?);
        all.total += page.json["total"].as_u64()?;
    }
    Some(all)
}

/// Queues outputs for a verdict again whose first verdict was lost in a kill of the service.
async fn repeat_lost_verdicts(context: &Context) {
    let outputs: BTreeMap<String, String> = {
        let ledger = context.ledger();
        ledger.outputs.iter().map(|output| (output.task.clone(), output.artifact.clone())).collect()
    };
    for task in open_tasks(context).await.unwrap_or_default().tasks {
        let id = task["task_id"].as_str().unwrap_or_default();
        if !matches!(task["phase"].as_str(), Some("validating" | "reviewing")) {
            continue;
        }
        // The record in the service takes precedence: an output may have come through the broker.
        let newest = newest_artifact(context, id).await;
        let artifact = newest.or_else(|| outputs.get(id).cloned());
        if let Some(artifact) = artifact {
            context.queue_for_qa(UnjudgedOutput { task: id.to_owned(), artifact });
        }
    }
}

/// Returns the artifact of the newest record of a task.
async fn newest_artifact(context: &Context, task: &str) -> Option<String> {
    let path = format!("/provenance?task_id={}&limit=1", segment(task));
    let reply = context.send("glance", Call::new(Method::GET, path), &[]).await.filter(Reply::is_ok)?;
    let record = reply.json["records"].get(0)?;
    let artifact = &record["outputs"][0];
    artifact["artifact_id"].as_str().or(artifact["id"].as_str()).map(str::to_owned)
}

/// Looks up everything that was acknowledged.
pub(super) async fn check_everything(context: &Context, random: &mut Random) {
    let tasks: Vec<String> = context.ledger().all().to_vec();
    for task in &tasks {
        if observe::query_status(context, task).await == Some(Seen::Open) && is_of_the_day(context, task) {
            context.report("liveness", format!("task {task} has not ended"), "", "");
        }
    }
    for _ in 0..SAMPLE.min(tasks.len()) {
        if let Some(task) = random.choose(&tasks) {
            observe::check_history(context, task).await;
        }
    }
    let outputs = context.ledger().outputs.clone();
    let every = (outputs.len() / SAMPLE).max(1);
    for (number, output) in outputs.iter().enumerate() {
        observe::check_artifact(context, output, number.is_multiple_of(every)).await;
    }
    for followed in context.take_followed() {
        streams::check_followed(context, &followed).await;
    }
    lineage::check_imported(context).await;
    for project in &context.day.projects {
        observe::check_project_list(context, &project.id, 100).await;
        check_counters(context, &project.id).await;
    }
}

/// Returns whether a task belongs to a project of the day, whose tasks were drained.
fn is_of_the_day(context: &Context, task: &str) -> bool {
    let ledger = context.ledger();
    ledger.task(task).is_some_and(|known| context.day.projects.iter().any(|project| project.id == known.project))
}

/// Checks that the counters of a project equal its lists.
async fn check_counters(context: &Context, project: &str) {
    let path = format!("/projects/{}/status", segment(project));
    let reply = context.send("glance", Call::new(Method::GET, path), &[404]).await.filter(Reply::is_ok);
    let Some(status) = reply else { return };
    for name in ["pending", "running", "completed", "failed", "cancelled"] {
        let query = [
            ("project_id", Some(project.to_owned())),
            ("status", Some(name.to_owned())),
            ("limit", Some("1".to_owned())),
        ];
        let page = context.send("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
        let Some(page) = page.filter(Reply::is_ok) else { return };
        let (counted, listed) = (&status.json["by_status"][name], &page.json["total"]);
        if counted != listed {
            let what = format!("project {project} counts {counted} tasks that are {name}, and its list has {listed}");
            context.report_reply("counters", what, &status);
        }
    }
    let expected = count_by_walk(context, project).await;
    for (name, found) in expected {
        let counted = status.json["by_status"][name.as_str()].as_u64().unwrap_or(0);
        if counted != found {
            let what = format!("project {project} counts {counted} tasks that are {name}, and a walk finds {found}");
            context.report_reply("counters", what, &status);
        }
    }
}

/// Counts the tasks of a project by status; empty if a page can't be read.
async fn count_by_walk(context: &Context, project: &str) -> BTreeMap<String, u64> {
    let (mut counts, mut cursor) = (BTreeMap::new(), None);
    loop {
        let query = [("project_id", Some(project.to_owned())), ("limit", Some("1000".to_owned())), ("cursor", cursor)];
        let page = context.send("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
        let Some(page) = page.filter(Reply::is_ok) else { return BTreeMap::new() };
        for task in page.json["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            *counts.entry(task["status"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        cursor = page.json["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return counts;
        }
    }
}

/// Checks for a few tasks that an event after their end has no effect.
pub(super) async fn check_late_events(context: &Context, random: &mut Random) {
    for _ in 0..20 {
        let task = context.ledger().pick_ended(random);
        let Some(task) = task else { return };
        let before = context.ledger().known_before(&task, "");
        let data = serde_json::json!({"task_id": task, "error": "too late", "retryable": false});
        let event = cloud_event("/day/worker", "task.failed", &data);
        if let Some(answer) = send_event(context, "failure", &event).await {
            context.check(Ledger::check_after_end(&task, before, &answer.outcome), &answer.reply);
        }
    }
}
