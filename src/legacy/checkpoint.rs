//! A point in time of one project.

use serde_json::{Map, Value, json};

use super::event::required_id;
use super::fields::Fields;
use super::invalid::Fault;
use super::time;
use crate::task::{ProjectId, Timestamp};

/// One checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its id.
    pub id: String,
    /// The project it is of.
    pub project: ProjectId,
    /// The point in time.
    pub created_at: Timestamp,
    /// Records of the project at that time.
    pub provenance_count: u64,
    /// Artifacts of the project at that time.
    pub artifact_count: u64,
    /// The last record it includes; empty where unknown.
    pub last_provenance_id: String,
    /// The last task it includes; empty where unknown.
    pub last_task_id: String,
    /// A commit or tag that belongs to it; empty where there is none.
    pub git_ref: String,
    /// A state of the RAG service that belongs to it; empty where there is none.
    pub rag_state_ref: String,
    /// A state of the work products that belongs to it; empty where there is none.
    pub work_product_ref: String,
    /// What it is for.
    pub description: String,
    /// What made it: `auto`, `manual`, `milestone` or another word.
    pub trigger: String,
    /// Whether it can be rolled back to.
    pub is_valid: bool,
    /// The object as it came, for an imported one.
    pub original: Option<Map<String, Value>>,
}

impl Checkpoint {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let text = |key| Ok::<_, Fault>(fields.text(key)?.unwrap_or_default().to_owned());
        Ok(Self {
            id: required_id(fields)?,
            project: project(fields)?,
            created_at: fields.time("created_at")?.ok_or_else(|| fields.fault("created_at", time::ALLOWED))?,
            provenance_count: fields.count("provenance_count")?.unwrap_or(0),
            artifact_count: fields.count("artifact_count")?.unwrap_or(0),
            last_provenance_id: text("last_provenance_id")?,
            last_task_id: text("last_task_id")?,
            git_ref: text("git_ref")?,
            rag_state_ref: text("rag_state_ref")?,
            work_product_ref: text("work_product_ref")?,
            description: text("description")?,
            trigger: text("trigger")?,
            is_valid: fields.flag("is_valid")?.unwrap_or(true),
            original: None,
        })
    }

    /// The checkpoint as the old program has it: the object as it came, or a
    /// new one, and whether it is valid now.
    #[must_use]
    pub fn to_json(&self, is_valid: bool) -> Value {
        if let Some(original) = &self.original {
            let mut object = original.clone();
            if is_valid != self.is_valid {
                object.insert("is_valid".to_owned(), Value::Bool(is_valid));
            }
            return Value::Object(object);
        }
        json!({
            "id": self.id,
            "project_id": self.project,
            "created_at": time::write(self.created_at),
            "git_ref": self.git_ref,
            "provenance_count": self.provenance_count,
            "artifact_count": self.artifact_count,
            "last_provenance_id": self.last_provenance_id,
            "last_task_id": self.last_task_id,
            "rag_state_ref": self.rag_state_ref,
            "work_product_ref": self.work_product_ref,
            "description": self.description,
            "trigger": self.trigger,
            "is_valid": is_valid,
        })
    }
}

/// The project an object belongs to: `default` where it names none.
pub(super) fn project(fields: &Fields<'_>) -> Result<ProjectId, Fault> {
    let text = fields.text("project_id")?.unwrap_or("default");
    ProjectId::new(text).map_err(|error| fields.fault("project_id", &error.to_string()))
}
