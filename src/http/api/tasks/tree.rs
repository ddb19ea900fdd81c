//! `GET /tasks/{id}/tree`: a task with its nested subtasks.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use utoipa::ToSchema;

use crate::engine::TreeNode;
use crate::http::api::app::Call;
use crate::http::api::tasks::status::task_id;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::task::TaskId;

/// The largest number of tasks in a response.
const MAX_TASKS: usize = 1000;

/// A task with its subtasks in place of their ids. Each subtask is such a node: a task as in `GET /tasks/{id}`, or only
/// its id if it was removed. The root also has `truncated`.
#[expect(dead_code, reason = "describes the rendered answers, into which the subtasks are inserted")]
#[derive(ToSchema)]
pub(in crate::http) struct TaskNode {
    /// The id of the task.
    task_id: TaskId,
    /// The subtasks; null if they did not fit into the response.
    #[schema(no_recursion)]
    children: Option<Vec<TaskNode>>,
    /// Present if the task was removed, so that nothing else is known of it.
    #[schema(nullable = false)]
    removed: Option<bool>,
    /// Whether subtasks did not fit into the response.
    #[schema(nullable = false)]
    truncated: Option<bool>,
    /// All other fields of the task.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Handles `GET /tasks/{id}/tree`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    let nodes = call.app.engine.tasks().tree(id, MAX_TASKS).await?;
    match nest(&nodes) {
        Some(tree) => Ok(reply::json(StatusCode::OK, &tree)),
        None => Err(Problem::task_not_found(&call.raw_id)),
    }
}

/// Nests the tasks, each with its subtasks in place of their ids. A task that was removed has only its id.
/// A task whose subtasks did not fit has `null` in their place, and the root is marked as truncated.
fn nest(nodes: &[TreeNode]) -> Option<Value> {
    let truncated = nodes.iter().any(|node| node.children.is_none());
    // Children follow their parents.
    let mut built: Vec<Option<Value>> = vec![None; nodes.len()];
    for (place, node) in nodes.iter().enumerate().rev() {
        let children = node.children.clone().map(|range| {
            let taken = built.get_mut(range).unwrap_or_default().iter_mut();
            Value::Array(taken.filter_map(Option::take).collect())
        });
        if let Some(slot) = built.get_mut(place) {
            *slot = Some(Value::Object(task_fields(node, children.unwrap_or_default())));
        }
    }
    let mut root = built.first_mut()?.take()?;
    if let Value::Object(root) = &mut root {
        root.insert("truncated".to_owned(), truncated.into());
    }
    Some(root)
}

/// Returns the fields of a task with `children` in place of the ids.
fn task_fields(node: &TreeNode, children: Value) -> Map<String, Value> {
    let answer = node.answer.as_ref().and_then(|answer| serde_json::from_slice(&answer.body).ok());
    let Some(Value::Object(mut task)) = answer else {
        return Map::from_iter([
            ("task_id".to_owned(), json!(node.task)),
            ("removed".to_owned(), json!(true)),
            ("children".to_owned(), children),
        ]);
    };
    task.insert("children".to_owned(), children);
    task
}
