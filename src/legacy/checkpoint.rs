//! Checkpoints: points in time of one project.

use serde_json::{Map, Value, json};

use super::event::required_id;
use super::fields::Fields;
use super::invalid::Fault;
use super::time;
use crate::task::{ProjectId, Timestamp};

/// A checkpoint of the old program.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Any text of 1 to 255 bytes.
    pub id: String,
    /// The project; `default` if the file names none.
    pub project: ProjectId,
    /// The point in time that a rollback returns to.
    pub created_at: Timestamp,
    /// Number of records that the project had at that time.
    pub provenance_count: u64,
    /// Number of artifacts that the project had at that time.
    pub artifact_count: u64,
    /// The last record included; empty if unknown.
    pub last_provenance_id: String,
    /// The last task included; empty if unknown.
    pub last_task_id: String,
    /// A commit or tag that belongs to the checkpoint; may be empty.
    pub git_ref: String,
    /// A state of the RAG service that belongs to the checkpoint; may be empty.
    pub rag_state_ref: String,
    /// A state of the work products that belongs to the checkpoint; may be empty.
    pub work_product_ref: String,
    /// Free text.
    pub description: String,
    /// The cause: `auto`, `manual`, `milestone` or another word.
    pub trigger: String,
    /// Whether a rollback to it is possible.
    pub is_valid: bool,
    /// The parsed object, for an imported checkpoint.
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

    /// Renders the checkpoint in the old program's form: the original object or a new one, with its
    /// present validity.
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

/// Returns the project of an object: `default` if it names none.
pub(super) fn project(fields: &Fields<'_>) -> Result<ProjectId, Fault> {
    let text = fields.text("project_id")?.unwrap_or("default");
    ProjectId::new(text).map_err(|error| fields.fault("project_id", &error.to_string()))
}
