//! The data of events that are taken, by type: from JSON to a [`Report`].

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::contents::{self, Carried};
use crate::json::{self, FieldError, Findings, Object};
use crate::task::{
    ArtifactId, Correlation, Decision, Failure, InvalidTime, Output, OutputArtifact, Report, Review, ReviewDecision,
    ReviewId, ReviewRequest, Started, TaskId, Timestamp, Verdict,
};

/// Longest reason that a task keeps, in bytes; the event itself keeps all.
const MAX_REASON_BYTES: usize = 8 * 1024;

/// Why data is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidData {
    Fields(Vec<FieldError>),
    UnknownTask(String),
}

/// Checks the data of an event of this name.
pub(super) fn read(name: &str, data: Value) -> Result<(Correlation, Report), InvalidData> {
    match name {
        "task.started" => started(data),
        "task.output.created" => output(data),
        "task.validated" => validated(data),
        "task.rejected" => rejected(data),
        "task.failed" => failed(data),
        "review.requested" => review_requested(data),
        _ => review_completed(data),
    }
}

#[derive(Deserialize)]
struct OutputData {
    task_id: Option<String>,
    artifact_id: Option<String>,
    output: Option<Object<OutputBody>>,
    inputs_consumed: Option<Vec<String>>,
    model_used: Option<String>,
    worker_id: Option<String>,
    tokens_input: Option<u64>,
    tokens_output: Option<u64>,
    execution_time_ms: Option<u64>,
    confidence: Option<f64>,
    started_at: Option<String>,
    attempt: Option<u32>,
}

#[derive(Default, Deserialize)]
struct OutputBody {
    content: Option<String>,
    artifacts: Option<Vec<Object<ArtifactData>>>,
}

#[derive(Deserialize)]
struct ArtifactData {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    path: Option<String>,
    location: Option<String>,
    language: Option<String>,
    checksum: Option<String>,
    size_bytes: Option<u64>,
    content: Option<String>,
}

fn output(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<OutputData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    let artifact = artifact(&mut found, data.artifact_id.as_deref(), true);
    if let Some(confidence) = data.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
        found.add("/data/confidence", format!("must be from 0 to 1, was {confidence}"));
    }
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let started_at = data.started_at.as_deref().and_then(|text| started_at(&mut found, text));
    let worker = data.worker_id.as_deref().and_then(|id| found.parse("/data/worker_id", id));
    let Object(body) = data.output.unwrap_or_default();
    let mut artifacts = artifacts(&mut found, body.artifacts.unwrap_or_default());
    let contents = contents::contents(&mut found, artifact.as_ref(), body.content, &mut artifacts);
    let inputs = data.inputs_consumed.unwrap_or_default();
    let inputs = inputs.iter().enumerate();
    let inputs: Vec<Option<ArtifactId>> =
        inputs.map(|(index, id)| found.parse(&format!("/data/inputs_consumed/{index}"), id)).collect();
    let (task, artifact) = finish(found, task, artifact)?;
    let report = Report::Output(Box::new(Output {
        artifact: artifact.clone(),
        attempt: data.attempt,
        contents,
        artifacts: artifacts.into_iter().map(|(_, artifact, _)| artifact).collect(),
        inputs_consumed: inputs.into_iter().flatten().collect(),
        model_used: data.model_used,
        worker,
        tokens_input: data.tokens_input,
        tokens_output: data.tokens_output,
        execution_time_ms: data.execution_time_ms,
        confidence: data.confidence,
        started_at,
    }));
    Ok((Correlation { task, artifact: Some(artifact), review: None }, report))
}

fn artifacts(found: &mut Findings, artifacts: Vec<Object<ArtifactData>>) -> Vec<Carried> {
    let checked = artifacts.into_iter().enumerate().filter_map(|(index, Object(data))| {
        let pointer = format!("/data/output/artifacts/{index}/id");
        let id = found.required(&pointer, data.id)?;
        let artifact = OutputArtifact {
            id: found.parse(&pointer, &id)?,
            kind: data.kind,
            path: data.path.or(data.location),
            language: data.language,
            checksum: data.checksum,
            size_bytes: data.size_bytes,
        };
        Some((index, artifact, data.content))
    });
    checked.collect()
}

/// Workers come from a program that wrote times without an offset and meant
/// UTC.
fn started_at(found: &mut Findings, text: &str) -> Option<Timestamp> {
    let time: Result<Timestamp, InvalidTime> = text.parse().or_else(|_| format!("{text}Z").parse());
    time.map_err(|error| found.add("/data/started_at", format!("{error}, was {}", json::quoted(text)))).ok()
}

#[derive(Deserialize)]
struct VerdictData {
    task_id: Option<String>,
    artifact_id: Option<String>,
    score: Option<f64>,
    issues: Option<Vec<Value>>,
    reason: Option<String>,
}

fn validated(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = details(&data);
    let (data, mut found) = typed::<VerdictData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    let artifact = artifact(&mut found, data.artifact_id.as_deref(), true);
    found.required("/data/score", data.score);
    let (task, artifact) = finish(found, task, artifact)?;
    Ok(verdict(task, artifact, Decision::Validated, details))
}

fn rejected(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let details = details(&data);
    let (data, mut found) = typed::<VerdictData>(data)?;
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

#[derive(Deserialize)]
struct FailedData {
    task_id: Option<String>,
    error: Option<String>,
    retryable: Option<bool>,
    attempt: Option<u32>,
    worker_id: Option<String>,
}

fn failed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<FailedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let worker = data.worker_id.as_deref().and_then(|id| found.parse("/data/worker_id", id));
    let error = found.required("/data/error", data.error);
    let (task, error) = finish(found, task, error)?;
    let failure =
        Failure { error: shortened(error), retryable: data.retryable.unwrap_or(true), attempt: data.attempt, worker };
    Ok((Correlation { task, artifact: None, review: None }, Report::Failed(failure)))
}

#[derive(Deserialize)]
struct StartedData {
    task_id: Option<String>,
    attempt: Option<u32>,
    worker_id: Option<String>,
}

fn started(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<StartedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let worker = data.worker_id.as_deref().and_then(|id| found.parse("/data/worker_id", id));
    let (task, ()) = finish(found, task, Some(()))?;
    let report = Report::Started(Started { attempt: data.attempt, worker });
    Ok((Correlation { task, artifact: None, review: None }, report))
}

#[derive(Deserialize)]
struct ReviewData {
    review_id: Option<String>,
    reason: Option<String>,
    priority: Option<IgnoredAny>,
    decision: Option<String>,
    reviewer_id: Option<String>,
    task_id: Option<String>,
    artifact_id: Option<String>,
    comments: Option<String>,
}

fn review_requested(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<ReviewData>(data)?;
    let (task, artifact, review) = review_of(&mut found, &data);
    let reason = found.required("/data/reason", data.reason);
    found.required("/data/priority", data.priority);
    let (task, (review, reason)) = finish(found, task, review.zip(reason))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let request = ReviewRequest { review, reason: shortened(reason), artifact };
    Ok((correlation, Report::ReviewRequested(request)))
}

fn review_completed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<ReviewData>(data)?;
    let (task, artifact, review) = review_of(&mut found, &data);
    let decision = found.required("/data/decision", data.decision).and_then(|word| decision(&mut found, &word));
    let reviewer = found.required("/data/reviewer_id", data.reviewer_id);
    let (task, (review, decision)) = finish(found, task, review.zip(decision))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let comments = data.comments.map(shortened);
    Ok((correlation, Report::ReviewCompleted(Review { review, decision, reviewer, artifact, comments })))
}

type ReviewOf = (Result<Option<TaskId>, InvalidData>, Option<ArtifactId>, Option<ReviewId>);

fn review_of(found: &mut Findings, data: &ReviewData) -> ReviewOf {
    let task = task(found, data.task_id.as_deref(), false);
    let artifact = artifact(found, data.artifact_id.as_deref(), false);
    let review = found.required("/data/review_id", data.review_id.as_deref());
    let review = review.and_then(|id| found.parse("/data/review_id", id));
    (task, artifact, review)
}

fn decision(found: &mut Findings, word: &str) -> Option<ReviewDecision> {
    let all = [ReviewDecision::Approved, ReviewDecision::Rejected, ReviewDecision::ChangesRequested];
    let decision = all.into_iter().find(|decision| decision.as_str() == word);
    if decision.is_none() {
        let message = format!("must be one of approved, rejected, changes_requested, was {}", json::quoted(word));
        found.add("/data/decision", message);
    }
    decision
}

pub(super) fn typed<T: DeserializeOwned>(data: Value) -> Result<(T, Findings), InvalidData> {
    match json::from_value_all(data, "/data") {
        (Some(typed), errors) => Ok((typed, Findings::from_errors(errors))),
        (None, errors) => Err(InvalidData::Fields(errors)),
    }
}

/// A text that is no UUID names a task that can't exist, and is no bad field.
fn task(found: &mut Findings, id: Option<&str>, required: bool) -> Result<Option<TaskId>, InvalidData> {
    let id = if required { found.required("/data/task_id", id) } else { id };
    match id {
        Some(id) => id.parse().map(Some).map_err(|_| InvalidData::UnknownTask(id.to_owned())),
        None => Ok(None),
    }
}

fn artifact(found: &mut Findings, id: Option<&str>, required: bool) -> Option<ArtifactId> {
    let id = if required { found.required("/data/artifact_id", id) } else { id };
    found.parse("/data/artifact_id", id?)
}

/// Bad fields come first, then a task that can't exist.
fn finish<T>(
    found: Findings,
    task: Result<Option<TaskId>, InvalidData>,
    rest: Option<T>,
) -> Result<(Option<TaskId>, T), InvalidData> {
    match rest {
        Some(rest) if found.is_empty() => Ok((task?, rest)),
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

pub(super) fn shortened(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn pointers(name: &str, data: Value) -> Vec<String> {
        match read(name, data) {
            Err(InvalidData::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_output_is_read_whole() {
        let data = json!({
            "task_id": TASK, "artifact_id": "a", "inputs_consumed": ["i"], "model_used": "m", "worker_id": "w",
            "tokens_input": 1, "tokens_used": 9, "execution_time_ms": 5, "confidence": 0.5, "attempt": 2,
            "started_at": "2026-01-09T18:00:00.5", "project_id": 7,
            "output": {"content": "x", "artifacts": [{"id": "a", "type": "code", "location": "f.py", "size_bytes": 3}]},
        });
        let (correlation, report) = read("task.output.created", data).unwrap();
        assert_eq!(correlation.artifact, Some(ArtifactId::new("a").unwrap()));
        let Report::Output(output) = report else { panic!("{report:?}") };
        assert_eq!(output.artifacts[0].path.as_deref(), Some("f.py"));
        assert_eq!(output.tokens_output, None);
        assert_eq!(output.started_at.unwrap().to_string(), "2026-01-09T18:00:00.5Z");
        assert!(read("task.output.created", json!({"task_id": TASK, "artifact_id": "a"})).is_ok());
    }

    #[test]
    fn contents_are_held_against_their_checksums() {
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let output = |artifacts: Value| {
            let output = json!({"content": "hello", "artifacts": artifacts});
            json!({"task_id": TASK, "artifact_id": "a", "output": output})
        };
        let good = json!([
            {"id": "a", "checksum": hello}, {"id": "b", "content": "hello", "checksum": format!("sha256:{hello}")},
            {"id": "c", "checksum": hello.replace('2', "3")}, {"id": "d", "content": "", "checksum": "md5:x"},
            {"id": "a", "content": "hello"},
        ]);
        let Report::Output(read_output) = read("task.output.created", output(good)).unwrap().1 else { panic!() };
        let texts: Vec<_> = read_output.contents.iter().map(|(id, it)| (id.as_str(), it.text().unwrap())).collect();
        assert_eq!(texts, [("a", "hello"), ("b", "hello"), ("d", "")]);
        let wrong = hello.replace('2', "3");
        let bad = json!([
            {"id": "a", "checksum": wrong}, {"id": "b", "content": "x", "checksum": format!("sha256:{wrong}")},
            {"id": "a", "content": "other"},
        ]);
        let expected = [
            "/data/output/artifacts/2/content",
            "/data/output/artifacts/0/checksum",
            "/data/output/artifacts/1/checksum",
        ];
        assert_eq!(pointers("task.output.created", output(bad)), expected);
    }

    #[test]
    fn every_bad_field_of_an_output_is_named() {
        let data = json!({
            "task_id": 5, "confidence": 1.5, "attempt": 0, "started_at": "x", "worker_id": "", "tokens_input": -1,
            "inputs_consumed": ["ok", ""], "output": {"artifacts": [{"type": "code"}, {"id": "a\u{7}"}]},
        });
        let mut found = pointers("task.output.created", data);
        found.sort();
        let mut expected = [
            "/data/task_id",
            "/data/artifact_id",
            "/data/confidence",
            "/data/attempt",
            "/data/started_at",
            "/data/worker_id",
            "/data/tokens_input",
            "/data/inputs_consumed/1",
            "/data/output/artifacts/0/id",
            "/data/output/artifacts/1/id",
        ];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn required_fields_are_required() {
        assert_eq!(pointers("task.validated", json!({})), ["/data/task_id", "/data/artifact_id", "/data/score"]);
        assert_eq!(pointers("task.rejected", json!({})), ["/data/task_id", "/data/artifact_id", "/data/issues"]);
        assert_eq!(pointers("task.failed", json!({})), ["/data/task_id", "/data/error"]);
        assert_eq!(pointers("review.requested", json!({})), ["/data/review_id", "/data/reason", "/data/priority"]);
        let completed = pointers("review.completed", json!({"decision": "maybe"}));
        assert_eq!(completed, ["/data/review_id", "/data/decision", "/data/reviewer_id"]);
    }

    #[test]
    fn a_rejection_says_why() {
        let reason = |data: Value| match read("task.rejected", data).unwrap().1 {
            Report::Verdict(Verdict { decision: Decision::Rejected { reason }, details, .. }) => (reason, details),
            other => panic!("{other:?}"),
        };
        let base = json!({"task_id": TASK, "artifact_id": "a", "issues": [{"message": "no tests"}], "score": 0.1});
        assert_eq!(
            reason(base.clone()),
            ("no tests".to_owned(), r#"{"score":0.1,"issues":[{"message":"no tests"}]}"#.to_owned())
        );
        let with = |key: &str, value: Value| {
            let mut data = base.clone();
            data[key] = value;
            reason(data).0
        };
        assert_eq!(with("reason", json!("bad style")), "bad style");
        assert_eq!(with("issues", json!(["first", "second"])), "first");
        assert_eq!(with("issues", json!([7])), "7");
        assert!(with("issues", json!([])).contains("no issue was named"));
        assert_eq!(with("reason", json!("ä".repeat(5000))).chars().count(), 4097);
    }

    #[test]
    fn reviews_need_no_task() {
        let data = json!({"review_id": "r", "decision": "changes_requested", "reviewer_id": "ann"});
        let (correlation, report) = read("review.completed", data).unwrap();
        assert_eq!(correlation.task, None);
        assert!(matches!(report, Report::ReviewCompleted(Review { decision: ReviewDecision::ChangesRequested, .. })));
        let unknown = read("review.requested", json!({"review_id": "r", "reason": "x", "priority": 1, "task_id": "t"}));
        assert_eq!(unknown, Err(InvalidData::UnknownTask("t".to_owned())));
    }
}
