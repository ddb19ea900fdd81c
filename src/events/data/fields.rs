//! Fields that the data of several events has, and the errors of fields.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::{self, FieldError, Findings};
use crate::task::{ArtifactId, Holder, TaskId};

/// The longest reason that a task keeps, in bytes. The event keeps the whole reason.
const MAX_REASON_BYTES: usize = 8 * 1024;

/// Why the data of an event is rejected.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) enum InvalidData {
    Fields(Vec<FieldError>),
    /// The task id is not a UUID, so no such task exists.
    UnknownTask(String),
}

/// Decodes data into a struct, and collects the errors of its fields.
pub(in crate::events) fn decode<T: DeserializeOwned>(data: Value) -> Result<(T, Findings), InvalidData> {
    match json::from_value_all(data, "/data") {
        (Some(typed), errors) => Ok((typed, Findings::from_errors(errors))),
        (None, errors) => Err(InvalidData::Fields(errors)),
    }
}

/// Reads `task_id`. Text that is not a UUID is an unknown task, not a wrong field.
pub(super) fn read_task(found: &mut Findings, id: Option<&str>, required: bool) -> Result<Option<TaskId>, InvalidData> {
    let id = if required { found.required("/data/task_id", id) } else { id };
    match id {
        Some(id) => id.parse().map(Some).map_err(|_| InvalidData::UnknownTask(id.to_owned())),
        None => Ok(None),
    }
}

/// Reads the worker and the lease of the sender. Text that is not a lease id is a wrong field, so
/// that the sender notices a typing error.
pub(super) fn read_sender(found: &mut Findings, worker: Option<&str>, lease: Option<&str>) -> Holder {
    Holder {
        worker: worker.and_then(|id| found.parse("/data/worker_id", id)),
        lease: lease.and_then(|id| found.parse("/data/lease_id", id)),
    }
}

/// Reads `artifact_id`.
pub(super) fn read_artifact(found: &mut Findings, id: Option<&str>, required: bool) -> Option<ArtifactId> {
    let id = if required { found.required("/data/artifact_id", id) } else { id };
    found.parse("/data/artifact_id", id?)
}

/// Returns the task and the other values, or the errors: wrong fields before an unknown task.
pub(super) fn finish<T>(
    found: Findings,
    task: Result<Option<TaskId>, InvalidData>,
    rest: Option<T>,
) -> Result<(Option<TaskId>, T), InvalidData> {
    match rest {
        Some(rest) if found.is_empty() => Ok((task?, rest)),
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

/// Cuts a reason to [`MAX_REASON_BYTES`].
pub(in crate::events) fn shorten_reason(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
        text.push('…');
    }
    text
}
