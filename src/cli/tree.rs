//! The tree of a task and its subtasks, as an indented table.

use comfy_table::Cell;
use serde_json::Value;

use super::output::{Screen, shortened, status_cell, text};

/// One line of the tree.
struct Row<'a> {
    /// Branches before the id.
    branches: String,
    task: &'a Value,
}

/// Formats the tree with one line for each task, and subtasks below their parents.
pub(super) fn tree_table(screen: &Screen, root: &Value) -> String {
    let headers = ["TASK", "STATUS", "TIER", "ATTEMPTS", "DESCRIPTION", "WAITING FOR"];
    let cells = |row: &Row<'_>| {
        let Row { branches, task } = row;
        let id = format!("{branches}{}", text(&task["task_id"]));
        if task.is_null() {
            return vec![Cell::new(format!("{branches}more subtasks, not shown"))];
        }
        if task["removed"] == true {
            return vec![Cell::new(id), Cell::new("removed")];
        }
        vec![
            Cell::new(id),
            status_cell(task),
            Cell::new(text(&task["tier"])),
            Cell::new(format!("{}/{}", text(&task["attempts"]), text(&task["max_attempts"]))),
            Cell::new(shortened(task["description"].as_str().unwrap_or_default())),
            Cell::new(reason(task)),
        ]
    };
    let table = screen.table(&headers, rows(root).iter().map(cells).collect(), &["ATTEMPTS", "TIER", "DESCRIPTION"]);
    if root["truncated"] == true {
        return format!("{table}\n\nthe tree is too large to show completely: dats list --parent TASK shows the rest");
    }
    table
}

/// Returns what a task waits for, or why it failed.
fn reason(task: &Value) -> String {
    let reason = task["waiting_for"].as_str().or_else(|| task["error"]["message"].as_str());
    reason.unwrap_or_default().to_owned()
}

/// Placeholder below a task whose subtasks the answer omits.
static OMITTED: Value = Value::Null;

fn children(task: &Value) -> &[Value] {
    match &task["children"] {
        Value::Array(children) => children,
        Value::Null if task.is_object() => std::slice::from_ref(&OMITTED),
        _ => &[],
    }
}

/// Returns all tasks, each before its subtasks.
fn rows(root: &Value) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    // Rows that remain, the next one last, each with the prefix of the branches of its subtasks.
    let mut left = vec![(Row { branches: String::new(), task: root }, String::new())];
    while let Some((row, below)) = left.pop() {
        let children = children(row.task);
        for (place, child) in children.iter().enumerate().rev() {
            let is_last = place + 1 == children.len();
            let (branch, further) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            left.push((Row { branches: format!("{below}{branch}"), task: child }, format!("{below}{further}")));
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use serde_json::json;

    fn task(id: &str, phase: &str, waiting_for: Option<&str>, children: &Value) -> Value {
        json!({"task_id": id, "status": "running", "phase": phase, "tier": "small", "attempts": 1,
            "max_attempts": 3, "description": "work", "waiting_for": waiting_for, "children": children})
    }

    fn shown(root: &Value) -> String {
        let now = "2026-01-09T18:00:00Z".parse().unwrap();
        tree_table(&Screen { format: Format::Table, is_terminal: false, width: None, now }, root)
    }

    #[test]
    fn subtasks_stand_below_their_parents() {
        let leaf = |id| task(id, "leased", Some("worker w"), &json!([]));
        let middle = task("b", "children", None, &json!([leaf("c"), leaf("d")]));
        let root =
            task("a", "children", Some("2 of its 2 subtasks to end"), &json!([middle.clone(), middle, leaf("e")]));
        let lines: Vec<String> = shown(&root).lines().map(ToOwned::to_owned).collect();
        for (line, start) in
            [(1, "a "), (2, "├─ b"), (3, "│  ├─ c  running/leased"), (4, "│  └─ d"), (7, "│  └─ d"), (8, "└─ e")]
        {
            assert!(lines[line].starts_with(start), "{line}: {}", shown(&root));
        }
        assert!(lines[1].ends_with("2 of its 2 subtasks to end") && lines[3].ends_with("worker w"));
    }

    #[test]
    fn removed_and_omitted_tasks_are_shown() {
        let mut root = task("a", "children", None, &json!([{"task_id": "b", "removed": true, "children": []}]));
        assert!(shown(&root).contains("└─ b  removed"), "{}", shown(&root));
        root = task("a", "children", None, &json!([task("b", "children", None, &Value::Null)]));
        root["truncated"] = json!(true);
        let text = shown(&root);
        assert!(text.contains("\n   └─ more subtasks, not shown") && text.ends_with("shows the rest"), "{text}");
    }

    #[test]
    fn a_failed_task_shows_the_reason() {
        let root = json!({"task_id": "a", "status": "failed", "phase": "failed", "children": [],
            "error": {"code": "child_failed", "message": "subtask b failed: no"}});
        assert!(shown(&root).ends_with("subtask b failed: no"));
    }
}
