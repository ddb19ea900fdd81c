//! What the Agent's stand-in says of tasks that it knows beforehand, for
//! stories that are to make sense.

use serde_json::{Value, json};

/// A task and what the Agent says of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Known {
    /// Its text, by which it is known.
    pub(in crate::cli) description: &'static str,
    pub(in crate::cli) mode: &'static str,
    pub(in crate::cli) domain: &'static str,
    pub(in crate::cli) tier: &'static str,
    /// What it is split into; nothing: it is done as it is.
    pub(in crate::cli) parts: &'static [Part],
}

/// A subtask and what the Agent says of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Part {
    /// Its id among its siblings.
    pub(in crate::cli) id: &'static str,
    pub(in crate::cli) task: Known,
    /// The siblings before it.
    pub(in crate::cli) dependencies: &'static [&'static str],
}

impl Known {
    /// The answer of `/decompose`.
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

/// The task of a script that has this text, at any level.
pub(super) fn known(script: &'static [Known], description: &str) -> Option<&'static Known> {
    let deeper =
        |task: &'static Known| task.parts.iter().find_map(|part| known(std::slice::from_ref(&part.task), description));
    script.iter().find_map(|task| if task.description == description { Some(task) } else { deeper(task) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Known = Known { description: "leaf", mode: "m", domain: "d", tier: "t", parts: &[] };
    const BRANCH: Known =
        Known { description: "branch", parts: &[Part { id: "p", task: LEAF, dependencies: &["q"] }], ..LEAF };
    const SCRIPT: &[Known] =
        &[Known { description: "root", parts: &[Part { id: "b", task: BRANCH, dependencies: &[] }], ..LEAF }];

    #[test]
    fn tasks_are_known_at_any_level() {
        let descriptions = ["root", "branch", "leaf"].map(|text| known(SCRIPT, text).unwrap().description);
        assert_eq!(descriptions, ["root", "branch", "leaf"]);
        assert!(known(SCRIPT, "other").is_none());
    }

    #[test]
    fn parts_become_subtasks() {
        let expected =
            json!({"id": "p", "description": "leaf", "domain": "d", "is_atomic": true, "dependencies": ["q"]});
        assert_eq!(BRANCH.decomposition(), json!({"subtasks": [expected], "decomposition_depth": 1}));
        assert_eq!(SCRIPT[0].decomposition()["subtasks"][0]["is_atomic"], false);
    }
}
