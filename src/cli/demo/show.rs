//! What the demo prints: the tasks' life, then their results.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::story::Cast;
use crate::cli::client::{Answer, Client, Error, segment, with_query};
use crate::cli::events::event_name;
use crate::cli::exit::Failure;
use crate::cli::follow::{Follower, PATIENCE, RECONNECT_PAUSE, outcome};
use crate::cli::list::task_table;
use crate::cli::output::{Screen, line};
use crate::cli::progress::clock_time;
use crate::cli::provenance::RECORD_FIELDS;

/// By then the story has ended many times over.
const STORY_TIME: Duration = Duration::from_mins(2);

/// Prints the events of the cast until each of them has ended.
pub(super) async fn tell(client: &Client, cast: &Cast) -> Result<(), Failure> {
    timeout(STORY_TIME, follow(client, cast))
        .await
        .unwrap_or_else(|_| Err(Failure::Failed(format!("not all tasks ended within {} s", STORY_TIME.as_secs()))))
}

async fn follow(client: &Client, cast: &Cast) -> Result<(), Failure> {
    let path = with_query("/events", &[("project_id", Some("demo".to_owned())), ("after", Some("0".to_owned()))]);
    let mut follower = Follower::new(client.clone(), path, None, PATIENCE);
    let mut open: BTreeSet<&str> = cast.0.iter().map(|role| role.task_id.as_str()).collect();
    while !open.is_empty() {
        let Some(event) = follower.next().await? else {
            sleep(RECONNECT_PAUSE).await;
            continue;
        };
        let event: Value = serde_json::from_str(&event.data)
            .map_err(|error| Error::Protocol(format!("an event is not JSON: {error}")))?;
        let task_id = event["data"]["task_id"].as_str().unwrap_or_default();
        let Some(label) = cast.label(task_id) else {
            continue;
        };
        line(&event_line(&event, label))?;
        if event_name(&event) == "task.finished" {
            open.remove(task_id);
        }
    }
    Ok(())
}

/// Time, task, event, what is worth knowing about it.
fn event_line(event: &Value, label: &str) -> String {
    let time = event["time"].as_str().map_or("-", clock_time);
    format!("{time:12}  {label:10}  {:20}  {}", short_name(event), remark(event)).trim_end().to_owned()
}

/// The event's name without the tier that `task.ready` may carry.
fn short_name(event: &Value) -> &str {
    let name = event_name(event);
    if name.starts_with("task.ready") { "task.ready" } else { name }
}

fn remark(event: &Value) -> String {
    let data = &event["data"];
    let text = |key: &str| data[key].as_str().unwrap_or("-");
    match short_name(event) {
        "task.created" => text("description").to_owned(),
        "task.ready" => {
            let attempt = data["attempt"].as_u64().unwrap_or(1);
            format!("{} on tier {}, attempt {attempt}", text("domain"), text("tier"))
        }
        "task.output.created" => format!("by {}, artifact {}", text("model_used"), text("artifact_id")),
        "task.validated" => format!("score {}", data["score"]),
        "task.rejected" => data["issues"][0].as_str().unwrap_or("rejected").to_owned(),
        "task.failed" => text("error").to_owned(),
        "task.finished" => text("status").to_owned(),
        _ => String::new(),
    }
}

/// Prints the tasks and one result.
pub(super) async fn result(client: &Client, screen: &Screen, cast: &Cast) -> Result<(), Failure> {
    let tasks: Vec<Value> = tasks(client, cast).await?.into_iter().map(|answer| answer.json).collect();
    line(&format!("\n{}", task_table(screen, &tasks)))?;
    if let Some(task) = tasks.iter().find(|task| !task["provenance_id"].is_null()) {
        result_of(client, screen, task).await?;
    }
    Ok(())
}

async fn tasks(client: &Client, cast: &Cast) -> Result<Vec<Answer>, Failure> {
    let mut tasks = Vec::new();
    for role in &cast.0 {
        tasks.push(client.get(&format!("/tasks/{}", segment(&role.task_id))).await?);
    }
    Ok(tasks)
}

/// The artifact a task made and the record of how.
async fn result_of(client: &Client, screen: &Screen, task: &Value) -> Result<(), Failure> {
    if let Some(artifact) = task["artifacts"][0]["id"].as_str() {
        let content = client.get_text(&format!("/artifacts/{}/content", segment(artifact))).await?;
        line(&format!("\nartifact {artifact}\n  {}", content.trim_end().replace('\n', "\n  ")))?;
    }
    let record = task["provenance_id"].as_str().unwrap_or_default();
    let answer = client.get(&format!("/provenance/{}", segment(record))).await?;
    line(&format!("\nprovenance record {record}\n{}", screen.details(&answer.json, &RECORD_FIELDS)))
}

/// Prints how to look around while the server is still there.
pub(super) fn explore(client: &Client, cast: &Cast) -> Result<(), Failure> {
    let base = client.base();
    line("\nlook around:")?;
    line(&format!("  curl {base}/tasks"))?;
    if let Some(id) = cast.0.first().map(|role| &role.task_id) {
        line(&format!("  curl {base}/tasks/{id}"))?;
        line(&format!("  curl {base}/tasks/{id}/events"))?;
    }
    line(&format!("  curl {base}/projects/demo/status"))?;
    line(&format!("  curl -N '{base}/events?after=0'"))?;
    line(&format!("  curl {base}/tasks -H 'Content-Type: application/json' -d '{{\"description\": \"sort a list\"}}'"))
}

/// Whether every task was completed.
pub(super) async fn verdict(client: &Client, cast: &Cast) -> Result<(), Failure> {
    tasks(client, cast).await?.iter().try_for_each(|task| outcome(&task.json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_aligned_and_say_what_matters() {
        let event = json!({"time": "2026-01-09T18:00:05.123456Z", "type": "dats.task.ready.small",
            "data": {"task_id": "t", "domain": "analysis", "tier": "small", "attempt": 2}});
        assert_eq!(
            event_line(&event, "guide"),
            "18:00:05.123  guide       task.ready            analysis on tier small, attempt 2"
        );
        let event = json!({"type": "dats.task.rejected", "data": {"issues": ["too short"]}});
        assert_eq!(remark(&event), "too short");
    }
}
