//! What the demo submits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::client::{Client, Error};
use crate::cli::exit::Failure;

/// One submission of the story.
struct Scene {
    /// Short name for the lines on the screen.
    label: &'static str,
    description: &'static str,
    priority: &'static str,
    /// Label of the task that must be completed first.
    after: Option<&'static str>,
    /// Whether QA rejects the first attempt, which moves it a tier up.
    is_rejected_once: bool,
}

/// Various priorities and domains; one waits for another, one is rejected.
const SCENES: [Scene; 5] = [
    Scene {
        label: "fibonacci",
        description: "Create a Python function that calculates fibonacci numbers",
        priority: "normal",
        after: None,
        is_rejected_once: false,
    },
    Scene {
        label: "guide",
        description: "Write a user guide for the fibonacci function",
        priority: "low",
        after: Some("fibonacci"),
        is_rejected_once: false,
    },
    Scene {
        label: "firmware",
        description: "Write ESP32 firmware that blinks the status LED in morse code",
        priority: "high",
        after: None,
        is_rejected_once: false,
    },
    Scene {
        label: "mockup",
        description: "Draw a wireframe of the settings page",
        priority: "normal",
        after: None,
        is_rejected_once: true,
    },
    Scene {
        label: "billing",
        description: "Propose an architecture for the billing service",
        priority: "normal",
        after: None,
        is_rejected_once: false,
    },
];

/// A submitted task of the story.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) label: &'static str,
    pub(super) task_id: String,
    is_rejected_once: bool,
}

/// All submitted tasks.
#[derive(Debug)]
pub(super) struct Cast(pub(super) Vec<Role>);

impl Cast {
    /// The tasks QA is to reject once.
    pub(super) fn rejected_once(&self) -> BTreeSet<String> {
        self.0.iter().filter(|role| role.is_rejected_once).map(|role| role.task_id.clone()).collect()
    }

    /// The label of a task of the story.
    pub(super) fn label(&self, task_id: &str) -> Option<&'static str> {
        self.0.iter().find(|role| role.task_id == task_id).map(|role| role.label)
    }

    fn id(&self, label: &str) -> Option<&str> {
        self.0.iter().find(|role| role.label == label).map(|role| role.task_id.as_str())
    }
}

/// Submits the story in its order.
pub(super) async fn submit(client: &Client) -> Result<Cast, Failure> {
    let mut cast = Cast(Vec::new());
    for scene in &SCENES {
        let answer = client.post("/tasks", &body(scene, &cast)).await?;
        let Some(task_id) = answer.json["task_id"].as_str() else {
            return Err(Error::Protocol("a submission's answer has no task_id".to_owned()).into());
        };
        cast.0.push(Role { label: scene.label, task_id: task_id.to_owned(), is_rejected_once: scene.is_rejected_once });
    }
    Ok(cast)
}

fn body(scene: &Scene, cast: &Cast) -> Value {
    let mut body = json!({"description": scene.description, "project_id": "demo", "priority": scene.priority});
    if let Some(id) = scene.after.and_then(|label| cast.id(label)) {
        body["options"] = json!({"depends_on": [id]});
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn scenes_depend_on_earlier_ones_and_use_several_domains() {
        let router = Config::builtin().routing.router;
        let mut domains = BTreeSet::new();
        for (index, scene) in SCENES.iter().enumerate() {
            domains.insert(router.route(scene.description).0.to_string());
            let is_known = |label: &str| SCENES[..index].iter().any(|earlier| earlier.label == label);
            assert!(scene.after.is_none_or(is_known), "{}", scene.label);
        }
        assert_eq!(domains.len(), SCENES.len());
    }
}
