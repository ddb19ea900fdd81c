//! Output of the demo: the steps of its tasks, then their results.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::exit::Failure;
use crate::cli::follow::outcome;
use crate::cli::output::{Screen, line};
use crate::cli::progress::clock_time;
use crate::cli::tree::tree_table;
use crate::client::{Call, Client, segment, with_query};
use crate::workload::demo::{Step, StoryTask, follow};

/// Steps that are not printed, because others tell the same.
const HIDDEN_STEPS: [&str; 5] =
    ["task.analyzing", "task.queued", "task.leased", "task.child_ended", "task.output.created"];

/// Prints the steps of the tasks and of their subtasks, until all have ended.
pub(super) async fn print_steps(client: &Client, tasks: &[StoryTask]) -> Result<(), Failure> {
    follow(client, tasks, |step| {
        let name = step.json["type"].as_str().unwrap_or_default();
        if HIDDEN_STEPS.contains(&name) { Ok(()) } else { line(&step_line(&step)) }
    })
    .await
}

/// Formats a step: time, label of the task, name of the step, remark.
fn step_line(step: &Step<'_>) -> String {
    let time = step.json["time"].as_str().map_or("-", clock_time);
    let name = step.json["type"].as_str().unwrap_or("-").trim_start_matches("task.");
    let label = step.task.label.as_str();
    format!("{time:12}  {label:12}  {name:20}  {}", remark(step)).trim_end().to_owned()
}

/// Returns the part of a step that is worth showing.
fn remark(step: &Step<'_>) -> String {
    let Step { task, json, labels } = step;
    let detail = &json["detail"];
    let text = |key: &str| detail[key].as_str().unwrap_or("-");
    let label = |id: &Value| id.as_str().and_then(|id| labels.get(id)).map_or("-", String::as_str);
    match json["type"].as_str().unwrap_or_default() {
        "task.created" => task.description.clone(),
        "task.analyzed" if detail["split"] == true => format!("{}, to be split", text("mode")),
        "task.analyzed" => format!("{}, done in one piece", text("mode")),
        "task.split" => {
            let parts = detail["children"].as_array().into_iter().flatten();
            format!("into {}", parts.map(label).collect::<Vec<_>>().join(", "))
        }
        "task.dependency_completed" => label(&detail["task_id"]).to_owned(),
        "task.routed" => format!("{} on tier {}, by the {}", text("domain"), text("tier"), text("by")),
        "task.ready" => format!("attempt {} on tier {}", detail["attempt"], text("tier")),
        "task.validated" | "task.rejected" => format!("attempt {}", json["attempt"]),
        "task.backoff" => detail["error"]["message"].as_str().unwrap_or("-").to_owned(),
        "task.finished" => text("status").to_owned(),
        _ => String::new(),
    }
}

/// Prints the results: the tree of each task that was split, and each estimate beside the
/// actual time.
pub(super) async fn print_results(client: &Client, screen: &Screen, tasks: &[StoryTask]) -> Result<(), Failure> {
    for task in tasks {
        let json = client.get(&format!("/tasks/{}", segment(&task.task_id))).await?.json;
        if json["children"].as_array().is_some_and(|children| !children.is_empty()) {
            print_tree(client, screen, task).await?;
        }
        if let Some(estimated) = &task.estimated {
            line(&estimate_line(&task.label, &json, estimated))?;
        }
    }
    Ok(())
}

/// Prints the tree of a task that was split, and the input of one of its workers.
async fn print_tree(client: &Client, screen: &Screen, task: &StoryTask) -> Result<(), Failure> {
    let tree = client.get(&format!("/tasks/{}/tree", segment(&task.task_id))).await?;
    line(&format!("\nsubtasks of {}:\n{}", task.label, tree_table(screen, &tree.json)))?;
    let mut parts = tree.json["children"].as_array().into_iter().flatten();
    let dependent = parts.find(|part| part["depends_on"].as_array().is_some_and(|tasks| !tasks.is_empty()));
    match dependent {
        Some(part) => print_worker_input(client, &task.subtask(part)).await,
        None => Ok(()),
    }
}

/// Prints what a worker received besides the description of its task.
async fn print_worker_input(client: &Client, task: &StoryTask) -> Result<(), Failure> {
    let query = [("types", "task.ready"), ("task_id", &task.task_id), ("after", "0"), ("limit", "1")];
    let path = with_query("/events", &query.map(|(name, value)| (name, Some(value.to_owned()))));
    let page = client.call(Call::new(http::Method::GET, path).header(http::header::ACCEPT, "application/json")).await?;
    let data = &page.json["events"][0]["event"]["data"];
    let context = &data["context"];
    let dependencies = context["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let artifacts = dependencies.iter().flat_map(|each| each["artifacts"].as_array().into_iter().flatten());
    let rows = [
        ("parent", context["parent"]["description"].as_str().unwrap_or_default().to_owned()),
        ("artifacts", joined(artifacts.map(|artifact| &artifact["path"]))),
        ("from RAG", context["text"].as_str().unwrap_or_default().replace('\n', " ")),
        ("sources", joined(context["sources"].as_array().into_iter().flatten())),
    ];
    line(&format!("\ninput of the worker of {}:", task.label))?;
    rows.iter().filter(|(_, value)| !value.is_empty()).try_for_each(|(key, value)| line(&format!("  {key:12} {value}")))
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Formats the estimated completion of a task beside the actual one.
fn estimate_line(label: &str, task: &Value, estimated: &str) -> String {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let created = task["created_at"].as_str().and_then(time);
    let after = |text: &str| Some(time(text)?.duration_since(created?).as_secs_f64());
    match (after(estimated), task["completed_at"].as_str().and_then(after)) {
        (Some(estimate), Some(actual)) => {
            let verdict = if actual <= estimate { "kept" } else { "missed" };
            format!(
                "\n{label}: estimated on submission to be done within {estimate:.1} s, done after {actual:.1} s ({verdict})"
            )
        }
        _ => format!("\n{label}: estimated on submission to be done by {estimated}, not done yet"),
    }
}

/// Prints commands with which to explore the server while it runs.
pub(super) fn print_commands(client: &Client, tasks: &[StoryTask]) -> Result<(), Failure> {
    let base = client.base();
    let id = tasks.iter().find(|task| task.label == "api").map_or("ID", |task| &task.task_id);
    line("\ncommands to try:")?;
    line(&format!("  curl {base}/tasks/{id}/tree"))?;
    line(&format!("  curl {base}/projects/demo/status"))?;
    line(&format!("  curl {base}/health/detailed"))?;
    line(&format!("  curl -N '{base}/events?after=0'"))?;
    line(&format!("  curl {base}/tasks -H 'Content-Type: application/json' -d '{{\"description\": \"sort a list\"}}'"))
}

/// Fails if a task was not completed.
pub(super) async fn check_completed(client: &Client, tasks: &[StoryTask]) -> Result<(), Failure> {
    for task in tasks {
        outcome(&client.get(&format!("/tasks/{}", segment(&task.task_id))).await?.json)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn task() -> StoryTask {
        let subtask = json!({"task_id": "t", "description": "Write the user guide"});
        StoryTask { label: "api".to_owned(), ..StoryTask::default() }.subtask(&subtask)
    }

    #[test]
    fn lines_are_aligned_and_have_a_remark() {
        let labels = HashMap::from([("d".to_owned(), "api/design".to_owned())]);
        let step = json!({"time": "2026-01-09T18:00:05.123456Z", "type": "task.routed",
            "detail": {"domain": "analysis", "tier": "small", "by": "agent"}});
        let expected = "18:00:05.123  api/guide     routed                analysis on tier small, by the agent";
        assert_eq!(step_line(&Step { task: &task(), json: &step, labels: &labels }), expected);
        let remark = |json: Value| remark(&Step { task: &task(), json: &json, labels: &labels });
        assert_eq!(remark(json!({"type": "task.created"})), "Write the user guide");
        assert_eq!(remark(json!({"type": "task.split", "detail": {"children": ["d", "x"]}})), "into api/design, -");
        assert_eq!(remark(json!({"type": "task.dependency_completed", "detail": {"task_id": "d"}})), "api/design");
        let backoff = json!({"type": "task.backoff", "detail": {"error": {"message": "too short"}}});
        assert_eq!(remark(backoff), "too short");
    }

    #[test]
    fn estimates_are_compared_with_the_actual_time() {
        let task = json!({"created_at": "2026-01-09T18:00:00Z", "completed_at": "2026-01-09T18:00:02.04Z"});
        let line = |estimated| estimate_line("primes", &task, estimated);
        let expected = "\nprimes: estimated on submission to be done within 3.5 s, done after 2.0 s (kept)";
        assert_eq!(line("2026-01-09T18:00:03.5Z"), expected);
        assert!(line("2026-01-09T18:00:02Z").ends_with("(missed)"));
    }
}
