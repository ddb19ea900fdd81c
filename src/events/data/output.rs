//! What a worker has made.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{InvalidData, artifact, finish, sender, task, typed};
use crate::events::contents::{self, Carried};
use crate::json::{self, Findings, Object};
use crate::task::{
    ArtifactId, Correlation, InvalidTime, LeaseId, MAX_OUTPUT_ARTIFACTS, Output, OutputArtifact, Report, TaskId,
    Timestamp, WorkerId,
};

/// What a worker has made of a task.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskOutputCreatedData)]
pub(in crate::events) struct OutputData {
    /// The task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// What was made: verdicts name it.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The output itself.
    #[schema(value_type = Option<OutputBody>)]
    output: Option<Object<OutputBody>>,
    /// Artifacts that it was made of. They may be of any origin, also unknown here.
    #[schema(value_type = Option<Vec<ArtifactId>>, max_items = 1024)]
    inputs_consumed: Option<Vec<String>>,
    /// The model that made it.
    model_used: Option<String>,
    /// Who made it.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease under which it was made, where there is one: it tells more than `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
    /// Tokens that the model read.
    tokens_input: Option<u64>,
    /// Tokens that the model wrote.
    tokens_output: Option<u64>,
    /// How long it took, in milliseconds.
    execution_time_ms: Option<u64>,
    /// How sure the model is, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// When the worker began: RFC 3339, or the same without an offset, which means UTC.
    #[schema(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
    )]
    started_at: Option<String>,
    /// The attempt, as `task.ready` said, from 1; without it the one under way.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
}

/// An output.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = OutputBody)]
struct OutputBody {
    /// The content of the artifact that `artifact_id` names.
    content: Option<String>,
    /// All artifacts of it.
    #[schema(value_type = Option<Vec<ArtifactData>>, max_items = 1024)]
    artifacts: Option<Vec<Object<ArtifactData>>>,
}

/// An artifact of an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = OutputArtifact)]
struct ArtifactData {
    /// Its id.
    #[schema(value_type = ArtifactId)]
    id: Option<String>,
    /// What it is, such as `code`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Where it is.
    path: Option<String>,
    /// The same, where there is no `path`.
    location: Option<String>,
    /// The language it is in, such as `python`.
    language: Option<String>,
    /// A checksum of its content. A SHA-256 (64 hexadecimal digits, with `sha256:` in front or
    /// not) is held against a content that is given, and must be its own.
    checksum: Option<String>,
    /// How large it is, in bytes.
    size_bytes: Option<u64>,
    /// Its content. Two contents of one artifact must be the same.
    content: Option<String>,
}

pub(super) fn output(data: Value) -> Result<(Correlation, Report), InvalidData> {
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
    let sender = sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let Object(body) = data.output.unwrap_or_default();
    let mut artifacts = artifacts(&mut found, body.artifacts.unwrap_or_default());
    let contents = contents::contents(&mut found, artifact.as_ref(), body.content, &mut artifacts);
    let inputs = data.inputs_consumed.unwrap_or_default();
    let inputs = consumed(&mut found, &inputs);
    let (task, artifact) = finish(found, task, artifact)?;
    let report = Report::Output(Box::new(Output {
        artifact: artifact.clone(),
        attempt: data.attempt,
        contents,
        artifacts: artifacts.into_iter().map(|(_, artifact, _)| artifact).collect(),
        inputs_consumed: inputs,
        model_used: data.model_used,
        sender,
        tokens_input: data.tokens_input,
        tokens_output: data.tokens_output,
        execution_time_ms: data.execution_time_ms,
        confidence: data.confidence,
        started_at,
    }));
    Ok((Correlation { task, artifact: Some(artifact), review: None }, report))
}

/// Finds fault with a list that is too long: each entry of it is indexed.
fn check_length(found: &mut Findings, pointer: &str, what: &str, count: usize) {
    if count > MAX_OUTPUT_ARTIFACTS {
        found.add(pointer, format!("must have at most {MAX_OUTPUT_ARTIFACTS} {what}, had {count}"));
    }
}

fn consumed(found: &mut Findings, ids: &[String]) -> Vec<ArtifactId> {
    check_length(found, "/data/inputs_consumed", "ids", ids.len());
    let mut inputs = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        inputs.extend(found.parse::<ArtifactId>(&format!("/data/inputs_consumed/{index}"), id));
        if found.is_full() {
            break;
        }
    }
    inputs
}

fn artifacts(found: &mut Findings, artifacts: Vec<Object<ArtifactData>>) -> Vec<Carried> {
    check_length(found, "/data/output/artifacts", "artifacts", artifacts.len());
    let checked = artifacts.into_iter().enumerate().filter_map(|(index, Object(data))| {
        if found.is_full() {
            return None;
        }
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
