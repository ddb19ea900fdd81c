//! The verdicts of QA about outputs.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::fields::{InvalidData, decode, finish, read_artifact, read_task, shorten_reason};
use crate::task::{ArtifactId, Correlation, Decision, Report, TaskId, Verdict};

/// QA has accepted an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskValidatedData)]
pub(in crate::events) struct ValidatedData {
    /// The id of the task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The artifact of the output.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The score, on the scale of the sender.
    #[schema(value_type = f64)]
    score: Option<f64>,
    /// Possible improvements: texts or objects. The record keeps them.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    issues: Option<Vec<Value>>,
    /// The reason for the verdict, in words. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    reason: Option<String>,
    /// The id of the verdict. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    validation_id: Option<IgnoredAny>,
    /// The validators of the output. The record keeps them.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    validators: Option<IgnoredAny>,
    /// The profile of checks. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    profile: Option<IgnoredAny>,
}

/// QA has rejected an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskRejectedData)]
pub(in crate::events) struct RejectedData {
    /// The id of the task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The artifact of the output.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The faults of the output, possibly none: texts, or objects with their text in `message`,
    /// `description`, `text` or `issue`. The next attempt receives them.
    #[schema(value_type = Vec<Value>)]
    issues: Option<Vec<Value>>,
    /// The score, on the scale of the sender. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    score: Option<f64>,
    /// The reason for the verdict, in words. Default: the first of `issues`. The task keeps the
    /// first 8192 bytes.
    reason: Option<String>,
    /// The id of the verdict. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    validation_id: Option<IgnoredAny>,
    /// The validators of the output. The record keeps them.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    validators: Option<IgnoredAny>,
    /// The profile of checks. The record keeps it.
    #[expect(dead_code, reason = "the record keeps the field unchanged")]
    #[schema(value_type = Value, required = false)]
    profile: Option<IgnoredAny>,
}

pub(super) fn read_validated(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = kept_fields(&data);
    let (data, mut found) = decode::<ValidatedData>(data)?;
    let task = read_task(&mut found, data.task_id.as_deref(), true);
    let artifact = read_artifact(&mut found, data.artifact_id.as_deref(), true);
    found.required("/data/score", data.score);
    let (task, artifact) = finish(found, task, artifact)?;
    Ok(verdict(task, artifact, Decision::Validated, details))
}

pub(super) fn read_rejected(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = kept_fields(&data);
    let (data, mut found) = decode::<RejectedData>(data)?;
    let task = read_task(&mut found, data.task_id.as_deref(), true);
    let artifact = read_artifact(&mut found, data.artifact_id.as_deref(), true);
    let issues = found.required("/data/issues", data.issues).unwrap_or_default();
    let (task, artifact) = finish(found, task, artifact)?;
    let reason = data.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.or_else(|| issues.first().map(issue_text));
    let reason = shorten_reason(reason.unwrap_or_else(|| "the output was rejected; no issue was named".to_owned()));
    Ok(verdict(task, artifact, Decision::Rejected { reason }, details))
}

fn verdict(task: Option<TaskId>, artifact: ArtifactId, decision: Decision, details: String) -> (Correlation, Report) {
    let correlation = Correlation { task, artifact: Some(artifact.clone()), review: None };
    (correlation, Report::Verdict(Verdict { artifact, decision, details }))
}

/// Returns the fields of a verdict that the record keeps in `verification`, as JSON text.
fn kept_fields(data: &Value) -> String {
    const KEPT: [&str; 6] = ["score", "profile", "validators", "issues", "validation_id", "reason"];
    let kept = KEPT.into_iter().filter_map(|key| Some((key.to_owned(), data.get(key)?.clone())));
    Value::Object(kept.collect::<Map<_, _>>()).to_string()
}

/// Returns the text of an issue, which is the text itself or a usual field of an object.
fn issue_text(issue: &Value) -> String {
    let named = ["message", "description", "text", "issue"].into_iter().find_map(|key| issue.get(key)?.as_str());
    named.or_else(|| issue.as_str()).map_or_else(|| issue.to_string(), str::to_owned)
}
