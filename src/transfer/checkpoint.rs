//! Conversion of checkpoints between the old program's form and the store's.

use serde_json::{Map, Value};

use crate::legacy::{self, Line};
use crate::store::Checkpoint;
use crate::task::{CheckpointId, InvalidId};

/// Converts a parsed checkpoint to the engine's form; `original` is the object that it was parsed
/// from.
pub(super) fn to_stored(old: legacy::Checkpoint, original: Map<String, Value>) -> Result<Checkpoint, InvalidId> {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Checkpoint {
        id: CheckpointId::new(&old.id)?,
        project: old.project,
        created_at: old.created_at,
        git_ref: text(old.git_ref),
        provenance_count: old.provenance_count,
        artifact_count: old.artifact_count,
        last_provenance_id: text(old.last_provenance_id),
        last_task_id: text(old.last_task_id),
        rag_state_ref: text(old.rag_state_ref),
        work_product_ref: text(old.work_product_ref),
        description: text(old.description),
        trigger: old.trigger,
        is_valid: old.is_valid,
        rolled_back_at: None,
        original: Some(Value::Object(original).to_string()),
    })
}

/// Renders a checkpoint in the old program's form, with its present validity.
pub(super) fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    let original = checkpoint.original.as_ref().map(|original| Line::parse(original.as_bytes()));
    if let Some(Ok(Line::Checkpoint(old))) = original {
        return old.to_json(checkpoint.is_valid);
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let own = legacy::Checkpoint {
        id: checkpoint.id.to_string(),
        project: checkpoint.project.clone(),
        created_at: checkpoint.created_at,
        provenance_count: checkpoint.provenance_count,
        artifact_count: checkpoint.artifact_count,
        last_provenance_id: text(&checkpoint.last_provenance_id),
        last_task_id: text(&checkpoint.last_task_id),
        git_ref: text(&checkpoint.git_ref),
        rag_state_ref: text(&checkpoint.rag_state_ref),
        work_product_ref: text(&checkpoint.work_product_ref),
        description: text(&checkpoint.description),
        trigger: checkpoint.trigger.clone(),
        is_valid: checkpoint.is_valid,
        original: None,
    };
    own.to_json(checkpoint.is_valid)
}
