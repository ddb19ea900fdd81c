//! The events of the Cascade service: taints and suspicions of artifacts, and
//! requests for rollbacks.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::fields::{InvalidData, decode, shorten_reason};
use crate::engine::{CascadeRequest, EventContent, RollbackRequest, Subject};
use crate::json::Findings;
use crate::lineage::Action;
use crate::task::{ArtifactId, CheckpointId, ProjectId};

/// An artifact is tainted. Records that depend on it become suspect.
#[derive(Deserialize, ToSchema)]
#[schema(as = ArtifactTaintedData)]
pub(in crate::events) struct TaintedData {
    /// The id of the artifact.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The id of the cascade: all taints and suspicions of one cause have the same. At most 255 bytes,
    /// without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    cascade_id: Option<String>,
    /// The reason, in words. The service keeps the first 8192 bytes.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// The cause: a record or an artifact that the service knows. At most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    source_id: Option<String>,
}

/// An artifact is suspect.
#[derive(Deserialize, ToSchema)]
#[schema(as = ArtifactSuspectData)]
pub(in crate::events) struct SuspectData {
    /// The id of the artifact.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The id of the cascade: all taints and suspicions of one cause have the same. At most 255 bytes,
    /// without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    cascade_id: Option<String>,
    /// The cause: a record or an artifact that the service knows. At most 255 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    source_id: Option<String>,
    /// The reason, in words. Default: a text with `source_id`. The service keeps the first 8192 bytes.
    reason: Option<String>,
}

/// Reads the data of `artifact.tainted`.
pub(in crate::events) fn read_taint(name: &'static str, data: Value) -> Result<EventContent, InvalidData> {
    let (data, mut found) = decode::<TaintedData>(data)?;
    let (artifact, cascade_id) =
        read_artifact_and_cascade(&mut found, data.artifact_id.as_deref(), data.cascade_id.as_deref());
    let reason = found.required("/data/reason", data.reason).map(shorten_reason);
    let source = data.source_id.as_deref().and_then(|id| read_id(&mut found, "/data/source_id", id));
    cascade_message(name, Action::Taint, found, artifact.zip(cascade_id).zip(reason), source)
}

/// Reads the data of `artifact.suspect`.
pub(in crate::events) fn read_suspicion(name: &'static str, data: Value) -> Result<EventContent, InvalidData> {
    let (data, mut found) = decode::<SuspectData>(data)?;
    let (artifact, cascade_id) =
        read_artifact_and_cascade(&mut found, data.artifact_id.as_deref(), data.cascade_id.as_deref());
    let source = found.required("/data/source_id", data.source_id);
    let source = source.and_then(|id| read_id(&mut found, "/data/source_id", &id));
    let reason = source.as_ref().map(|source| format!("suspect because of {source}"));
    cascade_message(
        name,
        Action::Mark,
        found,
        artifact.zip(cascade_id).zip(data.reason.map(shorten_reason).or(reason)),
        source,
    )
}

fn read_artifact_and_cascade(
    found: &mut Findings,
    artifact_id: Option<&str>,
    cascade_id: Option<&str>,
) -> (Option<ArtifactId>, Option<String>) {
    let artifact = found.required("/data/artifact_id", artifact_id);
    let artifact = artifact.and_then(|id| found.parse("/data/artifact_id", id));
    let cascade_id = found.required("/data/cascade_id", cascade_id);
    (artifact, cascade_id.and_then(|id| read_id(found, "/data/cascade_id", id)))
}

/// Reads an id of another service. All such ids follow the rules of artifact ids.
fn read_id(found: &mut Findings, pointer: &str, id: &str) -> Option<String> {
    found.parse::<ArtifactId>(pointer, id).map(|_| id.to_owned())
}

/// Makes the command from the artifact, the cascade id and the reason.
fn cascade_message(
    name: &'static str,
    action: Action,
    found: Findings,
    required: Option<((ArtifactId, String), String)>,
    source: Option<String>,
) -> Result<EventContent, InvalidData> {
    match required {
        Some(((artifact, cascade_id), reason)) if found.is_empty() => {
            let subject = Subject::Artifact(artifact);
            let request = CascadeRequest { action, subject, reason, source, cascade_id, cancel_running: false };
            Ok(EventContent::Cascade { name, request: Box::new(request) })
        }
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

/// A project is to be rolled back to a checkpoint.
#[derive(Deserialize, ToSchema)]
#[schema(as = RollbackRequestedData)]
pub(in crate::events) struct RollbackData {
    /// The id of the checkpoint.
    #[schema(value_type = CheckpointId)]
    checkpoint_id: Option<String>,
    /// The reason, in words. The service keeps the first 8192 bytes.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// The project of the checkpoint. Another project is refused.
    #[schema(value_type = Option<ProjectId>)]
    project_id: Option<String>,
    /// Whether to only report the effect, without a change. Default: false.
    dry_run: Option<bool>,
    /// Whether to submit tasks again that lose their results. Default: false.
    requeue: Option<bool>,
}

/// Reads the data of `rollback.requested`.
pub(in crate::events) fn read_rollback(data: Value) -> Result<EventContent, InvalidData> {
    let (data, mut found) = decode::<RollbackData>(data)?;
    let checkpoint = found.required("/data/checkpoint_id", data.checkpoint_id);
    let checkpoint: Option<CheckpointId> = checkpoint.and_then(|id| found.parse("/data/checkpoint_id", &id));
    let reason = found.required("/data/reason", data.reason).map(shorten_reason);
    let project: Option<ProjectId> = data.project_id.as_deref().and_then(|id| found.parse("/data/project_id", id));
    match checkpoint.zip(reason) {
        Some((checkpoint, reason)) if found.is_empty() => Ok(EventContent::Rollback(Box::new(RollbackRequest {
            checkpoint,
            project,
            reason,
            requeue: data.requeue.unwrap_or(false),
            dry_run: data.dry_run.unwrap_or(false),
        }))),
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(read: Result<EventContent, InvalidData>) -> Vec<String> {
        match read {
            Err(InvalidData::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_taint_and_a_suspicion_are_read() {
        let data = json!({"artifact_id": "a", "cascade_id": "c", "reason": "bad", "more": 1});
        let Ok(EventContent::Cascade { request, .. }) = read_taint("artifact.tainted", data) else { panic!() };
        assert_eq!((request.action, request.reason.as_str(), request.source), (Action::Taint, "bad", None));
        assert_eq!(request.subject, Subject::Artifact(ArtifactId::new("a").unwrap()));
        let data = json!({"artifact_id": "a", "cascade_id": "c", "source_id": "s"});
        let Ok(EventContent::Cascade { request, name }) = read_suspicion("artifact.suspect", data) else { panic!() };
        assert_eq!(
            (request.action, request.reason.as_str(), name),
            (Action::Mark, "suspect because of s", "artifact.suspect")
        );
        assert_eq!((request.source.as_deref(), request.cascade_id.as_str()), (Some("s"), "c"));
    }

    #[test]
    fn a_rollback_is_read() {
        let data = json!({"checkpoint_id": "c", "reason": "bad", "project_id": "p", "dry_run": true});
        let Ok(EventContent::Rollback(request)) = read_rollback(data) else { panic!() };
        assert!(request.dry_run && !request.requeue);
        assert_eq!(request.project, Some(ProjectId::new("p").unwrap()));
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(pointers(read_taint("t", json!({}))), ["/data/artifact_id", "/data/cascade_id", "/data/reason"]);
        assert_eq!(
            pointers(read_suspicion("s", json!({}))),
            ["/data/artifact_id", "/data/cascade_id", "/data/source_id"]
        );
        let data = json!({"artifact_id": "", "cascade_id": "a\u{1}", "source_id": "", "reason": 7});
        let mut found = pointers(read_taint("t", data));
        found.sort();
        assert_eq!(found, ["/data/artifact_id", "/data/cascade_id", "/data/reason", "/data/source_id"]);
        assert_eq!(pointers(read_rollback(json!({}))), ["/data/checkpoint_id", "/data/reason"]);
        let data = json!({"checkpoint_id": "", "reason": "r", "project_id": "", "dry_run": "no"});
        let mut found = pointers(read_rollback(data));
        found.sort();
        assert_eq!(found, ["/data/checkpoint_id", "/data/dry_run", "/data/project_id"]);
    }
}
