//! Readers: status, long polls, lists, walks through every page, histories, contents.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::ledger::{End, Output};
use super::work::hex;
use super::world::{Reply, World};
use crate::cli::client::{Call, segment, with_query};
use crate::clock::Clock;
use crate::task::Timestamp;
use crate::workload::Random;

/// Most pages that a reader turns over.
const MAX_PAGES: u32 = 400;
/// Longest pause between two waits.
const WAITER_PAUSE: Duration = Duration::from_millis(200);

/// Reads until the day's work ends.
pub(super) async fn run(world: Arc<World>, mut random: Random) {
    while world.is_working() {
        world.pause(random.time(world.hour().pause())).await;
        let task = world.ledger().pick(&mut random);
        let Some(task) = task else { continue };
        match random.below(100) {
            0..30 => drop(look(&world, &task).await),
            30..45 => long_poll(&world, &mut random).await,
            45..55 => history(&world, &task).await,
            55..65 => some_content(&world, &mut random).await,
            65..72 => walk_tasks(&world, &mut random).await,
            72..80 => page(&world, &mut random).await,
            _ => glance(&world, &task, &mut random).await,
        }
    }
}

async fn get(world: &World, kind: &'static str, path: String, allowed: &[u16]) -> Option<Reply> {
    world.ask(kind, Call::new(Method::GET, path), allowed).await
}

/// What an answer shows of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Open,
    Ended(End),
}

/// Looks at a task; `None`: there is no answer.
pub(super) async fn look(world: &World, task: &str) -> Option<Seen> {
    let before = world.ledger().before(task, "");
    let reply = get(world, "status", format!("/tasks/{}", segment(task)), &[]).await?;
    if reply.status == 404 {
        world.wrong("ledger", format!("task {task} was acknowledged and is not there"), &reply);
    }
    seen(world, task, before, &reply)
}

fn seen(world: &World, task: &str, before: super::ledger::Before, reply: &Reply) -> Option<Seen> {
    if !reply.is_ok() {
        return None;
    }
    let now = world.now();
    let version = reply.json["version"].as_u64().unwrap_or(0);
    let result = world.ledger().saw(task, reply.text("status"), version, before, now);
    world.check(result, reply);
    Some(End::of(reply.text("status")).map_or(Seen::Open, Seen::Ended))
}

/// Whether an answer shows that a task has not ended.
pub(super) async fn is_open(world: &World, task: &str) -> bool {
    look(world, task).await == Some(Seen::Open)
}

/// Waits for one task after another to end, as a client does that wants its answer.
pub(super) async fn wait(world: Arc<World>, mut random: Random) {
    while !world.is_ended() {
        long_poll(&world, &mut random).await;
        sleep(random.time(WAITER_PAUSE)).await;
    }
}

/// Waits for the end of a task; the answer must not be late.
async fn long_poll(world: &World, random: &mut Random) {
    let Some(task) = world.ledger().pick_open(random) else { return };
    // Long enough that a wake-up which is lost is told from one that was not due.
    let wait = world.patience / 2 + Duration::from_secs(random.between(5, 20));
    let before = world.ledger().before(&task, "");
    let path = format!("/tasks/{}?wait={}", segment(&task), wait.as_secs());
    let asked = Clock::new().wall();
    let Some(reply) = world.ask("long poll", Call::new(Method::GET, path).wait(wait), &[]).await else { return };
    seen(world, &task, before, &reply);
    // The answer says itself when the task ended; it must have come soon after.
    let told = Clock::new().wall();
    let ended = reply.text("completed_at").parse::<Timestamp>().ok().filter(|ended| *ended > asked);
    if let Some(late) = ended.map(|ended| told.since(ended)).filter(|late| *late > world.patience / 2) {
        let what = format!("task {task} ended, and a reader that waits was told {:.1} s later", late.as_secs_f64());
        world.wrong("wake-up", what, &reply);
    }
}

/// The history of a task has one end, which is its last entry, and grows in order.
pub(super) async fn history(world: &World, task: &str) {
    let mut entries: Vec<(u64, String)> = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let path = with_query(
            &format!("/tasks/{}/events", segment(task)),
            &[("limit", Some("100".to_owned())), ("cursor", cursor)],
        );
        let Some(reply) = get(world, "history", path, &[]).await.filter(Reply::is_ok) else { return };
        for entry in reply.json["events"].as_array().map_or(&[][..], Vec::as_slice) {
            let status = entry["status"].as_str().unwrap_or_default().to_owned();
            entries.push((entry["seq"].as_u64().unwrap_or(0), status));
        }
        cursor = reply.json["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            if let Err(what) = orderly(task, &entries) {
                world.wrong("order", what, &reply);
            }
            return;
        }
    }
}

/// Positions grow, and nothing follows an end but what is ignored and leaves it as it is.
pub(super) fn orderly(task: &str, entries: &[(u64, String)]) -> Result<(), String> {
    let mut end: Option<&str> = None;
    for (at, (seq, status)) in entries.iter().enumerate() {
        if at > 0 && entries.get(at - 1).is_some_and(|(before, _)| before >= seq) {
            return Err(format!("the history of task {task} is out of order at {seq}"));
        }
        match end {
            Some(end) if end != status => {
                return Err(format!("the history of task {task} goes on as {status} at {seq} after it was {end}"));
            }
            _ => end = End::of(status).map(|_| status.as_str()),
        }
    }
    Ok(())
}

async fn some_content(world: &World, random: &mut Random) {
    let output = world.ledger().pick_output(random);
    if let Some(output) = output {
        artifact(world, &output, random.chance(30)).await;
    }
}

/// The artifact of an output that was applied is there, with its content.
pub(super) async fn artifact(world: &World, output: &Output, is_whole: bool) {
    let path = format!("/artifacts/{}", segment(&output.artifact));
    let Some(reply) = get(world, "artifact", path.clone(), &[404]).await else { return };
    let content = &reply.json["content"];
    if reply.status == 404 || content["sha256"] != output.digest.as_str() {
        let what = format!(
            "the output {} of task {} ({} bytes) was applied, and its content is not there",
            output.artifact, output.task, output.bytes
        );
        world.wrong("ledger", what, &reply);
        return;
    }
    if !is_whole {
        return;
    }
    let Some(reply) = get(world, "content", format!("{path}/content"), &[404]).await else { return };
    if reply.is_ok() && hex(&Sha256::digest(&reply.body)) != output.digest {
        world.find("ledger", format!("the content of artifact {} is another one", output.artifact), &path, "");
    } else if reply.status == 404 {
        world.wrong("ledger", format!("the content of artifact {} is not there", output.artifact), &reply);
    }
}

/// Turns over all pages of a project: every task that was acknowledged before is among
/// them, and none twice.
async fn walk_tasks(world: &World, random: &mut Random) {
    let project = world.day.project(random).to_owned();
    let limit = random.size(3, 1000);
    walk_project(world, &project, limit).await;
}

/// The same for a project and a size of pages.
pub(super) async fn walk_project(world: &World, project: &str, limit: usize) {
    let expected: Vec<String> = world.ledger().of_project(project).to_vec();
    // So many pages that not the walk is what makes the day long.
    let limit = limit.max(expected.len() / 40);
    let mut found = BTreeSet::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let query = [("project_id", Some(project.to_owned())), ("limit", Some(limit.to_string())), ("cursor", cursor)];
        let reply = get(world, "list", with_query("/tasks", &query), &[]).await.filter(Reply::is_ok);
        let Some(reply) = reply else { return };
        for task in reply.json["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            let id = task["task_id"].as_str().unwrap_or_default();
            if !found.insert(id.to_owned()) {
                world.wrong("list", format!("task {id} stands twice in the pages of project {project}"), &reply);
            }
        }
        cursor = reply.json["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            let missing: Vec<&String> = expected.iter().filter(|task| !found.contains(*task)).collect();
            if let Some(first) = missing.first() {
                let what = format!(
                    "{} of {} acknowledged tasks are in no page of project {project}, such as {first}",
                    missing.len(),
                    expected.len()
                );
                world.find("list", what, &with_query("/tasks", &query_of(project, limit)), "");
            }
            return;
        }
    }
}

fn query_of(project: &str, limit: usize) -> [(&'static str, Option<String>); 2] {
    [("project_id", Some(project.to_owned())), ("limit", Some(limit.to_string()))]
}

/// One page of a list with filters.
async fn page(world: &World, random: &mut Random) {
    let statuses = ["pending", "running", "completed", "failed,cancelled", "pending,running"];
    let query = [
        ("status", random.choose(&statuses).map(|status| (*status).to_owned())),
        ("project_id", random.chance(50).then(|| world.day.project(random).to_owned())),
        ("tier", random.chance(30).then(|| "small".to_owned())),
        ("limit", Some(random.size(1, 1000).to_string())),
        ("offset", random.chance(30).then(|| random.below(500).to_string())),
    ];
    get(world, "list", with_query("/tasks", &query), &[]).await;
}

/// What else people look at.
async fn glance(world: &World, task: &str, random: &mut Random) {
    let project = segment(world.day.project(random));
    let artifact = world.ledger().pick_output(random).map(|output| segment(&output.artifact));
    let artifact = artifact.unwrap_or_else(|| "none".to_owned());
    let path = match random.below(14) {
        0 => format!("/tasks/{}/tree", segment(task)),
        1 => "/queues".to_owned(),
        2 => format!("/projects/{project}/status"),
        3 => format!("/projects/{project}/consistency"),
        4 => format!("/provenance?project_id={project}&limit=200"),
        5 => format!("/provenance/{artifact}/dependents"),
        6 => format!("/provenance/{artifact}/dependencies"),
        7 => format!("/provenance/{artifact}/impact"),
        8 => format!("/provenance/{artifact}/export?format=dot&depth=2"),
        9 => "/projects?limit=100".to_owned(),
        10 => "/dead-letters?limit=50".to_owned(),
        11 => "/health/detailed".to_owned(),
        12 => format!("/taint-events?artifact_id={artifact}"),
        _ => "/livez".to_owned(),
    };
    get(world, "glance", path, &[404]).await;
}

/// Positions and statuses of the entries of a task's stream.
pub(super) fn entry_of(data: &str) -> (u64, String) {
    let step: Value = serde_json::from_str(data).unwrap_or_default();
    (step["seq"].as_u64().unwrap_or(0), step["status"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(steps: &[(u64, &str)]) -> Vec<(u64, String)> {
        steps.iter().map(|(seq, status)| (*seq, (*status).to_owned())).collect()
    }

    #[test]
    fn a_history_grows_and_keeps_its_end() {
        orderly("t", &history(&[(1, "pending"), (4, "running"), (9, "completed"), (12, "completed")])).unwrap();
        assert!(orderly("t", &history(&[(4, "pending"), (4, "running")])).is_err());
        assert!(orderly("t", &history(&[(1, "failed"), (2, "running")])).is_err());
        assert!(orderly("t", &history(&[(1, "cancelled"), (2, "completed")])).is_err());
    }
}
