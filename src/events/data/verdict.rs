//! What QA says of an output.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{InvalidData, artifact, finish, shortened, task, typed};
use crate::task::{ArtifactId, Correlation, Decision, Report, TaskId, Verdict};

/// That an output is good.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskValidatedData)]
pub(in crate::events) struct ValidatedData {
    /// The task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The output.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// How good it is, on the scale of who says so.
    #[schema(value_type = f64)]
    score: Option<f64>,
    /// What could be better: texts or objects. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    issues: Option<Vec<Value>>,
    /// Why, in words. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    reason: Option<String>,
    /// The name of this verdict. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    validation_id: Option<IgnoredAny>,
    /// Who has looked at it. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    validators: Option<IgnoredAny>,
    /// The checks that it was held against. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    profile: Option<IgnoredAny>,
}

/// That an output is not good enough.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskRejectedData)]
pub(in crate::events) struct RejectedData {
    /// The task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The output.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// What is wrong with it, possibly nothing: texts, or objects with their text in `message`,
    /// `description`, `text` or `issue`. The next attempt is told.
    #[schema(value_type = Vec<Value>)]
    issues: Option<Vec<Value>>,
    /// How good it is, on the scale of who says so. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    score: Option<f64>,
    /// Why, in words; without it the first of `issues`. A task keeps the first 8192 bytes.
    reason: Option<String>,
    /// The name of this verdict. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    validation_id: Option<IgnoredAny>,
    /// Who has looked at it. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    validators: Option<IgnoredAny>,
    /// The checks that it was held against. Kept with the record.
    #[expect(dead_code, reason = "it is kept as it came")]
    #[schema(value_type = Value, required = false)]
    profile: Option<IgnoredAny>,
}

pub(super) fn validated(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = details(&data);
    let (data, mut found) = typed::<ValidatedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    let artifact = artifact(&mut found, data.artifact_id.as_deref(), true);
    found.required("/data/score", data.score);
    let (task, artifact) = finish(found, task, artifact)?;
    Ok(verdict(task, artifact, Decision::Validated, details))
}

pub(super) fn rejected(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = details(&data);
    let (data, mut found) = typed::<RejectedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    let artifact = artifact(&mut found, data.artifact_id.as_deref(), true);
    let issues = found.required("/data/issues", data.issues).unwrap_or_default();
    let (task, artifact) = finish(found, task, artifact)?;
    let reason = data.reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.or_else(|| issues.first().map(issue_text));
    let reason = shortened(reason.unwrap_or_else(|| "the output was rejected; no issue was named".to_owned()));
    Ok(verdict(task, artifact, Decision::Rejected { reason }, details))
}

fn verdict(task: Option<TaskId>, artifact: ArtifactId, decision: Decision, details: String) -> (Correlation, Report) {
    let correlation = Correlation { task, artifact: Some(artifact.clone()), review: None };
    (correlation, Report::Verdict(Verdict { artifact, decision, details }))
}

/// What the record's `verification` keeps of a verdict, as JSON text.
fn details(data: &Value) -> String {
    const KEPT: [&str; 6] = ["score", "profile", "validators", "issues", "validation_id", "reason"];
    let kept = KEPT.into_iter().filter_map(|key| Some((key.to_owned(), data.get(key)?.clone())));
    Value::Object(kept.collect::<Map<_, _>>()).to_string()
}

/// Issues are texts, or objects that have their text under one of the usual
/// names.
fn issue_text(issue: &Value) -> String {
    let named = ["message", "description", "text", "issue"].into_iter().find_map(|key| issue.get(key)?.as_str());
    named.or_else(|| issue.as_str()).map_or_else(|| issue.to_string(), str::to_owned)
}
