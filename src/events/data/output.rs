//! The event about the output of an attempt.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::contents::{self, NewArtifact};
use super::fields::{InvalidData, decode, finish, read_artifact, read_sender, read_task};
use crate::json::{self, Findings, Object};
use crate::task::{
    ArtifactId, Correlation, InvalidTime, LeaseId, MAX_OUTPUT_ARTIFACTS, Output, OutputArtifact, Report, TaskId,
    Timestamp, WorkerId,
};

/// A worker has produced an output of a task.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskOutputCreatedData)]
pub(in crate::events) struct OutputData {
    /// The id of the task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The artifact of the output. Verdicts name this id.
    #[schema(value_type = ArtifactId)]
    artifact_id: Option<String>,
    /// The output.
    #[schema(value_type = Option<OutputBody>)]
    output: Option<Object<OutputBody>>,
    /// The artifacts that the worker used. The service need not know them.
    #[schema(value_type = Option<Vec<ArtifactId>>, max_items = 1024)]
    inputs_consumed: Option<Vec<String>>,
    /// The model that produced the output.
    model_used: Option<String>,
    /// The worker that produced the output.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease of the attempt, if the worker has one. It takes precedence over `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
    /// The number of tokens that the model read.
    tokens_input: Option<u64>,
    /// The number of tokens that the model wrote.
    tokens_output: Option<u64>,
    /// The execution time, in milliseconds.
    execution_time_ms: Option<u64>,
    /// The confidence of the model, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// The start of the work: an RFC 3339 time, or the same without an offset for UTC.
    #[schema(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
    )]
    started_at: Option<String>,
    /// The number of the attempt, as in `task.ready`, from 1. Default: the current attempt.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
}

/// The content and the artifacts of an output.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = OutputBody)]
struct OutputBody {
    /// The content of the artifact that `artifact_id` names.
    content: Option<String>,
    /// The artifacts of the output.
    #[schema(value_type = Option<Vec<ArtifactData>>, max_items = 1024)]
    artifacts: Option<Vec<Object<ArtifactData>>>,
}

/// An artifact of an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = OutputArtifact)]
struct ArtifactData {
    /// The id of the artifact.
    #[schema(value_type = ArtifactId)]
    id: Option<String>,
    /// The kind of artifact, such as `code`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The location of the artifact.
    path: Option<String>,
    /// The location of the artifact, if there is no `path`.
    location: Option<String>,
    /// The programming language, such as `python`.
    language: Option<String>,
    /// The checksum of the content. A SHA-256 (64 hexadecimal digits, with or without the prefix
    /// `sha256:`) must match the content if both are given.
    checksum: Option<String>,
    /// The size of the content, in bytes.
    size_bytes: Option<u64>,
    /// The content. Two contents of one artifact must be equal.
    content: Option<String>,
}

pub(super) fn read_output(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = decode::<OutputData>(data)?;
    let task = read_task(&mut found, data.task_id.as_deref(), true);
    let artifact = read_artifact(&mut found, data.artifact_id.as_deref(), true);
    if let Some(confidence) = data.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
        found.add("/data/confidence", format!("must be from 0 to 1, was {confidence}"));
    }
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let started_at = data.started_at.as_deref().and_then(|text| read_start(&mut found, text));
    let sender = read_sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let Object(body) = data.output.unwrap_or_default();
    let mut artifacts = read_artifacts(&mut found, body.artifacts.unwrap_or_default());
    let contents = contents::collect(&mut found, artifact.as_ref(), body.content, &mut artifacts);
    let inputs = data.inputs_consumed.unwrap_or_default();
    let inputs = read_inputs(&mut found, &inputs);
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

/// Checks the length of a list, whose entries are all indexed.
fn check_length(found: &mut Findings, pointer: &str, what: &str, count: usize) {
    if count > MAX_OUTPUT_ARTIFACTS {
        found.add(pointer, format!("must have at most {MAX_OUTPUT_ARTIFACTS} {what}, had {count}"));
    }
}

fn read_inputs(found: &mut Findings, ids: &[String]) -> Vec<ArtifactId> {
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

fn read_artifacts(found: &mut Findings, artifacts: Vec<Object<ArtifactData>>) -> Vec<NewArtifact> {
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

/// Reads the start of the work. The workers of the old program send UTC times without an offset.
fn read_start(found: &mut Findings, text: &str) -> Option<Timestamp> {
    let time: Result<Timestamp, InvalidTime> = text.parse().or_else(|_| format!("{text}Z").parse());
    time.map_err(|error| found.add("/data/started_at", format!("{error}, was {}", json::quoted(text)))).ok()
}
