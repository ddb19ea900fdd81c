//! `GET /provenance/{id}`: a record, by its own id or by that of an artifact.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::headers;
use super::lineage;
use super::problem::Problem;
use super::reply::{self, Reply, Shown};
use super::request::Call;
use crate::engine::Engine;
use crate::lineage::{Fact, Flag, Known, Relationship};
use crate::store::{Record, RecordInput, RecordOutput};
use crate::task::{ArtifactId, Domain, ProjectId, RecordId, TaskId, Tier, Timestamp, WorkerId, hex};

/// A record, under the column names of its table.
#[derive(Serialize)]
pub(super) struct RecordWire<'a> {
    id: RecordId,
    task_id: TaskId,
    project_id: &'a ProjectId,
    attempt: u32,
    status: &'static str,
    model_used: Option<&'a str>,
    worker_id: Option<&'a WorkerId>,
    tier: &'a Tier,
    domain: &'a Domain,
    created_at: Shown<Timestamp>,
    started_at: Shown<Timestamp>,
    completed_at: Shown<Timestamp>,
    tokens_input: Option<u64>,
    tokens_output: Option<u64>,
    execution_time_ms: Option<u64>,
    confidence: Option<f64>,
    outputs: Vec<OutputWire<'a>>,
    inputs_consumed: Vec<&'a ArtifactId>,
    inputs: Vec<InputWire<'a>>,
    verification: Option<&'a RawValue>,
    is_tainted: bool,
    tainted_at: Option<Shown<Timestamp>>,
    tainted_reason: Option<&'a str>,
    is_suspect: bool,
    flag: Flag,
}

/// What is said of a record, and what follows for it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) flag: Flag,
    pub(super) tainted_at: Option<Timestamp>,
    pub(super) tainted_reason: Option<String>,
}

impl Standing {
    /// That of a record of the graph.
    pub(super) async fn of(engine: &Engine, known: &Known) -> Result<Self, Problem> {
        let taint = match known.fact {
            Some(Fact::Tainted(step)) => engine.cascade_row(step).await?,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => None,
        };
        let (tainted_at, tainted_reason) = taint.map(|row| (row.at, row.reason)).unzip();
        Ok(Self { flag: known.flag, tainted_at, tainted_reason })
    }
}

#[derive(Serialize)]
struct OutputWire<'a> {
    artifact_id: &'a ArtifactId,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    location: Option<&'a str>,
    language: Option<&'a str>,
    checksum: Option<&'a str>,
    size_bytes: Option<u64>,
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
            content_sha256: output.content.as_ref().map(|sha256| hex(sha256)),
        }
    }
}

#[derive(Serialize)]
struct InputWire<'a> {
    artifact_id: &'a ArtifactId,
    relationship: Relationship,
}

impl<'a> RecordWire<'a> {
    pub(super) fn new(record: &'a Record, standing: &'a Standing) -> Self {
        let consumed = |input: &&RecordInput| input.relationship == Relationship::Consumed;
        let input =
            |input: &'a RecordInput| InputWire { artifact_id: &input.artifact, relationship: input.relationship };
        Self {
            id: record.id,
            task_id: record.task,
            project_id: &record.project,
            attempt: record.attempt,
            status: record.status.as_str(),
            model_used: record.model_used.as_deref(),
            worker_id: record.worker.as_ref(),
            tier: &record.tier,
            domain: &record.domain,
            created_at: Shown(record.created_at),
            started_at: Shown(record.started_at),
            completed_at: Shown(record.completed_at),
            tokens_input: record.tokens_input,
            tokens_output: record.tokens_output,
            execution_time_ms: record.execution_time_ms,
            confidence: record.confidence,
            outputs: record.outputs.iter().map(OutputWire::new).collect(),
            inputs_consumed: record.inputs.iter().filter(consumed).map(|input| &input.artifact).collect(),
            inputs: record.inputs.iter().map(input).collect(),
            verification: record.verification.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            is_tainted: standing.flag == Flag::Tainted,
            tainted_at: standing.tainted_at.map(Shown),
            tainted_reason: standing.tainted_reason.as_deref(),
            is_suspect: standing.flag == Flag::Suspect,
            flag: standing.flag,
        }
    }
}

/// `GET /provenance/{id}`
pub(super) async fn get(call: Call) -> Reply {
    call.no_query()?;
    let id = call.id();
    let missing = || Problem::provenance_not_found(&id);
    let engine = &call.app.engine;
    let (_, known) = lineage::known(&engine.graph(), &id)?;
    let record = engine.record(known.id).await?.ok_or_else(missing)?;
    let standing = Standing::of(engine, &known).await?;
    // A record has no version of its own: its bytes tell it apart.
    let body = serde_json::to_vec(&RecordWire::new(&record, &standing)).unwrap_or_default();
    let etag = headers::etag_of(&body);
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    Ok(reply::with(reply::rendered(StatusCode::OK, body), hyper::header::ETAG, etag))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::task::{OutputArtifact, RecordStatus};

    #[test]
    fn the_wire_form_has_the_columns() {
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
            attempt: 1,
            status: RecordStatus::HumanApproved,
            model_used: Some("m".to_owned()),
            worker: Some(WorkerId::new("w").unwrap()),
            tier: Tier::new("small").unwrap(),
            domain: Domain::new("analysis").unwrap(),
            created_at: at,
            started_at: at,
            completed_at: at,
            tokens_input: Some(1),
            tokens_output: None,
            execution_time_ms: Some(5),
            confidence: Some(0.5),
            outputs: vec![RecordOutput { artifact: output, content: Some([0xab; 32]) }],
            inputs: vec![input("i", Relationship::Consumed), input("j", Relationship::Referenced)],
            verification: Some("{\"score\":0.9}".to_owned()),
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
                "tainted_reason": "r", "is_suspect": false, "flag": "tainted",
            })
        );
    }
}
