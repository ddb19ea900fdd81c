//! Predefined answers of the Agent's stand-in, for a demo whose tasks fit together.

use serde_json::{Value, json};

/// A task with the answers of the Agent.
#[derive(Debug, Clone, Copy)]
pub struct ScriptedTask {
    /// Description, by which the task is recognised.
    pub description: &'static str,
    /// Mode in the analysis.
    pub mode: &'static str,
    /// Domain in the analysis.
    pub domain: &'static str,
    /// Recommended tier.
    pub tier: &'static str,
    /// Subtasks; empty if the task is not split.
    pub parts: &'static [Part],
}

/// A subtask with the answers of the Agent.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Id among the subtasks of the same task.
    pub id: &'static str,
    /// The subtask itself.
    pub task: ScriptedTask,
    /// Ids of the subtasks on which it depends.
    pub dependencies: &'static [&'static str],
}

impl ScriptedTask {
    /// Returns the answer to `/decompose`.
    pub(super) fn decomposition(&self) -> Value {
        let subtask = |part: &Part| {
            let Part { id, task, dependencies } = part;
            json!({
                "id": id, "description": task.description, "domain": task.domain,
                "is_atomic": task.parts.is_empty(), "dependencies": dependencies,
            })
        };
        json!({"subtasks": self.parts.iter().map(subtask).collect::<Vec<_>>(), "decomposition_depth": 1})
    }
}

/// Finds the task with a description, at any level of a script.
pub(super) fn find_task(script: &'static [ScriptedTask], description: &str) -> Option<&'static ScriptedTask> {
    let deeper = |task: &'static ScriptedTask| {
        task.parts.iter().find_map(|part| find_task(std::slice::from_ref(&part.task), description))
    };
    script.iter().find_map(|task| if task.description == description { Some(task) } else { deeper(task) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: ScriptedTask = ScriptedTask { description: "leaf", mode: "m", domain: "d", tier: "t", parts: &[] };
    const BRANCH: ScriptedTask =
        ScriptedTask { description: "branch", parts: &[Part { id: "p", task: LEAF, dependencies: &["q"] }], ..LEAF };
    const SCRIPT: &[ScriptedTask] =
        &[ScriptedTask { description: "root", parts: &[Part { id: "b", task: BRANCH, dependencies: &[] }], ..LEAF }];

    #[test]
    fn tasks_are_known_at_any_level() {
        let descriptions = ["root", "branch", "leaf"].map(|text| find_task(SCRIPT, text).unwrap().description);
        assert_eq!(descriptions, ["root", "branch", "leaf"]);
        assert!(find_task(SCRIPT, "other").is_none());
    }

    #[test]
    fn parts_become_subtasks() {
        let expected =
            json!({"id": "p", "description": "leaf", "domain": "d", "is_atomic": true, "dependencies": ["q"]});
        assert_eq!(BRANCH.decomposition(), json!({"subtasks": [expected], "decomposition_depth": 1}));
        assert_eq!(SCRIPT[0].decomposition()["subtasks"][0]["is_atomic"], false);
    }
}
