//! What the demo prints: the tasks' life, then what came of it.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::story::Role;
use crate::cli::client::{Call, Client, Error, segment, with_query};
use crate::cli::exit::Failure;
use crate::cli::follow::{Follower, PATIENCE, RECONNECT_PAUSE, outcome};
use crate::cli::output::{Screen, line};
use crate::cli::progress::clock_time;
use crate::cli::tree::tree_table;

/// By then the story has ended many times over.
const STORY_TIME: Duration = Duration::from_mins(2);
/// Steps that may wait to be printed.
const WAITING_STEPS: usize = 64;
/// How far apart steps of one moment come.
const MOMENT: Duration = Duration::from_millis(30);
/// Steps that say nothing which another one does not.
const QUIET: [&str; 5] = ["task.analyzing", "task.queued", "task.leased", "task.child_ended", "task.output.created"];

/// Prints the steps of these tasks and of their subtasks, until each of them
/// has ended.
pub(super) async fn tell(client: &Client, cast: &[Role]) -> Result<(), Failure> {
    timeout(STORY_TIME, follow(client, cast))
        .await
        .unwrap_or_else(|_| Err(Failure::Failed(format!("not all tasks ended within {} s", STORY_TIME.as_secs()))))
}

/// A step of a task, or why there are no more.
type News = Result<(Role, Value), Failure>;

async fn follow(client: &Client, cast: &[Role]) -> Result<(), Failure> {
    let (news, mut coming) = channel(WAITING_STEPS);
    let mut followers = JoinSet::new();
    let mut labels = HashMap::new();
    let mut join = |role: Role, labels: &mut HashMap<String, String>| {
        labels.insert(role.task_id.clone(), role.label.clone());
        followers.spawn(follow_one(client.clone(), role, news.clone()));
    };
    for role in cast {
        join(role.clone(), &mut labels);
    }
    let mut open = cast.len();
    while open > 0
        && let Some(news) = coming.recv().await
    {
        for (role, step) in in_order(news?, &mut coming).await? {
            for id in step["detail"]["children"].as_array().into_iter().flatten() {
                let subtask = client.get(&format!("/tasks/{}", segment(id.as_str().unwrap_or_default()))).await?;
                join(role.part(&subtask.json), &mut labels);
                open += 1;
            }
            tell_step(&role, &step, &labels)?;
            if step["type"] == "task.finished" {
                open -= 1;
            }
        }
    }
    Ok(())
}

/// The first step with those of the same moment, in the order of the log: each
/// task has a stream of its own.
async fn in_order(first: (Role, Value), coming: &mut Receiver<News>) -> Result<Vec<(Role, Value)>, Failure> {
    sleep(MOMENT).await;
    let mut steps = vec![first];
    while let Ok(news) = coming.try_recv() {
        steps.push(news?);
    }
    steps.sort_by_key(|(_, step)| step["seq"].as_u64());
    Ok(steps)
}

/// Sends each step of a task.
async fn follow_one(client: Client, role: Role, news: Sender<News>) {
    let path = format!("/tasks/{}/stream", segment(&role.task_id));
    let mut follower = Follower::new(client, path, None, PATIENCE);
    loop {
        let step = match follower.next().await {
            Ok(Some(event)) => serde_json::from_str::<Value>(&event.data)
                .map_err(|error| Error::Protocol(format!("an event is not JSON: {error}"))),
            Ok(None) => {
                sleep(RECONNECT_PAUSE).await;
                continue;
            }
            Err(error) => Err(error),
        };
        let is_last = step.as_ref().map_or(true, |step| step["type"] == "task.finished");
        // Nobody listens any more where the story was given up.
        let sent = news.send(step.map(|step| (role.clone(), step)).map_err(Failure::from)).await;
        if is_last || sent.is_err() {
            return;
        }
    }
}

fn tell_step(role: &Role, step: &Value, labels: &HashMap<String, String>) -> Result<(), Failure> {
    let name = step["type"].as_str().unwrap_or_default();
    if QUIET.contains(&name) { Ok(()) } else { line(&step_line(role, step, labels)) }
}

/// Time, task, step, what is worth knowing about it.
fn step_line(role: &Role, step: &Value, labels: &HashMap<String, String>) -> String {
    let time = step["time"].as_str().map_or("-", clock_time);
    let name = step["type"].as_str().unwrap_or("-").trim_start_matches("task.");
    let label = role.label.as_str();
    format!("{time:12}  {label:12}  {name:20}  {}", remark(role, step, labels)).trim_end().to_owned()
}

fn remark(role: &Role, step: &Value, labels: &HashMap<String, String>) -> String {
    let detail = &step["detail"];
    let text = |key: &str| detail[key].as_str().unwrap_or("-");
    let label = |id: &Value| id.as_str().and_then(|id| labels.get(id)).map_or("-", String::as_str);
    match step["type"].as_str().unwrap_or_default() {
        "task.created" => role.description.clone(),
        "task.analyzed" if detail["split"] == true => format!("{}, to be split", text("mode")),
        "task.analyzed" => format!("{}, done in one piece", text("mode")),
        "task.split" => {
            let parts = detail["children"].as_array().into_iter().flatten();
            format!("into {}", parts.map(label).collect::<Vec<_>>().join(", "))
        }
        "task.dependency_completed" => label(&detail["task_id"]).to_owned(),
        "task.routed" => format!("{} on tier {}, by the {}", text("domain"), text("tier"), text("by")),
        "task.ready" => format!("attempt {} on tier {}", detail["attempt"], text("tier")),
        "task.validated" | "task.rejected" => format!("attempt {}", step["attempt"]),
        "task.backoff" => detail["error"]["message"].as_str().unwrap_or("-").to_owned(),
        "task.finished" => text("status").to_owned(),
        _ => String::new(),
    }
}

/// Prints what came of the tasks: those that were split as trees, those with an
/// estimate beside it.
pub(super) async fn results(client: &Client, screen: &Screen, cast: &[Role]) -> Result<(), Failure> {
    for role in cast {
        let task = client.get(&format!("/tasks/{}", segment(&role.task_id))).await?.json;
        if task["children"].as_array().is_some_and(|children| !children.is_empty()) {
            tree(client, screen, role).await?;
        }
        if let Some(estimated) = &role.estimated {
            line(&estimate_line(&role.label, &task, estimated))?;
        }
    }
    Ok(())
}

/// Prints the tree of a task that was split, and what one of its workers was
/// given.
async fn tree(client: &Client, screen: &Screen, role: &Role) -> Result<(), Failure> {
    let tree = client.get(&format!("/tasks/{}/tree", segment(&role.task_id))).await?;
    line(&format!("\nwhat became of {}:\n{}", role.label, tree_table(screen, &tree.json)))?;
    let mut parts = tree.json["children"].as_array().into_iter().flatten();
    let dependent = parts.find(|part| part["depends_on"].as_array().is_some_and(|tasks| !tasks.is_empty()));
    match dependent {
        Some(part) => given(client, &role.part(part)).await,
        None => Ok(()),
    }
}

/// Prints what a worker got beside the description of its task.
async fn given(client: &Client, role: &Role) -> Result<(), Failure> {
    let query = [("types", "task.ready"), ("task_id", &role.task_id), ("after", "0"), ("limit", "1")];
    let path = with_query("/events", &query.map(|(name, value)| (name, Some(value.to_owned()))));
    let page = client.call(Call::new(http::Method::GET, path).header(http::header::ACCEPT, "application/json")).await?;
    let data = &page.json["events"][0]["event"]["data"];
    let context = &data["context"];
    let dependencies = context["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let artifacts = dependencies.iter().flat_map(|each| each["artifacts"].as_array().into_iter().flatten());
    let rows = [
        ("its parent", context["parent"]["description"].as_str().unwrap_or_default().to_owned()),
        ("made before", words(artifacts.map(|artifact| &artifact["path"]))),
        ("from RAG", context["text"].as_str().unwrap_or_default().replace('\n', " ")),
        ("taken from", words(context["sources"].as_array().into_iter().flatten())),
    ];
    line(&format!("\nwhat the worker of {} was given:", role.label))?;
    rows.iter().filter(|(_, value)| !value.is_empty()).try_for_each(|(key, value)| line(&format!("  {key:12} {value}")))
}

fn words<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// When a task was done, beside what was foretold.
fn estimate_line(label: &str, task: &Value, estimated: &str) -> String {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let created = task["created_at"].as_str().and_then(time);
    let after = |text: &str| Some(time(text)?.duration_since(created?).as_secs_f64());
    match (after(estimated), task["completed_at"].as_str().and_then(after)) {
        (Some(estimate), Some(actual)) => {
            let kept = if actual <= estimate { "kept" } else { "missed" };
            format!(
                "\n{label}: estimated at its submission to be done within {estimate:.1} s, done after {actual:.1} s ({kept})"
            )
        }
        _ => format!("\n{label}: estimated at its submission to be done by {estimated}, not done yet"),
    }
}

/// Prints how to look around while the server is still there.
pub(super) fn explore(client: &Client, cast: &[Role]) -> Result<(), Failure> {
    let base = client.base();
    let id = cast.iter().find(|role| role.label == "api").map_or("ID", |role| &role.task_id);
    line("\nlook around:")?;
    line(&format!("  curl {base}/tasks/{id}/tree"))?;
    line(&format!("  curl {base}/projects/demo/status"))?;
    line(&format!("  curl {base}/health/detailed"))?;
    line(&format!("  curl -N '{base}/events?after=0'"))?;
    line(&format!("  curl {base}/tasks -H 'Content-Type: application/json' -d '{{\"description\": \"sort a list\"}}'"))
}

/// Whether every task was completed.
pub(super) async fn verdict(client: &Client, cast: &[Role]) -> Result<(), Failure> {
    for role in cast {
        outcome(&client.get(&format!("/tasks/{}", segment(&role.task_id))).await?.json)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role() -> Role {
        let subtask = json!({"task_id": "t", "description": "Write the user guide"});
        Role { label: "api".to_owned(), ..Role::default() }.part(&subtask)
    }

    #[test]
    fn lines_are_aligned_and_say_what_matters() {
        let labels = HashMap::from([("d".to_owned(), "api/design".to_owned())]);
        let step = json!({"time": "2026-01-09T18:00:05.123456Z", "type": "task.routed",
            "detail": {"domain": "analysis", "tier": "small", "by": "agent"}});
        let expected = "18:00:05.123  api/guide     routed                analysis on tier small, by the agent";
        assert_eq!(step_line(&role(), &step, &labels), expected);
        let remark = |step: Value| remark(&role(), &step, &labels);
        assert_eq!(remark(json!({"type": "task.created"})), "Write the user guide");
        assert_eq!(remark(json!({"type": "task.split", "detail": {"children": ["d", "x"]}})), "into api/design, -");
        assert_eq!(remark(json!({"type": "task.dependency_completed", "detail": {"task_id": "d"}})), "api/design");
        let backoff = json!({"type": "task.backoff", "detail": {"error": {"message": "too short"}}});
        assert_eq!(remark(backoff), "too short");
    }

    #[test]
    fn estimates_are_held_against_what_happened() {
        let task = json!({"created_at": "2026-01-09T18:00:00Z", "completed_at": "2026-01-09T18:00:02.04Z"});
        let line = |estimated| estimate_line("primes", &task, estimated);
        let expected = "\nprimes: estimated at its submission to be done within 3.5 s, done after 2.0 s (kept)";
        assert_eq!(line("2026-01-09T18:00:03.5Z"), expected);
        assert!(line("2026-01-09T18:00:02Z").ends_with("(missed)"));
    }
}
