//! `GET /provenance/{id}`: a record, by its id or by the id of an artifact that it made.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::engine::Engine;
use crate::http::api::app::Call;
use crate::http::api::provenance::graph;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::lineage::{Fact, Flag, RecordState, Relationship};
use crate::store::{Record, RecordInput, RecordOutput};
use crate::task::{ArtifactId, Domain, ProjectId, RecordId, RecordStatus, Tier, Timestamp, WorkerId, hex};

/// A provenance record. The fields have the names of the columns of the old program.
#[derive(Serialize, ToSchema)]
#[schema(as = Record)]
pub(in crate::http) struct RecordWire<'a> {
    /// The id of the record.
    id: RecordId,
    /// The task that made the record. Of an imported record, this is the text that the import gave, or null.
    #[schema(value_type = Option<String>)]
    task_id: Option<Cow<'a, str>>,
    /// The id of its project.
    project_id: &'a ProjectId,
    /// The attempt of the task; null for an imported record.
    attempt: Option<u32>,
    /// The verdict on the record.
    #[schema(value_type = RecordStatus)]
    status: &'static str,
    /// The model that the worker named.
    model_used: Option<&'a str>,
    /// The worker that made the record.
    worker_id: Option<&'a WorkerId>,
    /// The tier of the worker.
    tier: Option<&'a Tier>,
    /// The domain of the work.
    domain: Option<&'a Domain>,
    /// When the record was made.
    created_at: Time,
    /// When the work started.
    started_at: Option<Time>,
    /// When the work ended.
    completed_at: Option<Time>,
    /// The number of input tokens.
    tokens_input: Option<u64>,
    /// The number of output tokens.
    tokens_output: Option<u64>,
    /// The duration of the work, in milliseconds.
    execution_time_ms: Option<u64>,
    /// The confidence of the worker in its output.
    confidence: Option<f64>,
    /// The artifacts that the record made.
    outputs: Vec<OutputWire<'a>>,
    /// The artifacts that were used.
    inputs_consumed: Vec<&'a ArtifactId>,
    /// The artifacts that were used or offered, with their relationship.
    inputs: Vec<InputWire<'a>>,
    /// The details of the verdict by QA.
    #[schema(value_type = Option<Object>)]
    verification: Option<&'a RawValue>,
    /// Whether the record is tainted.
    is_tainted: bool,
    /// When the record was tainted.
    tainted_at: Option<Time>,
    /// Why the record was tainted.
    tainted_reason: Option<&'a str>,
    /// Whether the record is suspect.
    is_suspect: bool,
    /// The taint and the suspicion in one word.
    flag: Flag,
    /// The original id of an imported record.
    imported_as: Option<&'a str>,
}

/// The flag of a record, with the taint behind it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Standing {
    pub(in crate::http) flag: Flag,
    pub(in crate::http) tainted_at: Option<Timestamp>,
    pub(in crate::http) tainted_reason: Option<String>,
}

impl Standing {
    /// Returns the standing of a record whose row is at hand, with the taint that an imported record brought.
    pub(in crate::http) async fn of_record(
        engine: &Engine,
        known: &RecordState,
        record: &Record,
    ) -> Result<Self, Problem> {
        if let Some(Fact::Tainted(step)) = known.fact
            && let Some(taint) = record.taint_brought_in(step)
        {
            // The taint was imported. Only what the import said about it is known.
            return Ok(Self { flag: known.flag, tainted_at: taint.at, tainted_reason: taint.reason.clone() });
        }
        Self::of(engine, known).await
    }

    /// Returns the standing of a record of the graph.
    pub(in crate::http) async fn of(engine: &Engine, known: &RecordState) -> Result<Self, Problem> {
        let taint = match known.fact {
            Some(Fact::Tainted(step)) => engine.provenance().cascade_row(step).await?,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => None,
        };
        let (tainted_at, tainted_reason) = taint.map(|row| (row.at, row.reason)).unzip();
        Ok(Self { flag: known.flag, tainted_at, tainted_reason })
    }
}

/// An artifact that a record made.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordOutput)]
pub(in crate::http) struct OutputWire<'a> {
    /// The id of the artifact.
    artifact_id: &'a ArtifactId,
    /// The type that the worker gave.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// The location that the worker gave.
    location: Option<&'a str>,
    /// The language that the worker gave.
    language: Option<&'a str>,
    /// The checksum that the worker gave.
    checksum: Option<&'a str>,
    /// The size in bytes.
    size_bytes: Option<u64>,
    /// The SHA-256 of the content, in hexadecimal; null if the content is not stored here.
    content_sha256: Option<String>,
}

impl<'a> OutputWire<'a> {
    fn new(output: &'a RecordOutput) -> Self {
        let artifact = &output.artifact;
        Self {
            artifact_id: &artifact.id,
            kind: artifact.kind.as_deref(),
            location: artifact.path.as_deref(),
            language: artifact.language.as_deref(),
            checksum: artifact.checksum.as_deref(),
            size_bytes: artifact.size_bytes,
            content_sha256: output.content.as_ref().map(hex),
        }
    }
}

/// An artifact that a record used or was offered.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordInput)]
pub(in crate::http) struct InputWire<'a> {
    /// The id of the artifact.
    artifact_id: &'a ArtifactId,
    /// How the artifact was used.
    relationship: Relationship,
}

impl<'a> RecordWire<'a> {
    pub(in crate::http) fn new(record: &'a Record, standing: &'a Standing) -> Self {
        let consumed = |input: &&RecordInput| input.relationship == Relationship::Consumed;
        let input =
            |input: &'a RecordInput| InputWire { artifact_id: &input.artifact, relationship: input.relationship };
        Self {
            id: record.id,
            task_id: task_id(record),
            project_id: &record.project,
            attempt: record.attempt,
            status: record.status.as_str(),
            model_used: record.model_used.as_deref(),
            worker_id: record.worker.as_ref(),
            tier: record.tier.as_ref(),
            domain: record.domain.as_ref(),
            created_at: Time(record.created_at),
            started_at: record.started_at.map(Time),
            completed_at: record.completed_at.map(Time),
            tokens_input: record.tokens_input,
            tokens_output: record.tokens_output,
            execution_time_ms: record.execution_time_ms,
            confidence: record.confidence,
            outputs: record.outputs.iter().map(OutputWire::new).collect(),
            inputs_consumed: record.inputs.iter().filter(consumed).map(|input| &input.artifact).collect(),
            inputs: record.inputs.iter().map(input).collect(),
            verification: record.verification.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            is_tainted: standing.flag == Flag::Tainted,
            tainted_at: standing.tainted_at.map(Time),
            tainted_reason: standing.tainted_reason.as_deref(),
            is_suspect: standing.flag == Flag::Suspect,
            flag: standing.flag,
            imported_as: record.imported.as_ref().map(|imported| imported.id.as_str()),
        }
    }
}

/// Returns the id of the task as text. Of an imported record, this is the text of the import, if it has one.
pub(in crate::http) fn task_id(record: &Record) -> Option<Cow<'_, str>> {
    match &record.imported {
        None => Some(record.task.to_string().into()),
        Some(imported) => (!imported.task.is_empty()).then(|| imported.task.as_str().into()),
    }
}

/// Handles `GET /provenance/{id}`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let id = call.id();
    let missing = || Problem::provenance_not_found(&id);
    let engine = &call.app.engine;
    let (_, known) = graph::find_record(&engine.provenance().graph(), &id)?;
    let record = engine.provenance().record(known.id).await?.ok_or_else(missing)?;
    let standing = Standing::of_record(engine, &known, &record).await?;
    // Records have no version number, so the entity tag is a hash of the body.
    let body = serde_json::to_vec(&RecordWire::new(&record, &standing)).unwrap_or_default();
    let etag = headers::etag_of(&body);
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    Ok(reply::with_header(reply::rendered(StatusCode::OK, body), hyper::header::ETAG, etag))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::task::{OutputArtifact, RecordStatus, TaskId};

    #[test]
    fn the_response_has_the_columns() {
        let at = Timestamp::from_micros(1_767_981_600_000_000);
        let artifact = |id: &str| ArtifactId::new(id).unwrap();
        let input = |id: &str, relationship| RecordInput { artifact: artifact(id), relationship };
        let output = OutputArtifact {
            id: artifact("a"),
            kind: Some("code".to_owned()),
            path: Some("f.py".to_owned()),
            language: None,
            checksum: None,
            size_bytes: Some(3),
        };
        let record = Record {
            id: RecordId::new(Uuid::from_u128(1)),
            task: TaskId::new(Uuid::from_u128(2)),
            project: ProjectId::new("p").unwrap(),
            attempt: Some(1),
            status: RecordStatus::HumanApproved,
            model_used: Some("m".to_owned()),
            worker: Some(WorkerId::new("w").unwrap()),
            tier: Some(Tier::new("small").unwrap()),
            domain: Some(Domain::new("analysis").unwrap()),
            created_at: at,
            started_at: Some(at),
            completed_at: Some(at),
            tokens_input: Some(1),
            tokens_output: None,
            execution_time_ms: Some(5),
            confidence: Some(0.5),
            outputs: vec![RecordOutput { artifact: output, content: Some([0xab; 32]) }],
            inputs: vec![input("i", Relationship::Consumed), input("j", Relationship::Referenced)],
            verification: Some("{\"score\":0.9}".to_owned()),
            imported: None,
        };
        let standing = Standing { flag: Flag::Tainted, tainted_at: Some(at), tainted_reason: Some("r".to_owned()) };
        assert_eq!(
            serde_json::to_value(RecordWire::new(&record, &standing)).unwrap(),
            json!({
                "id": "00000000-0000-0000-0000-000000000001", "task_id": "00000000-0000-0000-0000-000000000002",
                "project_id": "p", "attempt": 1, "status": "human_approved", "model_used": "m", "worker_id": "w",
                "tier": "small", "domain": "analysis", "created_at": "2026-01-09T18:00:00Z",
                "started_at": "2026-01-09T18:00:00Z", "completed_at": "2026-01-09T18:00:00Z", "tokens_input": 1,
                "tokens_output": null, "execution_time_ms": 5, "confidence": 0.5,
                "outputs": [{
                    "artifact_id": "a", "type": "code", "location": "f.py", "language": null, "checksum": null,
                    "size_bytes": 3, "content_sha256": "ab".repeat(32),
                }],
                "inputs_consumed": ["i"],
                "inputs": [
                    {"artifact_id": "i", "relationship": "consumed"}, {"artifact_id": "j", "relationship": "referenced"},
                ],
                "verification": {"score": 0.9}, "is_tainted": true, "tainted_at": "2026-01-09T18:00:00Z",
                "tainted_reason": "r", "is_suspect": false, "flag": "tainted", "imported_as": null,
            })
        );
    }
}
