//! The data of events of the Cascade service: what is said of artifacts, and
//! rollbacks that are asked for.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::data::{InvalidData, shortened, typed};
use crate::engine::{CascadeRequest, Message, RollbackRequest, Subject};
use crate::json::Findings;
use crate::lineage::Action;
use crate::task::{ArtifactId, CheckpointId, ProjectId};

/// That an artifact is bad. Who used it becomes suspect.
#[derive(Deserialize, ToSchema)]
#[schema(as = ArtifactTaintedData)]
pub(super) struct TaintedData {
    /// The artifact.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// What all that follows from one cause is known by. At most 255 bytes, without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    cascade_id: Option<String>,
    /// Why, in words. The first 8192 bytes are kept.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// What it comes from: a record or an artifact that is known here. At most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    source_id: Option<String>,
}

/// That an artifact may be bad.
#[derive(Deserialize, ToSchema)]
#[schema(as = ArtifactSuspectData)]
pub(super) struct SuspectData {
    /// The artifact.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// What all that follows from one cause is known by. At most 255 bytes, without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    cascade_id: Option<String>,
    /// What it comes from: a record or an artifact that is known here. At most 255 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    source_id: Option<String>,
    /// Why, in words; without it, because of `source_id`. The first 8192 bytes are kept.
    reason: Option<String>,
}

/// `artifact.tainted`
pub(super) fn tainted(name: &'static str, data: Value) -> Result<Message, InvalidData> {
    let (data, mut found) = typed::<TaintedData>(data)?;
    let (artifact, cascade_id) = artifact_of(&mut found, data.artifact_id.as_deref(), data.cascade_id.as_deref());
    let reason = found.required("/data/reason", data.reason).map(shortened);
    let source = data.source_id.as_deref().and_then(|id| id_of_others(&mut found, "/data/source_id", id));
    said(name, Action::Taint, found, artifact.zip(cascade_id).zip(reason), source)
}

/// `artifact.suspect`
pub(super) fn suspect(name: &'static str, data: Value) -> Result<Message, InvalidData> {
    let (data, mut found) = typed::<SuspectData>(data)?;
    let (artifact, cascade_id) = artifact_of(&mut found, data.artifact_id.as_deref(), data.cascade_id.as_deref());
    let source = found.required("/data/source_id", data.source_id);
    let source = source.and_then(|id| id_of_others(&mut found, "/data/source_id", &id));
    let reason = source.as_ref().map(|source| format!("suspect because of {source}"));
    said(name, Action::Mark, found, artifact.zip(cascade_id).zip(data.reason.map(shortened).or(reason)), source)
}

fn artifact_of(
    found: &mut Findings,
    artifact_id: Option<&str>,
    cascade_id: Option<&str>,
) -> (Option<ArtifactId>, Option<String>) {
    let artifact = found.required("/data/artifact_id", artifact_id);
    let artifact = artifact.and_then(|id| found.parse("/data/artifact_id", id));
    let cascade_id = found.required("/data/cascade_id", cascade_id);
    (artifact, cascade_id.and_then(|id| id_of_others(found, "/data/cascade_id", id)))
}

/// Ids of others follow the same rules, whatever they name.
fn id_of_others(found: &mut Findings, pointer: &str, id: &str) -> Option<String> {
    found.parse::<ArtifactId>(pointer, id).map(|_| id.to_owned())
}

type Named = Option<((ArtifactId, String), String)>;

fn said(
    name: &'static str,
    action: Action,
    found: Findings,
    named: Named,
    source: Option<String>,
) -> Result<Message, InvalidData> {
    match named {
        Some(((artifact, cascade_id), reason)) if found.is_empty() => {
            let subject = Subject::Artifact(artifact);
            let request = CascadeRequest { action, subject, reason, source, cascade_id, cancel_running: false };
            Ok(Message::Cascade { name, request: Box::new(request) })
        }
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

/// That a project is to be rolled back to a checkpoint.
#[derive(Deserialize, ToSchema)]
#[schema(as = RollbackRequestedData)]
pub(super) struct RollbackData {
    /// The checkpoint.
    #[schema(value_type = CheckpointId)]
    checkpoint_id: Option<String>,
    /// Why, in words. The first 8192 bytes are kept.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// The project, which must be that of the checkpoint.
    #[schema(value_type = Option<ProjectId>)]
    project_id: Option<String>,
    /// Whether to change nothing; without it, false.
    dry_run: Option<bool>,
    /// Whether tasks that lose their results are made again; without it, false.
    requeue: Option<bool>,
}

/// `rollback.requested`
pub(super) fn rollback(data: Value) -> Result<Message, InvalidData> {
    let (data, mut found) = typed::<RollbackData>(data)?;
    let checkpoint = found.required("/data/checkpoint_id", data.checkpoint_id);
    let checkpoint: Option<CheckpointId> = checkpoint.and_then(|id| found.parse("/data/checkpoint_id", &id));
    let reason = found.required("/data/reason", data.reason).map(shortened);
    let project: Option<ProjectId> = data.project_id.as_deref().and_then(|id| found.parse("/data/project_id", id));
    match checkpoint.zip(reason) {
        Some((checkpoint, reason)) if found.is_empty() => Ok(Message::Rollback(Box::new(RollbackRequest {
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

    fn pointers(read: Result<Message, InvalidData>) -> Vec<String> {
        match read {
            Err(InvalidData::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_taint_and_a_suspicion_are_read() {
        let data = json!({"artifact_id": "a", "cascade_id": "c", "reason": "bad", "more": 1});
        let Ok(Message::Cascade { request, .. }) = tainted("artifact.tainted", data) else { panic!() };
        assert_eq!((request.action, request.reason.as_str(), request.source), (Action::Taint, "bad", None));
        assert_eq!(request.subject, Subject::Artifact(ArtifactId::new("a").unwrap()));
        let data = json!({"artifact_id": "a", "cascade_id": "c", "source_id": "s"});
        let Ok(Message::Cascade { request, name }) = suspect("artifact.suspect", data) else { panic!() };
        assert_eq!(
            (request.action, request.reason.as_str(), name),
            (Action::Mark, "suspect because of s", "artifact.suspect")
        );
        assert_eq!((request.source.as_deref(), request.cascade_id.as_str()), (Some("s"), "c"));
    }

    #[test]
    fn a_rollback_is_read() {
        let data = json!({"checkpoint_id": "c", "reason": "bad", "project_id": "p", "dry_run": true});
        let Ok(Message::Rollback(request)) = rollback(data) else { panic!() };
        assert!(request.dry_run && !request.requeue);
        assert_eq!(request.project, Some(ProjectId::new("p").unwrap()));
    }

    #[test]
    fn every_bad_field_is_named() {
        assert_eq!(pointers(tainted("t", json!({}))), ["/data/artifact_id", "/data/cascade_id", "/data/reason"]);
        assert_eq!(pointers(suspect("s", json!({}))), ["/data/artifact_id", "/data/cascade_id", "/data/source_id"]);
        let data = json!({"artifact_id": "", "cascade_id": "a\u{1}", "source_id": "", "reason": 7});
        let mut found = pointers(tainted("t", data));
        found.sort();
        assert_eq!(found, ["/data/artifact_id", "/data/cascade_id", "/data/reason", "/data/source_id"]);
        assert_eq!(pointers(rollback(json!({}))), ["/data/checkpoint_id", "/data/reason"]);
        let data = json!({"checkpoint_id": "", "reason": "r", "project_id": "", "dry_run": "no"});
        let mut found = pointers(rollback(data));
        found.sort();
        assert_eq!(found, ["/data/checkpoint_id", "/data/dry_run", "/data/project_id"]);
    }
}
