//! The end of a day: what is open is ended, and everything that was acknowledged is
//! looked up.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::sleep;

use super::ledger::Ledger;
use super::world::{Reply, Waiting, World};
use super::{read, submit};
use crate::cli::client::{Call, segment, with_query};
use crate::cli::simulate::message::cloud_event;
use crate::workload::{Random, TIER_WITHOUT_WORKERS};

/// Pause between two looks at what is open.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two rounds over what may have been forgotten.
const ROUND: u32 = 6;
/// Histories and contents that are read whole.
const SAMPLE: usize = 300;

/// Waits until every task that can end has ended. It is a finding when none of those
/// that are left ends within the limit: how many end in that time is the machine's
/// affair, that none does is the service's. Returns how long all of it took.
pub(super) async fn drain(world: &World, limit: Duration) -> Duration {
    let started = world.now();
    let (mut fewest, mut progress) = (u64::MAX, started);
    submit::lift_limits(world).await;
    for round in 0_u32.. {
        if round.is_multiple_of(ROUND) {
            // Also what became pending in that tier since.
            submit::leave(world, TIER_WITHOUT_WORKERS).await;
            forgotten(world).await;
        }
        let open = open(world).await;
        let now = world.now();
        match &open {
            Some(open) if open.total == 0 => return now.saturating_sub(started),
            Some(open) if open.total < fewest => (fewest, progress) = (open.total, now),
            _ => {}
        }
        if now.saturating_sub(progress) > limit {
            let open = open.unwrap_or_default();
            let some: Vec<String> = open.tasks.iter().take(5).map(shown).collect();
            let what = format!(
                "{} tasks are left, and none has ended for {} s: {}",
                open.total,
                limit.as_secs(),
                some.join("; ")
            );
            world.find("liveness", what, "", "");
            return now.saturating_sub(started);
        }
        sleep(LOOK).await;
    }
    Duration::ZERO
}

/// What has not ended.
#[derive(Debug, Default)]
struct Open {
    /// How many tasks.
    total: u64,
    /// Up to a page of each project.
    tasks: Vec<Value>,
}

fn shown(task: &Value) -> String {
    let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
    format!("{} {} {} ({})", text("task_id"), text("phase"), text("tier"), text("waiting_for"))
}

/// Open tasks of the day.
async fn open(world: &World) -> Option<Open> {
    let mut all = Open::default();
    for project in &world.day.projects {
        let query = [
            ("project_id", Some(project.id.clone())),
            ("status", Some("pending,running".to_owned())),
            ("limit", Some("200".to_owned())),
        ];
        let page = world.ask("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await?;
        // Without its tasks it is no list, and shows nothing.
        all.tasks.extend_from_slice(page.json["tasks"].as_array()?);
        all.total += page.json["total"].as_u64()?;
    }
    Some(all)
}

/// Verdicts whose sender died with the service are given again.
async fn forgotten(world: &World) {
    let outputs: BTreeMap<String, String> = {
        let ledger = world.ledger();
        ledger.outputs.iter().map(|output| (output.task.clone(), output.artifact.clone())).collect()
    };
    for task in open(world).await.unwrap_or_default().tasks {
        let id = task["task_id"].as_str().unwrap_or_default();
        if !matches!(task["phase"].as_str(), Some("validating" | "reviewing")) {
            continue;
        }
        // What the service has comes first: an output may have come through the broker.
        let newest = newest_artifact(world, id).await;
        let artifact = newest.or_else(|| outputs.get(id).cloned());
        if let Some(artifact) = artifact {
            world.leave_to_qa(Waiting { task: id.to_owned(), artifact });
        }
    }
}

/// What the newest record of a task has made.
async fn newest_artifact(world: &World, task: &str) -> Option<String> {
    let path = format!("/provenance?task_id={}&limit=1", segment(task));
    let reply = world.ask("glance", Call::new(Method::GET, path), &[]).await.filter(Reply::is_ok)?;
    let record = reply.json["records"].get(0)?;
    let artifact = &record["outputs"][0];
    artifact["artifact_id"].as_str().or(artifact["id"].as_str()).map(str::to_owned)
}

/// Looks up everything that was acknowledged.
pub(super) async fn everything(world: &World, random: &mut Random) {
    let tasks: Vec<String> = world.ledger().all().to_vec();
    for task in &tasks {
        if read::look(world, task).await == Some(read::Seen::Open) && is_of_the_day(world, task) {
            world.find("liveness", format!("task {task} has not ended"), "", "");
        }
    }
    for _ in 0..SAMPLE.min(tasks.len()) {
        if let Some(task) = random.choose(&tasks) {
            read::history(world, task).await;
        }
    }
    let outputs = world.ledger().outputs.clone();
    let every = (outputs.len() / SAMPLE).max(1);
    for (number, output) in outputs.iter().enumerate() {
        read::artifact(world, output, number.is_multiple_of(every)).await;
    }
    for followed in world.take_followed() {
        followed.check(world).await;
    }
    super::lineage::check_imported(world).await;
    for project in &world.day.projects {
        read::walk_project(world, &project.id, 100).await;
        counters(world, &project.id).await;
    }
}

/// Whether it is one that was to be drained.
fn is_of_the_day(world: &World, task: &str) -> bool {
    let ledger = world.ledger();
    ledger.task(task).is_some_and(|known| world.day.projects.iter().any(|project| project.id == known.project))
}

/// The counters of a project equal its lists.
async fn counters(world: &World, project: &str) {
    let path = format!("/projects/{}/status", segment(project));
    let reply = world.ask("glance", Call::new(Method::GET, path), &[404]).await.filter(Reply::is_ok);
    let Some(status) = reply else { return };
    for name in ["pending", "running", "completed", "failed", "cancelled"] {
        let query = [
            ("project_id", Some(project.to_owned())),
            ("status", Some(name.to_owned())),
            ("limit", Some("1".to_owned())),
        ];
        let page = world.ask("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
        let Some(page) = page.filter(Reply::is_ok) else { return };
        let (counted, listed) = (&status.json["by_status"][name], &page.json["total"]);
        if counted != listed {
            let what = format!("project {project} counts {counted} tasks that are {name}, and its list has {listed}");
            world.wrong("counters", what, &status);
        }
    }
    let expected = walk_counts(world, project).await;
    for (name, found) in expected {
        let counted = status.json["by_status"][name.as_str()].as_u64().unwrap_or(0);
        if counted != found {
            let what = format!("project {project} counts {counted} tasks that are {name}, and a walk finds {found}");
            world.wrong("counters", what, &status);
        }
    }
}

/// Tasks of a project by status, one by one; none where a page is missing.
async fn walk_counts(world: &World, project: &str) -> BTreeMap<String, u64> {
    let (mut counts, mut cursor) = (BTreeMap::new(), None);
    loop {
        let query = [("project_id", Some(project.to_owned())), ("limit", Some("1000".to_owned())), ("cursor", cursor)];
        let page = world.ask("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
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

/// Nothing that comes after an end has an effect: asked of a few tasks at the end.
pub(super) async fn too_late(world: &World, random: &mut Random) {
    for _ in 0..20 {
        let task = world.ledger().pick_ended(random);
        let Some(task) = task else { return };
        let before = world.ledger().before(&task, "");
        let data = serde_json::json!({"task_id": task, "error": "too late", "retryable": false});
        let event = cloud_event("/day/worker", "task.failed", &data);
        if let Some(delivered) = super::work::deliver(world, "failure", &event).await {
            world.check(Ledger::after_end(&task, before, &delivered.outcome), &delivered.reply);
        }
    }
}
