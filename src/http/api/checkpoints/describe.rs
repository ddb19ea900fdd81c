//! Descriptions of the endpoints of checkpoints and rollbacks for the `OpenAPI` document.

use serde_json::json;

use crate::http::api::checkpoints::checkpoint::{self, MAX_REFERENCE_BYTES};
use crate::http::api::checkpoints::rollback;
use crate::http::api::fields::MAX_REASON_BYTES;
use crate::http::api::provenance::flags::AffectedWire;
use crate::http::openapi::limits;
use crate::http::openapi::operation::{Described, operation};
use crate::task::{CheckpointId, ProjectId};

const TAG: &str = "Checkpoints";

/// Starts the description of an endpoint whose path names a project.
fn project_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<ProjectId>("The id of the project.").problem(404, &["project_not_found"])
}

/// Starts the description of an endpoint whose path names a checkpoint.
fn checkpoint_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<CheckpointId>("The id of the checkpoint.").problem(404, &["checkpoint_not_found"])
}

pub(in crate::http) fn list() -> Described {
    project_operation("listCheckpoints", "List the checkpoints of a project")
        .pages()
        .answer::<checkpoint::ListWire>(200, "A page of checkpoints, newest first.")
        .reads()
}

pub(in crate::http) fn create() -> Described {
    let limits = [
        limits::text("NewCheckpoint", "description", 0, checkpoint::MAX_DESCRIPTION_BYTES),
        limits::text("NewCheckpoint", "git_ref", 1, MAX_REFERENCE_BYTES),
        limits::text("NewCheckpoint", "rag_state_ref", 1, MAX_REFERENCE_BYTES),
        limits::text("NewCheckpoint", "work_product_ref", 1, MAX_REFERENCE_BYTES),
    ];
    let checkpoint = json!({"description": "before the change of models", "git_ref": "v1.4.0"});
    project_operation("createCheckpoint", "Create a checkpoint of a project")
        .body::<checkpoint::BodyWire>(false, &limits, &[("checkpoint", checkpoint)])
        .reads_json()
        .answer::<checkpoint::CheckpointWire<'static>>(201, "The checkpoint.")
        .header(201, "Location")
        .writes()
}

pub(in crate::http) fn get() -> Described {
    checkpoint_operation("getCheckpoint", "Read a checkpoint")
        .answer::<checkpoint::CheckpointWire<'static>>(200, "The checkpoint.")
        .reads()
}

pub(in crate::http) fn rollback() -> Described {
    let limits = [limits::text("RollbackRequest", "reason", 1, MAX_REASON_BYTES)];
    let dry = json!({"reason": "the new model is wrong", "dry_run": true});
    checkpoint_operation("rollBack", "Roll a project back to a checkpoint")
        .says(
            "The records that the project made after the checkpoint become tainted, and the records that depend on \
             them become suspect. A second rollback to the same checkpoint changes nothing.",
        )
        .shared("limit")
        .body::<rollback::RollbackRequestWire>(true, &limits, &[("dry_run", dry)])
        .reads_json()
        .answer::<rollback::RollbackWire<'static>>(200, "What the rollback changed, or would change.")
        .problem(409, &["checkpoint_invalid", "checkpoint_of_other_project"])
        .writes()
}

pub(in crate::http) fn rolled_back() -> Described {
    checkpoint_operation("getRolledBack", "Read further pages of the response to a rollback")
        .goes_on()
        .answer::<AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}
