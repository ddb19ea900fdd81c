//! What the demo submits, and what its Agent says of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::client::{Client, Error};
use crate::cli::exit::Failure;
use crate::cli::simulate::script::{Known, Part};

/// What the Agent is asked about, one for each scene.
pub(super) const SCRIPT: [Known; 4] = [
    Known {
        description: "Create a Python function that calculates fibonacci numbers",
        mode: "new_project",
        domain: "code-general",
        tier: "small",
        parts: &[],
    },
    Known {
        description: "Build a REST API for bookmarks, with tests and a guide",
        mode: "new_project",
        domain: "code-general",
        tier: "large",
        parts: &API,
    },
    Known {
        description: "Draw a wireframe of the settings page",
        mode: "modify",
        domain: "ui-design",
        tier: "small",
        parts: &[],
    },
    Known {
        description: "Create a Python function that lists prime numbers",
        mode: "new_project",
        domain: "code-general",
        tier: "small",
        parts: &[],
    },
];

/// The parts of the one that is split.
const API: [Part; 4] = [
    Part {
        id: "design",
        task: Known {
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
        task: Known {
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
        task: Known {
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
        task: Known {
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
    /// Short name for the lines on the screen.
    label: &'static str,
    task: &'static Known,
    /// Whether QA rejects the first attempt, which moves it a tier up.
    is_rejected_once: bool,
}

/// The scenes that run side by side, and the one after them: by then there is
/// something to estimate it from.
const SCENES: [Scene; 4] = [
    Scene { label: "fibonacci", task: &SCRIPT[0], is_rejected_once: false },
    Scene { label: "api", task: &SCRIPT[1], is_rejected_once: false },
    Scene { label: "mockup", task: &SCRIPT[2], is_rejected_once: true },
    Scene { label: "primes", task: &SCRIPT[3], is_rejected_once: false },
];

/// A submitted task of the story.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    pub(super) label: String,
    pub(super) task_id: String,
    pub(super) description: String,
    /// By when it should be done, as the submission's answer says.
    pub(super) estimated: Option<String>,
    pub(super) is_rejected_once: bool,
}

impl Role {
    /// A subtask of this one, as the server shows it.
    pub(super) fn part(&self, subtask: &Value) -> Self {
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

/// The tasks that QA is to reject once.
pub(super) fn rejected_once(cast: &[Role]) -> BTreeSet<String> {
    cast.iter().filter(|role| role.is_rejected_once).map(|role| role.task_id.clone()).collect()
}

/// Submits the scenes that run side by side.
pub(super) async fn open(client: &Client) -> Result<Vec<Role>, Failure> {
    let (_, first) = SCENES.split_last().unwrap_or((&SCENES[0], &[]));
    let mut cast = Vec::new();
    for scene in first {
        cast.push(submit(client, scene).await?);
    }
    Ok(cast)
}

/// Submits the last one.
pub(super) async fn close(client: &Client) -> Result<Role, Failure> {
    submit(client, &SCENES[SCENES.len() - 1]).await
}

async fn submit(client: &Client, scene: &Scene) -> Result<Role, Failure> {
    let description = scene.task.description;
    let answer = client.post("/tasks", &json!({"description": description, "project_id": "demo"})).await?;
    let Some(task_id) = answer.json["task_id"].as_str() else {
        return Err(Error::Protocol("a submission's answer has no task_id".to_owned()).into());
    };
    Ok(Role {
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
    fn the_agent_names_tiers_that_exist_and_siblings_that_came_before() {
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
    fn parts_are_called_after_their_task() {
        let role = Role { label: "api".to_owned(), ..Role::default() };
        let part = role.part(&json!({"task_id": "c", "description": "Write the user guide"}));
        assert_eq!((part.label.as_str(), part.task_id.as_str()), ("api/guide", "c"));
        assert_eq!(role.part(&json!({"task_id": "d", "description": "else"})).label, "api/part");
    }
}
