//! `GET /tasks/{id}/tree`: a task with its subtasks, nested.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::engine::TreeNode;
use crate::http::api::app::Call;
use crate::http::api::tasks::submit::task_id;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};

/// Most tasks of one answer.
const MOST: usize = 1000;

/// `GET /tasks/{id}/tree`
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    let nodes = call.app.engine.tasks().tree(id, MOST).await?;
    match nested(&nodes) {
        Some(tree) => Ok(reply::json(StatusCode::OK, &tree)),
        None => Err(Problem::task_not_found(&call.raw_id)),
    }
}

/// Each task as its status answer, with its subtasks in place of their ids.
/// One that was removed has only its id; below one that found no room there
/// is `null`, and the answer says that it is cut.
fn nested(nodes: &[TreeNode]) -> Option<Value> {
    let truncated = nodes.iter().any(|node| node.children.is_none());
    // Children stand behind their parents.
    let mut built: Vec<Option<Value>> = vec![None; nodes.len()];
    for (place, node) in nodes.iter().enumerate().rev() {
        let children = node.children.clone().map(|range| {
            let taken = built.get_mut(range).unwrap_or_default().iter_mut();
            Value::Array(taken.filter_map(Option::take).collect())
        });
        if let Some(slot) = built.get_mut(place) {
            *slot = Some(Value::Object(of_task(node, children.unwrap_or_default())));
        }
    }
    let mut root = built.first_mut()?.take()?;
    if let Value::Object(root) = &mut root {
        root.insert("truncated".to_owned(), truncated.into());
    }
    Some(root)
}

fn of_task(node: &TreeNode, children: Value) -> Map<String, Value> {
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
