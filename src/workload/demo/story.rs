//! The tasks that the demo submits, and the answers of its Agent about them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{self, Client};
use crate::workload::error::Error;
use crate::workload::simulate::script::{Part, ScriptedTask};

/// The script of the Agent: one task for each scene.
pub const SCRIPT: [ScriptedTask; 4] = [
    ScriptedTask {
        description: "Create a Python function that calculates fibonacci numbers",
        mode: "new_project",
        domain: "code-general",
        tier: "small",
        parts: &[],
    },
    ScriptedTask {
        description: "Build a REST API for bookmarks, with tests and a guide",
        mode: "new_project",
        domain: "code-general",
        tier: "large",
        parts: &API,
    },
    ScriptedTask {
        description: "Draw a wireframe of the settings page",
        mode: "modify",
        domain: "ui-design",
        tier: "small",
        parts: &[],
    },
    ScriptedTask {
        description: "Create a Python function that lists prime numbers",
        mode: "new_project",
        domain: "code-general",
        tier: "small",
        parts: &[],
    },
];

/// The subtasks of the scene that is split.
const API: [Part; 4] = [
    Part {
        id: "design",
        task: ScriptedTask {
            description: "Design the resources of the bookmarks API",
            mode: "new_project",
            domain: "architecture",
            tier: "large",
            parts: &[],
        },
        dependencies: &[],
    },
    Part {
        id: "handlers",
        task: ScriptedTask {
            description: "Write the request handlers",
            mode: "new_project",
            domain: "code-general",
            tier: "coding",
            parts: &[],
        },
        dependencies: &["design"],
    },
    Part {
        id: "tests",
        task: ScriptedTask {
            description: "Test the request handlers",
            mode: "testing",
            domain: "code-general",
            tier: "small",
            parts: &[],
        },
        dependencies: &["handlers"],
    },
    Part {
        id: "guide",
        task: ScriptedTask {
            description: "Write the user guide",
            mode: "documentation",
            domain: "documentation",
            tier: "tiny",
            parts: &[],
        },
        dependencies: &["design"],
    },
];

/// One submission of the story.
struct Scene {
    /// Short name in the output.
    label: &'static str,
    task: &'static ScriptedTask,
    /// Whether QA rejects the first attempt, which escalates the task by a tier.
    is_rejected_once: bool,
}

/// The scenes. The last one is submitted after the others have ended, when the service has
/// something from which to estimate its completion.
const SCENES: [Scene; 4] = [
    Scene { label: "fibonacci", task: &SCRIPT[0], is_rejected_once: false },
    Scene { label: "api", task: &SCRIPT[1], is_rejected_once: false },
    Scene { label: "mockup", task: &SCRIPT[2], is_rejected_once: true },
    Scene { label: "primes", task: &SCRIPT[3], is_rejected_once: false },
];

/// A submitted task of the story, or a subtask of one.
#[derive(Debug, Clone, Default)]
pub struct StoryTask {
    /// Short name in the output, such as `api` or `api/guide`.
    pub label: String,
    /// Id of the task.
    pub task_id: String,
    /// Description of the task.
    pub description: String,
    /// Estimated completion from the answer to the submission.
    pub estimated: Option<String>,
    /// Whether QA rejects the first attempt.
    pub is_rejected_once: bool,
}

impl StoryTask {
    /// Returns the subtask that the server shows as `subtask`.
    #[must_use]
    pub fn subtask(&self, subtask: &Value) -> Self {
        let description = subtask["description"].as_str().unwrap_or_default();
        let known = API.iter().find(|part| part.task.description == description);
        Self {
            label: format!("{}/{}", self.label, known.map_or("part", |part| part.id)),
            task_id: subtask["task_id"].as_str().unwrap_or_default().to_owned(),
            description: description.to_owned(),
            ..Self::default()
        }
    }
}

/// Returns the ids of the tasks whose first attempt QA rejects.
#[must_use]
pub fn rejected_once(tasks: &[StoryTask]) -> BTreeSet<String> {
    tasks.iter().filter(|task| task.is_rejected_once).map(|task| task.task_id.clone()).collect()
}

/// Submits all scenes but the last.
pub async fn submit_first(client: &Client) -> Result<Vec<StoryTask>, Error> {
    let (_, first) = SCENES.split_last().unwrap_or((&SCENES[0], &[]));
    let mut tasks = Vec::new();
    for scene in first {
        tasks.push(submit(client, scene).await?);
    }
    Ok(tasks)
}

/// Submits the last scene.
pub async fn submit_last(client: &Client) -> Result<StoryTask, Error> {
    submit(client, &SCENES[SCENES.len() - 1]).await
}

async fn submit(client: &Client, scene: &Scene) -> Result<StoryTask, Error> {
    let description = scene.task.description;
    let answer = client.post("/tasks", &json!({"description": description, "project_id": "demo"})).await?;
    let Some(task_id) = answer.json["task_id"].as_str() else {
        return Err(client::Error::Protocol("a submission was answered without a task_id".to_owned()).into());
    };
    Ok(StoryTask {
        label: scene.label.to_owned(),
        task_id: task_id.to_owned(),
        description: description.to_owned(),
        estimated: answer.json["estimated_completion"].as_str().map(ToOwned::to_owned),
        is_rejected_once: scene.is_rejected_once,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_agent_names_existing_tiers_and_earlier_siblings() {
        let tiers = Config::builtin().routing.tiers;
        let parts = API.iter().map(|part| &part.task);
        for known in SCRIPT.iter().chain(parts) {
            assert!(tiers.iter().any(|tier| tier.as_str() == known.tier), "{}", known.description);
        }
        for (index, part) in API.iter().enumerate() {
            let is_earlier = |id: &&str| API[..index].iter().any(|earlier| earlier.id == *id);
            assert!(part.dependencies.iter().all(is_earlier), "{}", part.id);
        }
    }

    #[test]
    fn subtasks_are_labelled_after_their_task() {
        let task = StoryTask { label: "api".to_owned(), ..StoryTask::default() };
        let part = task.subtask(&json!({"task_id": "c", "description": "Write the user guide"}));
        assert_eq!((part.label.as_str(), part.task_id.as_str()), ("api/guide", "c"));
        assert_eq!(task.subtask(&json!({"task_id": "d", "description": "else"})).label, "api/part");
    }
}
